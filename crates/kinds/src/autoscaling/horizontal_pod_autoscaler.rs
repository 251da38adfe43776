//! `horizontalpodautoscalers`, version 2 and version 1.

use api::field::{Error, Path};
use api::{Gvk, Value};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};
use jiff::Timestamp;
use serde_json::json;

use super::{conversion, metrics};
use crate::{cells, checks, tree};

const GROUP: &str = "autoscaling";
const KIND: &str = "HorizontalPodAutoscaler";
const PLURAL: &str = "horizontalpodautoscalers";

pub(crate) fn v2() -> Kind {
    common(Kind::namespaced(GROUP, "v2", KIND, PLURAL))
        .default(default)
        .validate(|new| autoscaler(new, None))
        .validate_update(|new, old| autoscaler(new, Some(old)))
        .subresource(Subresource::status().validate(|new, _| status(new)))
        .table(columns(), row)
}

/// Its rules are those of version 2: what is checked and shown is the object that will be stored.
pub(crate) fn v1() -> Kind {
    let stored = Gvk::new(GROUP, "v2", KIND);
    common(Kind::namespaced(GROUP, "v1", KIND, PLURAL))
        .stored_as(GROUP, PLURAL, stored)
        .converted(conversion::to_v2, conversion::to_v1)
        .default(|object| {
            let spec = tree::child(object, "spec");
            if tree::int(spec, "minReplicas").is_none() {
                tree::set(spec, "minReplicas", 1);
            }
        })
        .validate(|new| autoscaler(&as_v2(new), None))
        .validate_update(|new, old| autoscaler(&as_v2(new), Some(&as_v2(old))))
        .subresource(Subresource::status().validate(|new, _| status(new)))
        .table(columns(), |object, now| row(&as_v2(object), now))
}

fn common(kind: Kind) -> Kind {
    kind.short_names(&["hpa"]).categories(&["all"])
}

fn as_v2(object: &Value) -> Value {
    let mut object = object.clone();
    conversion::to_v2(&mut object);
    object
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Reference", "What is scaled."),
        Column::string("Targets", "Current and wanted metrics."),
        Column::string("MinPods", "Fewest pods."),
        Column::string("MaxPods", "Most pods."),
        Column::string("Replicas", "Pods now."),
        Column::age(),
    ]
}

fn row(object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = tree::text(object, "spec.scaleTargetRef.kind");
    let reference = format!("{kind}/{}", tree::text(object, "spec.scaleTargetRef.name"));
    let fewest = tree::int(object, "spec.minReplicas");
    vec![
        cells::name(object),
        reference.into(),
        targets(object).into(),
        fewest.map_or("<unset>".into(), |count| count.to_string().into()),
        tree::count(object, "spec.maxReplicas").into(),
        tree::count(object, "status.currentReplicas").into(),
        cells::age(object, now),
    ]
}

fn default(object: &mut Value) {
    let spec = tree::child(object, "spec");
    tree::fill(spec, "minReplicas", 1);
    if tree::list(spec, "metrics").is_empty() {
        tree::set(spec, "metrics", vec![conversion::default_metric()]);
    }
    if tree::at(spec, "behavior").is_none() {
        return;
    }
    let behavior = tree::child(spec, "behavior");
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = tree::child(behavior, "scaleUp");
    tree::fill_absent(up, "selectPolicy", "Max");
    tree::fill(up, "stabilizationWindowSeconds", 0);
    fill_policies(up, vec![pods, percent.clone()]);
    let down = tree::child(behavior, "scaleDown");
    tree::fill_absent(down, "selectPolicy", "Max");
    fill_policies(down, vec![percent]);
}

/// A list without policies is one, and refused.
fn fill_policies(rules: &mut Value, policies: Vec<Value>) {
    if rules.get("policies").is_none_or(Value::is_null) {
        tree::set(rules, "policies", policies);
    }
}

