//! The records on disk, all in one fjall keyspace so that one memtable and one flush serve them.
//!
//! | record | key | value |
//! |---|---|---|
//! | data | `d` key NUL !revision | flags, create revision, version, [expiry], the value |
//! | log | `l` revision | time, then kind, key and previous revision of each change |
//! | time to live | `t` expiry key | nothing |
//! | meta | `m` name | a number |
//!
//! Numbers are big-endian, so that they sort. The revision of a data record is inverted, so that
//! a key's newest record comes first. Keys hold no NUL, so that records sort as their keys do.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, KeyValue};

/// The layout that this code reads and writes.
pub(super) const FORMAT: i64 = 1;
pub(super) const META_FORMAT: &[u8] = b"mformat";
pub(super) const META_COMPACTED: &[u8] = b"mcompacted";
const MAX_KEY: usize = 4096;

const DELETED: u8 = 1;
const EXPIRES: u8 = 2;

pub(super) fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY || key.contains('\0') {
        return Err(Error::InvalidKey(key.to_owned()));
    }
    Ok(())
}

pub(super) fn data_key(key: &str, revision: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 10);
    bytes.push(b'd');
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&(!revision.cast_unsigned()).to_be_bytes());
    bytes
}

/// Where the data records of keys from `start` on begin; an empty string stands for the first.
pub(super) fn data_start(start: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(start.len() + 1);
    bytes.push(b'd');
    bytes.extend_from_slice(start.as_bytes());
    bytes
}

/// Where the data records of keys before `end` end; an empty string stands for the last.
pub(super) fn data_end(end: &str) -> Vec<u8> {
    if end.is_empty() {
        vec![b'd' + 1]
    } else {
        data_start(end)
    }
}

/// The key and the revision of a data record's key.
pub(super) fn parse_data_key(bytes: &[u8]) -> Result<(&str, i64), Error> {
    let damaged = Error::Damaged { record: "data key" };
    let Some((head, revision)) = bytes.split_last_chunk::<8>() else {
        return Err(damaged);
    };
    let key = head.strip_prefix(b"d").and_then(|head| head.strip_suffix(b"\0"));
    let key = key.and_then(|key| std::str::from_utf8(key).ok()).ok_or(damaged)?;
    Ok((key, (!u64::from_be_bytes(*revision)).cast_signed()))
}

pub(super) fn put_record(kv: &KeyValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(kv.value.len() + 25);
    bytes.push(if kv.expires_at_ms.is_some() { EXPIRES } else { 0 });
    bytes.extend_from_slice(&kv.create_revision.to_be_bytes());
    bytes.extend_from_slice(&kv.version.to_be_bytes());
    if let Some(expires) = kv.expires_at_ms {
        bytes.extend_from_slice(&expires.to_be_bytes());
    }
    bytes.extend_from_slice(&kv.value);
    bytes
}

pub(super) fn delete_record() -> Vec<u8> {
    vec![DELETED]
}

/// What a data record says: a value, or nothing if the key was deleted.
pub(super) fn parse_data(key: &Arc<str>, revision: i64, bytes: &[u8]) -> Result<Option<KeyValue>, Error> {
    let damaged = || Error::Damaged { record: "data" };
    let (&flags, rest) = bytes.split_first().ok_or_else(damaged)?;
    if flags & DELETED != 0 {
        return Ok(None);
    }
    let (create_revision, rest) = number(rest).ok_or_else(damaged)?;
    let (version, rest) = number(rest).ok_or_else(damaged)?;
    let (expires_at_ms, value) = match flags & EXPIRES {
        0 => (None, rest),
        _ => number(rest)
            .map(|(expires, rest)| (Some(expires), rest))
            .ok_or_else(damaged)?,
    };
    Ok(Some(KeyValue {
        key: Arc::clone(key),
        value: Bytes::copy_from_slice(value),
        create_revision,
        mod_revision: revision,
        version,
        expires_at_ms,
    }))
}

/// Whether a data record is a deletion.
pub(super) fn is_delete(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|flags| flags & DELETED != 0)
}

fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*number), rest))
}

pub(super) fn log_key(revision: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9);
    bytes.push(b'l');
    bytes.extend_from_slice(&revision.to_be_bytes());
    bytes
}

