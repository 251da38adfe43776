//! What the embedded runtime is told when it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{PodNetwork, PullObserver};

/// The control group of skiff's pods, unless it is told another.
pub const CGROUP_ROOT: &str = "/skiff";

/// Where people put them.
const CERTIFICATE_DIRS: [&str; 2] = ["/etc/skiff/certs.d", "/etc/docker/certs.d"];

/// For `EmbeddedRuntime::open`.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Everything that is kept: sandboxes, containers, images. Made (mode 0700) if it is missing. On one file system.
    pub data_dir: PathBuf,
    /// The program that dispatches `<shim_exe> shim …` to `shim_main`; it is opened when a sandbox is made. Mostly
    /// `/proc/self/exe`, which stays this program when its file is replaced.
    pub shim_exe: PathBuf,
    /// Control group below which all cgroup parents of sandboxes are, such as `/skiff`. What is found there that
    /// belongs to no known sandbox is removed.
    pub cgroup_root: String,
    /// Gives pods their addresses.
    pub network: Arc<dyn PodNetwork>,
    /// When containers' logs are rotated.
    pub log_rotation: LogRotation,
    /// What an image may contain.
    pub image_limits: ImageLimits,
    /// Registries that are spoken to by plain HTTP, besides those on loopback addresses: `host:port`.
    /// One of those with TLS is spoken to by TLS all the same.
    pub insecure_registries: Vec<String>,
    /// Directories with CA certificates for single registries: `HOST[:PORT]/*.crt` in them.
    pub certificate_dirs: Vec<PathBuf>,
    /// Told of every pull.
    pub pull_observer: Option<PullObserver>,
}

impl RuntimeConfig {
    /// Defaults for everything that has one.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        shim_exe: impl Into<PathBuf>,
        network: Arc<dyn PodNetwork>,
    ) -> RuntimeConfig {
        RuntimeConfig {
            data_dir: data_dir.into(),
            shim_exe: shim_exe.into(),
            cgroup_root: CGROUP_ROOT.to_owned(),
            network,
            log_rotation: LogRotation::default(),
            image_limits: ImageLimits::default(),
            insecure_registries: Vec::new(),
            certificate_dirs: CERTIFICATE_DIRS.map(PathBuf::from).into(),
            pull_observer: None,
        }
    }
}

/// Upstream's `containerLogMaxSize` and `containerLogMaxFiles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogRotation {
    /// A log file is rotated when it is larger.
    pub max_bytes: u64,
    /// Files kept of one container, the current one included; at least 2.
    pub max_files: u32,
}

impl Default for LogRotation {
    fn default() -> LogRotation {
        LogRotation {
            max_bytes: 10 << 20,
            max_files: 5,
        }
    }
}

/// Bounds on what an image may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of all files of one layer.
    pub layer_bytes: u64,
    /// Entries of one layer.
    pub layer_entries: u64,
    /// Bytes that must stay free on the file system.
    pub keep_free_bytes: u64,
}

impl Default for ImageLimits {
    fn default() -> ImageLimits {
        ImageLimits {
            layer_bytes: 64 << 30,
            layer_entries: 2_000_000,
            keep_free_bytes: 128 << 20,
        }
    }
}
