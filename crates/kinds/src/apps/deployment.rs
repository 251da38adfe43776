//! `deployments`.

use api::field::{Error, Path};
use api::{Value, labels};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};
use serde_json::json;

use super::{
    at_most_replicas, selector, selector_is_kept, shown_strategy, template, template_cells, wide_columns, with_age,
};
use crate::core::pod::disabled;
use crate::pod_spec::defaults;
use crate::pod_spec::warnings::{self, Named};
use crate::{checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "Deployment", "deployments")
        .short_names(&["deploy"])
        .categories(&["all"])
        // Annotations count too: they are copied to the replica sets.
        .generation_when(|new, old| {
            !tree::same(new.get("spec"), old.get("spec"))
                || !tree::same(
                    tree::at(new, "metadata.annotations"),
                    tree::at(old, "metadata.annotations"),
                )
        })
        .default(default)
        .prepare_create(|_, object| disabled::template(object, None, "spec.template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "spec.template"))
        .warnings(|new, old| warnings::workload(new, old, Named::Yes, "spec.template"))
        .validate(deployment)
        .validate_update(|new, old| {
            let mut errors = deployment(new);
            errors.extend(selector_is_kept(new, old));
            errors
        })
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| {
                    tree::keep(new, old, "spec");
                    let labels = tree::at(old, "metadata.labels").cloned();
                    let metadata = tree::child(new, "metadata");
                    match labels {
                        Some(labels) => tree::set(metadata, "labels", labels),
                        None => tree::unset(metadata, "labels"),
                    }
                })
                .validate(status),
        )
        .with_scale()
        .table(
            wide_columns(vec![
                Column::name(),
                Column::string("Ready", "Ready pods of those wanted."),
                Column::string("Up-to-date", "Pods of the newest template."),
                Column::string("Available", "Pods that have been ready for long enough."),
                Column::age(),
            ]),
            |object, now| {
                let count = |path| tree::count(object, path);
                let ready = format!("{}/{}", count("status.readyReplicas"), count("spec.replicas"));
                let own = vec![
                    ready.into(),
                    count("status.updatedReplicas").into(),
                    count("status.availableReplicas").into(),
                ];
                let mut cells = with_age(object, now, own);
                cells.extend(template_cells(object));
                let selector = labels::Selector::from_label_selector(tree::at(object, "spec.selector"));
                cells.push(
                    selector
                        .map_or("<invalid>".to_owned(), |selector| selector.to_string())
                        .into(),
                );
                cells
            },
        )
}

fn default(object: &mut Value) {
    defaults::template(object, "spec.template");
    let spec = tree::child(object, "spec");
    tree::fill(spec, "replicas", 1);
    tree::fill(spec, "revisionHistoryLimit", 10);
    tree::fill(spec, "progressDeadlineSeconds", 600);
    let strategy = tree::child(spec, "strategy");
    tree::fill(strategy, "type", "RollingUpdate");
    if tree::text(strategy, "type") == "RollingUpdate" {
        let rolling = tree::child(strategy, "rollingUpdate");
        for field in ["maxUnavailable", "maxSurge"] {
            if tree::at(rolling, field).is_none() {
                tree::set(rolling, field, "25%");
            }
        }
    }
}

fn deployment(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = checks::nonnegative(object, "spec.replicas", &Path::root());
    errors.extend(selector(object, "empty selector is invalid for deployment"));
    errors.extend(template(object, "ReplicaSet"));
    errors.extend(strategy(object, &path.child("strategy")));
    for field in [
        "spec.minReadySeconds",
        "spec.revisionHistoryLimit",
        "spec.progressDeadlineSeconds",
    ] {
        errors.extend(checks::nonnegative(object, field, &Path::root()));
    }
    if let Some(deadline) = tree::int(object, "spec.progressDeadlineSeconds")
        && deadline <= tree::count(object, "spec.minReadySeconds")
    {
        let detail = "must be greater than minReadySeconds";
        errors.push(Error::invalid(&path.child("progressDeadlineSeconds"), deadline, detail));
    }
    errors
}