pub(super) fn parse_log_key(bytes: &[u8]) -> Result<i64, Error> {
    let revision = bytes.strip_prefix(b"l").and_then(number);
    revision
        .map(|(revision, _)| revision)
        .ok_or(Error::Damaged { record: "log key" })
}

/// A change of a key, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: Arc<str>,
    pub(super) deleted: bool,
    /// The revision of the value that it replaced; 0 if there was none.
    pub(super) prev_revision: i64,
}

/// The changes of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogRecord {
    pub(super) time_ms: i64,
    pub(super) changes: Vec<Change>,
}

impl LogRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.time_ms.to_be_bytes());
        for change in &self.changes {
            let length = u16::try_from(change.key.len()).expect("keys are at most 4096 bytes long");
            bytes.push(u8::from(change.deleted));
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(change.key.as_bytes());
            bytes.extend_from_slice(&change.prev_revision.to_be_bytes());
        }
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse_inner(bytes).ok_or(Error::Damaged { record: "log" })
    }

    fn parse_inner(bytes: &[u8]) -> Option<Self> {
        let (time_ms, mut rest) = number(bytes)?;
        let mut changes = Vec::new();
        while let Some((&kind, after_kind)) = rest.split_first() {
            let (length, after_length) = after_kind.split_first_chunk::<2>()?;
            let (key, after_key) = after_length.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let (prev_revision, after) = number(after_key)?;
            changes.push(Change {
                key: std::str::from_utf8(key).ok()?.into(),
                deleted: kind == 1,
                prev_revision,
            });
            rest = after;
        }
        Some(Self { time_ms, changes })
    }
}

pub(super) fn ttl_key(expires_at_ms: i64, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 9);
    bytes.push(b't');
    bytes.extend_from_slice(&expires_at_ms.to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

pub(super) fn parse_ttl_key(bytes: &[u8]) -> Result<(i64, &str), Error> {
    let parsed = bytes.strip_prefix(b"t").and_then(number);
    let parsed = parsed.and_then(|(expires, key)| Some((expires, std::str::from_utf8(key).ok()?)));
    parsed.ok_or(Error::Damaged {
        record: "time-to-live key",
    })
}

pub(super) fn parse_meta(bytes: &[u8]) -> Result<i64, Error> {
    let value = number(bytes).filter(|(_, rest)| rest.is_empty());
    value.map(|(value, _)| value).ok_or(Error::Damaged { record: "meta" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_written() {
        let kv = KeyValue {
            key: "/a/b".into(),
            value: Bytes::from_static(b"v\0w"),
            create_revision: 3,
            mod_revision: 9,
            version: 2,
            expires_at_ms: Some(77),
        };
        assert_eq!(parse_data_key(&data_key("/a/b", 9)).unwrap(), ("/a/b", 9));
        assert_eq!(parse_data(&kv.key, 9, &put_record(&kv)).unwrap(), Some(kv.clone()));
        assert_eq!(parse_data(&kv.key, 9, &delete_record()).unwrap(), None);
        let change = |key: &str, deleted| Change {
            key: key.into(),
            deleted,
            prev_revision: 4,
        };
        let log = LogRecord {
            time_ms: 5,
            changes: vec![change("x", true), change("/y/z", false)],
        };
        assert_eq!(LogRecord::parse(&log.encode()).unwrap(), log);
        assert_eq!(parse_ttl_key(&ttl_key(12, "k")).unwrap(), (12, "k"));
    }

    #[test]
    fn records_sort_by_key_then_newest_first() {
        let sorted = [
            data_key("a", 2),
            data_key("a", 1),
            data_key("a\u{1}", 9),
            data_key("a/b", 1),
            data_key("b", 1),
        ];
        assert!(sorted.is_sorted());
        assert!(data_start("a") <= sorted[0] && data_end("a/b") > sorted[2] && data_end("a/b") <= sorted[3]);
    }

    #[test]
    fn damage_is_an_error() {
        assert!(matches!(parse_data(&"k".into(), 1, &[]), Err(Error::Damaged { .. })));
        assert!(matches!(LogRecord::parse(&[0; 9]), Err(Error::Damaged { .. })));
        assert!(matches!(parse_meta(&[0; 7]), Err(Error::Damaged { .. })));
    }
}
