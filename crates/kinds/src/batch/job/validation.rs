//! What a job's spec must be, and what of it may change.

use api::field::{Error, Path};
use api::{Value, meta, validate};

use super::{CONTROLLER_UID, JOB_NAME, OLD_LABELS, policies};
use crate::pod_spec::spec as pods;
use crate::{checks, references, tree};

const MAX_MANAGED_BY: usize = 63;
const MAX_INDEXED_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
/// From so many completions on, less may fail and run at once.
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_OF_MANY: i64 = 10_000;

pub(super) fn job(new: &Value) -> Vec<Error> {
    job_with(new, Prefixed::Required)
}

/// Whether the generated labels that have a domain must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefixed {
    Required,
    /// The job was made without them.
    Free,
}

fn job_with(job: &Value, prefixed: Prefixed) -> Vec<Error> {
    let mut errors = generated_selector(job, prefixed);
    errors.extend(whole_spec(job));
    let completions = tree::count(job, "spec.completions");
    if tree::text(job, "spec.completionMode") == "Indexed" && completions > 0 {
        let host = format!("{}-{}", meta::name(job), completions - 1);
        if !validate::dns1123_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Error::invalid(
                &Path::new("metadata").child("name"),
                meta::name(job),
                detail,
            ));
        }
    }
    errors
}

/// The labels that were generated are there, and selected.
fn generated_selector(job: &Value, prefixed: Prefixed) -> Vec<Error> {
    let Some(selector) = tree::at(job, "spec.selector") else {
        return Vec::new();
    };
    if tree::flag(job, "spec.manualSelector") {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let (uid, name) = (meta::uid(job), meta::name(job));
    if uid.is_empty() {
        errors.push(Error::required(&Path::new("metadata").child("uid"), ""));
    }
    let spec = Path::new("spec");
    let path = spec.child("template").child("metadata");
    let labels = tree::at(job, "spec.template.metadata.labels");
    let [old_uid, old_name] = OLD_LABELS;
    let mut wanted = vec![(old_uid, uid), (old_name, name)];
    if prefixed == Prefixed::Required {
        wanted.extend([(CONTROLLER_UID, uid), (JOB_NAME, name)]);
    }
    for (key, value) in wanted.iter().copied() {
        let path = path.child("labels");
        match labels.and_then(|labels| labels.get(key)).and_then(Value::as_str) {
            None => errors.push(Error::required(&path.key(key), format!("must be '{value}'"))),
            Some(found) if found != value => {
                let labels = labels.cloned().unwrap_or_default();
                let detail = format!("must be '{value}'");
                errors.push(Error::invalid(&path.key(key), labels, detail));
            }
            Some(_) => {}
        }
    }
    let expected = wanted
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)));
    let expected = Some(Value::Object(expected.collect()));
    let parsed = api::labels::Selector::from_label_selector(Some(selector));
    if parsed.is_ok_and(|parsed| !parsed.matches(&expected)) {
        let detail = "`selector` not auto-generated";
        errors.push(Error::invalid(&spec.child("selector"), selector.clone(), detail));
    }
    errors
}

/// The spec with its selector.
fn whole_spec(job: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = job_spec(job, &path);
    match tree::at(job, "spec.selector") {
        None => errors.push(Error::required(&path.child("selector"), "")),
        Some(selector) => errors.extend(validate::label_selector(selector, &path.child("selector"))),
    }
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
pub(in crate::batch) fn job_spec(job: &Value, path: &Path) -> Vec<Error> {
    let spec = tree::at(job, "spec").unwrap_or(&Value::Null);
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    let mut errors = checks::all_nonnegative(spec, &counts, path);
    let per_index = tree::int(spec, "backoffLimitPerIndex");
    let max_failed = tree::int(spec, "maxFailedIndexes");
    if max_failed.is_some() && per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = tree::text_opt(spec, "managedBy") {
        let path = path.child("managedBy");
        errors.extend(references::domain_prefixed_path(manager, &path));
        if manager.len() > MAX_MANAGED_BY {
            errors.push(Error::too_long(&path, MAX_MANAGED_BY));
        }
    }
    let mode = tree::text_opt(spec, "completionMode");
    errors.extend(checks::optional_one_of(
        mode,
        &["NonIndexed", "Indexed"],
        &path.child("completionMode"),
    ));
    if mode == Some("Indexed") {
        errors.extend(indexed(spec, path));
    }
    if matches!(mode, None | Some("NonIndexed")) {
        for (field, value) in [("backoffLimitPerIndex", per_index), ("maxFailedIndexes", max_failed)] {
            let detail = "requires indexed completion mode";
            errors.extend(value.map(|value| Error::invalid(&path.child(field), value, detail)));
        }
    }
    errors.extend(ends(spec, path));
    let template = tree::at(spec, "template").unwrap_or(&Value::Null);
    errors.extend(pods::template(template, &path.child("template")));
    errors.extend(restart_policy(spec, path));
    errors
}

/// Policies of failure, success and replacement.
fn ends(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let has_failure = tree::is_set(tree::at(spec, "podFailurePolicy"));
    if has_failure {
        errors.extend(policies::failure(spec, &path.child("podFailurePolicy")));
    }
    if let Some(policy) = tree::at(spec, "successPolicy").filter(|policy| !policy.is_null()) {
        let path = path.child("successPolicy");
        if tree::text(spec, "completionMode") == "Indexed" {
            errors.extend(policies::success(spec, &path));
        } else {
            errors.push(Error::invalid(
                &path,
                policy.clone(),
                "requires indexed completion mode",
            ));
        }
    }
    let known: &[&str] = if has_failure {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    let replacement = tree::text_opt(spec, "podReplacementPolicy");
    errors.extend(checks::optional_one_of(
        replacement,
        known,
        &path.child("podReplacementPolicy"),
    ));
    errors
}

fn indexed(spec: &Value, path: &Path) -> Vec<Error> {
    let [completions, parallelism, max_failed] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| tree::int(spec, field));
    let mut errors = Vec::new();
    let mut at_most = |field: &str, value: Option<i64>, most: i64, detail: String| {
        if let Some(value) = value.filter(|value| *value > most) {
            errors.push(Error::invalid(&path.child(field), value, detail));
        }
    };
    let detail = format!("must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed");
    at_most("parallelism", parallelism, MAX_INDEXED_PARALLELISM, detail);
    if let Some(completions) = completions {
        let detail = "must be less than or equal to completions".to_owned();
        at_most("maxFailedIndexes", max_failed, completions, detail);
    }
    let detail = format!("must be less than or equal to {MAX_FAILED_INDEXES}");
    at_most("maxFailedIndexes", max_failed, MAX_FAILED_INDEXES, detail);
    let many = completions.is_some_and(|completions| completions > MANY_COMPLETIONS)
        && tree::int(spec, "backoffLimitPerIndex").is_some();
    if many {
        let detail = format!(
            "must be less than or equal to {MAX_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
        );
        at_most("parallelism", parallelism, MAX_OF_MANY, detail.clone());
        at_most("maxFailedIndexes", max_failed, MAX_OF_MANY, detail);
    }
    if many && max_failed.is_none() {
        let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(Error::required(&path.child("maxFailedIndexes"), detail));
    }
    if completions.is_none() {
        let detail = "when completion mode is Indexed";
        errors.insert(0, Error::required(&path.child("completions"), detail));
    }
    errors
}

fn restart_policy(spec: &Value, path: &Path) -> Option<Error> {
    let policy = tree::text(spec, "template.spec.restartPolicy");
    let path = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "Always" | "" => Some(Error::required(&path, "valid values: \"OnFailure\", \"Never\"")),
        "Never" => None,
        "OnFailure" => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            tree::is_set(tree::at(spec, "podFailurePolicy")).then(|| Error::invalid(&path, policy, detail))
        }
        _ => Some(Error::not_supported(&path, policy, &["OnFailure", "Never"])),
    }
}

