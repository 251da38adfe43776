//! What goes in and comes out: key-values, ranges, transactions, events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// A key with one of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Arc<str>,
    /// The value, as it was put.
    pub value: Bytes,
    /// The revision at which the key came into being (since it was last absent).
    pub create_revision: i64,
    /// The revision that wrote this value.
    pub mod_revision: i64,
    /// How many times the key was put since it came into being; the first put is 1.
    pub version: i64,
    /// When the key expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
}

/// A read of the keys in `start..end` at one revision.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// First key.
    pub start: String,
    /// First key after the range; empty means to the end of the store.
    pub end: String,
    /// The revision to read at; 0 means the current one.
    pub revision: i64,
    /// The greatest number of key-values to return; 0 means all.
    pub limit: usize,
    /// Whether to count the keys beyond the limit too, which takes reading them.
    pub counted: bool,
}

impl Range {
    /// All keys that begin with `prefix`, now.
    pub fn prefix(prefix: &str) -> Self {
        Self {
            start: prefix.to_owned(),
            end: prefix_end(prefix),
            ..Self::default()
        }
    }

    /// The same range at `revision`.
    pub fn at(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// The same range with a limit.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// The first string after every string that begins with `prefix`; empty if there is none.
fn prefix_end(prefix: &str) -> String {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The next scalar value; surrogates are no scalar values.
        let next = (last as u32 + 1..=char::MAX as u32).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return chars.into_iter().collect();
        }
    }
    String::new()
}

/// What a range read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The revision that was read at.
    pub revision: i64,
    /// At most `limit` key-values in key order.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut the answer short.
    pub more: bool,
    /// How many keys the range holds in all; with a limit and without [`Range::counted`], how many
    /// are in `kvs`.
    pub count: usize,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key's newest value was written at this revision; 0 means that the key is absent.
    ModRevision {
        /// The key.
        key: String,
        /// Its expected revision.
        revision: i64,
    },
    /// The key is present.
    Exists(String),
    /// The key is absent.
    Absent(String),
    /// The newest value of the key is of this revision (0: it is absent), as the caller has seen in the state at
    /// `since`: so that only what was written later has to be looked at. It decides as if nothing had been seen, unless
    /// what is said of that state is not true.
    Unchanged {
        /// The key.
        key: String,
        /// Its revision, at `since` and now.
        revision: i64,
        /// A revision at which this was seen to be so.
        since: i64,
    },
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// How long the key lives; a put without it lives on until deleted.
        ttl: Option<Duration>,
    },
    /// Deletes a key; absent keys are no error.
    Delete {
        /// The key.
        key: String,
    },
    /// Reads the key's current value.
    Get {
        /// The key.
        key: String,
    },
}

impl Op {
    /// A put without a time to live.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            ttl: None,
        }
    }

    /// A put that expires.
    pub fn put_ttl(key: impl Into<String>, value: impl Into<Bytes>, ttl: Duration) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            ttl: Some(ttl),
        }
    }

    /// A delete.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// A read.
    pub fn get(key: impl Into<String>) -> Self {
        Self::Get { key: key.into() }
    }

    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Get { key } => key,
        }
    }
}

/// If every `compare` holds, `success` runs, else `failure`; all of it at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// What to do if all of them hold. No key may be written twice.
    pub success: Vec<Op>,
    /// What to do otherwise. No key may be written twice.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Writes `key` if it is absent; otherwise reads it.
    pub fn create(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::Absent(key.clone())],
            success: vec![Op::put(key.clone(), value)],
            failure: vec![Op::Get { key }],
        }
    }

    /// Writes `key` if its newest value is of `revision`; otherwise reads it.
    pub fn update(key: impl Into<String>, revision: i64, value: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::ModRevision {
                key: key.clone(),
                revision,
            }],
            success: vec![Op::put(key.clone(), value)],
            failure: vec![Op::Get { key }],
        }
    }

    /// Deletes `key` if its newest value is of `revision`; otherwise reads it.
    pub fn delete(key: impl Into<String>, revision: i64) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare::ModRevision {
                key: key.clone(),
                revision,
            }],
            success: vec![Op::delete(key.clone())],
            failure: vec![Op::Get { key }],
        }
    }
}

/// The outcome of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether all compares held.
    pub succeeded: bool,
    /// The revision after the transaction: its own if it changed something.
    pub revision: i64,
    /// One result for each step that ran.
    pub results: Vec<OpResult>,
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// A put, with the value that it replaced.
    Put {
        /// What is stored now.
        kv: KeyValue,
        /// What was stored before.
        prev: Option<KeyValue>,
    },
    /// A delete, with the value that it removed.
    Delete {
        /// What was stored before.
        prev: Option<KeyValue>,
    },
    /// A read.
    Get(Option<KeyValue>),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put {
        /// The new key-value.
        kv: KeyValue,
        /// The one before.
        prev: Option<KeyValue>,
    },
    /// The key was deleted, or has expired.
    Delete {
        /// The revision of the deletion.
        revision: i64,
        /// The last key-value.
        prev: KeyValue,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { prev, .. } => &prev.key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// The key-value before the change.
    pub fn prev(&self) -> Option<&KeyValue> {
        match self {
            Self::Put { prev, .. } => prev.as_ref(),
            Self::Delete { prev, .. } => Some(prev),
        }
    }

    /// Roughly the bytes that the event keeps alive.
    pub(crate) fn weight(&self) -> usize {
        let value = match self {
            Self::Put { kv, .. } => kv.value.len(),
            Self::Delete { .. } => 0,
        };
        self.key().len() + value + self.prev().map_or(0, |kv| kv.value.len()) + 128
    }
}

/// Some consecutive events of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Every event of the prefix up to this revision has now been delivered.
    pub revision: i64,
    /// The events in order of revision; those of one transaction are never split.
    pub events: Vec<Event>,
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn prefix_end_is_the_next_string() {
        assert_eq!(prefix_end("/a/"), "/a0");
        assert_eq!(prefix_end("a\u{10FFFF}"), "b");
        assert_eq!(prefix_end("\u{D7FF}"), "\u{E000}");
        assert_eq!(prefix_end(""), "");
    }
}
