//! The events of one request.

use std::sync::Arc;

use api::{Status, Value};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, json};

use super::policy::{Decision, Level};
use super::{Audit, Request};
use crate::call::Annotations;
use crate::user::UserInfo;

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    /// The request is there.
    RequestReceived,
    /// The answer's headers have been sent, its body has not ended; only of long-running requests.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The handler panicked.
    Panic,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// What is known of a request so far.
pub(crate) struct Recording {
    audit: Arc<Audit>,
    decision: Decision,
    annotations: Annotations,
    /// The event without stage and times of stages.
    event: Mutex<Map<String, Value>>,
}

impl Recording {
    pub(super) fn new(audit: Arc<Audit>, decision: Decision, request: Request<'_>) -> Recording {
        let mut event = Map::new();
        let mut set = |field: &str, value: Value| drop(event.insert(field.to_owned(), value));
        set("kind", "Event".into());
        set("apiVersion", "audit.k8s.io/v1".into());
        set("level", decision.level.as_str().into());
        set("auditID", request.id.into());
        set("requestURI", request.uri.into());
        set("verb", request.info.verb.clone().into());
        set("user", user(request.user));
        set("sourceIPs", request.addresses.into());
        if !request.user_agent.is_empty() {
            set("userAgent", request.user_agent.into());
        }
        if request.info.is_resource {
            set("objectRef", object_ref(request.info));
        }
        set(
            "requestReceivedTimestamp",
            api::time::format_micro(request.received).into(),
        );
        Recording {
            audit,
            decision,
            annotations: request.annotations,
            event: Mutex::new(event),
        }
    }

    /// How much is recorded.
    pub fn level(&self) -> Level {
        self.decision.level
    }

    fn set(&self, field: &str, value: Value) {
        self.event.lock().insert(field.to_owned(), value);
    }

    /// The request is made in another user's name.
    pub fn impersonate(&self, acting: &UserInfo) {
        self.set("impersonatedUser", user(acting));
    }

    /// What the client sent.
    pub fn request_object(&self, object: Value) {
        if let Some(object) = self.without_managed_fields(object) {
            self.set("requestObject", object);
        }
    }

    /// What the client gets.
    pub fn response_object(&self, object: Value) {
        if let Some(object) = self.without_managed_fields(object) {
            self.set("responseObject", object);
        }
    }

    fn without_managed_fields(&self, mut object: Value) -> Option<Value> {
        if self.decision.omit_managed_fields {
            api::meta::remove(&mut object, "managedFields");
            for item in object
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                api::meta::remove(item, "managedFields");
            }
        }
        Some(object)
    }

    /// The answer's code, and the Status if it is a failure.
    pub fn answer(&self, code: u16, failure: Option<&Status>) {
        let mut status = json!({"metadata": {}, "code": code});
        if let Some(failure) = failure {
            status["status"] = failure.status.clone().into();
            status["message"] = failure.message.clone().into();
            status["reason"] = failure.reason.clone().into();
            if let Ok(details) = serde_json::to_value(&failure.details)
                && !details.is_null()
            {
                status["details"] = details;
            }
        }
        self.set("responseStatus", status);
    }

    /// Hands an event to the back ends, unless the policy omits the stage; false if a strict one has not taken it.
    pub fn emit(&self, stage: Stage) -> bool {
        if self.decision.omit_stages.contains(&stage) {
            return true;
        }
        let mut event = self.event.lock().clone();
        event.insert("stage".to_owned(), stage.as_str().into());
        let now = api::time::format_micro(Timestamp::now());
        event.insert("stageTimestamp".to_owned(), now.into());
        let annotations = self.annotations.all();
        if !annotations.is_empty() && stage != Stage::RequestReceived {
            event.insert("annotations".to_owned(), json!(annotations));
        }
        self.audit.send(Value::Object(event))
    }
}

fn user(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name});
    if !user.uid.is_empty() {
        value["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        value["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

fn object_ref(info: &crate::request::RequestInfo) -> Value {
    let mut value = Map::new();
    for (field, text) in [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ] {
        if !text.is_empty() {
            value.insert(field.to_owned(), text.clone().into());
        }
    }
    value.into()
}
