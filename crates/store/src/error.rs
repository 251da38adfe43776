//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// Why a call failed. After any error but [`Error::Closed`] and [`Error::Storage`] of a write,
/// nothing was changed; after those two a write may have happened, whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another process has the directory open.
    #[error("data directory {} is already in use by pid {pid}: stop that process or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that has it.
        pid: String,
    },
    /// The directory cannot be made or written.
    #[error("cannot write to data directory {}: {reason}; check its owner and permissions or choose another directory", path.display())]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The disk is full; writes work again once there is space.
    #[error("no space left for data directory {}: free some space, writing then resumes by itself", path.display())]
    Full {
        /// The directory.
        path: PathBuf,
    },
    /// The disk failed; reads go on, writes do not.
    #[error("data directory {} is read-only after a failed write ({reason}): check the disk, then restart", path.display())]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// The first failure.
        reason: String,
    },
    /// The engine failed.
    #[error("cannot {operation}: {reason}")]
    Storage {
        /// What was tried.
        operation: &'static str,
        /// The engine's reason.
        reason: String,
    },
    /// A record on disk does not make sense.
    #[error("data directory holds a damaged {record} record: restore a backup")]
    Damaged {
        /// The kind of record.
        record: &'static str,
    },
    /// The database has less than it had acknowledged.
    #[error("data up to revision {acknowledged} was stored, but only that up to {found} is readable: the disk lost the rest; restore a backup, or remove {} to go on without it", path.display())]
    Lost {
        /// The file that says how much there was.
        path: PathBuf,
        /// The newest revision that is known to have been there.
        acknowledged: i64,
        /// The newest revision that is there.
        found: i64,
    },
    /// The revision asked for is gone.
    #[error("required revision has been compacted (compacted up to {0})")]
    Compacted(i64),
    /// The revision asked for has not been reached.
    #[error("required revision {requested} is a future revision (current is {current})")]
    Future {
        /// The revision asked for.
        requested: i64,
        /// The newest there is.
        current: i64,
    },
    /// A key is empty, longer than 4096 bytes or has a NUL byte.
    #[error("invalid key {0:?}")]
    InvalidKey(String),
    /// A transaction writes a key twice.
    #[error("duplicate key {0:?} in transaction")]
    DuplicateKey(String),
    /// A backup file is not one, or is damaged.
    #[error("{} is no whole backup: {reason}", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn io(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Storage {
            operation,
            reason: error.to_string(),
        }
    }
}

/// Why a watch ended or could not begin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchError {
    /// History up to this revision is gone: read anew and watch from there.
    #[error("required revision has been compacted (compacted up to {0})")]
    Compacted(i64),
    /// The reader was too slow and was cut off: read anew, or watch again from the next revision.
    #[error("watch was too slow and was ended after revision {delivered}")]
    Lagged {
        /// The revision up to which events were delivered.
        delivered: i64,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// History could not be read.
    #[error("cannot read the watch's history")]
    Read(#[source] Error),
}
