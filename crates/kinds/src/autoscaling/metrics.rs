//! Metrics and scaling rules of an autoscaler (`pkg/apis/autoscaling/validation`).

use api::field::{Error, Path};
use api::{Value, validate};

use crate::pod_spec::resources;
use crate::{checks, tree};

const SOURCES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// In the order in which upstream looks at them.
const FIELDS: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];
const MAX_WINDOW_SECONDS: i64 = 3600;
const MAX_PERIOD_SECONDS: i64 = 1800;

/// A reference by kind and name.
pub(super) fn object_reference(reference: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in ["kind", "name"] {
        let (value, path) = (tree::text(reference, field), path.child(field));
        if value.is_empty() {
            errors.push(Error::required(&path, ""));
        } else {
            errors.extend(checks::invalid_each(&path, value, validate::path_segment_name(value)));
        }
    }
    errors
}

/// Every metric, and that zero replicas can be left again.
pub(super) fn metrics(list: &[Value], least: Option<i64>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, item) in list.iter().enumerate() {
        errors.extend(metric(item, &path.index(index)));
    }
    let outside = |metric: &Value| matches!(tree::text(metric, "type"), "Object" | "External");
    if least == Some(0) && !list.iter().any(outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(path, detail));
    }
    errors
}

fn metric(metric: &Value, path: &Path) -> Vec<Error> {
    let kind = tree::text(metric, "type");
    let mut errors = Vec::new();
    if kind.is_empty() {
        errors.push(Error::required(
            &path.child("type"),
            "must specify a metric source type",
        ));
    }
    let known = SOURCES.contains(&kind);
    if !known {
        errors.push(Error::not_supported(&path.child("type"), kind, SOURCES));
    }
    let held: Vec<&str> = FIELDS
        .iter()
        .map(|(field, _)| *field)
        .filter(|field| tree::at(metric, field).is_some())
        .collect();
    if let Some(field) = held.first() {
        let source = tree::at(metric, field).unwrap_or(&Value::Null);
        errors.extend(self::source(field, source, &path.child(field)));
    }
    let expected = FIELDS.iter().find(|(_, name)| *name == kind).map(|(field, _)| *field);
    match expected {
        Some(field) if !held.contains(&field) => {
            let detail = "must populate information for the given metric source";
            errors.push(Error::required(&path.child(field), detail));
        }
        Some(_) => {}
        // Upstream says it a second time.
        None => errors.push(Error::not_supported(&path.child("type"), kind, SOURCES)),
    }
    if held.len() != 1 {
        for field in held.into_iter().filter(|field| Some(*field) != expected) {
            let detail = "must populate the given metric source only";
            errors.push(Error::forbidden(&path.child(field), detail));
        }
    }
    errors
}

fn source(field: &str, source: &Value, path: &Path) -> Vec<Error> {
    let target_path = path.child("target");
    let target = tree::at(source, "target").unwrap_or(&Value::Null);
    let has = |name: &str| tree::at(target, name).is_some();
    let mut errors = Vec::new();
    match field {
        "object" => {
            let described = tree::at(source, "describedObject").unwrap_or(&Value::Null);
            errors.extend(object_reference(described, &path.child("describedObject")));
            errors.extend(identifier(source, path));
        }
        "external" | "pods" => errors.extend(identifier(source, path)),
        _ => errors.extend(resource(field, source, path)),
    }
    errors.extend(self::target(target, &target_path));
    let required = |field: &str, detail: &str| Error::required(&target_path.child(field), detail);
    let forbidden = |field: &str, detail: &str| Error::forbidden(&target_path.child(field), detail);
    match field {
        "object" if !has("value") && !has("averageValue") => {
            errors.push(required(
                "averageValue",
                "must set either a target value or averageValue",
            ));
        }
        "external" if !has("value") && !has("averageValue") => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(required("averageValue", detail));
        }
        "external" if has("value") && has("averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(forbidden("value", detail));
        }
        "pods" if !has("averageValue") => {
            errors.push(required("averageValue", "must specify a positive target averageValue"));
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                let detail = "must set either a target raw value or a target utilization";
                errors.push(required("averageUtilization", detail));
            }
            (true, true) => {
                let detail = "may not set both a target raw value and a target utilization";
                errors.push(forbidden("averageValue", detail));
            }
            _ => {}
        },
        _ => {}
    }
    errors
}

fn identifier(source: &Value, path: &Path) -> Vec<Error> {
    let (name, path) = (tree::text(source, "metric.name"), path.child("metric").child("name"));
    if name.is_empty() {
        return vec![Error::required(&path, "must specify a metric name")];
    }
    checks::invalid_each(&path, name, validate::path_segment_name(name))
}

