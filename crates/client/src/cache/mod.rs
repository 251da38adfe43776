//! Shared caches: what the API server holds of one kind, kept up to date by a watch.
//!
//! One task a cache (its reflector) is the only writer. Readers take short read locks.

mod changes;
pub mod index;
mod partial;
mod reflector;
mod registry;
mod state;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Handle, Object};
pub use changes::{Change, Changes};
use changes::{Pending, Sink};
pub use partial::PartialObject;
use reflector::Reflector;
pub use registry::Caches;
use state::State;

/// Namespace (empty for cluster-scoped kinds) and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key by its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<K: Object>(object: &K) -> Self {
        let metadata = object.metadata();
        Self::new(
            metadata.namespace.as_deref().unwrap_or(""),
            metadata.name.as_deref().unwrap_or(""),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What a cache forgets of each object, to save memory.
#[derive(Clone, Copy, Debug, Default)]
pub enum Trim<K> {
    /// Nothing.
    Nothing,
    /// `metadata.managedFields`.
    #[default]
    ManagedFields,
    /// What this function removes.
    With(fn(&mut K)),
}

/// What a cache holds.
#[derive(Clone, Debug)]
pub struct CacheOptions<K> {
    /// Only this namespace; empty is all.
    pub namespace: String,
    /// Only what these labels select.
    pub label_selector: String,
    /// Only what these fields select.
    pub field_selector: String,
    /// What is forgotten.
    pub trim: Trim<K>,
}

impl<K> Default for CacheOptions<K> {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
            trim: Trim::ManagedFields,
        }
    }
}

/// The objects of one kind as a watch tells them. Cheap to clone; the last clone's drop ends the
/// watch.
///
/// Guarantees: every object is some version that the server had, and versions are seen in order;
/// `revision()` is never ahead of the content. Caveat: the content is stale by the watch's delay,
/// and before [`Cache::synced`] it is empty.
pub struct Cache<K> {
    inner: Arc<Inner<K>>,
    _stop: Arc<DropGuard>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            _stop: self._stop.clone(),
        }
    }
}

impl<K> std::fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("revision", &*self.inner.revision.borrow())
            .finish_non_exhaustive()
    }
}

struct Inner<K> {
    state: RwLock<State<K>>,
    /// Held by the reflector while it applies and tells a change, and by whoever subscribes, so
    /// that a subscriber sees each change exactly once.
    sinks: Mutex<Vec<Sink<K>>>,
    revision: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

/// Resolves when a cache is as far as this, or gone.
async fn reached<T: PartialOrd + Send + Sync>(mut seen: watch::Receiver<T>, wanted: T) {
    let _ = seen.wait_for(|now| *now >= wanted).await;
}

impl<K: Object> Cache<K> {
    /// Starts a cache that ends with `stop` or with its last handle.
    pub fn start(handle: Handle<K>, options: CacheOptions<K>, stop: &CancellationToken) -> Self {
        let inner = Arc::new(Inner {
            state: RwLock::new(State::new()),
            sinks: Mutex::new(Vec::new()),
            revision: watch::Sender::new(0),
            synced: watch::Sender::new(false),
        });
        let stop = stop.child_token();
        Reflector::new(inner.clone(), handle, options).spawn(stop.clone());
        Self {
            inner,
            _stop: Arc::new(stop.drop_guard()),
        }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.state.read().get(namespace, name).cloned()
    }

    /// All objects, in order of namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.inner.state.read().all().cloned().collect()
    }

    /// The objects of a namespace, in order of name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner.state.read().in_namespace(namespace).cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.state.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects that an index has under a value; see [`index`].
    ///
    /// # Panics
    /// No index of this name was added.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.inner.state.read().by_index(index, value)
    }

    /// The objects that have this owner among their owner references.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.by_index(index::OWNER, uid)
    }

    /// Adds an index, unless there is one of this name already.
    pub fn add_index(&self, name: &'static str, values: fn(&K) -> Vec<String>) {
        self.inner.state.write().add_index(name, values);
    }

    /// The newest revision that the content reflects; 0 before the first list.
    pub fn revision(&self) -> u64 {
        *self.inner.revision.borrow()
    }

    /// Resolves when the content reflects `revision` (or newer).
    pub fn wait_for(&self, revision: u64) -> impl Future<Output = ()> + Send + use<K> {
        reached(self.inner.revision.subscribe(), revision)
    }

    /// Tells when the revision moves.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    /// Resolves when the first list is in.
    pub fn synced(&self) -> impl Future<Output = ()> + Send + use<K> {
        reached(self.inner.synced.subscribe(), true)
    }

    /// Whether the first list is in.
    pub fn has_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    /// Every change from now on, beginning with the present objects as additions. A slow reader
    /// gets the changes of an object folded into one; it never loses the newest state.
    pub fn subscribe(&self) -> Changes<K> {
        let pending = Arc::new(Pending::default());
        let sink = Arc::downgrade(&pending);
        self.attach(Box::new(move |change| match sink.upgrade() {
            Some(pending) => {
                pending.push(change);
                true
            }
            None => false,
        }));
        Changes::new(pending)
    }

    /// Calls `handler` for every change, as [`Cache::subscribe`] tells them but unfolded, in the
    /// reflector's task: it must be quick (put a key into a queue) and must not subscribe to the
    /// same cache.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.attach(Box::new(move |change| {
            handler(change);
            true
        }));
    }

    fn attach(&self, sink: Sink<K>) {
        let mut sinks = self.inner.sinks.lock();
        for object in self.list() {
            sink(&Change {
                old: None,
                new: Some(object),
            });
        }
        sinks.push(sink);
    }
}
