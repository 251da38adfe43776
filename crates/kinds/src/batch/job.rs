//! `jobs`.

use api::field::{Error, Path};
use api::{Value, meta, time, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Context, SelectableField, Subresource};
use jiff::Timestamp;

use crate::pod_spec::{defaults, spec};
use crate::{cells, checks, tree};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The same labels before they had a domain; still written.
const OLD_LABELS: [&str; 2] = ["controller-uid", "job-name"];

pub(crate) fn kind() -> Kind {
    Kind::namespaced("batch", "v1", "Job", "jobs")
        .categories(&["all"])
        .with_generation()
        .default(default)
        .prepare_create(generate_selector)
        .validate(job)
        .validate_update(|new, old| {
            let mut errors = job(new);
            errors.extend(changes(new, old));
            errors
        })
        .subresource(Subresource::status())
        .selectable(SelectableField::path_or("status.successful", "0"))
        .table(columns(), row)
}

fn default(object: &mut Value) {
    template_defaults(object);
}

/// Defaults of a job, also of the one inside a cron job.
pub(super) fn template_defaults(object: &mut Value) {
    defaults::template(object, "spec.template");
    let labels = tree::at(object, "spec.template.metadata.labels").cloned();
    if let Some(labels) = labels
        && tree::map(object, "metadata.labels").is_none_or(|map| map.is_empty())
    {
        tree::set(tree::child(object, "metadata"), "labels", labels);
    }
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
    tree::fill(spec, "completionMode", "NonIndexed");
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
fn generate_selector(_: &Context<'_>, job: &mut Value) {
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    let manual = tree::flag(job, "spec.manualSelector");
    let template = tree::child(tree::child(job, "spec"), "template");
    let labels = tree::child(tree::child(template, "metadata"), "labels");
    let [old_uid, old_name] = OLD_LABELS;
    if !manual {
        for (key, value) in [
            (old_uid, &uid),
            (CONTROLLER_UID, &uid),
            (old_name, &name),
            (JOB_NAME, &name),
        ] {
            tree::set(labels, key, value.as_str());
        }
        let selector = tree::child(tree::child(job, "spec"), "selector");
        tree::set(tree::child(selector, "matchLabels"), CONTROLLER_UID, uid);
    }
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

fn job(job: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    match tree::at(job, "spec.selector") {
        None => errors.push(Error::required(&path.child("selector"), "")),
        Some(selector) => errors.extend(validate::label_selector(selector, &path.child("selector"))),
    }
    errors.extend(job_spec(job, &path));
    let selector = api::labels::Selector::from_label_selector(tree::at(job, "spec.selector"));
    if let Ok(selector) = selector {
        let labels = tree::at(job, "spec.template.metadata.labels").cloned();
        if !selector.matches(&labels) {
            let path = path.child("template").child("metadata").child("labels");
            let detail = "`selector` does not match template `labels`";
            errors.push(Error::invalid(&path, labels.unwrap_or_default(), detail));
        }
    }
    errors
}

/// What a job's spec must be, in a job or a cron job.
pub(super) fn job_spec(job: &Value, path: &Path) -> Vec<Error> {
    let spec_value = tree::at(job, "spec").unwrap_or(&Value::Null);
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    let mut errors = checks::all_nonnegative(spec_value, &counts, path);
    let mode = tree::text_opt(spec_value, "completionMode");
    errors.extend(checks::optional_one_of(
        mode,
        &["Indexed", "NonIndexed"],
        &path.child("completionMode"),
    ));
    if mode == Some("Indexed") && tree::int(spec_value, "completions").is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(Error::required(&path.child("completions"), detail));
    }
    let policy = tree::text_opt(spec_value, "podReplacementPolicy");
    let known = &["Failed", "TerminatingOrFailed"];
    errors.extend(checks::optional_one_of(
        policy,
        known,
        &path.child("podReplacementPolicy"),
    ));
    let template = tree::at(spec_value, "template").unwrap_or(&Value::Null);
    errors.extend(spec::template(template, &path.child("template")));
    let restart = tree::text(template, "spec.restartPolicy");
    let restart_path = path.child("template").child("spec").child("restartPolicy");
    if !matches!(restart, "OnFailure" | "Never") {
        errors.push(Error::not_supported(&restart_path, restart, &["OnFailure", "Never"]));
    }
    if tree::at(spec_value, "podFailurePolicy").is_some() && restart != "Never" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(Error::invalid(&restart_path, restart, detail));
    }
    errors
}

fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        errors.extend(checks::immutable(
            new,
            old,
            &format!("spec.{field}"),
            &path.child(field),
        ));
    }
    // Indexed jobs may change both counts together.
    let elastic = tree::text(new, "spec.completionMode") == "Indexed"
        && tree::int(new, "spec.completions") == tree::int(new, "spec.parallelism");
    if !elastic {
        errors.extend(checks::immutable(
            new,
            old,
            "spec.completions",
            &path.child("completions"),
        ));
    }
    let mut after = tree::at(new, "spec.template").cloned().unwrap_or_default();
    let before = tree::at(old, "spec.template").cloned().unwrap_or_default();
    let not_started = tree::flag(old, "spec.suspend") && tree::at(old, "status.startTime").is_none();
    if not_started {
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            let old_spec = tree::at(&before, "spec").cloned().unwrap_or_default();
            tree::keep(tree::child(&mut after, "spec"), &old_spec, field);
        }
        for field in ["labels", "annotations"] {
            let old_meta = tree::at(&before, "metadata").cloned().unwrap_or_default();
            tree::keep(tree::child(&mut after, "metadata"), &old_meta, field);
        }
    }
    if !tree::same(Some(&after), Some(&before)) {
        errors.push(Error::invalid(&path.child("template"), after, "field is immutable"));
    }
    errors
}
