//! One-file backups.

use std::path::Path;

use crate::{Error, Store};

/// What a restore made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The revision of the backup.
    pub backup_revision: i64,
    /// The revision that the new store starts at.
    pub revision: i64,
    /// The number of keys.
    pub keys: usize,
}

pub(crate) async fn write(_store: &Store, _path: &Path) -> Result<i64, Error> {
    Err(Error::Closed)
}

/// Makes a new store in `dir`, which must be empty or missing, from the backup at `path`.
pub fn restore(_path: &Path, _dir: &Path) -> Result<Restored, Error> {
    Err(Error::Closed)
}
