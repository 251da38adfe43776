//! The store: revisions, compare-and-swap transactions, watches, leases and compaction.
//!
//! ```text
//!   txn ─► writer thread ─► one durable batch ─► watch hub ─► WatchStream (one per cache)
//!                 │               │
//!                 └── group commit└── data, log and time-to-live records (fjall)
//!   get/range ─────────────────────────► snapshot of the same records
//! ```
//!
//! The interface has the shape of etcd's: one counter of revisions for the whole store, every
//! value stamped with the revision that wrote it, old revisions readable until compaction.
//!
//! # Guarantees
//! - A transaction that was answered is on disk. One that was not answered is there whole or not
//!   at all.
//! - The revision starts at 1 and only grows; a transaction that changes something takes the next.
//! - A watch delivers every event of its prefix from its first revision on, in order, once; or it
//!   ends with an error that says why. It never skips.
//! - Events are queued to the watches before the transaction that made them is answered.
//! - A read at a revision sees exactly the state at that revision, or [`Error::Compacted`].
//!
//! # What it does not know
//! Kubernetes: keys are strings, values are bytes. Who may read or write is decided above.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backup;
mod clock;
mod embedded;
mod engine;
mod error;
mod model;

pub use backup::{Restored, restore};
pub use clock::{Clock, ManualClock, SystemClock};
pub use embedded::{CommitPoint, Faults, Options};
pub use engine::{BoxFuture, Engine, WatchSource};
pub use error::{Error, WatchError};
pub use model::{Batch, Compare, Event, KeyValue, Op, OpResult, Range, RangeResponse, Txn, TxnResponse};

use std::path::Path;
use std::sync::Arc;

/// A handle to the store; cheap to clone. The embedded engine closes with its last handle.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
}

impl Store {
    /// Opens the embedded engine in `dir` (made if missing) with default options.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it open, [`Error::Unwritable`] if the directory
    /// cannot be written, [`Error::Storage`] if its content cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(dir, Options::default())
    }

    /// Opens the embedded engine with the given options; errors as [`Store::open`].
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        Ok(Self::with_engine(embedded::open(dir.as_ref(), options)?))
    }

    /// Opens an empty store in a temporary directory that is removed with the last handle.
    pub fn temporary() -> Result<Self, Error> {
        Ok(Self::with_engine(embedded::open_temporary(Options::default())?))
    }

    /// Wraps another engine.
    pub fn with_engine(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// The newest revision that was answered (embedded) or seen (remote engines).
    pub fn revision(&self) -> i64 {
        self.engine.revision()
    }

    /// Follows [`Store::revision`].
    pub fn revisions(&self) -> tokio::sync::watch::Receiver<i64> {
        self.engine.revisions()
    }

    /// The revision up to which history is gone; 0 if nothing was compacted. Reads at this
    /// revision and later work, watches can start after it.
    pub fn compacted_revision(&self) -> i64 {
        self.engine.compacted_revision()
    }

    /// The current value of `key`.
    pub async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        self.engine.get(key, 0).await
    }

    /// The value that `key` had at `revision` (0 = now).
    pub async fn get_at(&self, key: &str, revision: i64) -> Result<Option<KeyValue>, Error> {
        self.engine.get(key, revision).await
    }

    /// The key-values of a key range at one revision, in key order.
    pub async fn range(&self, range: Range) -> Result<RangeResponse, Error> {
        self.engine.range(range).await
    }

    /// Runs a transaction; it is durable when this returns. Cancelling the wait does not undo it.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.engine.txn(txn).await
    }

    /// Watches keys that begin with `prefix`, from `from_revision` (the first revision wanted) on;
    /// 0 means from now on.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] if that revision's history is gone.
    pub async fn watch(&self, prefix: &str, from_revision: i64) -> Result<WatchStream, WatchError> {
        let source = self.engine.watch(prefix, from_revision).await?;
        Ok(WatchStream { source })
    }

    /// Drops history up to and including `revision`; the state at `revision` stays readable.
    pub async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.engine.compact(revision).await
    }

    /// Deletes what has outlived its time to live by now. The engine does so by itself; this is
    /// for callers that bring their own [`Clock`]. Returns the number of deleted keys.
    pub async fn expire_due(&self) -> Result<usize, Error> {
        self.engine.expire_due().await
    }

    /// Writes one file with the whole state at the current revision (without history), replacing
    /// `path` atomically. Returns that revision. See [`restore`].
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<i64, Error> {
        backup::write(self, path.as_ref()).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// A running watch; dropping it ends it.
pub struct WatchStream {
    source: Box<dyn WatchSource>,
}

impl WatchStream {
    /// The next batch. Cancel-safe. After an error every later call gives the same error.
    ///
    /// A batch may be empty of events: then it only says how far the watch has come (see
    /// [`WatchStream::request_progress`]).
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        self.source.next().await
    }

    /// Asks for a batch, empty if need be, whose revision is at least the store's revision now.
    pub fn request_progress(&self) {
        self.source.progress_requester().request();
    }

    /// [`WatchStream::request_progress`] as a handle, for use while `next` is being awaited.
    pub fn progress_requester(&self) -> Arc<dyn engine::ProgressRequester> {
        self.source.progress_requester()
    }
}

pub use engine::ProgressRequester;
