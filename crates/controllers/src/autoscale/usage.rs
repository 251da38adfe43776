//! What metrics APIs answer (upstream `podautoscaler/metrics/client.go`).

use std::collections::BTreeMap;

use api::{Quantity, Value};
use jiff::{SignedDuration, Timestamp};

/// A value of one pod, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub value: i64,
    pub time: Option<Timestamp>,
    pub window: SignedDuration,
}

impl Sample {
    pub fn assumed(value: i64) -> Self {
        let (time, window) = (None, SignedDuration::ZERO);
        Self { value, time, window }
    }
}

/// Samples by the pods' names.
pub(super) type Samples = BTreeMap<String, Sample>;

/// Window of a metric that does not tell its own.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

fn milli(value: &Value) -> Option<i64> {
    Quantity::from_json(value).ok().map(|quantity| quantity.milli_value())
}

fn time(item: &Value) -> Option<Timestamp> {
    item["timestamp"].as_str()?.parse().ok()
}

fn items<'a>(answer: &'a Result<Value, String>, api: &str) -> Result<&'a [Value], String> {
    let answer = answer
        .as_ref()
        .map_err(|error| format!("unable to fetch metrics from {api} metrics API: {error}"))?;
    match answer["items"].as_array() {
        Some(items) if !items.is_empty() => Ok(items),
        _ => Err(format!("no metrics returned from {api} metrics API")),
    }
}

/// The usage of a resource by pods, or by one container of each.
pub(super) fn resource(answer: &Result<Value, String>, name: &str, container: &str) -> Result<Samples, String> {
    let mut samples = Samples::new();
    for item in items(answer, "resource")? {
        let (namespace, pod) = (api::meta::namespace(item), api::meta::name(item));
        let containers = item["containers"].as_array().map_or(&[][..], Vec::as_slice);
        let value = if container.is_empty() {
            let values: Option<Vec<i64>> = containers.iter().map(|c| milli(&c["usage"][name])).collect();
            values
                .filter(|values| !values.is_empty())
                .map(|values| values.iter().sum())
        } else {
            let Some(found) = containers.iter().find(|c| c["name"] == container) else {
                return Err(format!(
                    "failed to get container metrics: container {container} not present in metrics for pod {namespace}/{pod}"
                ));
            };
            milli(&found["usage"][name])
        };
        if let Some(value) = value {
            let window = item["window"]
                .as_str()
                .and_then(api::time::parse_go_duration)
                .unwrap_or_default();
            let time = time(item);
            samples.insert(pod.to_owned(), Sample { value, time, window });
        }
    }
    Ok(samples)
}

/// A custom metric of pods.
pub(super) fn pods(answer: &Result<Value, String>) -> Result<Samples, String> {
    let sample = |item: &Value| {
        let seconds = item["windowSeconds"].as_i64().or(item["window"].as_i64());
        Sample {
            value: milli(&item["value"]).unwrap_or(0),
            time: time(item),
            window: seconds.map_or(WINDOW, SignedDuration::from_secs),
        }
    };
    let items = items(answer, "custom")?.iter();
    Ok(items
        .map(|item| {
            let name = item["describedObject"]["name"].as_str().unwrap_or("");
            (name.to_owned(), sample(item))
        })
        .collect())
}

/// A custom metric of one object.
pub(super) fn object(answer: &Result<Value, String>) -> Result<i64, String> {
    Ok(milli(&items(answer, "custom")?[0]["value"]).unwrap_or(0))
}

/// The sum of an external metric.
pub(super) fn external(answer: &Result<Value, String>) -> Result<i64, String> {
    let items = items(answer, "external")?.iter();
    Ok(items
        .filter_map(|item| milli(&item["value"]))
        .fold(0, i64::saturating_add))
}