/// The first two metrics as current/wanted, and how many more there are.
fn targets(object: &Value) -> String {
    let metrics = tree::list(object, "spec.metrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = tree::list(object, "status.currentMetrics");
    let shown = metrics.iter().enumerate().take(2).map(|(index, metric)| {
        let (field, average_note) = match tree::text(metric, "type") {
            "External" => ("external", true),
            "Object" => ("object", true),
            "Pods" => ("pods", false),
            "Resource" => ("resource", false),
            "ContainerResource" => ("containerResource", false),
            _ => return "<unknown type>".to_owned(),
        };
        let current = |name: &str| {
            let value = statuses
                .get(index)
                .and_then(|status| tree::at(status, &format!("{field}.current.{name}")));
            value.map_or("<unknown>".to_owned(), text)
        };
        let target = |name: &str| tree::at(metric, &format!("{field}.target.{name}")).map(text);
        let resource = field.to_lowercase().contains("resource");
        let prefix = if resource {
            format!("{}: ", tree::text(metric, &format!("{field}.name")))
        } else {
            String::new()
        };
        match target("averageValue") {
            Some(wanted) => {
                let note = if average_note { " (avg)" } else { "" };
                format!("{prefix}{}/{wanted}{note}", current("averageValue"))
            }
            None if resource => {
                let percent = |text: String| {
                    if text.starts_with('<') {
                        text
                    } else {
                        format!("{text}%")
                    }
                };
                let wanted = target("averageUtilization").map_or("<auto>".to_owned(), percent);
                format!("{prefix}{}/{wanted}", percent(current("averageUtilization")))
            }
            None => format!("{}/{}", current("value"), target("value").unwrap_or_default()),
        }
    });
    let mut list = shown.collect::<Vec<_>>().join(", ");
    if metrics.len() > 2 {
        list.push_str(&format!(" + {} more...", metrics.len() - 2));
    }
    list
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn autoscaler(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (least, most) = (tree::int(new, "spec.minReplicas"), tree::count(new, "spec.maxReplicas"));
    // Scaling to zero is kept where it once was possible.
    let was_zero = old.is_some_and(|old| tree::int(old, "spec.minReplicas") == Some(0));
    let bound = if was_zero { 0 } else { 1 };
    if let Some(least) = least
        && least < bound
    {
        let detail = format!("must be greater than or equal to {bound}");
        errors.push(Error::invalid(&path.child("minReplicas"), least, detail));
    }
    let most_path = path.child("maxReplicas");
    if most < 1 {
        errors.push(Error::invalid(&most_path, most, "must be greater than 0"));
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&most_path, most, detail));
    }
    let target = tree::at(new, "spec.scaleTargetRef").unwrap_or(&Value::Null);
    errors.extend(metrics::object_reference(target, &path.child("scaleTargetRef")));
    let list = tree::list(new, "spec.metrics");
    errors.extend(metrics::metrics(list, least, &path.child("metrics")));
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = tree::at(new, &format!("spec.behavior.{direction}")) {
            errors.extend(metrics::scaling_rules(rules, &path.child("behavior").child(direction)));
        }
    }
    errors
}

fn status(object: &Value) -> Vec<Error> {
    let status = tree::at(object, "status").unwrap_or(&Value::Null);
    let counts = ["currentReplicas", "desiredReplicas"];
    checks::all_nonnegative(status, &counts, &Path::new("status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shown_and_faults_found() {
        let mut object = json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}});
        default(&mut object);
        assert_eq!(targets(&object), "cpu: <unknown>/80%");
        assert!(autoscaler(&object, None).is_empty());
        object["status"] = json!({"currentMetrics": [{"resource": {"current": {"averageUtilization": 5}}}]});
        assert_eq!(targets(&object), "cpu: 5%/80%");
        let bad = json!({"spec": {"minReplicas": 0, "metrics": [{}, {"type": "Pods"}], "behavior": {"scaleUp": {}}}});
        let errors = autoscaler(&bad, None);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.minReplicas",
                "spec.maxReplicas",
                "spec.scaleTargetRef.kind",
                "spec.scaleTargetRef.name",
                "spec.metrics[0].type",
                "spec.metrics[0].type",
                "spec.metrics[0].type",
                "spec.metrics[1].pods",
                "spec.metrics",
                "spec.behavior.scaleUp.policies",
            ]
        );
    }
}
