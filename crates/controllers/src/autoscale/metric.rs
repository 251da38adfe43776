//! One metric of an autoscaler: what is asked, what it proposes, and its status.

use api::labels::Selector;
use api::{Quantity, Value, quantity};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::calculate::{by_amount, by_ratio, by_share, by_utilization};
use super::{Question, Scale, Sight, int, usage};

/// A metric's proposal.
pub(super) struct Found {
    pub replicas: i32,
    pub name: String,
    pub status: Value,
}

/// Why a metric proposes nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// Reason of event and condition.
    pub reason: &'static str,
    /// What event and condition say.
    pub shown: String,
    /// The same, with more around it.
    pub error: String,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("")
}

fn series(spec: &Value) -> Result<String, String> {
    // No selector selects all series, unlike one of pods.
    if spec["metric"]["selector"].is_null() {
        return Ok(String::new());
    }
    Selector::from_label_selector(Some(&spec["metric"]["selector"]))
        .map(|selector| selector.to_string())
        .map_err(|error| error.to_string())
}

/// What has to be asked about a metric.
pub(super) fn question(spec: &Value, scale: &Scale) -> Question {
    let selector = scale.selector.clone();
    let of = |source: &Value| text(&source["metric"], "name").to_owned();
    let asked = match text(spec, "type") {
        "Resource" | "ContainerResource" => Some(Question::Resources { selector }),
        "Pods" => series(&spec["pods"]).ok().map(|metric_selector| Question::Pods {
            selector,
            metric: of(&spec["pods"]),
            metric_selector,
        }),
        "Object" => series(&spec["object"]).ok().map(|metric_selector| {
            let object = &spec["object"]["describedObject"];
            Question::Object {
                api_version: text(object, "apiVersion").to_owned(),
                kind: text(object, "kind").to_owned(),
                name: text(object, "name").to_owned(),
                metric: of(&spec["object"]),
                metric_selector,
            }
        }),
        "External" => series(&spec["external"])
            .ok()
            .map(|metric_selector| Question::External {
                metric: of(&spec["external"]),
                metric_selector,
            }),
        _ => None,
    };
    asked.unwrap_or(Question::Nothing)
}

/// A metric's proposal (`computeReplicasForMetric`).
pub(super) fn compute(
    spec: &Value,
    answer: &Result<Value, String>,
    scale: &Scale,
    pods: &[&Pod],
    sight: &Sight<'_>,
) -> Result<Found, Failure> {
    let fail = |reason, shown: String, around: String| Failure {
        reason,
        error: format!("{around}: {shown}"),
        shown,
    };
    match text(spec, "type") {
        "Resource" => resource(spec, "resource", answer, scale, pods, sight).map_err(|shown| {
            let around = format!(
                "failed to get {} resource metric value",
                text(&spec["resource"], "name")
            );
            fail("FailedGetResourceMetric", shown, around)
        }),
        "ContainerResource" => resource(spec, "containerResource", answer, scale, pods, sight).map_err(|shown| {
            let container = text(&spec["containerResource"], "container");
            let around = format!("failed to get {container} container metric value");
            fail("FailedGetContainerResourceMetric", shown, around)
        }),
        "Pods" => of_pods(spec, answer, scale, pods, sight).map_err(|shown| {
            let around = "failed to get pods metric value".to_owned();
            fail("FailedGetPodsMetric", shown, around)
        }),
        "Object" => of_object(spec, answer, scale, pods, sight).map_err(|(shown, inner)| {
            let around = format!("failed to get object metric value{inner}");
            fail("FailedGetObjectMetric", shown, around)
        }),
        "External" => of_external(spec, answer, scale, pods, sight).map_err(|(shown, inner)| {
            let name = text(&spec["external"]["metric"], "name");
            let around = format!("failed to get {name} external metric value{inner}");
            fail("FailedGetExternalMetric", shown, around)
        }),
        other => {
            let shown = format!("unknown metric source type {}", api::field::go_quote(other));
            Err(Failure {
                reason: "InvalidMetricSourceType",
                error: shown.clone(),
                shown,
            })
        }
    }
}

fn amount(target: &Value, field: &str) -> Option<i64> {
    let value = &target[field];
    if value.is_null() {
        return None;
    }
    Quantity::from_json(value).ok().map(|quantity| quantity.milli_value())
}

fn milli(value: i64) -> Value {
    json!(Quantity::from_milli(value, quantity::Format::DecimalSi).to_string())
}

fn resource(
    spec: &Value,
    field: &'static str,
    answer: &Result<Value, String>,
    scale: &Scale,
    pods: &[&Pod],
    sight: &Sight<'_>,
) -> Result<Found, String> {
    let source = &spec[field];
    let (name, container) = (text(source, "name"), text(source, "container"));
    let samples = || {
        usage::resource(answer, name, container)
            .map_err(|error| format!("unable to get metrics for resource {name}: {error}"))
    };
    let (found, label, current) = if let Some(target) = amount(&source["target"], "averageValue") {
        let found = samples()
            .and_then(|samples| by_amount(samples, pods, (name, target), scale.wanted, sight))
            .map_err(|error| format!("failed to get {name} usage: {error}"))?;
        let current = json!({"averageValue": milli(found.average)});
        (found, format!("{name} resource"), current)
    } else {
        let Some(percent) = int(&source["target"]["averageUtilization"]) else {
            let message = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
            return Err(message.to_owned());
        };
        let found = samples()
            .and_then(|samples| by_utilization(samples, pods, (name, container, percent), scale.wanted, sight))
            .map_err(|error| format!("failed to get {name} utilization: {error}"))?;
        let current = json!({"averageUtilization": found.percent, "averageValue": milli(found.average)});
        let of_container = if container.is_empty() { "" } else { "container " };
        let label = format!("{name} {of_container}resource utilization (percentage of request)");
        (found, label, current)
    };
    let mut status = json!({"type": spec["type"]});
    status[field] = json!({"name": name, "current": current});
    if !container.is_empty() {
        status[field]["container"] = json!(container);
    }
    Ok(Found {
        replicas: found.replicas,
        name: label,
        status,
    })
}

