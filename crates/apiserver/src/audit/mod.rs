//! Audit: a record of who asked for what, and what became of it (`audit.k8s.io/v1`).
//!
//! ```text
//!   request ─► Policy (first rule that matches: how much, which stages) ─► Recording ─► events ─┬► log file
//!                                                                                               └► webhook
//! ```
//!
//! Without a policy nothing is recorded and nothing is paid. Events are handed to the back ends through bounded
//! queues; an event that finds one full is counted and lost, the request is not held up.

mod event;
mod log;
mod policy;
mod webhook;

use std::sync::Arc;

use api::{Status, Value};
use bytes::Bytes;

pub use log::LogOptions;
pub use webhook::WebhookOptions;

pub(crate) use event::{Recording, Stage};
pub(crate) use policy::Level;

use policy::{Policy, Subject};

use crate::call::{Annotations, Call};
use crate::metrics::Metrics;
use crate::request::RequestInfo;
use crate::resource::Registry;
use crate::user::UserInfo;

/// What is recorded, and where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The policy, as YAML or JSON (`audit.k8s.io/v1` Policy).
    pub policy: String,
    /// To a file.
    pub log: Option<LogOptions>,
    /// To a server.
    pub webhook: Option<WebhookOptions>,
}

/// Why auditing cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy cannot be used.
    #[error("the audit policy cannot be used: {0}")]
    Policy(String),
    /// The log cannot be written.
    #[error("the audit log {path} cannot be opened")]
    Log {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where events go. Takes them without waiting; false if one is lost.
trait Sink: Send + Sync {
    fn take(&self, event: &Arc<Value>) -> bool;
}

/// The server's audit.
pub(crate) struct Audit {
    policy: Policy,
    sinks: Vec<Box<dyn Sink>>,
    metrics: Arc<Metrics>,
}

/// A request, as it is recorded.
pub(crate) struct Request<'a> {
    pub info: &'a RequestInfo,
    pub user: &'a UserInfo,
    pub id: &'a str,
    pub uri: &'a str,
    pub user_agent: &'a str,
    pub addresses: Vec<String>,
    pub annotations: Annotations,
    pub received: jiff::Timestamp,
}

impl Audit {
    /// Must be called inside a tokio runtime if there is a webhook.
    ///
    /// # Errors
    /// If the policy does not parse or the log cannot be opened.
    pub fn new(options: Options, metrics: Arc<Metrics>) -> Result<Audit, AuditError> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(options) = options.log {
            sinks.push(Box::new(log::Log::open(options)?));
        }
        if let Some(options) = options.webhook {
            sinks.push(Box::new(webhook::Webhook::start(options)));
        }
        Ok(Audit {
            policy: Policy::parse(&options.policy)?,
            sinks,
            metrics,
        })
    }

    /// Begins to record a request; nothing if the policy does not want it.
    pub fn begin(self: &Arc<Self>, request: Request<'_>) -> Option<Recording> {
        let subject = Subject {
            info: request.info,
            user: request.user,
        };
        let decision = self.policy.decide(&subject);
        self.metrics.audit_levels.of(&[decision.level.as_str()]).inc();
        if decision.level == Level::None {
            return None;
        }
        let recording = Recording::new(self.clone(), decision, request);
        recording.emit(Stage::RequestReceived);
        Some(recording)
    }

    fn send(&self, event: Value) {
        self.metrics.audit_events.of(&[]).inc();
        let event = Arc::new(event);
        for sink in &self.sinks {
            if !sink.take(&event) {
                self.metrics.audit_rejected.of(&[]).inc();
                tracing::warn!("an audit event is lost: the queue of a back end is full");
            }
        }
    }
}

/// What a failed request is recorded with.
#[derive(Clone)]
pub(crate) struct Failure(pub Arc<Status>);

/// The object in a request's body, whatever it is encoded in.
pub(crate) fn object_of(registry: &Registry, call: &Call, bytes: &Bytes) -> Option<Value> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.starts_with(b"k8s\0") {
        let unknown = schema::codec::unknown::unwrap(bytes).ok()?;
        let info = &call.info;
        let kind = &registry.get(&info.group, &info.version, &info.resource)?.kind;
        let ty = kind.schema.get(kind.root);
        return schema::codec::protobuf::decode(ty, unknown.raw).ok();
    }
    serde_json::from_slice(bytes)
        .ok()
        .or_else(|| serde_saphyr::from_slice(bytes).ok())
        .filter(|value: &Value| value.is_object() || value.is_array())
}

#[cfg(test)]
mod tests;
