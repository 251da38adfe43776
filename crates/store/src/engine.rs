//! The seam between the store's interface and what keeps the data.

use std::pin::Pin;
use std::sync::Arc;

use crate::{Batch, Error, KeyValue, Range, RangeResponse, Txn, TxnResponse, WatchError};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store engine; the methods are those of [`crate::Store`], where they are described.
pub trait Engine: Send + Sync + 'static {
    /// See [`crate::Store::revision`].
    fn revision(&self) -> i64;
    /// See [`crate::Store::revisions`].
    fn revisions(&self) -> tokio::sync::watch::Receiver<i64>;
    /// See [`crate::Store::compacted_revision`].
    fn compacted_revision(&self) -> i64;
    /// See [`crate::Store::get_at`].
    fn get<'a>(&'a self, key: &'a str, revision: i64) -> BoxFuture<'a, Result<Option<KeyValue>, Error>>;
    /// See [`crate::Store::range`].
    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse, Error>>;
    /// See [`crate::Store::txn`].
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>>;
    /// See [`crate::Store::watch`].
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from_revision: i64,
    ) -> BoxFuture<'a, Result<Box<dyn WatchSource>, WatchError>>;
    /// See [`crate::Store::compact`].
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>>;
    /// See [`crate::Store::expire_due`].
    fn expire_due(&self) -> BoxFuture<'_, Result<usize, Error>>;
}

/// One watch of an engine.
pub trait WatchSource: Send + 'static {
    /// See [`crate::WatchStream::next`]; must be cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Batch, WatchError>>;
    /// See [`crate::WatchStream::progress_requester`].
    fn progress_requester(&self) -> Arc<dyn ProgressRequester>;
}

/// Asks a watch how far it has come.
pub trait ProgressRequester: Send + Sync + 'static {
    /// See [`crate::WatchStream::request_progress`].
    fn request(&self);

    /// If the watch has no event after revision `applied` up to the store's newest revision that
    /// was answered: a revision, at least that one, up to which this is so. None if there is such
    /// an event, or if the engine cannot know without asking.
    fn caught_up(&self, applied: i64) -> Option<i64>;
}
