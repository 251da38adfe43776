//! The disk on which the volumes of one node are made.

use std::fmt::Debug;
use std::sync::Arc;

use controllers::LocalVolumes;

/// Why a disk did not do what it should, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiskError(pub String);

/// Makes and removes the folders of volumes. Calls block; doing something again changes nothing.
pub trait VolumeDisk: Debug + Send + Sync {
    /// Makes the folder, unless it is there, and limits it to a size, where that can be done.
    ///
    /// # Errors
    /// The disk is full, broken or read-only, or the name is none of a volume.
    fn make(&self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Removes the folder with all that is in it.
    ///
    /// # Errors
    /// Something is mounted there, or the disk does not let go.
    fn remove(&self, name: &str) -> Result<(), DiskError>;
}

/// A node's disk.
#[derive(Clone, Debug)]
pub struct LocalDisk {
    /// Which node, and where.
    pub place: LocalVolumes,
    /// Its hands.
    pub disk: Arc<dyn VolumeDisk>,
}

/// What is done on it.
pub(crate) enum Work {
    Make(u64),
    Remove,
}

impl LocalDisk {
    /// Works on a thread that may block.
    pub(crate) async fn work(&self, name: &str, work: Work) -> Result<(), DiskError> {
        let (disk, name) = (self.disk.clone(), name.to_owned());
        let done = tokio::task::spawn_blocking(move || match work {
            Work::Make(bytes) => disk.make(&name, bytes),
            Work::Remove => disk.remove(&name),
        });
        done.await.unwrap_or_else(|error| Err(DiskError(error.to_string())))
    }
}
