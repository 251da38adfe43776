//! A new database from key-values, for restores.

use std::path::Path;

use super::disk::{Changes, CommitError, Disk};
use super::{layout, lock};
use crate::{Error, KeyValue};

const CHUNK: usize = 256;

/// Makes a database in `dir`, which must hold none, that begins at `revision` with the key-values
/// that `next` gives until none.
pub(crate) fn fill(
    dir: &Path,
    revision: i64,
    mut next: impl FnMut() -> Result<Option<KeyValue>, Error>,
) -> Result<(), Error> {
    let _lock = lock::acquire(dir)?;
    let (unfinished, finished) = (dir.join("kv.restoring"), dir.join("kv"));
    if finished.exists() {
        let reason = "there is data in the directory already: choose another one".to_owned();
        return Err(Error::Unwritable {
            path: dir.to_owned(),
            reason,
        });
    }
    let failed = Error::io("make the database");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(&failed)?;
    }
    let disk = Disk::open(&unfinished, None)?;
    let commit = |changes, durable| {
        disk.commit(changes, durable).map_err(|error| match error {
            CommitError::Full => Error::Full { path: dir.to_owned() },
            CommitError::Failed(reason) => Error::Storage {
                operation: "write the database",
                reason,
            },
        })
    };
    let mut changes = Changes::default();
    let mut pending = 0;
    while let Some(kv) = next()? {
        layout::check_key(&kv.key)?;
        changes.put(layout::data_key(&kv.key, kv.mod_revision), layout::put_record(&kv));
        if let Some(expires) = kv.expires_at_ms {
            changes.put(layout::ttl_key(expires, &kv.key), Vec::new());
        }
        pending += 1;
        if pending == CHUNK {
            commit(std::mem::take(&mut changes), false)?;
            pending = 0;
        }
    }
    changes.put(layout::META_FORMAT.to_vec(), layout::FORMAT.to_be_bytes().to_vec());
    changes.put(layout::META_COMPACTED.to_vec(), revision.to_be_bytes().to_vec());
    commit(changes, true)?;
    drop(disk);
    std::fs::rename(&unfinished, &finished).map_err(&failed)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(&failed)
}
