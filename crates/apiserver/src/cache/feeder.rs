//! The task that follows the store: it alone changes the cache.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, ready};
use futures_util::stream::{FuturesOrdered, StreamExt};
use store::{Batch, Event, KeyValue, Range, WatchError, WatchStream};

use super::change::Change;
use super::state::{Applied, Inner};
use super::view::{Objects, View};
use super::{CacheError, Config, Entry};

/// So many of the store's last revisions are replayed at the start, so that watches can be
/// resumed across a restart.
const PRELOAD: i64 = 256;
/// Changes that are made known at once; others get a turn in between.
const CHUNK: usize = 256;
/// So many objects are read at once at the start, and others decoded meanwhile.
const PART: usize = 2048;
/// Fewer are not worth another thread.
const FEW: usize = 64;
/// Parts that have been read and are not in their places yet: their bytes are there twice.
const PARTS_AT_A_TIME: usize = 4;
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn start(inner: &Arc<Inner>) {
    let task = tokio::spawn(run(Arc::downgrade(inner)));
    // Only set here.
    let _ = inner.feeder.set(task.abort_handle());
}

/// Why following ended.
enum Stop {
    /// The cache or the store is gone.
    Closed,
    /// The watch lagged; it can go on after the state that is shown.
    Resume,
    /// The state has to be read anew.
    Refill,
    /// The store failed.
    Failed(CacheError),
}

