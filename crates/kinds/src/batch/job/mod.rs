//! `jobs`.

mod indexes;
mod policies;
mod status;
pub(super) mod validation;

use api::{Value, meta, time};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField, Subresource};
use jiff::Timestamp;

use crate::pod_spec::defaults;
use crate::pod_spec::warnings::{self, Named};
use crate::{cells, tree};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The same labels before they had a domain; still written.
const OLD_LABELS: [&str; 2] = ["controller-uid", "job-name"];

pub(crate) fn kind() -> Kind {
    Kind::namespaced("batch", "v1", "Job", "jobs")
        .categories(&["all"])
        .with_generation()
        .orphans_by_default()
        .default(default)
        .prepare_create(|_, job| generate_selector(job))
        .canonicalize(label_as_template)
        .warnings(|new, old| warnings::workload(new, old, Named::Yes, "spec.template"))
        .validate(validation::job)
        .validate_update(validation::change)
        .subresource(Subresource::status().validate(status::validate))
        .selectable(SelectableField::path_or("status.successful", "0"))
        .table(columns(), row)
}

/// A job without labels has its template's. Upstream fills them in whenever it decodes a job, what is stored included,
/// so that a new job has the generated ones too.
fn label_as_template(job: &mut Value) {
    let labels = tree::at(job, "spec.template.metadata.labels").cloned();
    if let Some(labels) = labels
        && tree::map(job, "metadata.labels").is_none_or(|map| map.is_empty())
    {
        tree::set(tree::child(job, "metadata"), "labels", labels);
    }
}

fn default(object: &mut Value) {
    defaults::template(object, "spec.template");
    let spec = tree::child(object, "spec");
    if tree::int(spec, "parallelism").is_none() {
        if tree::int(spec, "completions").is_none() {
            tree::set(spec, "completions", 1);
        }
        tree::set(spec, "parallelism", 1);
    }
    if tree::int(spec, "backoffLimit").is_none() {
        let limit = if tree::int(spec, "backoffLimitPerIndex").is_some() {
            i32::MAX
        } else {
            6
        };
        tree::set(spec, "backoffLimit", limit);
    }
    tree::fill_absent(spec, "completionMode", "NonIndexed");
    tree::fill(spec, "suspend", false);
    tree::fill(spec, "manualSelector", false);
    let has_policy = tree::at(spec, "podFailurePolicy").is_some();
    tree::fill(
        spec,
        "podReplacementPolicy",
        if has_policy { "Failed" } else { "TerminatingOrFailed" },
    );
    for rule in tree::items_mut(spec, "podFailurePolicy.rules") {
        for pattern in tree::items_mut(rule, "onPodConditions") {
            tree::fill(pattern, "status", "True");
        }
    }
}

/// Unless the client brings its own, a job selects the pods that carry its UID.
fn generate_selector(job: &mut Value) {
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    if tree::flag(job, "spec.manualSelector") {
        return;
    }
    let spec = tree::child(job, "spec");
    let labels = tree::child(tree::child(tree::child(spec, "template"), "metadata"), "labels");
    let [old_uid, old_name] = OLD_LABELS;
    for (key, value) in [
        (old_name, &name),
        (JOB_NAME, &name),
        (old_uid, &uid),
        (CONTROLLER_UID, &uid),
    ] {
        fill_label(labels, key, value);
    }
    fill_label(
        tree::child(tree::child(spec, "selector"), "matchLabels"),
        CONTROLLER_UID,
        &uid,
    );
}

/// Sets a label that the client did not; validation tells wrong ones.
fn fill_label(labels: &mut Value, key: &str, value: &str) {
    tree::object(labels).entry(key).or_insert_with(|| value.into());
}

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::name(),
        Column::string("Status", "Running, Complete, Failed and such."),
        Column::string("Completions", "Successful pods of those wanted."),
        Column::string("Duration", "How long it took, or has been running."),
        Column::age(),
    ];
    columns.extend(cells::template_columns());
    columns.push(cells::selector_column());
    columns
}

fn row(job: &Value, now: Timestamp) -> Vec<Value> {
    let done = tree::count(job, "status.succeeded");
    let completions = match (tree::int(job, "spec.completions"), tree::count(job, "spec.parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let (start, end) = (
        cells::moment(job, "status.startTime"),
        cells::moment(job, "status.completionTime"),
    );
    let duration = start.map(|start| time::human_duration(end.unwrap_or(now).duration_since(start)));
    let [names, images] = cells::containers(job, "spec.template.spec.containers");
    vec![
        cells::name(job),
        state(job).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        cells::age(job, now),
        names,
        images,
        cells::selector(job, "spec.selector"),
    ]
}

fn state(job: &Value) -> &'static str {
    let is = |kind: &str| {
        let conditions = tree::list(job, "status.conditions").iter();
        let mut of_kind = conditions.filter(|condition| tree::text(condition, "type") == kind);
        of_kind.any(|condition| tree::text(condition, "status") == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if meta::is_deleting(job) {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}
