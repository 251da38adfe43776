//! Events for people, aggregated so that a loop cannot flood the server (client-go
//! `tools/record/events_cache.go`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api::Gvr;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Client, ClientError, PatchKind, WriteParams};

/// Events waiting to be sent; more are dropped.
const WAITING: usize = 1000;
/// Events being sent at a time.
const AT_ONCE: usize = 8;
/// This many different messages about one thing in a window are told one by one.
const SIMILAR: usize = 10;
const SIMILAR_WINDOW: Duration = Duration::from_secs(600);
/// This many events about one object at once, then one in five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
/// Series remembered before all are forgotten.
const REMEMBERED: usize = 4096;

/// What is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSpec {
    /// apiVersion of the object that it is about.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// The part of it, such as `spec.containers{web}`.
    pub field_path: String,
    /// A `Warning`, not `Normal`.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: String,
    /// Message.
    pub message: String,
}

/// Tells events as one component. Cheap to clone; never blocks, never fails.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    waiting: mpsc::Sender<EventSpec>,
    dropped: Arc<AtomicU64>,
}

impl EventRecorder {
    /// Starts a recorder for `component` (on `host`, if it is one of a node); it ends with `stop`,
    /// after it has sent what waits.
    pub fn start(client: Client, component: &str, host: &str, stop: CancellationToken) -> Self {
        let (waiting, receiver) = mpsc::channel(WAITING);
        let writer = Writer {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
        };
        let sink = Sink {
            writer: Arc::new(writer),
            correlator: Correlator::default(),
            writing: HashSet::new(),
        };
        tokio::spawn(sink.run(receiver, stop));
        Self {
            waiting,
            dropped: Arc::default(),
        }
    }

    /// Tells an event.
    pub fn record(&self, event: EventSpec) {
        if self.waiting.try_send(event).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "too many events at once, some were dropped");
            }
        }
    }
}

struct Sink {
    writer: Arc<Writer>,
    correlator: Correlator,
    /// Series of which an event is being sent: the next one has to know the object that comes of it.
    writing: HashSet<Series>,
}

impl Sink {
    async fn run(mut self, mut receiver: mpsc::Receiver<EventSpec>, stop: CancellationToken) {
        let mut writes: JoinSet<Written> = JoinSet::new();
        loop {
            let event = tokio::select! {
                biased;
                Some(written) = writes.join_next(), if !writes.is_empty() => {
                    if let Ok(written) = written {
                        self.on_written(written);
                    }
                    continue;
                }
                event = receiver.recv(), if writes.len() < AT_ONCE => event,
                () = stop.cancelled(), if writes.len() < AT_ONCE => None,
            };
            let Some(event) = event else { break };
            let Some(mut admitted) = self.correlator.admit(event, Instant::now()) else {
                continue;
            };
            while self.writing.contains(&admitted.series)
                && let Some(written) = writes.join_next().await
            {
                if let Ok(written) = written {
                    self.on_written(written);
                }
                admitted.name = self.correlator.name(&admitted.series);
            }
            self.writing.insert(admitted.series.clone());
            let writer = self.writer.clone();
            writes.spawn(async move { writer.send(admitted).await });
        }
        while writes.join_next().await.is_some() {}
    }

    fn on_written(&mut self, written: Written) {
        self.writing.remove(&written.series);
        if let Some(name) = written.created {
            self.correlator.created(&written.series, &name);
        }
    }
}

/// What came of an event.
struct Written {
    series: Series,
    /// The object that was made for it.
    created: Option<String>,
}

struct Writer {
    client: Client,
    component: String,
    host: String,
}

impl Writer {
    async fn send(&self, admitted: Admitted) -> Written {
        let mut written = Written {
            series: admitted.series.clone(),
            created: None,
        };
        for attempt in 0..3 {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(attempt)).await;
            }
            match self.write(&admitted).await {
                Ok(created) => {
                    written.created = created;
                    break;
                }
                Err(error @ ClientError::Api(_)) => {
                    let gone = error.is_namespace_terminating() || error.is_not_found();
                    if !gone {
                        tracing::warn!(error = error.report(), "an event was refused");
                    }
                    break;
                }
                Err(error) => tracing::warn!(error = error.report(), "an event was not sent"),
            }
        }
        written
    }

    /// Answers with the name of the object, if it was made anew.
    async fn write(&self, admitted: &Admitted) -> Result<Option<String>, ClientError> {
        let events = self.client.dynamic(&Gvr::new("", "v1", "events"));
        let namespace = namespace_of(&admitted.event).to_owned();
        let (now, params) = (api::time::format(Timestamp::now()), WriteParams::default());
        if let Some(name) = &admitted.name {
            let patch = json!({"count": admitted.count, "lastTimestamp": now, "message": admitted.event.message});
            match events.patch(&namespace, name, PatchKind::Merge, &patch, &params).await {
                Err(error) if error.is_not_found() => {}
                other => return other.map(|_| None),
            }
        }
        let object = self.object(admitted, &now);
        events.create(&namespace, &object, &params).await?;
        Ok(object["metadata"]["name"].as_str().map(str::to_owned))
    }

    fn object(&self, admitted: &Admitted, now: &str) -> Value {
        let event = &admitted.event;
        let nanoseconds = Timestamp::now().as_nanosecond();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace_of(event), "name": format!("{}.{nanoseconds:x}", event.name)},
            "involvedObject": reference(event),
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "message": event.message,
            "source": {"component": self.component, "host": self.host},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": admitted.count,
            "eventTime": null,
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        })
    }
}

