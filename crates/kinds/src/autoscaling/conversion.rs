//! Between versions 1 and 2 of an autoscaler (`pkg/apis/autoscaling/v1/conversion.go`): what version
//! 1 has no field for travels in annotations.

use api::{Map, Value};
use serde_json::json;

use crate::tree;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// The metric of those who name none.
pub(super) fn default_metric() -> Value {
    cpu(80)
}

fn cpu(percent: i64) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// The wanted utilization, if the metric is one of the processor's.
fn cpu_percent(metric: &Value) -> Option<i64> {
    let is_cpu = tree::text(metric, "type") == "Resource" && tree::text(metric, "resource.name") == "cpu";
    tree::int(metric, "resource.target.averageUtilization").filter(|_| is_cpu)
}

/// Version 1 to version 2.
pub(super) fn to_v2(object: &mut Value) {
    let annotations = take_annotations(object);
    let parsed = |key: &str| -> Option<Value> { serde_json::from_str(annotations.get(key)?.as_str()?).ok() };
    let spec = tree::child(object, "spec");
    let percent = tree::int(spec, "targetCPUUtilizationPercentage");
    tree::unset(spec, "targetCPUUtilizationPercentage");
    let others = parsed(METRICS).and_then(|list| list.as_array().cloned());
    let mut metrics: Vec<Value> = others.iter().flatten().map(metric_to_v2).collect();
    metrics.extend(percent.map(cpu));
    if metrics.is_empty() {
        metrics.push(default_metric());
    }
    tree::set(spec, "metrics", metrics);
    let behavior = parsed(BEHAVIOR).map(|behavior| recased(&behavior, lower));
    if let Some(behavior) = behavior.filter(|behavior| tree::is_set(Some(behavior))) {
        tree::set(spec, "behavior", behavior);
    }
    let status = tree::child(object, "status");
    let percent = tree::int(status, "currentCPUUtilizationPercentage");
    tree::unset(status, "currentCPUUtilizationPercentage");
    let current = parsed(CURRENT_METRICS).and_then(|list| list.as_array().cloned());
    let current = match current {
        Some(list) => list.iter().map(status_to_v2).collect(),
        None => percent.map_or_else(Vec::new, |percent| {
            vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}})]
        }),
    };
    if current.is_empty() {
        tree::set(status, "currentMetrics", Value::Null);
    } else {
        tree::set(status, "currentMetrics", current);
    }
    if let Some(conditions) = parsed(CONDITIONS).filter(Value::is_array) {
        tree::set(status, "conditions", conditions);
    }
}

/// Version 2 to version 1.
pub(super) fn to_v1(object: &mut Value) {
    take_annotations(object);
    let mut annotations: Vec<(&str, Value)> = Vec::new();
    let metrics = tree::list(object, "spec.metrics");
    let percent = metrics.iter().find_map(cpu_percent);
    let others: Vec<Value> = metrics
        .iter()
        .filter(|metric| cpu_percent(metric).is_none())
        .map(metric_to_v1)
        .collect();
    if !others.is_empty() {
        annotations.push((METRICS, others.into()));
    }
    let current = tree::list(object, "status.currentMetrics");
    // The last one counts, as upstream has it.
    let current_percent = current.iter().rev().find_map(|status| {
        let is_cpu = tree::text(status, "type") == "Resource" && tree::text(status, "resource.name") == "cpu";
        tree::int(status, "resource.current.averageUtilization").filter(|_| is_cpu)
    });
    if !current.is_empty() {
        let current: Vec<Value> = current.iter().map(status_to_v1).collect();
        annotations.push((CURRENT_METRICS, current.into()));
    }
    if let Some(behavior) = tree::at(object, "spec.behavior") {
        annotations.push((BEHAVIOR, recased(behavior, upper)));
    }
    let conditions = tree::list(object, "status.conditions");
    if !conditions.is_empty() {
        annotations.push((CONDITIONS, conditions.to_vec().into()));
    }
    for (key, value) in annotations {
        api::meta::set_annotation(object, key, &value.to_string());
    }
    let spec = tree::child(object, "spec");
    tree::unset(spec, "metrics");
    tree::unset(spec, "behavior");
    if let Some(percent) = percent {
        tree::set(spec, "targetCPUUtilizationPercentage", percent);
    }
    let status = tree::child(object, "status");
    tree::unset(status, "currentMetrics");
    tree::unset(status, "conditions");
    if let Some(percent) = current_percent {
        tree::set(status, "currentCPUUtilizationPercentage", percent);
    }
}

