//! The status as it becomes, and what is told on the way.

use api::Value;
use jiff::Timestamp;
use serde_json::json;

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub reason: &'static str,
    pub message: String,
    pub warning: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub status: Value,
    pub events: Vec<Event>,
    now: String,
    generation: Option<i64>,
}

/// Whether a condition is true.
pub(super) fn is_true(hpa: &Value, kind: &str) -> bool {
    let mut conditions = hpa["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

impl Draft {
    pub fn of(hpa: &Value, now: Timestamp) -> Self {
        let mut status = hpa["status"].clone();
        if !status.is_object() {
            status = json!({"desiredReplicas": 0, "currentMetrics": null});
        }
        Self {
            status,
            events: Vec::new(),
            now: api::time::format(now),
            generation: hpa["metadata"]["generation"]
                .as_i64()
                .filter(|generation| *generation > 0),
        }
    }

    pub fn tell(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.events.push(Event {
            reason,
            message,
            warning: false,
        });
    }

    pub fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.tell(reason, message);
        if let Some(event) = self.events.last_mut() {
            event.warning = true;
        }
    }

    /// Sets a condition (`setConditionInList`).
    pub fn set(&mut self, kind: &str, status: &str, reason: &str, message: impl Into<String>) {
        if !self.status["conditions"].is_array() {
            self.status["conditions"] = json!([]);
        }
        let Some(list) = self.status["conditions"].as_array_mut() else {
            return;
        };
        let index = match list.iter().position(|condition| condition["type"] == kind) {
            Some(index) => index,
            None => {
                list.push(json!({"type": kind}));
                list.len() - 1
            }
        };
        let condition = &mut list[index];
        if condition["status"] != status {
            condition["lastTransitionTime"] = json!(self.now);
        }
        condition["status"] = json!(status);
        condition["reason"] = json!(reason);
        condition["message"] = json!(message.into());
    }

    /// Whether this controller put the target to sleep.
    pub fn zero(&mut self, asleep: bool) {
        if asleep {
            let message = "the HPA controller scaled the workload to zero";
            self.set("ScaledToZero", "True", "ScaledToZero", message);
        } else {
            let message = "the HPA controller did not scale the workload to zero";
            self.set("ScaledToZero", "False", "NotScaledToZero", message);
        }
    }

    /// Only the number of replicas is new (`setCurrentReplicasInStatus`).
    pub fn keep(&mut self, replicas: i32) {
        self.count("currentReplicas", replicas);
        self.observe();
    }

    /// All is new (`setStatus`).
    pub fn replace(&mut self, replicas: i32, desired: i32, metrics: Vec<Value>, scaled: bool) {
        self.count("currentReplicas", replicas);
        self.status["desiredReplicas"] = json!(desired);
        self.status["currentMetrics"] = if metrics.is_empty() {
            Value::Null
        } else {
            json!(metrics)
        };
        if scaled {
            self.status["lastScaleTime"] = json!(self.now);
        }
        self.observe();
    }

    fn observe(&mut self) {
        if let Some(generation) = self.generation {
            self.status["observedGeneration"] = json!(generation);
        }
    }

    /// Zero is left out, as the API does.
    fn count(&mut self, field: &str, value: i32) {
        if let Some(status) = self.status.as_object_mut() {
            status.remove(field);
            if value != 0 {
                status.insert(field.to_owned(), json!(value));
            }
        }
    }
}
