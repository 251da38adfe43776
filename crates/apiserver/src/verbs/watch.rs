//! Watches: a stream of framed events (upstream `endpoints/handlers/watch.go`).

mod web_socket;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::field::{Error, Path};
use api::{Status, Value, meta};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{list, output, table};
use crate::body::{self, BoxError};
use crate::cache::{CacheError, ChangeType, Entry, WatchEvent, WatchParams, WatchStart, Watcher};
use crate::call::Call;
use crate::codec;
use crate::negotiate::{Encoding, Output, Transform};
use crate::request::Query;
use crate::resource::{Resource, cache_status};
use crate::respond::{self, Answer};

/// A watch without `timeoutSeconds` ends after between this and twice this.
const SHORTEST_WATCH: Duration = Duration::from_secs(1800);
/// How often a bookmark is sent to those who want them.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The annotation of the bookmark after the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Handles the request.
pub(crate) async fn handle(call: &Call, resource: &Arc<Resource>) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    if output.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(&[
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
        ]));
    }
    let include = match output.transform {
        Transform::Table(_) => table::Include::read(&call.query)?,
        _ => table::Include::Metadata,
    };
    let query = &call.query;
    let start = start(query)?;
    let (selection, _) = list::selection(call, resource)?;
    let watching = resource.cache.watch(WatchParams { start, selection }).await;
    let with_bookmarks = query.flag("allowWatchBookmarks");
    let encoder = Encoder {
        resource: resource.clone(),
        output,
        include,
        header_sent: false,
        bookmarks: with_bookmarks,
    };
    let media = match output.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let watcher = match watching {
        Ok(watcher) => watcher,
        // As upstream: a watch that cannot be resumed starts, and says so in its first event.
        Err(error @ CacheError::Expired { .. }) => {
            let bytes = encoder.status(&cache_status(error));
            return Ok(respond::stream(200, media, body::full(bytes)));
        }
        Err(error) => return Err(cache_status(error)),
    };
    let ends = Instant::now() + lifetime(query)?;
    let mut bookmarks = interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        watcher,
        encoder,
        ends,
        bookmarks: with_bookmarks.then_some(bookmarks),
        lifetime: Box::pin(sleep_until(ends)),
        shutdown: Box::pin(resource.ends.clone().cancelled_owned()),
        done: false,
    };
    if let Some(answer) = web_socket::answer(call, output.encoding, &resource.ends) {
        let (answer, socket) = answer?;
        tokio::spawn(web_socket::send(feed, socket));
        return Ok(answer);
    }
    let frames = stream::unfold(feed, |mut feed| async move {
        let bytes = feed.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(bytes)), feed))
    });
    Ok(respond::stream(200, media, body::boxed(StreamBody::new(frames))))
}

fn lifetime(query: &Query) -> Result<Duration, Status> {
    let seconds = query.integer("timeoutSeconds")?.unwrap_or(0);
    if seconds > 0 {
        return Ok(Duration::from_secs(seconds.unsigned_abs()));
    }
    Ok(SHORTEST_WATCH.mul_f64(1.0 + rand::random::<f64>()))
}

/// Where the watch starts, by `resourceVersion` and `sendInitialEvents`.
fn start(query: &Query) -> Result<WatchStart, Status> {
    let version = list::revision(query)?;
    let matching = query.non_empty("resourceVersionMatch");
    let initial = query.optional_flag("sendInitialEvents");
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    if initial.is_some() && matching != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(Error::forbidden(&path, detail));
    }
    if let Some(matching) = matching {
        if initial.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(Error::forbidden(&path, detail));
        }
        if matching != "NotOlderThan" {
            errors.push(Error::not_supported(&path, matching, &["NotOlderThan"]));
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors));
    }
    Ok(match (initial, version) {
        (Some(true), version) => WatchStart::InitialEvents {
            not_older_than: version,
        },
        (Some(false), Some(version)) if version > 0 => WatchStart::After(version),
        (Some(false), _) => WatchStart::Now,
        (None, None) => WatchStart::StateLatest,
        (None, Some(0)) => WatchStart::StateAny,
        (None, Some(version)) => WatchStart::After(version),
    })
}

/// One running watch.
struct Feed {
    watcher: Watcher,
    encoder: Encoder,
    ends: Instant,
    bookmarks: Option<Interval>,
    /// Kept from event to event: to register for a moment or a cancellation anew costs more than an event.
    lifetime: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    done: bool,
}

async fn tick(bookmarks: &mut Option<Interval>) {
    match bookmarks {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

impl Feed {
    /// The next bytes to send; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.done {
                return None;
            }
            let bytes = self.step().await?;
            if !bytes.is_empty() {
                return Some(bytes);
            }
        }
    }

    async fn step(&mut self) -> Option<Bytes> {
        // Events are looked for first; they may not come so fast that a watch outlives its time.
        if Instant::now() >= self.ends {
            return None;
        }
        tokio::select! {
            biased;
            events = self.watcher.next() => Some(match events {
                Ok(events) => self.encoder.events(&events),
                Err(error) => {
                    self.done = true;
                    self.encoder.status(&cache_status(error))
                }
            }),
            () = &mut self.shutdown => None,
            () = &mut self.lifetime => None,
            () = tick(&mut self.bookmarks) => match self.watcher.bookmark().await {
                Ok(Some(revision)) => Some(self.encoder.bookmark(revision, false)),
                Ok(None) => Some(Bytes::new()),
                Err(error) => {
                    self.done = true;
                    Some(self.encoder.status(&cache_status(error)))
                }
            },
        }
    }
}

