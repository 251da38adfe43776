//! `statefulsets`.

use api::field::{Error, Path};
use api::labels::Selector;
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, NameRule, Subresource};
use serde_json::json;

use super::{at_most_replicas, invalid_selector, selector, shown_strategy, template_cells, with_age};
use crate::core::persistent_volume_claim;
use crate::core::pod::disabled;
use crate::pod_spec::warnings::{self, Named};
use crate::pod_spec::{defaults, spec};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "StatefulSet", "statefulsets")
        .short_names(&["sts"])
        .categories(&["all"])
        .name_rule(NameRule::Dns1123Label)
        .with_generation()
        .default(default)
        .prepare_create(|_, object| disabled::template(object, None, "spec.template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "spec.template"))
        .warnings(warn)
        .validate(|object| set(object, ALL))
        .validate_update(|new, old| {
            let mut errors = set(new, update_scope(old));
            errors.extend(changes(new, old));
            errors
        })
        .subresource(Subresource::status().validate(status))
        .with_scale()
        .table(
            {
                let mut columns = vec![
                    Column::name(),
                    Column::string("Ready", "Ready pods of those wanted."),
                    Column::age(),
                ];
                columns.extend(cells::template_columns());
                columns
            },
            |object, now| {
                let count = |path| tree::count(object, path);
                let ready = format!("{}/{}", count("status.readyReplicas"), count("spec.replicas"));
                let mut cells = with_age(object, now, vec![ready.into()]);
                cells.extend(template_cells(object));
                cells
            },
        )
}

fn warn(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = warnings::workload(new, old, Named::No, "spec.template");
    for (index, claim) in tree::list(new, "spec.volumeClaimTemplates").iter().enumerate() {
        let path = Path::new("spec").child("volumeClaimTemplates").index(index);
        // Upstream's path differs between creates and updates.
        let path = if old.is_some() { path.child("Spec") } else { path };
        let spec = tree::at(claim, "spec").unwrap_or(&Value::Null);
        all.extend(warnings::claim_spec(spec, &path));
    }
    all
}

fn default(object: &mut Value) {
    defaults::template(object, "spec.template");
    let spec = tree::child(object, "spec");
    tree::fill(spec, "replicas", 1);
    tree::fill(spec, "revisionHistoryLimit", 10);
    tree::fill(spec, "podManagementPolicy", "OrderedReady");
    let strategy = tree::child(spec, "updateStrategy");
    if tree::is_unset(strategy, "type") {
        tree::set(strategy, "type", "RollingUpdate");
        tree::child(strategy, "rollingUpdate");
    }
    if tree::text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = tree::at_mut(strategy, "rollingUpdate")
    {
        tree::fill(rolling, "partition", 0);
        if tree::at(rolling, "maxUnavailable").is_none() {
            tree::set(rolling, "maxUnavailable", 1);
        }
    }
    let retention = tree::child(spec, "persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        tree::fill(retention, field, "Retain");
    }
    for claim in tree::items_mut(spec, "volumeClaimTemplates") {
        // What the client calls it counts for nothing.
        tree::set(claim, "apiVersion", "v1");
        tree::set(claim, "kind", "PersistentVolumeClaim");
        persistent_volume_claim::defaults(claim);
    }
}

/// How much of a set is checked: what can no longer change was checked when it was made.
#[derive(Clone, Copy)]
struct Scope {
    unchanging: bool,
    template: bool,
}

const ALL: Scope = Scope {
    unchanging: true,
    template: true,
};

/// The scope for an update: a template that was never valid need not become so.
fn update_scope(old: &Value) -> Scope {
    let known = Scope {
        unchanging: false,
        template: true,
    };
    Scope {
        template: set(old, known).is_empty(),
        ..known
    }
}

/// A set's spec (`ValidateStatefulSetSpec`).
fn set(object: &Value, scope: Scope) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let policy_path = path.child("podManagementPolicy");
    match tree::text(object, "spec.podManagementPolicy") {
        "" => errors.push(Error::required(&policy_path, "")),
        "OrderedReady" | "Parallel" => {}
        policy => errors.push(Error::invalid(
            &policy_path,
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    errors.extend(strategy(object, &path.child("updateStrategy")));
    let retention = tree::at(object, "spec.persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let Some(policy) = retention.map(|policy| tree::text(policy, field)) else {
            continue;
        };
        if !matches!(policy, "Retain" | "Delete") {
            let path = path.child("persistentVolumeClaimRetentionPolicy").child(field);
            errors.push(Error::not_supported(&path, policy, &["Retain", "Delete"]));
        }
    }
    if scope.unchanging {
        for (index, claim) in tree::list(object, "spec.volumeClaimTemplates").iter().enumerate() {
            let path = path.child("volumeClaimTemplates").index(index).child("spec");
            let spec = tree::at(claim, "spec").unwrap_or(&Value::Null);
            errors.extend(persistent_volume_claim::spec(spec, &path));
        }
    }
    for field in ["spec.replicas", "spec.minReadySeconds", "spec.ordinals.start"] {
        errors.extend(checks::nonnegative(object, field, &Path::root()));
    }
    let service = tree::text(object, "spec.serviceName");
    if scope.unchanging && !service.is_empty() {
        errors.extend(checks::dns_label(service, &path.child("serviceName")));
    }
    errors.extend(selector(object, "empty selector is invalid for statefulset"));
    errors.extend(template(object, scope, &path));
    errors
}

fn template(object: &Value, scope: Scope, path: &Path) -> Vec<Error> {
    let template_path = path.child("template");
    let selector = tree::at(object, "spec.selector");
    let stored = tree::at(object, "spec.template").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    match Selector::from_label_selector(selector) {
        Err(_) => errors.push(invalid_selector(
            &path.child("selector"),
            selector.unwrap_or(&Value::Null),
            "",
        )),
        Ok(selector) => {
            let template = template_of_pods(object, stored);
            if !selector.is_everything() {
                errors.extend(spec::template_is_selected(&template, &selector, &template_path));
            }
            if scope.template {
                errors.extend(spec::template(&template, &template_path));
            }
            errors.extend(spec::template_metadata(&template, &template_path));
        }
    }
    errors.extend(spec::template_runs_on(stored, "StatefulSet", &template_path));
    errors
}

/// The template as pods come of it: they are named by the set, and have a volume for each claim template.
fn template_of_pods(object: &Value, template: &Value) -> Value {
    let mut template = template.clone();
    let claims = tree::list(object, "spec.volumeClaimTemplates");
    let Some(spec) = tree::at_mut(&mut template, "spec") else {
        return template;
    };
    tree::unset(spec, "subdomain");
    tree::unset(spec, "hostname");
    let mut volumes: Vec<Value> = Vec::new();
    for name in claims.iter().map(meta::name) {
        if !volumes.iter().any(|volume| tree::text(volume, "name") == name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    if volumes.is_empty() {
        return template;
    }
    let own = tree::list(spec, "volumes").iter();
    let own: Vec<Value> = own
        .filter(|volume| {
            !claims
                .iter()
                .any(|claim| meta::name(claim) == tree::text(volume, "name"))
        })
        .cloned()
        .collect();
    volumes.extend(own);
    tree::set(spec, "volumes", volumes);
    template
}

const ROLLING: &[&str] = &["Partition#partition", "MaxUnavailable?maxUnavailable"];

fn strategy(object: &Value, path: &Path) -> Vec<Error> {
    let rolling = tree::at(object, "spec.updateStrategy.rollingUpdate");
    match (tree::text(object, "spec.updateStrategy.type"), rolling) {
        ("", _) => vec![Error::required(path, "")],
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let error = Error::invalid(&path.child("rollingUpdate"), rolling.clone(), detail);
            vec![error.showing(checks::go_struct(rolling, ROLLING))]
        }
        ("OnDelete", None) | ("RollingUpdate", None) => Vec::new(),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let mut errors = checks::nonnegative(rolling, "partition", &path);
            let value = tree::at(rolling, "maxUnavailable");
            if value.is_some() {
                let path = path.child("maxUnavailable");
                errors.extend(checks::int_or_percent(value, &path));
                if checks::int_or_percent_value(value) == 0 {
                    errors.push(Error::invalid(&path, value.cloned().unwrap_or_default(), "cannot be 0"));
                }
                errors.extend(checks::at_most_100_percent(value, &path));
            }
            errors
        }
        _ => {
            let value = tree::at(object, "spec.updateStrategy")
                .cloned()
                .unwrap_or_else(|| json!({}));
            let shown = shown_strategy(&value, ROLLING);
            vec![Error::invalid(path, value, "must be 'RollingUpdate' or 'OnDelete'").showing(shown)]
        }
    }
}

const UPDATABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut after = tree::at(new, "spec").cloned().unwrap_or_default();
    let before = tree::at(old, "spec").cloned().unwrap_or_default();
    for field in UPDATABLE {
        tree::keep(&mut after, &before, field);
    }
    if tree::same(Some(&after), Some(&before)) {
        return Vec::new();
    }
    let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![Error::forbidden(&Path::new("spec"), detail)]
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let status = tree::at(new, "status").unwrap_or(&Value::Null);
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let mut errors = checks::all_nonnegative(status, &counts, &path);
    let parts = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    errors.extend(at_most_replicas(status, &parts, "status.readyReplicas", &path));
    let before = tree::at(old, "status").unwrap_or(&Value::Null);
    errors.extend(checks::not_decremented(status, before, "collisionCount", &path));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        let mut object = json!({"metadata": {"name": "s"}, "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "serviceName": "s",
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"subdomain": "No", "containers": [
                {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
        }});
        default(&mut object);
        object
    }

    fn texts(errors: Vec<Error>) -> Vec<String> {
        errors.iter().map(Error::to_string).collect()
    }

    #[test]
    fn rolling_updates_have_defaults() {
        let strategy = |given: Value| {
            let mut object = json!({"spec": {"updateStrategy": given}});
            default(&mut object);
            object["spec"]["updateStrategy"].clone()
        };
        let full = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}});
        assert_eq!(strategy(json!({})), full);
        assert_eq!(strategy(full.clone()), full);
        for other in [
            json!({"type": "RollingUpdate"}),
            json!({"type": "OnDelete", "rollingUpdate": {}}),
        ] {
            assert_eq!(strategy(other.clone()), other);
        }
    }

    #[test]
    fn each_fault_has_its_message() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (
                |s| s["podManagementPolicy"] = json!("Odd"),
                &[r#"spec.podManagementPolicy: Invalid value: "Odd": must be 'OrderedReady' or 'Parallel'"#],
            ),
            (
                |s| s["updateStrategy"] = json!({"type": "Recreate", "rollingUpdate": {"partition": 1}}),
                &[
                    r#"spec.updateStrategy: Invalid value: {"Type":"Recreate","RollingUpdate":{"Partition":1,"MaxUnavailable":null}}: must be 'RollingUpdate' or 'OnDelete'"#,
                ],
            ),
            (
                |s| s["updateStrategy"] = json!({"type": "OnDelete", "rollingUpdate": {"maxUnavailable": "5%"}}),
                &[
                    r#"spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":0,"MaxUnavailable":"5%"}: only allowed for updateStrategy 'RollingUpdate'"#,
                ],
            ),
            (
                |s| s["persistentVolumeClaimRetentionPolicy"]["whenScaled"] = json!("Keep"),
                &[
                    r#"spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: "Retain", "Delete""#,
                ],
            ),
            (
                |s| s["volumeClaimTemplates"] = json!([]),
                &[r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data""#],
            ),
            (
                |s| s["volumeClaimTemplates"][0]["spec"]["accessModes"] = json!([]),
                &["spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            (
                |s| s["selector"] = json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
            ),
            (
                |s| {
                    s["template"]["spec"]["restartPolicy"] = json!("Never");
                    s["template"]["spec"]["activeDeadlineSeconds"] = json!(1);
                },
                &[
                    r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
                ],
            ),
        ];
        for (change, want) in cases {
            let mut object = good();
            change(&mut object["spec"]);
            assert_eq!(texts(set(&object, ALL)), *want, "{object}");
        }
    }

    #[test]
    fn what_was_invalid_may_stay_so() {
        let mut old = good();
        old["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = json!("other");
        old["spec"]["serviceName"] = json!("not.a.label");
        assert_eq!(set(&old, ALL).len(), 2);
        assert!(set(&old, update_scope(&old)).is_empty());
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(3);
        assert!(changes(&new, &old).is_empty());
        new["spec"]["serviceName"] = json!("t");
        assert_eq!(changes(&new, &old).len(), 1);
    }
}
