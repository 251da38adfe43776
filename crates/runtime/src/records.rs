//! What is kept on disk about sandboxes and containers, and where.
//!
//! ```text
//! <data_dir>/lock                      held while the runtime is open
//! <data_dir>/boot_id                   of the machine's boot that the sandboxes belong to
//! <data_dir>/sandboxes/<id>/           made before anything else of a sandbox, removed after everything else
//!     sandbox.json                     SandboxRecord; `phase` is the journal: anything but Ready and Stopped is undone
//!     shim.json                        ShimRecord, written by the shim first of all
//!     sock                             the shim's socket
//!     c/<container id>/                the same for containers
//!         container.json               ContainerRecord
//!         running.json, exit.json      RunRecord, ExitRecord, written by the shim by atomic rename
//!         rootfs/ upper/ work/ …       see shim::rootfs
//! <data_dir>/images/                   see image::store
//! ```
//!
//! Nothing here is synced to disk: what a power failure takes belongs to processes that it took as well. A record that
//! cannot be read is a leftover, and is removed with all that its folder's name identifies.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ContainerConfig, ContainerUser, ImageConfig, LogRotation, PodSandboxConfig, Result, RuntimeError};

/// Where things are in a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub fn sandbox(&self, id: &str) -> SandboxDir {
        SandboxDir {
            path: self.sandboxes().join(id),
        }
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }
}

/// A sandbox's folder.
#[derive(Clone, Debug)]
pub(crate) struct SandboxDir {
    pub path: PathBuf,
}

impl SandboxDir {
    pub fn record(&self) -> PathBuf {
        self.path.join("sandbox.json")
    }

    pub fn shim_record(&self) -> PathBuf {
        self.path.join("shim.json")
    }

    pub fn shim_log(&self) -> PathBuf {
        self.path.join("shim.log")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.path.join("resolv.conf")
    }

    pub fn hostname(&self) -> PathBuf {
        self.path.join("hostname")
    }

    pub fn containers(&self) -> PathBuf {
        self.path.join("c")
    }

    pub fn container(&self, id: &str) -> ContainerDir {
        ContainerDir {
            path: self.containers().join(id),
        }
    }
}

/// A container's folder.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir {
    pub path: PathBuf,
}

impl ContainerDir {
    pub fn record(&self) -> PathBuf {
        self.path.join("container.json")
    }

    pub fn running(&self) -> PathBuf {
        self.path.join("running.json")
    }

    pub fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Where mounts with propagation are prepared.
    pub fn stage(&self) -> PathBuf {
        self.path.join("stage")
    }

    /// The parent of libcontainer's state folder.
    pub fn oci_state(&self) -> PathBuf {
        self.path.join("oci")
    }
}

/// How far a sandbox or container is. Only what is in a settled phase survives the runtime's restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Creating,
    Ready,
    Stopped,
    Removing,
}

/// A sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub id: String,
    pub phase: Phase,
    pub created_at: Timestamp,
    pub boot_id: String,
    pub config: PodSandboxConfig,
    pub ips: Vec<IpAddr>,
    pub log_rotation: LogRotation,
    /// Whether `PodNetwork::setup` may have been called without `teardown` after it.
    pub network_attached: bool,
    /// Control group of all shims, below the runtime's root.
    pub shim_cgroup: String,
}

/// The process that is a sandbox's shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    pub pid: i32,
    /// See [`process_start_time`].
    pub start_time: u64,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    pub created_at: Timestamp,
    pub config: ContainerConfig,
    pub image_id: String,
    pub image_ref: String,
    pub image_config: ImageConfig,
    /// Folders of the image's layers, the lowest first.
    pub layers: Vec<String>,
    pub layers_dir: PathBuf,
    pub writable_layer: WritableLayer,
    /// Absolute; empty if there is no log.
    pub log_path: PathBuf,
    pub cgroup: String,
}

/// How a container's root file system is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WritableLayer {
    /// An overlay over the image's layers.
    Overlay,
    /// A copy of the image's files, where overlays cannot be had.
    Copy,
}

/// A container's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub pid: i32,
    pub start_time: u64,
    pub started_at: Timestamp,
    pub user: ContainerUser,
}

/// How a container ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub finished_at: Timestamp,
}

/// Reads a record; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RuntimeError::io("read", path)(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| RuntimeError::Damaged {
            path: path.to_owned(),
            message: error.to_string(),
        })
}

/// Writes a record whole or not at all.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|error| RuntimeError::Damaged {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    write_bytes(path, &bytes)
}

/// Writes a file whole or not at all.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The error is what matters; a file that cannot be written can mostly be removed.
        let _ = fs::remove_file(&temporary);
        RuntimeError::io("write", path)(error)
    })
}

/// Makes a folder that only its owner can enter, with its parents.
pub(crate) fn make_private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(RuntimeError::io("create directory", path))
}

/// Removes a folder with all that is in it; one that is not there is removed already.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    // A shim may write a record of what was just killed into a folder that is being removed.
    const ATTEMPTS: usize = 10;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempt < ATTEMPTS => {}
            Err(error) => return Err(RuntimeError::io("remove", path)(error)),
        }
    }
}

/// A fresh id: 64 hexadecimal digits.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(RuntimeError::io("read", "/dev/urandom"))?;
    Ok(hex(&bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Whether a folder's name can be an id of ours; nothing else is ever used in a path.
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// Identifies the machine's boot.
pub(crate) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(RuntimeError::io("read", path))
}

/// When a process started, in ticks since boot; together with the pid it identifies a process. `None` if there is no
/// such process, or it is a zombie.
pub(crate) fn process_start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is in parentheses and may contain anything.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether the very process that was recorded still runs.
pub(crate) fn process_alive(pid: i32, start_time: u64) -> bool {
    pid > 0 && process_start_time(pid) == Some(start_time)
}

/// The ids of the folders in a folder.
pub(crate) fn list_ids(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RuntimeError::io("list", path)(error)),
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_id(name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_others_are_not() {
        let pid = std::process::id() as i32;
        let start = process_start_time(pid).unwrap();
        assert!(process_alive(pid, start));
        assert!(!process_alive(pid, start + 1));
        assert!(!process_alive(0, 0));
        assert!(!process_alive(i32::MAX, 0));
    }

    #[test]
    fn records_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        assert!(read::<ShimRecord>(&path).unwrap().is_none());
        let record = ShimRecord { pid: 1, start_time: 2 };
        write(&path, &record).unwrap();
        assert_eq!(read::<ShimRecord>(&path).unwrap(), Some(record));
        fs::write(&path, b"{").unwrap();
        assert!(matches!(read::<ShimRecord>(&path), Err(RuntimeError::Damaged { .. })));
    }

    #[test]
    fn ids() {
        let id = new_id().unwrap();
        assert!(is_id(&id));
        assert_ne!(id, new_id().unwrap());
        assert!(!is_id(
            "../../../../../../../../../../../../../../../../../../../../etc/pw"
        ));
    }
}
