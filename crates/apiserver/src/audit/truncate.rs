//! Events that are too long lose what was sent and answered
//! (`apiserver/plugin/pkg/audit/truncate`).

use std::io;
use std::sync::Arc;

use api::Value;
use serde_json::json;

use super::Sink;

/// Says of an event that something of it was left out.
const ANNOTATION: &str = "audit.k8s.io/truncated";

/// What is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The longest event in bytes; one that is longer even without its objects is lost.
    pub max_event_bytes: usize,
    /// The most bytes of events that are sent together.
    pub max_batch_bytes: usize,
}

impl Default for Truncation {
    fn default() -> Truncation {
        Truncation {
            max_event_bytes: 100 << 10,
            max_batch_bytes: 10 << 20,
        }
    }
}

/// In front of a back end.
pub(super) struct Truncating {
    pub sink: Box<dyn Sink>,
    pub max_event_bytes: usize,
}

impl Sink for Truncating {
    fn take(&self, event: &Arc<Value>) -> bool {
        if length(event) <= self.max_event_bytes {
            return self.sink.take(event);
        }
        let short = truncated(event);
        length(&short) <= self.max_event_bytes && self.sink.take(&Arc::new(short))
    }

    fn is_strict(&self) -> bool {
        self.sink.is_strict()
    }
}

fn truncated(event: &Value) -> Value {
    let mut short = event.clone();
    if let Some(map) = short.as_object_mut() {
        map.remove("requestObject");
        map.remove("responseObject");
        let annotations = map.entry("annotations").or_insert_with(|| json!({}));
        annotations[ANNOTATION] = "true".into();
    }
    short
}

/// How many bytes an event is as JSON.
pub(super) fn length(event: &Value) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, event).expect("a tree of values has only string keys");
    counter.0
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
