//! How many events are taken, by server, namespace, user, or source and object
//! (`plugin/pkg/admission/eventratelimit`). Off by default.

use std::collections::{BTreeMap, HashMap};

use api::{Status, Value};
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

const DEFAULT_CACHE: usize = 4096;

/// What a limit counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

#[derive(Debug)]
struct Limit {
    by: By,
    name: String,
    per_second: f64,
    burst: f64,
    most_buckets: usize,
    buckets: Mutex<Buckets>,
}

/// Buckets by key, the least recently used first to go.
#[derive(Debug, Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Timestamp,
    used: u64,
}

pub(super) struct EventRateLimit(Vec<Limit>);

impl EventRateLimit {
    /// By a `Configuration` of `eventratelimit.admission.k8s.io`.
    pub fn new(settings: Option<&Value>) -> Result<EventRateLimit, String> {
        let limits = settings.and_then(|settings| settings.get("limits")?.as_array());
        let limits: Vec<&Value> = limits.into_iter().flatten().collect();
        if limits.is_empty() {
            return Err("limits: Required value: at least one limit is needed".to_owned());
        }
        limits
            .into_iter()
            .map(limit)
            .collect::<Result<_, _>>()
            .map(EventRateLimit)
    }
}

fn limit(value: &Value) -> Result<Limit, String> {
    let name = value.get("type").and_then(Value::as_str).unwrap_or("");
    let by = match name {
        "Server" => By::Server,
        "Namespace" => By::Namespace,
        "User" => By::User,
        "SourceAndObject" => By::SourceAndObject,
        other => return Err(format!("limits.type: {other:?} is no type of limit")),
    };
    let number = |field: &str| value.get(field).and_then(Value::as_i64).unwrap_or(0);
    let positive = |field: &str| match number(field) {
        count if count > 0 => Ok(count as f64),
        _ => Err(format!("limits.{field} must be positive")),
    };
    Ok(Limit {
        by,
        name: name.to_owned(),
        per_second: positive("qps")?,
        burst: positive("burst")?,
        most_buckets: match usize::try_from(number("cacheSize")) {
            Ok(0) | Err(_) => DEFAULT_CACHE,
            Ok(size) => size,
        },
        buckets: Mutex::default(),
    })
}

impl Limit {
    fn key(&self, attributes: &Attributes<'_>, event: &Value) -> String {
        let text = |path: &str| value_at(event, path).and_then(Value::as_str).unwrap_or("");
        match self.by {
            By::Server => String::new(),
            By::Namespace => attributes.namespace.to_owned(),
            By::User => attributes.call.user.name.clone(),
            By::SourceAndObject => [
                "source.component",
                "source.host",
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
            ]
            .map(text)
            .concat(),
        }
    }

    /// Takes one token, if there is one.
    fn accepts(&self, key: &str, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock();
        buckets.uses += 1;
        let used = buckets.uses;
        let known = buckets.by_key.remove(key);
        let mut bucket = known.unwrap_or(Bucket {
            tokens: self.burst,
            filled: now,
            used,
        });
        buckets.by_use.remove(&bucket.used);
        // A clock that goes back fills nothing.
        let seconds = now.duration_since(bucket.filled).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + seconds * self.per_second).min(self.burst);
        bucket.filled = bucket.filled.max(now);
        bucket.used = used;
        let accepts = bucket.tokens >= 1.0;
        if accepts {
            bucket.tokens -= 1.0;
        }
        buckets.by_key.insert(key.to_owned(), bucket);
        buckets.by_use.insert(used, key.to_owned());
        while buckets.by_key.len() > self.most_buckets {
            let Some((_, oldest)) = buckets.by_use.pop_first() else {
                break;
            };
            buckets.by_key.remove(&oldest);
        }
        accepts
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, _state: &State, attributes: &Attributes<'_>, event: Option<&Value>) -> Result<(), Status> {
        let is_event = attributes.gvk.group.is_empty() && attributes.gvk.kind == "Event";
        let Some(event) = event.filter(|_| is_event && !attributes.dry_run()) else {
            return Ok(());
        };
        let mut reached = Vec::new();
        for limit in &self.0 {
            let key = limit.key(attributes, event);
            if !limit.accepts(&key, attributes.call.now) {
                reached.push(format!("limit reached on type {} for key {key}", limit.name));
            }
        }
        match reached.as_slice() {
            [] => Ok(()),
            [one] => Err(Status::too_many_requests(one.clone(), 0)),
            many => Err(Status::too_many_requests(format!("[{}]", many.join(", ")), 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn buckets_fill_and_are_forgotten() {
        let settings = json!({"limits": [{"type": "Namespace", "qps": 2, "burst": 3, "cacheSize": 2}]});
        let plugin = EventRateLimit::new(Some(&settings)).unwrap();
        let limit = &plugin.0[0];
        let at = |millis: i64| Timestamp::from_millisecond(1_000_000 + millis).unwrap();
        let taken = |key: &str, millis: i64| limit.accepts(key, at(millis));
        assert_eq!([0, 0, 0, 0].map(|ms| taken("a", ms)), [true, true, true, false]);
        assert!(!taken("a", 400) && taken("a", 900) && !taken("a", 900));
        assert!(taken("b", 900) && taken("c", 900));
        assert_eq!(limit.buckets.lock().by_key.len(), 2);
        assert!(taken("a", 900), "a forgotten bucket is full again");
        assert!(EventRateLimit::new(None).is_err());
        assert!(EventRateLimit::new(Some(&json!({"limits": [{"type": "X", "qps": 1, "burst": 1}]}))).is_err());
    }
}
