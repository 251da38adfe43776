//! Reads at a revision.

use std::sync::Arc;

use super::disk::View;
use super::layout::{
    LogRecord, data_end, data_key, data_start, is_delete, log_key, parse_data, parse_data_key, parse_log_key,
};
use crate::{Error, Event, KeyValue, Range, RangeResponse};

/// The value of `key` at `revision`.
pub(super) fn get(view: &View<'_>, key: &Arc<str>, revision: i64) -> Result<Option<KeyValue>, Error> {
    // Newest first: from the wanted revision to the oldest.
    let mut records = view.scan(data_key(key, revision), data_key(key, 0));
    let Some(record) = records.next().transpose()? else {
        return Ok(None);
    };
    let (_, found) = parse_data_key(&record.0)?;
    parse_data(key, found, &record.1)
}

/// The key-values of `range` at `revision`.
pub(super) fn range(view: &View<'_>, range: &Range, revision: i64) -> Result<RangeResponse, Error> {
    let mut response = RangeResponse {
        revision,
        ..RangeResponse::default()
    };
    if !range.end.is_empty() && range.end <= range.start {
        return Ok(response);
    }
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    let mut decided: Vec<u8> = Vec::new();
    for record in view.scan(data_start(&range.start), data_end(&range.end)) {
        let (record_key, value) = record?;
        let name = record_key.split_last_chunk::<8>().map_or(&[][..], |(name, _)| name);
        if name == decided {
            continue;
        }
        let (key, found) = parse_data_key(&record_key)?;
        if found > revision {
            continue;
        }
        decided.clear();
        decided.extend_from_slice(name);
        if is_delete(&value) {
            continue;
        }
        if response.kvs.len() < limit {
            response.kvs.extend(parse_data(&key.into(), found, &value)?);
            response.count += 1;
            continue;
        }
        response.more = true;
        if !range.counted {
            break;
        }
        response.count += 1;
    }
    Ok(response)
}

/// The changes with revisions in `from..=through`, at most `limit` revisions of them, of keys that
/// begin with `prefix`; and the revision up to which they go.
pub(super) fn events(
    view: &View<'_>,
    prefix: &str,
    from: i64,
    through: i64,
    limit: usize,
) -> Result<(Vec<Event>, i64), Error> {
    let mut events = Vec::new();
    for (read, record) in view.scan(log_key(from), log_key(through + 1)).enumerate() {
        let (key, value) = record?;
        let revision = parse_log_key(&key)?;
        if read == limit {
            return Ok((events, revision - 1));
        }
        for change in LogRecord::parse(&value)?.changes {
            if !change.key.starts_with(prefix) {
                continue;
            }
            let prev = match change.prev_revision {
                0 => None,
                prev => exact(view, &change.key, prev)?,
            };
            events.push(match (change.deleted, prev) {
                (false, prev) => {
                    let kv = exact(view, &change.key, revision)?.ok_or(Error::Damaged { record: "log" })?;
                    Event::Put { kv, prev }
                }
                (true, Some(prev)) => Event::Delete { revision, prev },
                (true, None) => return Err(Error::Damaged { record: "log" }),
            });
        }
    }
    Ok((events, through))
}

fn exact(view: &View<'_>, key: &Arc<str>, revision: i64) -> Result<Option<KeyValue>, Error> {
    match view.get(&data_key(key, revision))? {
        Some(record) => parse_data(key, revision, &record),
        None => Err(Error::Damaged { record: "log" }),
    }
}
