//! Changes of objects, and the ring that remembers the recent ones.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{ChangeType, Codec, Entry, Selection, WatchEvent};

/// The bytes of objects that the ring keeps alive at most.
const RING_BYTES: usize = 16 << 20;
/// This many changes are kept however old they are.
const RING_LEAST: usize = 100;

/// One change of one object; shared by the ring and all watchers.
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) prev: Option<Arc<Entry>>,
    pub(super) entry: Option<Arc<Entry>>,
    /// `prev`, stamped with this change's revision; made for the first watcher that needs it.
    last: OnceLock<Arc<Entry>>,
}

impl Change {
    pub(super) fn new(revision: i64, prev: Option<Arc<Entry>>, entry: Option<Arc<Entry>>) -> Self {
        Self {
            revision,
            prev,
            entry,
            last: OnceLock::new(),
        }
    }

    /// The object before or after; one of them is there.
    pub(super) fn object(&self) -> &Arc<Entry> {
        self.entry
            .as_ref()
            .or(self.prev.as_ref())
            .expect("a change has an object before or after it")
    }

    /// What the change is to who watches the selection; nothing if it is not selected before or
    /// after.
    pub(super) fn seen_by(&self, selection: &Selection, codec: &Codec) -> Option<WatchEvent> {
        let selected = |entry: &&Arc<Entry>| selection.matches(entry);
        let before = self.prev.as_ref().filter(selected);
        let after = self.entry.as_ref().filter(selected);
        let (change, entry) = match (before, after) {
            (None, None) => return None,
            (None, Some(entry)) => (ChangeType::Added, Arc::clone(entry)),
            (Some(_), Some(entry)) => (ChangeType::Modified, Arc::clone(entry)),
            (Some(prev), None) => {
                let last = || Arc::new(prev.at_revision(self.revision, |json, at| (codec.stamp)(json, at)));
                (ChangeType::Deleted, Arc::clone(self.last.get_or_init(last)))
            }
        };
        Some(WatchEvent {
            change,
            revision: self.revision,
            entry: Some(entry),
        })
    }

    fn weight(&self) -> usize {
        256 + self.object().json.len()
    }
}

/// The recent changes.
pub(super) struct Ring {
    changes: VecDeque<(Instant, Arc<Change>)>,
    bytes: usize,
    age: Duration,
    limit: usize,
    /// Every change after this revision is in the ring.
    after: i64,
}

impl Ring {
    pub(super) fn new(age: Duration, limit: usize, after: i64) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            age,
            limit,
            after,
        }
    }

    /// The revision after which all changes are known.
    pub(super) fn complete_after(&self) -> i64 {
        self.after
    }

    /// Appends a change, forgets old ones.
    pub(super) fn push(&mut self, now: Instant, change: Arc<Change>) {
        self.bytes += change.weight();
        self.changes.push_back((now, change));
        while let Some((at, oldest)) = self.changes.front() {
            let old = self.changes.len() > RING_LEAST && now.duration_since(*at) > self.age;
            if !old && self.changes.len() <= self.limit && self.bytes <= RING_BYTES {
                return;
            }
            self.after = oldest.revision;
            self.bytes -= oldest.weight();
            self.changes.pop_front();
        }
    }

    /// The changes after `revision`, oldest first; none if some of them are forgotten.
    pub(super) fn since(&self, revision: i64) -> Option<impl DoubleEndedIterator<Item = &Arc<Change>>> {
        if revision < self.after {
            return None;
        }
        let first = self.changes.partition_point(|(_, change)| change.revision <= revision);
        Some(self.changes.range(first..).map(|(_, change)| change))
    }
}
