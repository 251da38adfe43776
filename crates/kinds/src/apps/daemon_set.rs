//! `daemonsets`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};
use serde_json::json;

use super::{selector, selector_is_kept, template, wide_cells, wide_columns};
use crate::core::pod::disabled;
use crate::pod_spec::defaults;
use crate::pod_spec::warnings::{self, Named};
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
        .prepare_create(|_, object| disabled::template(object, None, "spec.template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "spec.template"))
        .warnings(|new, old| warnings::workload(new, old, Named::No, "spec.template"))
        .validate(set)
        .validate_update(|new, old| {
            let mut errors = set(new);
            errors.extend(selector_is_kept(new, old));
            errors
        })
        .subresource(Subresource::status().validate(status))
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

fn set(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = selector(object, "empty selector is invalid for daemonset");
    errors.extend(template(object, "DaemonSet"));
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
            vec![Error::not_supported(path, value, &["RollingUpdate", "OnDelete"])]
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
