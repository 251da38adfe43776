//! Changes of a cache, told to subscribers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Key;
use crate::Object;

/// A change of one object: added (`old` is none), changed, or deleted (`new` is none).
#[derive(Debug)]
pub struct Change<K> {
    /// As it was.
    pub old: Option<Arc<K>>,
    /// As it is.
    pub new: Option<Arc<K>>,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        Self {
            old: self.old.clone(),
            new: self.new.clone(),
        }
    }
}

impl<K: Object> Change<K> {
    /// The newest version of the object that is known.
    pub fn object(&self) -> &Arc<K> {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has an old or a new object")
    }

    /// The object's key.
    pub fn key(&self) -> Key {
        Key::of(&**self.object())
    }

    /// Whether old and new are the same object (not one of the same name).
    fn same_object(&self) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.metadata().uid == new.metadata().uid,
            _ => true,
        }
    }
}

/// Told of each change; `false` unsubscribes.
pub(super) type Sink<K> = Box<dyn Fn(&Change<K>) -> bool + Send + Sync>;

/// Changes not yet taken, one an object: memory is bounded by the number of objects.
pub(super) struct Pending<K> {
    queue: Mutex<Queue<K>>,
    arrived: Notify,
}

struct Queue<K> {
    order: VecDeque<Key>,
    changes: HashMap<Key, Change<K>>,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        let queue = Queue {
            order: VecDeque::new(),
            changes: HashMap::new(),
        };
        Self {
            queue: Mutex::new(queue),
            arrived: Notify::new(),
        }
    }
}

impl<K: Object> Pending<K> {
    pub(super) fn push(&self, change: &Change<K>) {
        let key = change.key();
        let mut queue = self.queue.lock();
        match queue.changes.get_mut(&key) {
            Some(waiting) => waiting.new = change.new.clone(),
            None => {
                queue.order.push_back(key.clone());
                queue.changes.insert(key, change.clone());
            }
        }
        drop(queue);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<Change<K>> {
        let mut queue = self.queue.lock();
        loop {
            let key = queue.order.pop_front()?;
            let Some(change) = queue.changes.remove(&key) else {
                continue;
            };
            if change.old.is_some() || change.new.is_some() {
                return Some(change);
            }
        }
    }
}

/// A subscription to a cache.
pub struct Changes<K> {
    pending: Arc<Pending<K>>,
    /// The second half of a change that replaced an object by another of its name.
    second: Option<Change<K>>,
}

impl<K> std::fmt::Debug for Changes<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl<K: Object> Changes<K> {
    pub(super) fn new(pending: Arc<Pending<K>>) -> Self {
        Self { pending, second: None }
    }

    /// The next change. An object that was replaced by another of its name is told as a deletion
    /// and an addition. Cancel-safe.
    pub async fn next(&mut self) -> Change<K> {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            self.pending.arrived.notified().await;
        }
    }

    /// The next change, if one is waiting.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        if let Some(second) = self.second.take() {
            return Some(second);
        }
        let change = self.pending.pop()?;
        if change.same_object() {
            return Some(change);
        }
        self.second = Some(Change {
            old: None,
            new: change.new,
        });
        Some(Change {
            old: change.old,
            new: None,
        })
    }
}
