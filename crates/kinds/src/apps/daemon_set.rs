//! `daemonsets`.

use api::field::{Error, Path};
use api::labels::Selector;
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};
use serde_json::json;

use super::{selector_is_empty, selector_is_kept, shown_strategy, wide_cells, wide_columns};
use crate::core::pod::disabled;
use crate::pod_spec::warnings::{self, Named};
use crate::pod_spec::{defaults, spec};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "DaemonSet", "daemonsets")
        .short_names(&["ds"])
        .categories(&["all"])
        .with_generation()
        .default(|object| {
            defaults::template(object, "spec.template");
            let spec = tree::child(object, "spec");
            tree::fill(spec, "revisionHistoryLimit", 10);
            let strategy = tree::child(spec, "updateStrategy");
            tree::fill(strategy, "type", "RollingUpdate");
            if tree::text(strategy, "type") == "RollingUpdate" {
                let rolling = tree::child(strategy, "rollingUpdate");
                for (field, value) in [("maxUnavailable", 1), ("maxSurge", 0)] {
                    if tree::at(rolling, field).is_none() {
                        tree::set(rolling, field, value);
                    }
                }
            }
        })
        .prepare_create(|_, object| {
            disabled::template(object, None, "spec.template");
            let given = template_generation(object);
            set_template_generation(object, given.max(1));
        })
        .prepare_update(|_, new, old| {
            disabled::template(new, Some(old), "spec.template");
            let same = tree::same(tree::at(new, "spec.template"), tree::at(old, "spec.template"));
            set_template_generation(new, template_generation(old) + i64::from(!same));
        })
        .warnings(|new, old| warnings::workload(new, old, Named::No, "spec.template"))
        .validate(set)
        .validate_update(|new, old| {
            let mut errors = set(new);
            errors.extend(selector_is_kept(new, old));
            errors
        })
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| {
                    tree::keep(new, old, "spec");
                    set_template_generation(new, template_generation(old));
                })
                .validate(status),
        )
        .table(
            wide_columns(vec![
                Column::name(),
                Column::integer("Desired", "Nodes that should run the pod."),
                Column::integer("Current", "Nodes that run the pod."),
                Column::integer("Ready", "Nodes on which the pod is ready."),
                Column::integer("Up-to-date", "Nodes that run the newest template."),
                Column::integer("Available", "Nodes on which the pod has been ready for long enough."),
                Column::string("Node Selector", "Labels of the nodes."),
                Column::age(),
            ]),
            |object, now| {
                let counts = [
                    "status.desiredNumberScheduled",
                    "status.currentNumberScheduled",
                    "status.numberReady",
                    "status.updatedNumberScheduled",
                    "status.numberAvailable",
                ];
                let mut cells = vec![cells::name(object)];
                cells.extend(counts.iter().map(|path| Value::from(tree::count(object, path))));
                cells.push(cells::label_map(object, "spec.template.spec.nodeSelector"));
                cells.push(cells::age(object, now));
                wide_cells(object, cells)
            },
        )
}

/// How often the template changed. `apps/v1` has no field for it, but upstream still counts
/// (`Convert_apps_DaemonSet_To_v1_DaemonSet`), and its controller labels pods with it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    let count = meta::annotation(object, TEMPLATE_GENERATION);
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Value, count: i64) {
    let annotations = tree::child(tree::child(object, "metadata"), "annotations");
    tree::set(annotations, TEMPLATE_GENERATION, count.to_string());
}

