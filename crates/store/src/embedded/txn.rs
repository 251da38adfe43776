//! The evaluation of a transaction, apart from its writing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::disk::Changes;
use super::expiry;
use super::layout::{self, Change, LogRecord};
use crate::{Compare, Error, Event, KeyValue, Op, OpResult, Txn};

/// Refuses what cannot be evaluated.
pub(super) fn check(txn: &Txn) -> Result<(), Error> {
    for compare in &txn.compare {
        layout::check_key(compare_key(compare))?;
    }
    for ops in [&txn.success, &txn.failure] {
        let mut written = HashSet::new();
        for op in ops {
            layout::check_key(op.key())?;
            if !matches!(op, Op::Get { .. }) && !written.insert(op.key()) {
                return Err(Error::DuplicateKey(op.key().to_owned()));
            }
        }
    }
    Ok(())
}

fn compare_key(compare: &Compare) -> &str {
    match compare {
        Compare::ModRevision { key, .. } | Compare::Unchanged { key, .. } => key,
        Compare::Exists(key) | Compare::Absent(key) => key,
    }
}

/// Where the current state is looked up.
pub(super) trait Lookup {
    fn lookup(&mut self, key: &str) -> Result<Option<KeyValue>, Error>;

    /// The same of a key whose newest revision (0: none) was seen at `since`.
    fn lookup_seen(&mut self, key: &str, revision: i64, since: i64) -> Result<Option<KeyValue>, Error>;
}

/// What a transaction does.
pub(super) struct Outcome {
    pub(super) succeeded: bool,
    pub(super) results: Vec<OpResult>,
    /// Empty if it changes nothing; then it takes no revision.
    pub(super) events: Vec<Event>,
}

/// Evaluates `txn`, which would be of `revision`.
pub(super) fn evaluate(txn: Txn, revision: i64, now_ms: i64, state: &mut dyn Lookup) -> Result<Outcome, Error> {
    let mut succeeded = true;
    let state = &mut Once {
        below: state,
        found: Vec::new(),
    };
    for compare in &txn.compare {
        let found = match compare {
            Compare::Unchanged { key, revision, since } => state.lookup_seen(key, *revision, *since)?,
            _ => state.lookup(compare_key(compare))?,
        };
        succeeded &= match compare {
            Compare::ModRevision { revision, .. } | Compare::Unchanged { revision, .. } => {
                found.map_or(0, |kv| kv.mod_revision) == *revision
            }
            Compare::Exists(_) => found.is_some(),
            Compare::Absent(_) => found.is_none(),
        };
    }
    let ops = if succeeded { txn.success } else { txn.failure };
    let mut outcome = Outcome {
        succeeded,
        results: Vec::with_capacity(ops.len()),
        events: Vec::new(),
    };
    for op in ops {
        let result = run(op, revision, now_ms, &mut outcome.events, state)?;
        outcome.results.push(result);
    }
    Ok(outcome)
}

/// Looks each key up once: what is compared is mostly what is written.
struct Once<'a> {
    below: &'a mut dyn Lookup,
    found: Vec<(String, Option<KeyValue>)>,
}

impl Lookup for Once<'_> {
    fn lookup(&mut self, key: &str) -> Result<Option<KeyValue>, Error> {
        if let Some((_, found)) = self.found.iter().find(|(known, _)| known == key) {
            return Ok(found.clone());
        }
        let found = self.below.lookup(key)?;
        self.found.push((key.to_owned(), found.clone()));
        Ok(found)
    }

    fn lookup_seen(&mut self, key: &str, revision: i64, since: i64) -> Result<Option<KeyValue>, Error> {
        let found = self.below.lookup_seen(key, revision, since)?;
        self.found.push((key.to_owned(), found.clone()));
        Ok(found)
    }
}

fn run(op: Op, revision: i64, now_ms: i64, events: &mut Vec<Event>, state: &mut dyn Lookup) -> Result<OpResult, Error> {
    match op {
        Op::Get { key } => {
            // An earlier step may have changed it.
            let result = match events.iter().find(|event| **event.key() == *key) {
                Some(Event::Put { kv, .. }) => Some(kv.clone()),
                Some(Event::Delete { .. }) => None,
                None => state.lookup(&key)?,
            };
            Ok(OpResult::Get(result))
        }
        Op::Put { key, value, ttl } => {
            let prev = state.lookup(&key)?;
            let kv = KeyValue {
                key: prev.as_ref().map_or_else(|| key.into(), |prev| Arc::clone(&prev.key)),
                value,
                create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
                mod_revision: revision,
                version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                expires_at_ms: ttl.map(|ttl: Duration| expiry::expires_at_ms(now_ms, ttl)),
            };
            events.push(Event::Put {
                kv: kv.clone(),
                prev: prev.clone(),
            });
            Ok(OpResult::Put { kv, prev })
        }
        Op::Delete { key } => {
            let prev = state.lookup(&key)?;
            events.extend(prev.clone().map(|prev| Event::Delete { revision, prev }));
            Ok(OpResult::Delete { prev })
        }
    }
}

/// The records of the changes of one revision.
pub(super) fn write(events: &[Event], time_ms: i64, changes: &mut Changes) {
    let Some(first) = events.first() else { return };
    let revision = first.revision();
    for event in events {
        let key = event.key();
        if let Some(expires) = event.prev().and_then(|prev| prev.expires_at_ms) {
            changes.remove(layout::ttl_key(expires, key));
        }
        match event {
            Event::Put { kv, .. } => {
                changes.put(layout::data_key(key, revision), layout::put_record(kv));
                if let Some(expires) = kv.expires_at_ms {
                    changes.put(layout::ttl_key(expires, key), Vec::new());
                }
            }
            Event::Delete { .. } => changes.put(layout::data_key(key, revision), layout::delete_record()),
        }
    }
    let change = |event: &Event| Change {
        key: Arc::clone(event.key()),
        deleted: matches!(event, Event::Delete { .. }),
        prev_revision: event.prev().map_or(0, |prev| prev.mod_revision),
    };
    let log = LogRecord {
        time_ms,
        changes: events.iter().map(change).collect(),
    };
    changes.put(layout::log_key(revision), log.encode());
}
