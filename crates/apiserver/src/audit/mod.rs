//! Audit: a record of who asked for what, and what became of it (`audit.k8s.io/v1`).
//!
//! ```text
//!   request ─► Policy (first rule that matches: how much, which stages) ─► Recording ─► events ─┬► log file
//!                                                                                               └► webhook
//! ```
//!
//! Without a policy nothing is recorded and nothing is paid. The log is written before the request goes on, unless its
//! mode is `batch`; the webhook gets its events through a bounded queue, and an event that finds it full is counted and
//! lost. Only a log of the mode `blocking-strict` makes a request fail.

mod event;
mod log;
mod policy;
mod truncate;
mod webhook;

use std::sync::Arc;

use api::{Status, Value};
use bytes::Bytes;

pub use log::{LogMode, LogOptions};
pub use truncate::Truncation;
pub use webhook::WebhookOptions;

pub(crate) use event::{Recording, Stage};
pub(crate) use policy::Level;

use policy::{Policy, Subject};
use truncate::Truncating;

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

/// Where events go. Takes them; false if one is lost.
trait Sink: Send + Sync {
    fn take(&self, event: &Arc<Value>) -> bool;

    /// Whether a request may not go on whose arrival is not recorded here.
    fn is_strict(&self) -> bool {
        false
    }
}

/// The back end that leaves out what is too long, if that is wanted.
fn within(truncation: Option<Truncation>, sink: Box<dyn Sink>) -> Box<dyn Sink> {
    match truncation {
        None => sink,
        Some(truncation) => Box::new(Truncating {
            sink,
            max_event_bytes: truncation.max_event_bytes,
        }),
    }
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
            sinks.push(within(options.truncation, Box::new(log::Log::open(options)?)));
        }
        if let Some(options) = options.webhook {
            sinks.push(within(options.truncation, Box::new(webhook::Webhook::start(options))));
        }
        Ok(Audit {
            policy: Policy::parse(&options.policy)?,
            sinks,
            metrics,
        })
    }

    /// Begins to record a request; nothing if the policy does not want it.
    ///
    /// # Errors
    /// 500 if a strict back end cannot take it.
    pub fn begin(self: &Arc<Self>, request: Request<'_>) -> Result<Option<Recording>, Status> {
        let subject = Subject {
            info: request.info,
            user: request.user,
        };
        let decision = self.policy.decide(&subject);
        self.metrics.audit_levels.of(&[decision.level.as_str()]).inc();
        if decision.level == Level::None {
            return Ok(None);
        }
        let recording = Recording::new(self.clone(), decision, request);
        match recording.emit(Stage::RequestReceived) {
            true => Ok(Some(recording)),
            false => Err(Status::internal("failed to store audit event")),
        }
    }

    /// False if a strict back end has not taken it.
    fn send(&self, event: Value) -> bool {
        self.metrics.audit_events.of(&[]).inc();
        let event = Arc::new(event);
        let mut stored = true;
        for sink in &self.sinks {
            if !sink.take(&event) {
                self.metrics.audit_rejected.of(&[]).inc();
                tracing::warn!("an audit event is lost: a back end cannot take it");
                stored &= !sink.is_strict();
            }
        }
        stored
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
