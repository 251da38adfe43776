//! The watch cache: the current state of one resource type and its recent changes, in memory.
//!
//! ```text
//!   store watch ─► feeder task ─► ordered map (persistent) ──► get, list, continue
//!                      │      └─► ring of changes ───────────► resumed watches, old snapshots
//!                      └────────► queue of each watcher ─────► Watcher::next
//! ```
//!
//! # How it is used
//! - [`Cache::start`] gives a cache at once; its calls wait until it is filled.
//! - Reads: [`Cache::get`] (as of now, no wait), [`Cache::get_latest`] (sees every acknowledged
//!   write), [`Cache::list`] (at [`At::Any`], [`At::Latest`], [`At::NotOlderThan`],
//!   [`At::Exact`]), [`Cache::wait_until`] after an own write.
//! - Watches: [`Cache::watch`] from a revision or with initial events, then [`Watcher::next`] for
//!   batches and [`Watcher::bookmark`] when it is time for a bookmark.
//! - [`Entry::encoded`] keeps an encoding made once for all who want it.
//!
//! # Guarantees
//! - A snapshot is the exact state at its revision; a list's revision is the store's at the read.
//! - A watcher sees every change of its selection after its start, in order, or ends with an
//!   error. An object that enters the selection is ADDED, one that leaves it is DELETED with its
//!   last selected state, stamped with the revision of the change.
//! - A bookmark is never ahead of what [`Watcher::next`] returned.
//!
//! # What it does not know
//! HTTP, JSON, selectors' syntax: the [`Codec`] says what an object's labels and fields are and
//! how a revision is written into it; a [`Selection`] is a namespace, a name and a predicate.

mod change;
mod dispatch;
mod entry;
mod error;
mod feeder;
mod list;
mod selection;
mod stamp;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

pub use entry::{Codec, Conversion, Encoding, Entry, Indexed, Stamp};
pub use error::CacheError;
pub use selection::{Matcher, Selection};
pub use stamp::{metadata_of, stamp_resource_version};
pub use watcher::{ChangeType, WatchEvent, WatchParams, WatchStart, Watcher};

use state::Inner;
use view::View;

use store::Store;

/// What a cache holds and how much of the past it keeps.
#[derive(Clone)]
pub struct Config {
    /// The keys of the type: `/registry/apps/deployments/`, with the slash at the end.
    pub prefix: String,
    /// Whether the keys are `<prefix><namespace>/<name>` or `<prefix><name>`.
    pub namespaced: bool,
    /// What the bytes mean.
    pub codec: Codec,
    /// What stored objects go through before anything else looks at them.
    pub conversion: Option<Conversion>,
    /// Fields by whose value watchers are indexed (see [`Selection::field`]).
    pub indexed_fields: Vec<String>,
    /// Changes younger than this are kept for resumption, up to `ring_limit`.
    pub ring_age: Duration,
    /// The most changes that are kept.
    pub ring_limit: usize,
    /// Events that a watcher may lag behind.
    pub watcher_queue: usize,
    /// How long a request waits for a revision that is not there yet.
    pub wait_limit: Duration,
}

impl Config {
    /// A configuration with upstream's freshness: 75 s of changes, 3 s of waiting.
    pub fn new(prefix: impl Into<String>, namespaced: bool, codec: Codec) -> Self {
        Self {
            prefix: prefix.into(),
            namespaced,
            codec,
            conversion: None,
            indexed_fields: Vec::new(),
            ring_age: Duration::from_secs(75),
            ring_limit: 10_000,
            watcher_queue: 1_000,
            wait_limit: Duration::from_secs(3),
        }
    }
}

/// How fresh a list has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Whatever the cache holds (`resourceVersion=0`).
    Any,
    /// Every acknowledged write is seen (no `resourceVersion`).
    Latest,
    /// At least this revision.
    NotOlderThan(i64),
    /// Exactly this revision (`continue`, `resourceVersionMatch=Exact`).
    Exact(i64),
}

