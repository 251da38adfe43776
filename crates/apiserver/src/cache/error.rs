//! What can go wrong, in the words that clients get.

/// Why a read or a watch failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// The revision's history is gone: answer 410 Expired.
    #[error("too old resource version: {requested} ({oldest})")]
    Expired {
        /// The revision asked for.
        requested: i64,
        /// The oldest one that is there.
        oldest: i64,
    },
    /// The revision is not there yet: answer 504 Timeout with cause ResourceVersionTooLarge.
    #[error("Too large resource version: {requested}, current: {current}")]
    TooLarge {
        /// The revision asked for.
        requested: i64,
        /// The newest one that is there.
        current: i64,
    },
    /// The watcher did not take its events fast enough and was ended.
    #[error("watch was too slow and was ended after resource version {delivered}")]
    Lagged {
        /// The revision up to which events were returned.
        delivered: i64,
    },
    /// The store has closed.
    #[error("the store is closed")]
    Closed,
    /// The store failed.
    #[error("cannot read the store")]
    Store(#[source] store::Error),
    /// An object could not be converted to the version that the cache holds.
    #[error("{0}")]
    Conversion(api::Status),
}