fn namespace_of(event: &EventSpec) -> &str {
    if event.namespace.is_empty() {
        "default"
    } else {
        &event.namespace
    }
}

fn reference(event: &EventSpec) -> Value {
    let fields = [
        ("apiVersion", &event.api_version),
        ("kind", &event.kind),
        ("namespace", &event.namespace),
        ("name", &event.name),
        ("uid", &event.uid),
        ("resourceVersion", &event.resource_version),
        ("fieldPath", &event.field_path),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Value::from_iter(given.map(|(key, value)| (key.to_owned(), Value::from(value.as_str()))))
}

/// What makes events the same one, counted.
type Series = Arc<str>;

/// An event to send.
#[derive(Debug)]
struct Admitted {
    event: EventSpec,
    series: Series,
    count: u32,
    /// Of the event object of its series, if there is one.
    name: Option<String>,
}

#[derive(Default)]
struct Correlator {
    /// Messages of late, by thing told about.
    similar: HashMap<String, (BTreeSet<String>, Instant)>,
    series: HashMap<Series, (u32, Option<String>)>,
    buckets: HashMap<String, (f64, Instant)>,
}

impl Correlator {
    /// Folds an event into its series; `None` if its object has had too many.
    fn admit(&mut self, mut event: EventSpec, now: Instant) -> Option<Admitted> {
        if self.similar.len() + self.series.len() + self.buckets.len() > REMEMBERED {
            *self = Self::default();
        }
        let object = format!(
            "{}/{}/{}/{}/{}",
            event.api_version, event.kind, event.namespace, event.name, event.uid
        );
        if !self.spend(&object, now) {
            return None;
        }
        let about = format!("{object}/{}/{}/{}", event.field_path, event.warning, event.reason);
        let (messages, latest) = self
            .similar
            .entry(about.clone())
            .or_insert_with(|| (BTreeSet::new(), now));
        if now.duration_since(*latest) > SIMILAR_WINDOW {
            messages.clear();
        }
        *latest = now;
        messages.insert(event.message.clone());
        let series: Series = if messages.len() >= SIMILAR {
            messages.pop_first();
            event.message = format!("(combined from similar events): {}", event.message);
            about.into()
        } else {
            format!("{about}/{}", event.message).into()
        };
        let (count, name) = self.series.entry(series.clone()).or_default();
        *count += 1;
        Some(Admitted {
            event,
            series,
            count: *count,
            name: name.clone(),
        })
    }

    fn spend(&mut self, object: &str, now: Instant) -> bool {
        let (tokens, at) = self.buckets.entry(object.to_owned()).or_insert((BURST, now));
        *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * REFILL_PER_SECOND).min(BURST);
        *at = now;
        let may = *tokens >= 1.0;
        if may {
            *tokens -= 1.0;
        }
        may
    }

    /// The object of a series, if it is known.
    fn name(&self, series: &Series) -> Option<String> {
        self.series.get(series)?.1.clone()
    }

    fn created(&mut self, series: &Series, name: &str) {
        if let Some((_, known)) = self.series.get_mut(series) {
            *known = Some(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> EventSpec {
        EventSpec {
            kind: "Pod".into(),
            name: "a".into(),
            reason: "R".into(),
            message: message.into(),
            ..EventSpec::default()
        }
    }

    #[test]
    fn the_same_event_is_counted() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let first = correlator.admit(event("m"), now).expect("admitted");
        assert_eq!((first.count, &first.name), (1, &None));
        correlator.created(&first.series, "a.1");
        let second = correlator.admit(event("m"), now).expect("admitted");
        assert_eq!((second.count, second.name.as_deref()), (2, Some("a.1")));
    }

    #[test]
    fn many_similar_events_are_combined_and_too_many_dropped() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let admitted: Vec<_> = (0..40)
            .map(|i| correlator.admit(event(&format!("m{i}")), now))
            .collect();
        assert_eq!(admitted.iter().flatten().count(), 25);
        let combined = admitted[9].as_ref().expect("admitted");
        assert_eq!(combined.event.message, "(combined from similar events): m9");
        assert_eq!(
            admitted[10].as_ref().map(|a| (a.count, a.series.clone())),
            Some((2, combined.series.clone()))
        );
        assert!(
            correlator
                .admit(event("later"), now + Duration::from_secs(301))
                .is_some()
        );
    }
}