async fn run(cache: Weak<Inner>) {
    let mut filled = false;
    loop {
        let stop = match open(&cache, filled).await {
            Ok((stream, goal)) => {
                filled = true;
                follow(&cache, stream, goal).await
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Closed => return close(&cache),
            Stop::Resume => {}
            Stop::Refill => filled = false,
            Stop::Failed(error) => {
                fail(&cache, error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn close(cache: &Weak<Inner>) {
    if let Some(inner) = cache.upgrade() {
        inner.recent().watchers.end(&CacheError::Closed);
        inner
            .applied
            .send_modify(|applied| applied.failure = Some(CacheError::Closed));
    }
}

fn fail(cache: &Weak<Inner>, error: CacheError) {
    if let Some(inner) = cache.upgrade() {
        tracing::warn!(prefix = inner.config.prefix, %error, "cannot follow the store, will try again");
        inner.applied.send_modify(|applied| applied.failure = Some(error));
    }
}

/// Subscribes; reads the state too if there is none yet. Also returns the revision at which the
/// cache counts as filled.
async fn open(cache: &Weak<Inner>, filled: bool) -> Result<(WatchStream, i64), Stop> {
    let inner = cache.upgrade().ok_or(Stop::Closed)?;
    let newest = inner.store.revision();
    let from = match (filled, inner.applied.borrow().ready) {
        (true, _) => inner.view.load().revision,
        (false, false) => inner.store.compacted_revision().max(newest - PRELOAD).max(1),
        // What is shown never goes back.
        (false, true) => newest,
    };
    let stream = inner.store.watch(&inner.config.prefix, from + 1).await.map_err(stop)?;
    if !filled {
        let objects = state(&inner, from).await?;
        inner.reset(View {
            revision: from,
            objects,
        });
    }
    inner
        .progress
        .store(Some(Arc::new(Box::new(stream.progress_requester()))));
    stream.request_progress();
    inner.applied.send_modify(|applied| {
        let ready = applied.ready || from >= newest;
        *applied = Applied {
            revision: from,
            ready,
            failure: None,
        };
    });
    Ok((stream, newest))
}

/// The state at a revision. While one part of it is read, others are decoded.
async fn state(inner: &Arc<Inner>, revision: i64) -> Result<Objects, Stop> {
    let mut range = Range::prefix(&inner.config.prefix).at(revision).limit(PART);
    let mut decoding = FuturesOrdered::new();
    let mut objects = Objects::new_sync();
    loop {
        let read = inner.store.range(range.clone()).await.map_err(|error| match error {
            store::Error::Compacted(_) => Stop::Refill,
            store::Error::Closed => Stop::Closed,
            error => Stop::Failed(CacheError::Store(error)),
        })?;
        let last = read.kvs.last().map(|kv| format!("{}\0", kv.key));
        let kvs = converted(&inner.config, read.kvs).await.map_err(Stop::Failed)?;
        if kvs.len() < FEW {
            decoding.push_back(Either::Left(ready(Ok(entries(&inner.config, kvs, &inner.view.load())))));
        } else {
            let worker = Arc::clone(inner);
            let decode = move || entries(&worker.config, kvs, &worker.view.load());
            decoding.push_back(Either::Right(tokio::task::spawn_blocking(decode)));
        }
        let more = last.filter(|_| read.more);
        while decoding.len() > PARTS_AT_A_TIME || more.is_none() {
            let Some(decoded) = decoding.next().await else { break };
            for entry in decoded.map_err(|_| Stop::Closed)? {
                objects.insert_mut(Arc::clone(entry.key()), entry);
            }
        }
        match more {
            Some(start) => range.start = start,
            None => return Ok(objects),
        }
    }
}

/// Key-values with their objects as the cache is to hold them.
pub(super) async fn converted(config: &Config, mut kvs: Vec<KeyValue>) -> Result<Vec<KeyValue>, CacheError> {
    let Some(conversion) = config.conversion.as_ref().filter(|_| !kvs.is_empty()) else {
        return Ok(kvs);
    };
    let stored = kvs.iter().map(|kv| kv.value.clone()).collect();
    let converted = conversion(stored).await.map_err(CacheError::Conversion)?;
    for (kv, value) in kvs.iter_mut().zip(converted) {
        kv.value = value;
    }
    Ok(kvs)
}

/// The same for what was written in a batch.
async fn converted_events(config: &Config, mut events: Vec<Event>) -> Result<Vec<Event>, CacheError> {
    if config.conversion.is_none() {
        return Ok(events);
    }
    let puts = events.iter().filter_map(|event| match event {
        Event::Put { kv, .. } => Some(kv.clone()),
        Event::Delete { .. } => None,
    });
    let mut converted = converted(config, puts.collect()).await?.into_iter();
    for event in &mut events {
        if let Event::Put { kv, .. } = event
            && let Some(ready) = converted.next()
        {
            *kv = ready;
        }
    }
    Ok(events)
}

/// The objects of key-values; those that are the same in an older state are shared with it.
pub(super) fn objects(config: &Config, kvs: Vec<KeyValue>, old: &View) -> Objects {
    let mut objects = Objects::new_sync();
    for entry in entries(config, kvs, old) {
        objects.insert_mut(Arc::clone(entry.key()), entry);
    }
    objects
}

fn entries(config: &Config, kvs: Vec<KeyValue>, old: &View) -> Vec<Arc<Entry>> {
    let shared = |kv: &KeyValue| {
        let known = old.objects.get(&kv.key)?;
        (known.revision == kv.mod_revision).then(|| Arc::clone(known))
    };
    kvs.into_iter()
        .map(|kv| shared(&kv).unwrap_or_else(|| Arc::new(entry(config, &kv, None))))
        .collect()
}

fn entry(config: &Config, kv: &KeyValue, prev: Option<&Arc<Entry>>) -> Entry {
    let indexed = (config.codec.index)(&kv.value);
    let indexed = match prev {
        Some(prev) if *prev.indexed == indexed => Arc::clone(&prev.indexed),
        _ => Arc::new(indexed),
    };
    let json = (config.codec.stamp)(&kv.value, kv.mod_revision);
    Entry::new(
        Arc::clone(&kv.key),
        config.prefix.len(),
        config.namespaced,
        kv.mod_revision,
        json,
        indexed,
    )
}

async fn follow(cache: &Weak<Inner>, mut stream: WatchStream, goal: i64) -> Stop {
    loop {
        let batch = match stream.next().await {
            Ok(batch) => batch,
            Err(error) => return stop(error),
        };
        let Some(inner) = cache.upgrade() else {
            return Stop::Closed;
        };
        let revision = batch.revision;
        let batch = match converted_events(&inner.config, batch.events).await {
            Ok(events) => Batch { events, revision },
            Err(error) => return Stop::Failed(error),
        };
        for (through, chunk) in chunks(batch) {
            apply(&inner, &chunk, through);
            tokio::task::yield_now().await;
        }
        inner.applied.send_modify(|applied| {
            applied.revision = revision;
            applied.ready |= revision >= goal;
        });
    }
}

/// Splits a batch between revisions; each part with the revision up to which it goes.
fn chunks(batch: Batch) -> Vec<(i64, Vec<Event>)> {
    let mut chunks: Vec<(i64, Vec<Event>)> = Vec::new();
    for event in batch.events {
        match chunks.last_mut() {
            Some((through, chunk)) if chunk.len() < CHUNK || *through == event.revision() => {
                *through = event.revision();
                chunk.push(event);
            }
            _ => chunks.push((event.revision(), vec![event])),
        }
    }
    match chunks.last_mut() {
        Some((through, _)) => *through = batch.revision,
        None => chunks.push((batch.revision, Vec::new())),
    }
    chunks
}

fn apply(inner: &Inner, events: &[Event], through: i64) {
    let mut objects = inner.view.load().objects.clone();
    let mut changes = Vec::with_capacity(events.len());
    for event in events {
        let prev = objects.get(event.key()).cloned();
        match event {
            Event::Put { kv, .. } => {
                let entry = Arc::new(entry(&inner.config, kv, prev.as_ref()));
                objects.insert_mut(Arc::clone(&kv.key), Arc::clone(&entry));
                changes.push(Arc::new(Change::new(kv.mod_revision, prev, Some(entry))));
            }
            Event::Delete { revision, prev: last } => {
                objects.remove_mut(&last.key);
                // It is in the cache, as the cache shows the state before this event.
                let prev = prev.unwrap_or_else(|| Arc::new(entry(&inner.config, last, None)));
                changes.push(Arc::new(Change::new(*revision, Some(prev), None)));
            }
        }
    }
    inner.apply(
        View {
            revision: through,
            objects,
        },
        changes,
    );
}

fn stop(error: WatchError) -> Stop {
    match error {
        WatchError::Closed => Stop::Closed,
        WatchError::Lagged { .. } => Stop::Resume,
        WatchError::Compacted(_) => Stop::Refill,
        WatchError::Read(error) => Stop::Failed(CacheError::Store(error)),
    }
}