fn strategy(object: &Value, path: &Path) -> Vec<Error> {
    let rolling = tree::at(object, "spec.strategy.rollingUpdate");
    let rolling_path = path.child("rollingUpdate");
    match (tree::text(object, "spec.strategy.type"), rolling) {
        ("Recreate", None) => Vec::new(),
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![Error::forbidden(&rolling_path, detail)]
        }
        ("RollingUpdate", None) => {
            vec![Error::required(
                &rolling_path,
                "this should be defaulted and never be nil",
            )]
        }
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            let unavailable_path = rolling_path.child("maxUnavailable");
            let mut errors = checks::int_or_percent(unavailable, &unavailable_path);
            errors.extend(checks::int_or_percent(surge, &rolling_path.child("maxSurge")));
            let none = |value| checks::int_or_percent_value(value) == 0;
            if none(unavailable) && none(surge) {
                let value = unavailable.cloned().unwrap_or_default();
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(Error::invalid(&unavailable_path, value, detail));
            }
            errors.extend(checks::at_most_100_percent(unavailable, &unavailable_path));
            errors
        }
        _ => {
            let value = tree::at(object, "spec.strategy").cloned().unwrap_or_else(|| json!({}));
            let shown = shown_strategy(&value, &["MaxUnavailable#maxUnavailable", "MaxSurge#maxSurge"]);
            vec![Error::not_supported(path, value, &["Recreate", "RollingUpdate"]).showing(shown)]
        }
    }
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let status = tree::at(new, "status").unwrap_or(&Value::Null);
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    let mut errors = checks::all_nonnegative(status, &counts, &path);
    errors.extend(at_most_replicas(
        status,
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        "readyReplicas",
        &path,
    ));
    let before = tree::at(old, "status").unwrap_or(&Value::Null);
    errors.extend(checks::not_decremented(status, before, "collisionCount", &path));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn good() -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }});
        default(&mut object);
        object
    }

    #[test]
    fn defaults_are_upstreams_and_stable() {
        let mut object = good();
        assert_eq!(
            object["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(
            (&object["spec"]["replicas"], &object["spec"]["progressDeadlineSeconds"]),
            (&json!(1), &json!(600))
        );
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"],
            "Always"
        );
        let once = object.clone();
        default(&mut object);
        assert_eq!(object, once);
    }

    #[test]
    fn each_fault_has_its_path() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (|s| s["replicas"] = json!(-1), &["spec.replicas"]),
            (|s| s["selector"] = json!({}), &["spec.selector"]),
            (
                |s| s["selector"] = json!({"matchLabels": {"app": "y"}}),
                &["spec.template.metadata.labels"],
            ),
            (
                |s| s["selector"] = json!(null),
                &["spec.selector", "spec.template.metadata.labels"],
            ),
            (
                |s| s["template"]["spec"]["restartPolicy"] = json!("Never"),
                &["spec.template.spec.restartPolicy"],
            ),
            (
                |s| s["template"]["spec"]["containers"][0]["name"] = json!("B"),
                &["spec.template.spec.containers[0].name"],
            ),
            (
                |s| s["template"]["metadata"]["labels"]["a b"] = json!("c"),
                &["spec.template.labels"],
            ),
            (
                |s| s["strategy"] = json!({"type": "Recreate", "rollingUpdate": {}}),
                &["spec.strategy.rollingUpdate"],
            ),
            (|s| s["strategy"]["type"] = json!("Odd"), &["spec.strategy"]),
            (
                |s| s["strategy"]["rollingUpdate"] = json!({"maxSurge": 0, "maxUnavailable": "0%"}),
                &["spec.strategy.rollingUpdate.maxUnavailable"],
            ),
            (
                |s| s["strategy"]["rollingUpdate"] = json!({"maxSurge": "x", "maxUnavailable": "101%"}),
                &[
                    "spec.strategy.rollingUpdate.maxSurge",
                    "spec.strategy.rollingUpdate.maxUnavailable",
                ],
            ),
            (|s| s["minReadySeconds"] = json!(600), &["spec.progressDeadlineSeconds"]),
        ];
        for (change, want) in cases {
            let mut object = good();
            change(&mut object["spec"]);
            let fields: Vec<String> = deployment(&object).into_iter().map(|error| error.field).collect();
            assert_eq!(fields, *want, "{object}");
        }
    }

    #[test]
    fn structs_are_shown_as_upstream_shows_them() {
        let mut object = good();
        object["spec"]["strategy"]["type"] = json!("Odd");
        let errors = deployment(&object);
        assert_eq!(
            errors[0].to_string(),
            r#"spec.strategy: Unsupported value: {"Type":"Odd","RollingUpdate":{"MaxUnavailable":"25%","MaxSurge":"25%"}}: supported values: "Recreate", "RollingUpdate""#
        );
        let old = good();
        let mut new = good();
        new["spec"]["selector"]["matchExpressions"] = json!([{"key": "k", "operator": "Exists"}]);
        assert_eq!(
            selector_is_kept(&new, &old)[0].to_string(),
            r#"spec.selector: Invalid value: {"matchLabels":{"app":"x"},"matchExpressions":[{"key":"k","operator":"Exists"}]}: field is immutable"#
        );
    }

    #[test]
    fn rows_count_replicas() {
        let mut object = good();
        object["status"] = json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
        let kind = kind();
        let row = kind.row.as_ref().unwrap()(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(row.cells[1..4], [json!("1/1"), json!(2), json!(1)]);
        assert_eq!(row.cells[5..], [json!("c"), json!("i"), json!("app=x")]);
        assert_eq!(row.cells.len(), kind.columns.len());
    }
}
