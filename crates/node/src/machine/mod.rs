//! What the node asks of the kernel, behind a trait.

mod linux;

use std::io;
use std::path::{Path, PathBuf};

pub use linux::Linux;

/// The machine below a node.
pub trait Machine: Send + Sync + 'static {
    /// What does not change while the machine runs.
    fn facts(&self) -> Facts;

    /// Memory, processes and load now.
    fn load(&self) -> Load;

    /// The file system at the path.
    fn filesystem(&self, path: &Path) -> io::Result<Filesystem>;

    /// Mounts a tmpfs (mode 1777), of so many bytes at most.
    fn mount_tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()>;

    /// Makes `source` (which may be `/proc/self/fd/…`) visible at `target`.
    fn bind(&self, source: &Path, target: &Path) -> io::Result<()>;

    /// Unmounts, lazily.
    fn unmount(&self, target: &Path) -> io::Result<()>;

    /// Mount points below the folder, deepest first.
    fn mounts_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Changes the group (and, if given, the owner) of a file or folder, not following links.
    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()>;
}

/// See [`Machine::facts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processors.
    pub cpus: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes of swap.
    pub swap_bytes: u64,
    /// Such as `6.1.0`.
    pub kernel_version: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// Of `/etc/machine-id`.
    pub machine_id: String,
    /// Changes with every boot.
    pub boot_id: String,
    /// Of the firmware.
    pub system_uuid: String,
    /// As Go names it, such as `amd64`.
    pub architecture: String,
    /// The host's name.
    pub hostname: String,
}

/// See [`Machine::load`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes that could be given out.
    pub memory_available: u64,
    /// Bytes in use that cannot be dropped at once.
    pub memory_working_set: u64,
    /// Nanoseconds of one core since boot.
    pub cpu_nanos: u64,
    /// Processes and threads there are.
    pub pids: u64,
    /// Processes and threads there can be.
    pub max_pids: u64,
}

/// See [`Machine::filesystem`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Bytes.
    pub capacity: u64,
    /// Bytes left.
    pub available: u64,
    /// Files there can be.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
}
