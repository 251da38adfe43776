//! Events about pods and the node (client-go tools/record).
//!
//! Recording never waits: when too many are under way, events are dropped with a warning. Equal events are counted
//! instead of repeated; an object that causes too many is muted for a while.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Client, PatchKind, WriteParams};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Events that may wait to be written.
const DEPTH: usize = 1000;
/// Equal events within this time are one.
const SAME: SignedDuration = SignedDuration::from_mins(10);
/// Events of one object before it is muted; one more every [`REFILL`].
const BURST: f64 = 25.0;
const REFILL: f64 = 300.0;
/// Remembered events and objects.
const MEMORY: usize = 4096;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// As it should be.
    Normal,
    /// Not as it should be.
    Warning,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Type::Normal => "Normal",
            Type::Warning => "Warning",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    namespace: String,
    kind: &'static str,
    name: String,
    uid: String,
    field_path: String,
    kind_of_event: Type,
    reason: String,
    message: String,
}

/// Records events. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    node: Arc<str>,
}

impl Recorder {
    /// Starts the task that writes events until `stop`.
    pub fn start(client: Client, node: &str, clock: Clock, stop: CancellationToken) -> Recorder {
        let (notes, receiver) = mpsc::channel(DEPTH);
        let writer = Writer {
            client,
            node: node.into(),
            clock,
            stamp: 0,
            seen: HashMap::new(),
            budgets: HashMap::new(),
        };
        tokio::spawn(writer.run(receiver, stop));
        Recorder {
            notes,
            node: node.into(),
        }
    }

    /// About a pod.
    pub fn pod(&self, pod: &Pod, kind: Type, reason: &str, message: impl Into<String>) {
        self.note(pod, String::new(), kind, reason, message.into());
    }

    /// About a container of a pod.
    pub fn container(&self, pod: &Pod, container: &str, kind: Type, reason: &str, message: impl Into<String>) {
        let list = match pod.spec.as_ref().and_then(|spec| podlife::spec::find(spec, container)) {
            Some((podlife::Role::Init | podlife::Role::Sidecar, _)) => "spec.initContainers",
            Some((podlife::Role::Ephemeral, _)) => "spec.ephemeralContainers",
            _ => "spec.containers",
        };
        self.note(pod, format!("{list}{{{container}}}"), kind, reason, message.into());
    }

    /// About the node.
    pub fn node(&self, kind: Type, reason: &str, message: impl Into<String>) {
        self.push(Note {
            namespace: "default".into(),
            kind: "Node",
            name: self.node.to_string(),
            uid: self.node.to_string(),
            field_path: String::new(),
            kind_of_event: kind,
            reason: reason.into(),
            message: message.into(),
        });
    }

    fn note(&self, pod: &Pod, field_path: String, kind: Type, reason: &str, message: String) {
        let meta = &pod.metadata;
        self.push(Note {
            namespace: meta.namespace.clone().unwrap_or_default(),
            kind: "Pod",
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            field_path,
            kind_of_event: kind,
            reason: reason.into(),
            message: shortened(message),
        });
    }

    fn push(&self, note: Note) {
        if let Err(error) = self.notes.try_send(note) {
            tracing::warn!(%error, "event dropped");
        }
    }
}

/// The API takes messages of up to 1024 bytes.
fn shortened(mut message: String) -> String {
    if message.len() > 1024 {
        let end = (0..=1021).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

struct Seen {
    name: String,
    count: i32,
    last: Timestamp,
}

struct Writer {
    client: Client,
    node: String,
    clock: Clock,
    stamp: i128,
    seen: HashMap<Note, Seen>,
    budgets: HashMap<String, (f64, Timestamp)>,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>, stop: CancellationToken) {
        loop {
            let note = tokio::select! {
                note = notes.recv() => note,
                () = stop.cancelled() => None,
            };
            let Some(note) = note else { return };
            if !self.allowed(&note) {
                continue;
            }
            if let Err(error) = self.write(&note).await {
                tracing::debug!(error = %error.report(), reason = note.reason, name = note.name, "event not written");
            }
        }
    }

    fn allowed(&mut self, note: &Note) -> bool {
        let now = self.clock.now();
        if self.budgets.len() > MEMORY {
            self.budgets.clear();
        }
        let (budget, last) = self.budgets.entry(note.uid.clone()).or_insert((BURST, now));
        *budget = (*budget + now.duration_since(*last).as_secs_f64() / REFILL).min(BURST);
        *last = now;
        if *budget < 1.0 {
            return false;
        }
        *budget -= 1.0;
        true
    }

    async fn write(&mut self, note: &Note) -> Result<(), client::ClientError> {
        let now = self.clock.now();
        let params = WriteParams::default();
        let events = self.client.of::<Event>();
        if let Some(seen) = self
            .seen
            .get_mut(note)
            .filter(|seen| now.duration_since(seen.last) < SAME)
        {
            seen.count += 1;
            seen.last = now;
            let patch = json!({"count": seen.count, "lastTimestamp": Time(podlife::whole_seconds(now))});
            match events
                .patch(&note.namespace, &seen.name, PatchKind::Merge, &patch, &params)
                .await
            {
                Err(error) if error.is_not_found() => {}
                other => return other.map(drop),
            }
        }
        // Names are unique even where the clock stands still.
        self.stamp = now.as_nanosecond().max(self.stamp + 1);
        let name = format!("{}.{:x}", note.name, self.stamp);
        events
            .create(&note.namespace, &self.event(note, &name, now), &params)
            .await?;
        if self.seen.len() >= MEMORY {
            self.seen.retain(|_, seen| now.duration_since(seen.last) < SAME);
            if self.seen.len() >= MEMORY {
                self.seen.clear();
            }
        }
        self.seen.insert(
            note.clone(),
            Seen {
                name,
                count: 1,
                last: now,
            },
        );
        Ok(())
    }

    fn event(&self, note: &Note, name: &str, now: Timestamp) -> Event {
        let time = Some(Time(podlife::whole_seconds(now)));
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_string()),
                namespace: Some(note.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some(note.kind.into()),
                name: Some(note.name.clone()),
                namespace: (note.kind == "Pod").then(|| note.namespace.clone()),
                uid: Some(note.uid.clone()),
                field_path: (!note.field_path.is_empty()).then(|| note.field_path.clone()),
                ..ObjectReference::default()
            },
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            type_: Some(note.kind_of_event.as_str().into()),
            source: Some(EventSource {
                component: Some("kubelet".into()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.node.clone()),
            count: Some(1),
            first_timestamp: time.clone(),
            last_timestamp: time,
            ..Event::default()
        }
    }
}
