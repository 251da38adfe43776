//! What was written last, so that compares and previous values seldom need the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::txn::Lookup;
use super::{Shared, layout, read};
use crate::{Error, Event, KeyValue};

/// The bytes that are always kept, and how much more while they are new.
const LEAST_BYTES: usize = 1 << 20;
const MOST_BYTES: usize = 16 << 20;
const NEW_MS: i64 = 10_000;
/// What a state takes beside its key and value.
const OVERHEAD: usize = 160;

/// The newest states of the keys that were written last.
pub(super) struct Recent {
    states: HashMap<Arc<str>, State>,
    /// Revision, time and key of every write that is remembered, oldest first.
    order: VecDeque<(i64, i64, Arc<str>)>,
    bytes: usize,
    /// Every write after this revision is in `states`.
    complete_after: i64,
}

struct State {
    revision: i64,
    kv: Option<KeyValue>,
}

impl State {
    fn weight(&self, key: &str) -> usize {
        OVERHEAD + key.len() + self.kv.as_ref().map_or(0, |kv| kv.value.len())
    }
}

impl Recent {
    /// Nothing, of a store at this revision.
    pub(super) fn new(revision: i64) -> Self {
        Self {
            states: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            complete_after: revision,
        }
    }

    pub(super) fn apply(&mut self, events: &[Event], now_ms: i64) {
        for event in events {
            let (key, revision) = (event.key(), event.revision());
            let kv = match event {
                Event::Put { kv, .. } => Some(kv.clone()),
                Event::Delete { .. } => None,
            };
            let state = State { revision, kv };
            self.bytes += state.weight(key);
            if let Some(old) = self.states.insert(Arc::clone(key), state) {
                self.bytes -= old.weight(key);
            }
            self.order.push_back((revision, now_ms, Arc::clone(key)));
        }
    }

    /// Forgets what is too much, the oldest first.
    pub(super) fn trim(&mut self, now_ms: i64) {
        while let Some((_, written_ms, _)) = self.order.front() {
            let old = now_ms.saturating_sub(*written_ms) > NEW_MS;
            // Writes of the same keys again and again take no bytes but a place.
            let crowded = self.order.len() > 1024 + 4 * self.states.len();
            if self.bytes <= LEAST_BYTES && !crowded || !old && !crowded && self.bytes <= MOST_BYTES {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((revision, _, key)) = self.order.pop_front() else {
            return;
        };
        self.complete_after = self.complete_after.max(revision);
        if self.states.get(&key).is_some_and(|state| state.revision == revision)
            && let Some(state) = self.states.remove(&key)
        {
            self.bytes -= state.weight(&key);
        }
    }

    /// Forgets everything: the store is at this revision.
    pub(super) fn clear(&mut self, revision: i64) {
        *self = Self::new(revision);
    }

    /// Whether a key is known not to have been written after `since`.
    fn is_unchanged(&self, key: &str, since: i64) -> bool {
        since >= self.complete_after && self.states.get(key).is_none_or(|state| state.revision <= since)
    }
}

/// The state that the next transaction of the batch sees.
pub(super) struct Current<'a> {
    pub(super) shared: &'a Shared,
    pub(super) recent: &'a Recent,
}

impl Lookup for Current<'_> {
    fn lookup(&mut self, key: &str) -> Result<Option<KeyValue>, Error> {
        match self.recent.states.get(key) {
            Some(state) => Ok(state.kv.clone()),
            None => read::get(&self.shared.disk.view()?, &key.into(), i64::MAX),
        }
    }

    fn lookup_seen(&mut self, key: &str, revision: i64, since: i64) -> Result<Option<KeyValue>, Error> {
        if !self.recent.is_unchanged(key, since) || self.recent.states.contains_key(key) {
            return self.lookup(key);
        }
        if revision == 0 {
            return Ok(None);
        }
        // One record, of which filters know in which file it is.
        let record = self.shared.disk.view()?.get(&layout::data_key(key, revision))?;
        let found = record.map(|record| layout::parse_data(&key.into(), revision, &record));
        match found.transpose()?.flatten() {
            Some(kv) => Ok(Some(kv)),
            None => self.lookup(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(key: &str, revision: i64, size: usize) -> Event {
        let kv = KeyValue {
            key: key.into(),
            value: Bytes::from(vec![0; size]),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            expires_at_ms: None,
        };
        Event::Put { kv, prev: None }
    }

    #[test]
    fn what_is_forgotten_counts_as_changed() {
        let mut recent = Recent::new(5);
        assert!(recent.is_unchanged("a", 5) && !recent.is_unchanged("a", 4));
        recent.apply(&[put("a", 6, 10)], 0);
        recent.apply(&[put("b", 7, LEAST_BYTES)], 1);
        assert!(!recent.is_unchanged("a", 5) && recent.is_unchanged("a", 6) && recent.is_unchanged("c", 5));
        recent.trim(NEW_MS);
        assert!(recent.is_unchanged("c", 5), "while it is new, much is kept");
        recent.trim(NEW_MS + 1);
        assert!(!recent.is_unchanged("c", 5) && recent.is_unchanged("c", 6));
        assert_eq!(recent.states.len(), 1);
        recent.clear(9);
        assert!(!recent.is_unchanged("c", 8) && recent.bytes == 0);
    }

    #[test]
    fn a_key_that_is_written_again_and_again_stays_small() {
        let mut recent = Recent::new(0);
        for revision in 1..10_000 {
            recent.apply(&[put("a", revision, 100)], revision);
            recent.trim(revision);
        }
        assert!(recent.order.len() < 1100 && recent.bytes < 1000);
        assert!(recent.is_unchanged("a", 9_999));
    }
}
