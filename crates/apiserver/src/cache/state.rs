//! What a cache's handles, watchers and feeder share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use store::{ProgressRequester, Range, Store};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::change::{Change, Ring};
use super::dispatch::Watchers;
use super::feeder;
use super::view::{Objects, View};
use super::{At, CacheError, Config};

/// States that unfinished lists need, besides those that the ring leads back to.
const PINS: usize = 16;
const PIN_AGE: Duration = Duration::from_secs(300);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) config: Config,
    /// The current state, for reads; replaced under the lock of `recent`.
    pub(super) view: ArcSwap<View>,
    /// A std mutex is right: held for one batch of changes or one new watcher, never across an
    /// await.
    recent: Mutex<Recent>,
    /// How far the feeder has come.
    pub(super) applied: watch::Sender<Applied>,
    /// Asks the store's watch how far it has come; none until there is one.
    pub(super) progress: ArcSwapOption<Box<Arc<dyn ProgressRequester>>>,
    pins: Mutex<VecDeque<(Instant, View)>>,
    pub(super) feeder: OnceLock<AbortHandle>,
}

/// What new watchers are built from.
pub(super) struct Recent {
    pub(super) ring: Ring,
    pub(super) watchers: Watchers,
}

/// How far the feeder has come.
#[derive(Clone, Default)]
pub(super) struct Applied {
    pub(super) revision: i64,
    /// The first filling is complete.
    pub(super) ready: bool,
    /// Why there is nothing to be had.
    pub(super) failure: Option<CacheError>,
}

impl Inner {
    pub(super) fn new(store: Store, config: Config) -> Self {
        let ring = Ring::new(config.ring_age, config.ring_limit, 0);
        Self {
            store,
            config,
            view: ArcSwap::from_pointee(View::empty()),
            recent: Mutex::new(Recent {
                ring,
                watchers: Watchers::default(),
            }),
            applied: watch::Sender::default(),
            progress: ArcSwapOption::empty(),
            pins: Mutex::default(),
            feeder: OnceLock::new(),
        }
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("no holder of this lock panics")
    }

    /// Begins anew with this state; watchers of an older one are ended.
    pub(super) fn reset(&self, view: View) {
        let mut recent = self.recent();
        let oldest = view.revision;
        recent.ring = Ring::new(self.config.ring_age, self.config.ring_limit, oldest);
        recent.watchers.end(&CacheError::Expired {
            requested: self.view.load().revision,
            oldest,
        });
        self.view.store(Arc::new(view));
    }

    /// Shows a new state and tells of the changes that led to it, in this order: whoever is woken by a change and looks
    /// sees it.
    pub(super) fn apply(&self, view: View, changes: Vec<Arc<Change>>) {
        let now = Instant::now();
        let mut recent = self.recent();
        let recent = &mut *recent;
        self.view.store(Arc::new(view));
        for change in changes {
            recent.watchers.dispatch(&self.config, &change);
            recent.ring.push(now, change);
        }
    }

    /// Waits until the cache is filled.
    pub(super) async fn ready(&self) -> Result<(), CacheError> {
        self.applied_when(|applied| applied.ready).await
    }

    async fn applied_when(&self, mut reached: impl FnMut(&Applied) -> bool) -> Result<(), CacheError> {
        {
            // Nearly always there is nothing to wait for.
            let applied = self.applied.borrow();
            if applied.failure.is_none() && reached(&applied) {
                return Ok(());
            }
        }
        let mut receiver = self.applied.subscribe();
        let applied = receiver
            .wait_for(|applied| applied.failure.is_some() || reached(applied))
            .await;
        match applied {
            Ok(applied) => applied.failure.clone().map_or(Ok(()), Err),
            Err(_) => Err(CacheError::Closed),
        }
    }

    /// A revision, as late as can be known without waiting, up to which `view`, which must be the
    /// current one or older, shows everything.
    pub(super) fn known_through(&self, view: &View) -> i64 {
        let progress = self.progress.load();
        let known = progress.as_ref().and_then(|progress| progress.caught_up(view.revision));
        known.unwrap_or(view.revision)
    }