/// Writes events as the client wants them.
struct Encoder {
    resource: Arc<Resource>,
    output: Output,
    include: table::Include,
    /// Only the first Table carries the column definitions.
    header_sent: bool,
    /// Whether the client wants bookmarks, that after the initial events too.
    bookmarks: bool,
}

impl Encoder {
    fn events(&mut self, events: &[WatchEvent]) -> Bytes {
        let mut out = BytesMut::new();
        for event in events {
            match (&event.entry, event.change) {
                (Some(entry), change) => {
                    let object = self.object(entry);
                    self.frame(&mut out, change_name(change), &object);
                }
                (None, ChangeType::InitialEventsEnd) if self.bookmarks => {
                    out.put(self.bookmark(event.revision, true));
                }
                (None, _) => {}
            }
        }
        out.freeze()
    }

    fn object(&mut self, entry: &Entry) -> Bytes {
        let resource = &self.resource;
        match (self.output.transform, self.output.encoding) {
            (Transform::None, Encoding::Protobuf) => {
                let raw = output::bare_protobuf(resource, entry).unwrap_or_default();
                schema::codec::unknown::wrap(&resource.kind.gvk, &raw).into()
            }
            (Transform::None, _) => resource.json(entry),
            (Transform::Partial(version) | Transform::PartialList(version), Encoding::Json) if !self.output.pretty => {
                let mut out = BytesMut::new();
                if !output::put_partial(&mut out, resource, entry, version) {
                    return self.value(&resource.value(entry));
                }
                out.freeze()
            }
            _ => self.value(&resource.value(entry)),
        }
    }

    /// An object that is in no cache (bookmarks), or that has to be transformed.
    fn value(&mut self, value: &Value) -> Bytes {
        let resource = &self.resource;
        let kind = &resource.kind;
        match self.output.transform {
            Transform::None => match self.output.encoding {
                Encoding::Protobuf => {
                    let ty = kind.schema.get(kind.root);
                    codec::to_protobuf(ty, &kind.gvk, value).unwrap_or_default()
                }
                _ => codec::to_json(value),
            },
            Transform::Table(version) => {
                let now = Timestamp::now();
                let rows = vec![table::row(resource, value, self.include, version, now)];
                let metadata = json!({"resourceVersion": meta::resource_version(value)});
                let headers = if self.header_sent { "noHeaders=1" } else { "" };
                self.header_sent = true;
                let query = Query::parse(headers);
                codec::to_json(&table::table(resource, version, &metadata, rows, &query))
            }
            Transform::Partial(version) | Transform::PartialList(version) => {
                let (gvk, partial) = output::partial(value, version);
                output::encode_meta(self.output, &gvk, &partial).unwrap_or_default()
            }
        }
    }

    fn bookmark(&mut self, revision: i64, initial_events_end: bool) -> Bytes {
        let mut object = json!({"metadata": {"resourceVersion": revision.to_string()}});
        self.resource.kind.gvk.stamp(&mut object);
        if initial_events_end {
            meta::set_annotation(&mut object, INITIAL_EVENTS_END, "true");
        }
        let kind = &self.resource.kind;
        codec::normalize(kind, &mut object);
        let object = self.value(&object);
        let mut out = BytesMut::new();
        self.frame(&mut out, "BOOKMARK", &object);
        out.freeze()
    }

    fn status(&self, status: &Status) -> Bytes {
        let object = match self.output.encoding {
            Encoding::Protobuf => {
                let value = serde_json::to_value(status).unwrap_or_default();
                let gvk = api::Gvk::new("", "v1", "Status");
                schema::builtin()
                    .kind("", "v1", "Status")
                    .and_then(|ty| codec::to_protobuf(ty, &gvk, &value).ok())
                    .unwrap_or_default()
            }
            _ => status.to_json().into(),
        };
        let mut out = BytesMut::new();
        self.frame(&mut out, "ERROR", &object);
        out.freeze()
    }

    /// A JSON line, or a length-delimited WatchEvent whose object is a RawExtension.
    fn frame(&self, out: &mut BytesMut, change: &str, object: &[u8]) {
        if self.output.encoding == Encoding::Protobuf {
            let mut raw = Vec::with_capacity(object.len() + 8);
            output::put_message(&mut raw, 1, object);
            let mut event = Vec::with_capacity(raw.len() + 24);
            output::put_message(&mut event, 1, change.as_bytes());
            output::put_message(&mut event, 2, &raw);
            out.put_u32(u32::try_from(event.len()).unwrap_or(u32::MAX));
            out.put_slice(&event);
            return;
        }
        out.put_slice(b"{\"type\":\"");
        out.put_slice(change.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(object);
        out.put_slice(b"}\n");
    }
}

fn change_name(change: ChangeType) -> &'static str {
    match change {
        ChangeType::Added => "ADDED",
        ChangeType::Modified => "MODIFIED",
        ChangeType::Deleted => "DELETED",
        ChangeType::InitialEventsEnd => "BOOKMARK",
    }
}