fn of_pods(
    spec: &Value,
    answer: &Result<Value, String>,
    scale: &Scale,
    pods: &[&Pod],
    sight: &Sight<'_>,
) -> Result<Found, String> {
    let source = &spec["pods"];
    series(source)?;
    let name = text(&source["metric"], "name");
    let samples = usage::pods(answer).map_err(|error| format!("unable to get metric {name}: {error}"))?;
    let target = amount(&source["target"], "averageValue").unwrap_or(0);
    let found = by_amount(samples, pods, ("", target), scale.wanted, sight)?;
    let current = json!({"averageValue": milli(found.average)});
    Ok(Found {
        replicas: found.replicas,
        name: format!("pods metric {name}"),
        status: json!({"type": "Pods", "pods": {"metric": source["metric"], "current": current}}),
    })
}

type Wrapped<T> = Result<T, (String, String)>;

fn of_object(
    spec: &Value,
    answer: &Result<Value, String>,
    scale: &Scale,
    pods: &[&Pod],
    sight: &Sight<'_>,
) -> Wrapped<Found> {
    let source = &spec["object"];
    let bare = |error| (error, String::new());
    series(source).map_err(bare)?;
    let (name, object) = (text(&source["metric"], "name"), &source["describedObject"]);
    let target = &source["target"];
    let usage = || {
        usage::object(answer).map_err(|error| {
            let (kind, of) = (text(object, "kind"), text(object, "name"));
            let namespace = api::meta::namespace(sight.hpa);
            format!("unable to get metric {name}: {error} on {kind} {namespace}/{of}")
        })
    };
    match text(target, "type") {
        "Value" => {
            let usage = usage().map_err(bare)?;
            let ratio = usage as f64 / amount(target, "value").unwrap_or(0) as f64;
            let current = json!({"value": milli(usage)});
            Ok(Found {
                replicas: by_ratio(ratio, scale.wanted, pods, sight).map_err(bare)?,
                name: format!("{} metric {name}", text(object, "kind")),
                status: json!({"type": "Object", "object": {
                    "metric": source["metric"], "current": current, "describedObject": object,
                }}),
            })
        }
        "AverageValue" => {
            let wrap = |error| (error, format!(": failed to get {name} object metric"));
            let usage = usage().map_err(wrap)?;
            let wanted = amount(target, "averageValue").unwrap_or(0);
            let (replicas, each) = by_share(usage, wanted, scale.present, sight);
            let current = json!({"averageValue": milli(each)});
            Ok(Found {
                replicas,
                name: format!("external metric {name}({})", go_selector(&source["metric"]["selector"])),
                // Upstream leaves the object out here; clients see the empty reference.
                status: json!({"type": "Object", "object": {
                    "metric": source["metric"], "current": current, "describedObject": {"kind": "", "name": ""},
                }}),
            })
        }
        _ => {
            let message = "invalid object metric source: neither a value target nor an average value target was set";
            Err(bare(message.to_owned()))
        }
    }
}

fn of_external(
    spec: &Value,
    answer: &Result<Value, String>,
    scale: &Scale,
    pods: &[&Pod],
    sight: &Sight<'_>,
) -> Wrapped<Found> {
    let source = &spec["external"];
    let bare = |error| (error, String::new());
    let name = text(&source["metric"], "name");
    let shown = go_selector(&source["metric"]["selector"]);
    let usage = || {
        series(source)?;
        usage::external(answer).map_err(|error| {
            let namespace = api::meta::namespace(sight.hpa);
            format!("unable to get external metric {namespace}/{name}/{shown}: {error}")
        })
    };
    let (replicas, current) = if let Some(wanted) = amount(&source["target"], "averageValue") {
        let usage = usage().map_err(|error| (error, format!(": failed to get {name} external metric")))?;
        let (replicas, each) = by_share(usage, wanted, scale.present, sight);
        (replicas, json!({"averageValue": milli(each)}))
    } else if let Some(wanted) = amount(&source["target"], "value") {
        let wrap = |error| (error, format!(": failed to get external metric {name}"));
        let usage = usage().map_err(wrap)?;
        let ratio = usage as f64 / wanted as f64;
        let replicas = by_ratio(ratio, scale.wanted, pods, sight).map_err(wrap)?;
        (replicas, json!({"value": milli(usage)}))
    } else {
        let message = "invalid external metric source: neither a value target nor an average value target was set";
        return Err(bare(message.to_owned()));
    };
    Ok(Found {
        replicas,
        name: format!("external metric {name}({shown})"),
        status: json!({"type": "External", "external": {"metric": source["metric"], "current": current}}),
    })
}

/// A selector as Go's `%+v` prints it, which is in messages.
fn go_selector(selector: &Value) -> String {
    if selector.is_null() {
        return "nil".to_owned();
    }
    let labels: String = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or("")))
        .collect();
    let requirement = |one: &Value| {
        let values: Vec<&str> = one["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text(one, "key"),
            text(one, "operator"),
            values.join(" ")
        )
    };
    let expressions: String = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(requirement)
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
