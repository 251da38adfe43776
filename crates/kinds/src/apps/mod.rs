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
    errors.extend(selector_is_empty(value, &path, empty));
    errors
}

/// A selector that selects everything is surely a mistake.
fn selector_is_empty(selector: &Value, path: &Path, detail: &str) -> Option<Error> {
    let is_empty = tree::map(selector, "matchLabels").is_none_or(|map| map.is_empty())
        && tree::list(selector, "matchExpressions").is_empty();
    is_empty.then(|| invalid_selector(path, selector, detail))
}

fn invalid_selector(path: &Path, selector: &Value, detail: &str) -> Error {
    Error::invalid(path, selector.clone(), detail).showing(checks::selector_text(selector))
}

/// The template of a workload with a label selector.
fn template(object: &Value, kind: &str) -> Vec<Error> {
    let path = Path::new("spec");
    match Selector::from_label_selector(tree::at(object, "spec.selector")) {
        Ok(selector) => spec::workload_template(object, &selector, kind, &path.child("template")),
        Err(_) => {
            let value = tree::at(object, "spec.selector").cloned().unwrap_or_default();
            vec![invalid_selector(
                &path.child("selector"),
                &value,
                "invalid label selector",
            )]
        }
    }
}

/// The selector of a workload never changes.
fn selector_is_kept(new: &Value, old: &Value) -> Vec<Error> {
    let errors = checks::immutable(new, old, "spec.selector", &Path::new("spec").child("selector"));
    let shown = tree::at(new, "spec.selector").map_or_else(|| "null".to_owned(), checks::selector_text);
    errors.into_iter().map(|error| error.showing(shown.clone())).collect()
}

/// Prints an update strategy as Go prints the internal type: `inner` are the fields of its rolling update.
fn shown_strategy(strategy: &Value, inner: &[&str]) -> String {
    let kind = checks::go_struct(strategy, &["Type=type"]);
    let rolling = tree::at(strategy, "rollingUpdate");
    let rolling = rolling.map_or_else(|| "null".to_owned(), |rolling| checks::go_struct(rolling, inner));
    format!("{},\"RollingUpdate\":{rolling}}}", kind.trim_end_matches('}'))
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
        "terminatingReplicas",
    ];
    let mut errors = checks::all_nonnegative(status, &counts, &path);
    errors.extend(at_most_replicas(
        status,
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "readyReplicas",
        &path,
    ));
    errors
}

/// Parts of `status.replicas` are no more than the whole.
fn at_most_replicas(status: &Value, parts: &[&str], ready_field: &str, path: &Path) -> Vec<Error> {
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
        let detail = format!("cannot be greater than {ready_field}");
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
