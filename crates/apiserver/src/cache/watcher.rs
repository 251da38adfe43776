//! A watcher: the changes of a selection, in order.

use std::sync::Arc;

use super::{CacheError, Entry, Selection};

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
pub struct Watcher {}

impl Watcher {
    /// The next events, at least one. Cancel-safe. After an error, every call gives it again.
    pub async fn next(&mut self) -> Result<Vec<WatchEvent>, CacheError> {
        todo!()
    }

    /// The newest revision up to which `next` has returned every event, for a bookmark.
    pub async fn bookmark(&mut self) -> Result<i64, CacheError> {
        todo!()
    }
}