fn resource(field: &str, source: &Value, path: &Path) -> Vec<Error> {
    let name = tree::text(source, "name");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "must specify a resource name"));
    } else if field == "containerResource" {
        errors.extend(resources::container_resource_name(name, &path.child("name")));
    }
    if field == "containerResource" {
        match tree::text(source, "container") {
            "" => errors.push(Error::required(&path.child("container"), "must specify a container")),
            container => errors.extend(checks::dns_label(container, &path.child("container"))),
        }
    }
    errors
}

fn target(target: &Value, path: &Path) -> Vec<Error> {
    let kind = tree::text(target, "type");
    let mut errors = Vec::new();
    if kind.is_empty() {
        errors.push(Error::required(
            &path.child("type"),
            "must specify a metric target type",
        ));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&path.child("type"), kind, detail));
    }
    for field in ["value", "averageValue"] {
        let quantity = tree::at(target, field).and_then(tree::quantity);
        if let Some(quantity) = quantity.filter(|quantity| quantity.signum() <= 0) {
            errors.push(Error::invalid(
                &path.child(field),
                quantity.to_string(),
                "must be positive",
            ));
        }
    }
    if let Some(percent) = tree::int(target, "averageUtilization").filter(|percent| *percent < 1) {
        let detail = "must be greater than 0";
        errors.push(Error::invalid(&path.child("averageUtilization"), percent, detail));
    }
    errors
}

/// How fast replicas may come or go.
pub(super) fn scaling_rules(rules: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(seconds) = tree::int(rules, "stabilizationWindowSeconds") {
        let path = path.child("stabilizationWindowSeconds");
        if seconds < 0 {
            errors.push(Error::invalid(&path, seconds, "must be greater than or equal to zero"));
        }
        if seconds > MAX_WINDOW_SECONDS {
            let detail = format!("must be less than or equal to {MAX_WINDOW_SECONDS}");
            errors.push(Error::invalid(&path, seconds, detail));
        }
    }
    let select = tree::text_opt(rules, "selectPolicy");
    let known = &["Disabled", "Max", "Min"];
    errors.extend(checks::optional_one_of(select, known, &path.child("selectPolicy")));
    let policies = tree::list(rules, "policies");
    let policies_path = path.child("policies");
    if policies.is_empty() {
        errors.push(Error::required(&policies_path, "must specify at least one Policy"));
    }
    for (index, item) in policies.iter().enumerate() {
        errors.extend(policy(item, &policies_path.index(index)));
    }
    let tolerance = tree::at(rules, "tolerance").and_then(tree::quantity);
    if let Some(tolerance) = tolerance {
        errors.extend(checks::nonnegative_quantity(&tolerance, &path.child("tolerance")));
    }
    errors
}

fn policy(policy: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (kind, known) = (tree::text(policy, "type"), &["Percent", "Pods"]);
    if !known.contains(&kind) {
        errors.push(Error::not_supported(&path.child("type"), kind, known));
    }
    for field in ["value", "periodSeconds"] {
        let number = tree::count(policy, field);
        if number <= 0 {
            errors.push(Error::invalid(&path.child(field), number, "must be greater than zero"));
        }
    }
    let period = tree::count(policy, "periodSeconds");
    if period > MAX_PERIOD_SECONDS {
        let detail = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
        errors.push(Error::invalid(&path.child("periodSeconds"), period, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn each_source_has_its_rules() {
        let path = Path::new("m");
        let good = [
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}),
            json!({"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
            json!({"type": "Object", "object": {"metric": {"name": "x"}, "describedObject": {"kind": "K", "name": "n"}, "target": {"type": "Value", "value": "1"}}}),
            json!({"type": "External", "external": {"metric": {"name": "x"}, "target": {"type": "Value", "value": "1"}}}),
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 80}}}),
        ];
        assert_eq!(fields(metrics(&good, Some(1), &path)), Vec::<String>::new());
        let bad = [
            json!({"type": "Pods", "resource": {"name": "cpu", "target": {}}}),
            json!({"type": "Resource", "resource": {"target": {"type": "Odd", "averageValue": "-1", "averageUtilization": 0}}}),
        ];
        assert_eq!(
            fields(metrics(&bad, Some(1), &path)),
            [
                "m[0].resource.target.type",
                "m[0].resource.target.type",
                "m[0].resource.target.averageUtilization",
                "m[0].pods",
                "m[1].resource.name",
                "m[1].resource.target.type",
                "m[1].resource.target.averageValue",
                "m[1].resource.target.averageUtilization",
                "m[1].resource.target.averageValue",
            ]
        );
    }

    #[test]
    fn rules_are_bounded() {
        let rules = json!({"stabilizationWindowSeconds": 4000, "selectPolicy": "Odd", "policies": [{"type": "Odd", "periodSeconds": 2000}], "tolerance": "-1"});
        assert_eq!(
            fields(scaling_rules(&rules, &Path::new("r"))),
            [
                "r.stabilizationWindowSeconds",
                "r.selectPolicy",
                "r.policies[0].type",
                "r.policies[0].value",
                "r.policies[0].periodSeconds",
                "r.tolerance"
            ]
        );
    }
}
