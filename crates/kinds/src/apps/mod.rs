//! The group `apps`.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;

use api::field::{Error, Path};
use api::labels::Selector;
use api::{Value, validate};
use apiserver::kind::Column;
use jiff::Timestamp;

use crate::pod_spec::spec;
use crate::{cells, checks, tree};

/// The selector of a workload: there, well-formed and not empty.
fn selector(object: &Value, empty: &str) -> Vec<Error> {
    let path = Path::new("spec").child("selector");
    let Some(value) = tree::at(object, "spec.selector") else {
        return vec![Error::required(&path, "")];
    };
    let mut errors = validate::label_selector(value, &path);
    let is_empty = tree::map(value, "matchLabels").is_none_or(|map| map.is_empty())
        && tree::list(value, "matchExpressions").is_empty();
    if is_empty {
        errors.push(Error::invalid(&path, value.clone(), empty));
    }
    errors
}

/// The template of a workload with a label selector.
fn template(object: &Value, kind: &str) -> Vec<Error> {
    let path = Path::new("spec");
    match Selector::from_label_selector(tree::at(object, "spec.selector")) {
        Ok(selector) => spec::workload_template(object, &selector, kind, &path.child("template")),
        Err(_) => {
            let value = tree::at(object, "spec.selector").cloned().unwrap_or_default();
            vec![Error::invalid(&path.child("selector"), value, "invalid label selector")]
        }
    }
}

/// The selector of a workload never changes.
fn selector_is_kept(new: &Value, old: &Value) -> Vec<Error> {
    checks::immutable(new, old, "spec.selector", &Path::new("spec").child("selector"))
}

/// Counts in `status` that a set of replicas keeps (`ValidateReplicaSetStatus`).
pub(crate) fn replicas_status(object: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let status = tree::at(object, "status").unwrap_or(&Value::Null);
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ];
    let mut errors = checks::all_nonnegative(status, &counts, &path);
    errors.extend(at_most_replicas(
        status,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        &path,
    ));
    errors
}

/// Parts of `status.replicas` are no more than the whole.
fn at_most_replicas(status: &Value, parts: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let replicas = tree::count(status, "replicas");
    for part in parts {
        let count = tree::count(status, part);
        if count > replicas {
            errors.push(Error::invalid(
                &path.child(part),
                count,
                "cannot be greater than status.replicas",
            ));
        }
    }
    let (available, ready) = (
        tree::count(status, "availableReplicas"),
        tree::count(status, "readyReplicas"),
    );
    if available > ready {
        let detail = "cannot be greater than readyReplicas";
        errors.push(Error::invalid(&path.child("availableReplicas"), available, detail));
    }
    errors
}

/// Containers and images of the template, for `-o wide`.
fn template_cells(object: &Value) -> [Value; 2] {
    cells::containers(object, "spec.template.spec.containers")
}

/// Columns after those of a kind's own.
fn wide_columns(mut columns: Vec<Column>) -> Vec<Column> {
    columns.extend(cells::template_columns());
    columns.push(cells::selector_column());
    columns
}

/// Cells after those of a kind's own.
fn wide_cells(object: &Value, mut cells: Vec<Value>) -> Vec<Value> {
    cells.extend(template_cells(object));
    cells.push(cells::selector(object, "spec.selector"));
    cells
}

/// Name and age around a kind's own cells.
fn with_age(object: &Value, now: Timestamp, own: Vec<Value>) -> Vec<Value> {
    let mut all = vec![cells::name(object)];
    all.extend(own);
    all.push(cells::age(object, now));
    all
}
