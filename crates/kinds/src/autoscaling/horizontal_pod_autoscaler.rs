//! `horizontalpodautoscalers`, version 2. Version 1 is not served.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};
use serde_json::json;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    )
    .short_names(&["hpa"])
    .categories(&["all"])
    .default(default)
    .validate(autoscaler)
    .subresource(Subresource::status())
    .table(
        vec![
            Column::name(),
            Column::string("Reference", "What is scaled."),
            Column::string("Targets", "Current and wanted metrics."),
            Column::string("MinPods", "Fewest pods."),
            Column::string("MaxPods", "Most pods."),
            Column::string("Replicas", "Pods now."),
            Column::age(),
        ],
        |object, now| {
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
        },
    )
}

fn default(object: &mut Value) {
    let spec = tree::child(object, "spec");
    tree::fill(spec, "minReplicas", 1);
    if tree::list(spec, "metrics").is_empty() {
        let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
        tree::set(spec, "metrics", vec![json!({"type": "Resource", "resource": cpu})]);
    }
    if tree::at(spec, "behavior").is_none() {
        return;
    }
    let behavior = tree::child(spec, "behavior");
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = tree::child(behavior, "scaleUp");
    tree::fill(up, "selectPolicy", "Max");
    tree::fill(up, "stabilizationWindowSeconds", 0);
    tree::fill(up, "policies", vec![pods, percent.clone()]);
    let down = tree::child(behavior, "scaleDown");
    tree::fill(down, "selectPolicy", "Max");
    tree::fill(down, "policies", vec![percent]);
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

fn autoscaler(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (least, most) = (
        tree::int(object, "spec.minReplicas"),
        tree::count(object, "spec.maxReplicas"),
    );
    if let Some(least) = least {
        if least < 1 {
            let detail = "must be greater than or equal to 1";
            errors.push(Error::invalid(&path.child("minReplicas"), least, detail));
        }
        if most < least {
            let detail = "must be greater than or equal to `minReplicas`";
            errors.push(Error::invalid(&path.child("maxReplicas"), most, detail));
        }
    }
    if most < 1 {
        errors.push(Error::invalid(
            &path.child("maxReplicas"),
            most,
            "must be greater than 0",
        ));
    }
    let target = path.child("scaleTargetRef");
    for field in ["kind", "name"] {
        let value = tree::text(object, &format!("spec.scaleTargetRef.{field}"));
        if value.is_empty() {
            errors.push(Error::required(&target.child(field), ""));
        } else {
            let messages = validate::path_segment_name(value);
            errors.extend(checks::invalid_each(&target.child(field), value, messages));
        }
    }
    errors.extend(metrics(object, &path.child("metrics")));
    errors
}

fn metrics(object: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let known = &["ContainerResource", "External", "Object", "Pods", "Resource"];
    for (index, metric) in tree::list(object, "spec.metrics").iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text(metric, "type");
        let field = match kind {
            "" => {
                errors.push(Error::required(
                    &path.child("type"),
                    "must specify a metric source type",
                ));
                continue;
            }
            "ContainerResource" => "containerResource",
            "External" => "external",
            "Object" => "object",
            "Pods" => "pods",
            "Resource" => "resource",
            other => {
                errors.push(Error::not_supported(&path.child("type"), other, known));
                continue;
            }
        };
        let Some(source) = tree::at(metric, field) else {
            let detail = "must populate information for the given metric source";
            errors.push(Error::required(&path.child(field), detail));
            continue;
        };
        let target = path.child(field).child("target");
        let kind = tree::text(source, "target.type");
        errors.extend(checks::one_of(
            kind,
            &["AverageValue", "Utilization", "Value"],
            &target.child("type"),
        ));
        for amount in ["value", "averageValue"] {
            let quantity = tree::at(source, &format!("target.{amount}")).and_then(tree::quantity);
            if quantity.is_some_and(|quantity| quantity.signum() <= 0) {
                let shown = tree::text(source, &format!("target.{amount}"));
                errors.push(Error::invalid(&target.child(amount), shown, "must be positive"));
            }
        }
        if let Some(percent) = tree::int(source, "target.averageUtilization")
            && percent < 1
        {
            let detail = "must be greater than 0";
            errors.push(Error::invalid(&target.child("averageUtilization"), percent, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shown_and_faults_found() {
        let mut object = json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}});
        default(&mut object);
        assert_eq!(targets(&object), "cpu: <unknown>/80%");
        assert!(autoscaler(&object).is_empty());
        object["status"] = json!({"currentMetrics": [{"resource": {"current": {"averageUtilization": 5}}}]});
        assert_eq!(targets(&object), "cpu: 5%/80%");
        let errors = autoscaler(&json!({"spec": {"minReplicas": 0, "metrics": [{}, {"type": "Pods"}]}}));
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.minReplicas",
                "spec.maxReplicas",
                "spec.scaleTargetRef.kind",
                "spec.scaleTargetRef.name",
                "spec.metrics[0].type",
                "spec.metrics[1].pods"
            ]
        );
    }
}