/// What to list.
#[derive(Clone, Debug)]
pub struct ListParams {
    /// How fresh.
    pub at: At,
    /// Which objects.
    pub selection: Selection,
    /// The greatest number of objects; 0 means all.
    pub limit: usize,
    /// Begin after this key (the last one of the page before).
    pub start_after: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// The revision of the list; of every page, if the next ones ask for [`At::Exact`] of it.
    pub revision: i64,
    /// The objects in key order.
    pub entries: Vec<Arc<Entry>>,
    /// Whether there are more; then the last entry's key is the next page's `start_after`.
    pub more: bool,
    /// How many objects follow, if that is known without looking at each (no matcher).
    pub remaining: Option<usize>,
}

/// The watch cache of one resource type; cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

impl Cache {
    /// Starts a cache on the current tokio runtime; it ends when its last handle and the last
    /// watcher are dropped.
    pub fn start(store: Store, config: Config) -> Self {
        let inner = Arc::new(Inner::new(store, config));
        feeder::start(&inner);
        Self { inner }
    }

    /// Waits until the cache is filled.
    pub async fn ready(&self) -> Result<(), CacheError> {
        self.inner.ready().await
    }

    /// The revision of the state that the cache shows; 0 until it is filled.
    pub fn revision(&self) -> i64 {
        self.inner.view.load().revision
    }

    /// How many objects there are, as of now.
    pub fn len(&self) -> usize {
        self.inner.view.load().objects.size()
    }

    /// Whether there are none, as of now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object with this key, as of now.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.inner.view.load().objects.get(key).cloned()
    }

    /// The object with this key, as of now, and whether every write is seen that was acknowledged before the call.
    pub fn get_at_hand(&self, key: &str) -> (Option<Arc<Entry>>, bool) {
        let newest = self.inner.store.revision();
        let view = View::clone(&self.inner.view.load());
        let found = view.objects.get(key).cloned();
        (found, self.inner.known_through(&view) >= newest)
    }

    /// A revision, and that of the key's object in the state at it; 0 if there is none. As of now.
    pub fn seen(&self, key: &str) -> (i64, i64) {
        let view = self.inner.view.load();
        (view.revision, view.objects.get(key).map_or(0, |entry| entry.revision))
    }

    /// The object with this key, with every write seen that was acknowledged before the call.
    pub async fn get_latest(&self, key: &str) -> Result<Option<Arc<Entry>>, CacheError> {
        Ok(self.inner.latest().await?.objects.get(key).cloned())
    }

    /// Waits until the cache shows `revision` or later (after an own write).
    ///
    /// # Errors
    /// [`CacheError::TooLarge`] if the store has not come that far within the configured limit.
    pub async fn wait_until(&self, revision: i64) -> Result<(), CacheError> {
        self.inner.settle(revision).await.map(drop)
    }

    /// Lists objects.
    ///
    /// # Errors
    /// [`CacheError::Expired`] if the exact revision is gone, [`CacheError::TooLarge`] if the
    /// revision is in the future.
    pub async fn list(&self, params: ListParams) -> Result<ListPage, CacheError> {
        let view = self.inner.view_at(params.at).await?;
        let page = list::page(&view, &self.inner.config, &params);
        if page.more {
            // The next page asks for exactly this state.
            self.inner.pin(view);
        }
        Ok(page)
    }

    /// Starts a watch.
    ///
    /// # Errors
    /// [`CacheError::Expired`] if changes since the revision are gone, [`CacheError::TooLarge`] if
    /// the state asked for is in the future.
    pub async fn watch(&self, params: WatchParams) -> Result<Watcher, CacheError> {
        Watcher::start(&self.inner, params).await
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let view = self.inner.view.load();
        f.debug_struct("Cache")
            .field("prefix", &self.inner.config.prefix)
            .field("revision", &view.revision)
            .field("objects", &view.objects.size())
            .finish_non_exhaustive()
    }
}