/// Removes the annotations that carry fields of version 2, and gives them.
fn take_annotations(object: &mut Value) -> Map<String, Value> {
    let mut taken = Map::new();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return taken;
    };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return taken;
    };
    for key in [METRICS, CURRENT_METRICS, BEHAVIOR, CONDITIONS] {
        if let Some(value) = annotations.remove(key) {
            taken.insert(key.to_owned(), value);
        }
    }
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken
}

/// The annotation holds upstream's internal type, whose names start with capitals.
fn recased(value: &Value, rename: fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.iter().filter(|(_, value)| !value.is_null());
            renamed
                .map(|(key, value)| (rename(key), recased(value, rename)))
                .collect()
        }
        Value::Array(items) => items.iter().map(|item| recased(item, rename)).collect(),
        other => other.clone(),
    }
}

fn upper(key: &str) -> String {
    cased(key, char::to_ascii_uppercase)
}

fn lower(key: &str) -> String {
    cased(key, char::to_ascii_lowercase)
}

fn cased(key: &str, first: fn(&char) -> char) -> String {
    let mut letters = key.chars();
    let head = letters.next().map(|letter| first(&letter));
    head.into_iter().chain(letters).collect()
}

/// Fields of a source and where they are in version 2: (field of version 1, path in version 2).
type Moves = &'static [(&'static str, &'static str)];

fn moves(kind: &str) -> (&'static str, Moves) {
    match kind {
        "Object" => (
            "object",
            &[
                ("target", "describedObject"),
                ("metricName", "metric.name"),
                ("selector", "metric.selector"),
                ("targetValue", "target.value"),
                ("averageValue", "target.averageValue"),
            ],
        ),
        "Pods" => (
            "pods",
            &[
                ("metricName", "metric.name"),
                ("selector", "metric.selector"),
                ("targetAverageValue", "target.averageValue"),
            ],
        ),
        "External" => (
            "external",
            &[
                ("metricName", "metric.name"),
                ("metricSelector", "metric.selector"),
                ("targetValue", "target.value"),
                ("targetAverageValue", "target.averageValue"),
            ],
        ),
        "ContainerResource" => (
            "containerResource",
            &[
                ("name", "name"),
                ("container", "container"),
                ("targetAverageUtilization", "target.averageUtilization"),
                ("targetAverageValue", "target.averageValue"),
            ],
        ),
        _ => (
            "resource",
            &[
                ("name", "name"),
                ("targetAverageUtilization", "target.averageUtilization"),
                ("targetAverageValue", "target.averageValue"),
            ],
        ),
    }
}

fn status_moves(kind: &str) -> (&'static str, Moves) {
    match kind {
        "Object" => (
            "object",
            &[
                ("target", "describedObject"),
                ("metricName", "metric.name"),
                ("selector", "metric.selector"),
                ("currentValue", "current.value"),
                ("averageValue", "current.averageValue"),
            ],
        ),
        "Pods" => (
            "pods",
            &[
                ("metricName", "metric.name"),
                ("selector", "metric.selector"),
                ("currentAverageValue", "current.averageValue"),
            ],
        ),
        "External" => (
            "external",
            &[
                ("metricName", "metric.name"),
                ("metricSelector", "metric.selector"),
                ("currentValue", "current.value"),
                ("currentAverageValue", "current.averageValue"),
            ],
        ),
        "ContainerResource" => (
            "containerResource",
            &[
                ("name", "name"),
                ("container", "container"),
                ("currentAverageUtilization", "current.averageUtilization"),
                ("currentAverageValue", "current.averageValue"),
            ],
        ),
        _ => (
            "resource",
            &[
                ("name", "name"),
                ("currentAverageUtilization", "current.averageUtilization"),
                ("currentAverageValue", "current.averageValue"),
            ],
        ),
    }
}

