//! The data directory: made, checked for writing, and held by one process.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

/// Held as long as the store is open. The kernel drops the lock with the process.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

/// Makes `dir` if need be (for its owner only, as it holds secrets) and takes its lock.
pub(super) fn acquire(dir: &Path) -> Result<DirLock, Error> {
    let unwritable = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull => Error::Full { path: dir.to_owned() },
        _ => Error::Unwritable {
            path: dir.to_owned(),
            reason: error.to_string(),
        },
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(unwritable)?;
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"));
    let mut file = open.map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The holder may be about to write it; then we do not know.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() {
                "unknown".to_owned()
            } else {
                pid.trim().to_owned()
            };
            return Err(Error::InUse {
                path: dir.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(unwritable(error)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(unwritable)?;
    writeln!(file, "{}", std::process::id()).map_err(unwritable)?;
    Ok(DirLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_the_first_ones_pid() {
        let dir = tempfile::tempdir().unwrap();
        let held = acquire(&dir.path().join("made")).unwrap();
        let message = acquire(&dir.path().join("made")).unwrap_err().to_string();
        assert!(
            message.contains(&format!("already in use by pid {}", std::process::id())),
            "{message}"
        );
        drop(held);
        acquire(&dir.path().join("made")).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = acquire(&file.path().join("sub")).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("cannot write to data directory {}", file.path().display())),
            "{message}"
        );
    }
}