fn set(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let template_path = path.child("template");
    let template = tree::at(object, "spec.template").unwrap_or(&Value::Null);
    let selector_path = path.child("selector");
    let selector = tree::at(object, "spec.selector");
    let mut errors = selector.map_or_else(Vec::new, |selector| validate::label_selector(selector, &selector_path));
    if let Ok(selector) = Selector::from_label_selector(selector) {
        errors.extend(spec::template_is_selected(template, &selector, &template_path));
    }
    let detail = "empty selector is invalid for daemonset";
    errors.extend(selector.and_then(|selector| selector_is_empty(selector, &selector_path, detail)));
    errors.extend(spec::template(template, &template_path));
    errors.extend(spec::template_runs_on(template, "DaemonSet", &template_path));
    errors.extend(checks::nonnegative(object, "spec.minReadySeconds", &Path::root()));
    errors.extend(strategy(object, &path.child("updateStrategy")));
    errors.extend(checks::nonnegative(object, "spec.revisionHistoryLimit", &Path::root()));
    errors
}

fn strategy(object: &Value, path: &Path) -> Vec<Error> {
    match tree::text(object, "spec.updateStrategy.type") {
        "OnDelete" => Vec::new(),
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let Some(rolling) = tree::at(object, "spec.updateStrategy.rollingUpdate") else {
                return vec![Error::required(&path, "")];
            };
            let mut errors = Vec::new();
            for field in ["maxUnavailable", "maxSurge"] {
                let value = rolling.get(field);
                errors.extend(checks::int_or_percent(value, &path.child(field)));
                errors.extend(checks::at_most_100_percent(value, &path.child(field)));
            }
            let some = |field: &str| checks::int_or_percent_value(rolling.get(field)) != 0;
            match (some("maxUnavailable"), some("maxSurge")) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(Error::invalid(
                        &path.child("maxSurge"),
                        rolling["maxSurge"].clone(),
                        detail,
                    ));
                }
                (false, false) => {
                    let detail = "cannot be 0 when maxSurge is 0";
                    errors.push(Error::required(&path.child("maxUnavailable"), detail));
                }
                _ => {}
            }
            errors
        }
        _ => {
            let value = tree::at(object, "spec.updateStrategy")
                .cloned()
                .unwrap_or_else(|| json!({}));
            let shown = shown_strategy(&value, &["MaxUnavailable#maxUnavailable", "MaxSurge#maxSurge"]);
            vec![Error::not_supported(path, value, &["RollingUpdate", "OnDelete"]).showing(shown)]
        }
    }
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let status = tree::at(new, "status").unwrap_or(&Value::Null);
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    let mut errors = checks::all_nonnegative(status, &counts, &path);
    let before = tree::at(old, "status").unwrap_or(&Value::Null);
    errors.extend(checks::not_decremented(status, before, "collisionCount", &path));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }});
        kind().strategy.default.as_ref().unwrap()(&mut object);
        object
    }

    #[test]
    fn each_fault_has_its_message() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (
                |s| s["selector"] = json!(null),
                &[
                    r#"spec.template.metadata.labels: Invalid value: {"app":"x"}: `selector` does not match template `labels`"#,
                ],
            ),
            (
                |s| s["updateStrategy"] = json!({"type": "Odd"}),
                &[
                    r#"spec.updateStrategy: Unsupported value: {"Type":"Odd","RollingUpdate":null}: supported values: "RollingUpdate", "OnDelete""#,
                ],
            ),
            (
                |s| s["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 1, "maxSurge": "1%"}),
                &[
                    r#"spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "1%": may not be set when maxUnavailable is non-zero"#,
                ],
            ),
            (
                |s| s["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 0, "maxSurge": 0}),
                &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
            ),
            (
                |s| s["template"]["spec"]["activeDeadlineSeconds"] = json!(5),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
                ],
            ),
        ];
        for (change, want) in cases {
            let mut object = good();
            change(&mut object["spec"]);
            let texts: Vec<String> = set(&object).iter().map(Error::to_string).collect();
            assert_eq!(texts, *want, "{object}");
        }
    }

    #[test]
    fn changes_of_the_template_are_counted() {
        let mut object = good();
        assert_eq!(template_generation(&object), 0);
        set_template_generation(&mut object, 3);
        assert_eq!(object["metadata"]["annotations"][TEMPLATE_GENERATION], "3");
        assert_eq!(template_generation(&object), 3);
    }
}
