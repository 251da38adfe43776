//! A watcher: the changes of a selection, in order.

use std::sync::Arc;

use super::dispatch::{Queue, Taken};
use super::state::Inner;
use super::view::View;
use super::{CacheError, Entry, Selection, list};

/// Initial events that are returned at once.
const INITIAL_CHUNK: usize = 500;

/// What happened to an object, as the watcher's selection sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// It was created or entered the selection.
    Added,
    /// It changed and is still selected.
    Modified,
    /// It was deleted or left the selection.
    Deleted,
    /// Nothing: all initial events were returned up to here (`entry` is none); send a bookmark
    /// with the annotation `k8s.io/initial-events-end`.
    InitialEventsEnd,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// What happened.
    pub change: ChangeType,
    /// The revision of the change.
    pub revision: i64,
    /// The object; of a deletion its last state, stamped with `revision`.
    pub entry: Option<Arc<Entry>>,
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// With changes after this revision (`resourceVersion=N`).
    After(i64),
    /// With changes after every acknowledged write (`sendInitialEvents=false`).
    Now,
    /// With the current state as ADDED events (`resourceVersion=0`), then changes.
    StateAny,
    /// As `StateAny`, of a state that sees every acknowledged write (no `resourceVersion`).
    StateLatest,
    /// `sendInitialEvents=true`: a state not older than the revision (0 = any; none = latest) as
    /// ADDED events, then [`ChangeType::InitialEventsEnd`], then changes.
    InitialEvents {
        /// The least revision.
        not_older_than: Option<i64>,
    },
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchParams {
    /// Where to start.
    pub start: WatchStart,
    /// Which objects.
    pub selection: Selection,
}

/// A running watch; dropping it ends it.
pub struct Watcher {
    inner: Arc<Inner>,
    queue: Arc<Queue>,
    initial: Option<Initial>,
    /// Every event up to this revision was returned.
    delivered: i64,
    failed: Option<CacheError>,
}

/// The state that a watch begins with, and how far it was returned.
struct Initial {
    view: View,
    after: Option<Arc<str>>,
    marked: bool,
}

impl Watcher {
    pub(super) async fn start(inner: &Arc<Inner>, params: WatchParams) -> Result<Self, CacheError> {
        let least = match params.start {
            WatchStart::StateLatest | WatchStart::Now | WatchStart::InitialEvents { not_older_than: None } => {
                Some(inner.store.revision())
            }
            WatchStart::InitialEvents { not_older_than } => not_older_than,
            WatchStart::StateAny | WatchStart::After(_) => None,
        };
        let known = match least {
            Some(least) => inner.settle(least).await?,
            None => inner.ready().await.map(|()| 0)?,
        };
        Self::register(inner, params, known)
    }

    /// The cache is known to show everything up to `known`.
    fn register(inner: &Arc<Inner>, params: WatchParams, known: i64) -> Result<Self, CacheError> {
        let mut recent = inner.recent();
        if let Some(failure) = inner.applied.borrow().failure.clone() {
            return Err(failure);
        }
        let view = View::clone(&inner.view.load());
        let shown = view.revision;
        let (mut initial, mut backlog) = (None, Vec::new());
        let (after, delivered) = match params.start {
            WatchStart::After(revision) => {
                let oldest = recent.ring.complete_after();
                let missed = recent.ring.since(revision);
                let missed = missed.ok_or(CacheError::Expired {
                    requested: revision,
                    oldest,
                })?;
                let codec = &inner.config.codec;
                backlog.extend(missed.filter_map(|change| change.seen_by(&params.selection, codec)));
                (shown.max(revision), revision)
            }
            WatchStart::Now => (shown, shown.max(known)),
            WatchStart::StateAny | WatchStart::StateLatest | WatchStart::InitialEvents { .. } => {
                let known = inner.known_through(&view).max(known);
                let marked = matches!(params.start, WatchStart::InitialEvents { .. });
                let state = Initial {
                    view: view.known_through(known),
                    after: None,
                    marked,
                };
                let selected = list::objects(&state.view, &inner.config, &params.selection, None).next();
                let empty = selected.is_none() && !marked;
                initial = (!empty).then_some(state);
                (shown, known)
            }
        };
        let queue = Arc::new(Queue::new(params.selection, after, inner.config.watcher_queue, backlog));
        recent.watchers.add(&inner.config, Arc::clone(&queue));
        Ok(Self {
            inner: Arc::clone(inner),
            queue,
            initial,
            delivered,
            failed: None,
        })
    }

    /// The next events, at least one. Cancel-safe. After an error, every call gives it again.
    pub async fn next(&mut self) -> Result<Vec<WatchEvent>, CacheError> {
        if let Some(events) = self.next_initial() {
            return Ok(events);
        }
        loop {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            match self.queue.take() {
                Taken::Events(events) => {
                    self.delivered = events.last().map_or(self.delivered, |event| event.revision);
                    return Ok(events);
                }
                Taken::End(CacheError::Lagged { .. }) => {
                    self.failed = Some(CacheError::Lagged {
                        delivered: self.delivered,
                    });
                }
                Taken::End(error) => self.failed = Some(error),
                Taken::Nothing => self.queue.changed().await,
            }
        }
    }

    /// The next part of the initial state.
    fn next_initial(&mut self) -> Option<Vec<WatchEvent>> {
        let initial = self.initial.as_mut()?;
        let added = |entry: &Arc<Entry>| WatchEvent {
            change: ChangeType::Added,
            revision: entry.revision,
            entry: Some(Arc::clone(entry)),
        };
        let after = initial.after.as_deref();
        let mut objects = list::objects(&initial.view, &self.inner.config, &self.queue.selection, after);
        let mut events: Vec<_> = objects.by_ref().take(INITIAL_CHUNK).map(added).collect();
        let finished = objects.next().is_none();
        drop(objects);
        if let Some(last) = events.last().and_then(|event| event.entry.as_ref()) {
            initial.after = Some(Arc::clone(last.key()));
        }
        if finished {
            let (revision, marked) = (initial.view.revision, initial.marked);
            if marked {
                events.push(WatchEvent {
                    change: ChangeType::InitialEventsEnd,
                    revision,
                    entry: None,
                });
            }
            self.initial = None;
        }
        (!events.is_empty()).then_some(events)
    }

    /// The newest revision up to which `next` has returned every event, for a bookmark; none while
    /// initial events are still to come.
    pub async fn bookmark(&mut self) -> Result<Option<i64>, CacheError> {
        if self.initial.is_some() {
            return Ok(None);
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.inner.settle(self.inner.store.revision()).await {
            // Everything up to `known` is in the queues by now: so if it was taken, it was returned.
            Ok(known) if self.queue.is_drained() => self.delivered = self.delivered.max(known),
            // Not now; the last bookmark holds.
            Ok(_) | Err(CacheError::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Some(self.delivered))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.inner.recent().watchers.remove(&self.inner.config, &self.queue);
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("delivered", &self.delivered)
            .finish_non_exhaustive()
    }
}