pub(super) fn change(new: &Value, old: &Value) -> Vec<Error> {
    let labels = tree::map(old, "spec.template.metadata.labels");
    let had = |key: &str| labels.is_some_and(|labels| labels.contains_key(key));
    let prefixed = if had(CONTROLLER_UID) && had(JOB_NAME) {
        Prefixed::Required
    } else {
        Prefixed::Free
    };
    let mut errors = job_with(new, prefixed);
    errors.extend(whole_spec(new));
    let path = Path::new("spec");
    let immutable = |field: &str| checks::immutable(new, old, &format!("spec.{field}"), &path.child(field));
    if tree::text(new, "spec.completionMode") == "Indexed" {
        let (after, before) = (tree::int(new, "spec.completions"), tree::int(old, "spec.completions"));
        if let Some(after) = after.filter(|after| Some(*after) != before)
            && Some(after) != tree::int(new, "spec.parallelism")
        {
            let detail = "can only be modified in tandem with spec.parallelism";
            errors.push(Error::invalid(&path.child("completions"), after, detail));
        }
    } else {
        errors.extend(immutable("completions"));
    }
    errors.extend(immutable("selector"));
    errors.extend(template_change(new, old, &path.child("template")));
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        errors.extend(immutable(field));
    }
    errors
}

/// While a job is suspended and has no pods, where its pods may run and what they use can change.
fn template_change(new: &Value, old: &Value, path: &Path) -> Option<Error> {
    let after = tree::at(new, "spec.template").cloned().unwrap_or_default();
    let mut before = tree::at(old, "spec.template").cloned().unwrap_or_default();
    let conditions = tree::list(old, "status.conditions").iter();
    let suspended = conditions
        .filter(|condition| tree::text(condition, "type") == "Suspended")
        .any(|condition| tree::text(condition, "status") == "True");
    let stopped = tree::at(old, "status.startTime").is_none() || (suspended && tree::count(old, "status.active") == 0);
    if tree::flag(old, "spec.suspend") && stopped {
        let spec = tree::at(&after, "spec").cloned().unwrap_or_default();
        let old_spec = tree::child(&mut before, "spec");
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            tree::keep(old_spec, &spec, field);
        }
        node_affinity(old_spec, &spec);
        for list in ["containers", "initContainers"] {
            let containers = tree::list(&spec, list);
            if containers.len() == tree::list(old_spec, list).len() {
                for (old, new) in tree::items_mut(old_spec, list).zip(containers) {
                    tree::keep(old, new, "resources");
                }
            }
        }
        let metadata = tree::at(&after, "metadata").cloned().unwrap_or_default();
        for field in ["labels", "annotations"] {
            tree::keep(tree::child(&mut before, "metadata"), &metadata, field);
        }
    }
    let same = tree::same(Some(&after), Some(&before));
    (!same).then(|| Error::invalid(path, after, "field is immutable"))
}

/// The old affinity with the new one's rules for nodes.
fn node_affinity(old: &mut Value, new: &Value) {
    match (tree::at(new, "affinity"), tree::at(old, "affinity").is_some()) {
        (None, true) => {
            let affinity = tree::child(old, "affinity");
            tree::unset(affinity, "nodeAffinity");
            if affinity.as_object().is_some_and(|affinity| affinity.is_empty()) {
                tree::unset(old, "affinity");
            }
        }
        (Some(affinity), _) => tree::keep(tree::child(old, "affinity"), affinity, "nodeAffinity"),
        (None, false) => {}
    }
}