    /// Waits until the current state shows everything up to `revision`; returns a revision, not
    /// less, up to which it does.
    pub(super) async fn settle(&self, revision: i64) -> Result<i64, CacheError> {
        self.ready().await?;
        let known = self.known_through(&self.view.load());
        if known >= revision {
            return Ok(known);
        }
        let waited = tokio::time::timeout(self.config.wait_limit, self.wait_for(revision)).await;
        let current = self.store.revision();
        waited.unwrap_or(Err(CacheError::TooLarge {
            requested: revision,
            current,
        }))?;
        Ok(revision)
    }

    async fn wait_for(&self, revision: i64) -> Result<(), CacheError> {
        let mut newest = self.store.revisions();
        newest
            .wait_for(|newest| *newest >= revision)
            .await
            .map_err(|_| CacheError::Closed)?;
        if let Some(progress) = &*self.progress.load() {
            progress.request();
        }
        self.applied_when(|applied| applied.revision >= revision).await
    }

    /// A state that shows every write that was acknowledged before the call.
    pub(super) async fn latest(&self) -> Result<View, CacheError> {
        let known = self.settle(self.store.revision()).await?;
        Ok(self.current().known_through(known))
    }

    /// The current state, at the latest revision that it is known to be the state of.
    fn current(&self) -> View {
        let view = View::clone(&self.view.load());
        let known = self.known_through(&view);
        view.known_through(known)
    }

    /// The state that a list is to be made of.
    pub(super) async fn view_at(&self, at: At) -> Result<View, CacheError> {
        match at {
            At::Any => {
                self.ready().await?;
                Ok(self.current())
            }
            At::Latest => self.latest().await,
            At::NotOlderThan(revision) => {
                let known = self.settle(revision).await?;
                Ok(self.current().known_through(known))
            }
            At::Exact(revision) => self.exact(revision).await,
        }
    }

    async fn exact(&self, revision: i64) -> Result<View, CacheError> {
        self.settle(revision).await?;
        if let Some(view) = self.remembered(revision) {
            return Ok(view);
        }
        // The store keeps history for longer than the ring does.
        let expired = || CacheError::Expired {
            requested: revision,
            oldest: self.store.compacted_revision(),
        };
        let read = self.store.range(Range::prefix(&self.config.prefix).at(revision)).await;
        let read = read.map_err(|error| match error {
            store::Error::Compacted(_) => expired(),
            error => CacheError::Store(error),
        })?;
        let kvs = feeder::converted(&self.config, read.kvs).await?;
        let objects = feeder::objects(&self.config, kvs, &self.view.load());
        Ok(View { revision, objects })
    }

    /// The state at a revision that is not in the future, from memory.
    fn remembered(&self, revision: i64) -> Option<View> {
        let pins = self.pins.lock().expect("no holder of this lock panics");
        if let Some((_, view)) = pins.iter().find(|(_, view)| view.revision == revision) {
            return Some(view.clone());
        }
        drop(pins);
        let recent = self.recent();
        let mut objects: Objects = self.view.load().objects.clone();
        for change in recent.ring.since(revision)?.rev() {
            match &change.prev {
                Some(prev) => objects.insert_mut(Arc::clone(prev.key()), Arc::clone(prev)),
                None => drop(objects.remove_mut(change.object().key())),
            }
        }
        Some(View { revision, objects })
    }

    /// Keeps a state for the next page of a list.
    pub(super) fn pin(&self, view: View) {
        let mut pins = self.pins.lock().expect("no holder of this lock panics");
        let now = Instant::now();
        pins.retain(|(at, other)| now.duration_since(*at) < PIN_AGE && other.revision != view.revision);
        if pins.len() == PINS {
            pins.pop_front();
        }
        pins.push_back((now, view));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(feeder) = self.feeder.get() {
            feeder.abort();
        }
    }
}