/// Quantities that are no pointers in version 1: always there.
const ALWAYS: &[(&str, &str)] = &[
    ("object", "targetValue"),
    ("object", "currentValue"),
    ("pods", "targetAverageValue"),
    ("pods", "currentAverageValue"),
    ("external", "currentValue"),
    ("resource", "currentAverageValue"),
    ("containerResource", "currentAverageValue"),
];

fn to_flat(metric: &Value, (field, moves): (&'static str, Moves), is_status: bool) -> Value {
    let kind = tree::text(metric, "type");
    let mut flat = json!({"type": kind});
    let Some(source) = tree::at(metric, field) else {
        return flat;
    };
    let mut target = json!({});
    for (name, path) in moves {
        if let Some(value) = tree::at(source, path) {
            tree::set(&mut target, name, value.clone());
        }
    }
    for (_, name) in ALWAYS
        .iter()
        .filter(|(of, name)| *of == field && name.starts_with("current") == is_status)
    {
        tree::fill(&mut target, name, "0");
    }
    tree::set(&mut flat, field, target);
    flat
}

fn to_deep(metric: &Value, (field, moves): (&'static str, Moves)) -> Value {
    let mut deep = json!({"type": tree::text(metric, "type")});
    let Some(source) = tree::at(metric, field) else {
        return deep;
    };
    let target = tree::child(&mut deep, field);
    for (name, path) in moves {
        let Some(value) = tree::at(source, name) else {
            continue;
        };
        match path.split_once('.') {
            Some((outer, inner)) => tree::set(tree::child(target, outer), inner, value.clone()),
            None => tree::set(target, path, value.clone()),
        }
    }
    deep
}

fn metric_to_v1(metric: &Value) -> Value {
    to_flat(metric, moves(tree::text(metric, "type")), false)
}

fn status_to_v1(status: &Value) -> Value {
    to_flat(status, status_moves(tree::text(status, "type")), true)
}

fn metric_to_v2(metric: &Value) -> Value {
    let (field, moves) = moves(tree::text(metric, "type"));
    let mut deep = to_deep(metric, (field, moves));
    let Some(source) = tree::at_mut(&mut deep, field) else {
        return deep;
    };
    let has = |name: &str| tree::at(source, &format!("target.{name}")).is_some();
    let kind = match field {
        "pods" => "AverageValue",
        "object" if has("averageValue") => "AverageValue",
        "object" => "Value",
        "external" if has("value") => "Value",
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        _ => "AverageValue",
    };
    tree::set(tree::child(source, "target"), "type", kind);
    deep
}

fn status_to_v2(status: &Value) -> Value {
    to_deep(status, status_moves(tree::text(status, "type")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2() -> Value {
        json!({
            "metadata": {"name": "a", "annotations": {"mine": "x"}},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5,
                "metrics": [
                    {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                    {"type": "External", "external": {"metric": {"name": "q", "selector": {}}, "target": {"type": "Value", "value": "3"}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
                ],
                "behavior": {"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}},
            },
            "status": {
                "currentReplicas": 1, "desiredReplicas": 2,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5, "averageValue": "1m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        })
    }

    #[test]
    fn version_1_carries_everything() {
        let mut object = v2();
        to_v1(&mut object);
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 5);
        assert_eq!(object["metadata"]["annotations"].as_object().unwrap().len(), 5);
        assert!(object["spec"].get("metrics").is_none() && object["status"].get("conditions").is_none());
        let behavior = object["metadata"]["annotations"][BEHAVIOR].as_str().unwrap();
        assert!(behavior.contains("\"PeriodSeconds\":15"), "{behavior}");
        to_v2(&mut object);
        assert_eq!(object, v2());
    }

    #[test]
    fn a_plain_version_1_gets_the_default_metric() {
        let mut object = json!({"spec": {"maxReplicas": 3}});
        to_v2(&mut object);
        assert_eq!(object["spec"]["metrics"], json!([default_metric()]));
        let mut object = json!({"metadata": {"annotations": {METRICS: "junk", BEHAVIOR: "{}"}}, "spec": {"targetCPUUtilizationPercentage": 50}});
        to_v2(&mut object);
        assert_eq!(object["spec"]["metrics"], json!([cpu(50)]));
        assert!(object["metadata"].get("annotations").is_none());
    }
}
