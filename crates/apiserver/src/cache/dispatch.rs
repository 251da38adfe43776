//! From changes to the watchers that want them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::change::Change;
use super::{CacheError, Codec, Config, Selection, WatchEvent};

/// Where a watcher is filed, by the narrowest part of its selection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bucket {
    All,
    Namespace(String),
    Object(String, String),
    Field(String, String),
}

/// The watchers' queues, found by what changes concern them.
#[derive(Default)]
pub(super) struct Watchers {
    buckets: HashMap<Bucket, Vec<Arc<Queue>>>,
}

impl Watchers {
    pub(super) fn add(&mut self, config: &Config, queue: Arc<Queue>) {
        self.buckets
            .entry(bucket(config, &queue.selection))
            .or_default()
            .push(queue);
    }

    pub(super) fn remove(&mut self, config: &Config, queue: &Arc<Queue>) {
        let bucket = bucket(config, &queue.selection);
        if let Some(queues) = self.buckets.get_mut(&bucket) {
            queues.retain(|other| !Arc::ptr_eq(other, queue));
            if queues.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }

    /// Queues a change for every watcher that selects it.
    pub(super) fn dispatch(&mut self, config: &Config, change: &Change) {
        if self.buckets.is_empty() {
            return;
        }
        let object = change.object();
        self.push(&Bucket::All, config, change);
        if config.namespaced {
            self.push(&Bucket::Namespace(object.namespace().to_owned()), config, change);
        }
        self.push(
            &Bucket::Object(object.namespace().to_owned(), object.name().to_owned()),
            config,
            change,
        );
        for path in &config.indexed_fields {
            let value = |entry: &Arc<super::Entry>| entry.field(path).to_owned();
            let before = change.prev.as_ref().map(value);
            let after = change.entry.as_ref().map(value);
            if before != after
                && let Some(before) = before
            {
                self.push(&Bucket::Field(path.clone(), before), config, change);
            }
            if let Some(after) = after {
                self.push(&Bucket::Field(path.clone(), after), config, change);
            }
        }
    }

    fn push(&mut self, bucket: &Bucket, config: &Config, change: &Change) {
        let Some(queues) = self.buckets.get_mut(bucket) else {
            return;
        };
        queues.retain(|queue| queue.push(change, &config.codec));
        if queues.is_empty() {
            self.buckets.remove(bucket);
        }
    }

    /// Ends all watchers.
    pub(super) fn end(&mut self, error: &CacheError) {
        for queue in self.buckets.drain().flat_map(|(_, queues)| queues) {
            queue.end(error.clone());
        }
    }
}

fn bucket(config: &Config, selection: &Selection) -> Bucket {
    match (&selection.namespace, &selection.name, &selection.field) {
        (Some(namespace), Some(name), _) if config.namespaced => Bucket::Object(namespace.clone(), name.clone()),
        (_, Some(name), _) if !config.namespaced => Bucket::Object(String::new(), name.clone()),
        (_, _, Some((path, value))) if config.indexed_fields.contains(path) => {
            Bucket::Field(path.clone(), value.clone())
        }
        (Some(namespace), _, _) if config.namespaced => Bucket::Namespace(namespace.clone()),
        _ => Bucket::All,
    }
}

/// What one watcher has not taken yet.
pub(super) struct Queue {
    pub(super) selection: Selection,
    /// Only changes after this revision.
    after: i64,
    limit: usize,
    /// A std mutex is right: held to append or take, never across an await.
    pending: Mutex<Pending>,
    notify: Notify,
}

#[derive(Default)]
struct Pending {
    events: Vec<WatchEvent>,
    end: Option<CacheError>,
}

/// What [`Queue::take`] found.
pub(super) enum Taken {
    Events(Vec<WatchEvent>),
    End(CacheError),
    Nothing,
}

impl Queue {
    /// A queue that begins with `backlog`, however long that is.
    pub(super) fn new(selection: Selection, after: i64, limit: usize, backlog: Vec<WatchEvent>) -> Self {
        let pending = Mutex::new(Pending {
            events: backlog,
            end: None,
        });
        Self {
            selection,
            after,
            limit,
            pending,
            notify: Notify::new(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no holder of this lock panics")
    }

    /// False if the watcher is over.
    fn push(&self, change: &Change, codec: &Codec) -> bool {
        if change.revision <= self.after {
            return true;
        }
        let Some(event) = change.seen_by(&self.selection, codec) else {
            return true;
        };
        let mut pending = self.pending();
        if pending.events.len() >= self.limit {
            pending.events = Vec::new();
            // The watcher knows up to where it delivered.
            pending.end = Some(CacheError::Lagged { delivered: 0 });
        } else {
            pending.events.push(event);
        }
        self.notify.notify_one();
        pending.end.is_none()
    }

    fn end(&self, error: CacheError) {
        self.pending().end.get_or_insert(error);
        self.notify.notify_one();
    }

    /// Everything that is there; an end comes after all events.
    pub(super) fn take(&self) -> Taken {
        let mut pending = self.pending();
        if !pending.events.is_empty() {
            return Taken::Events(std::mem::take(&mut pending.events));
        }
        pending.end.clone().map_or(Taken::Nothing, Taken::End)
    }

    /// Whether everything was taken and more may come.
    pub(super) fn is_drained(&self) -> bool {
        let pending = self.pending();
        pending.events.is_empty() && pending.end.is_none()
    }

    /// Waits for something to take.
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }
}
