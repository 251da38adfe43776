use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ContainerSecurityContext;

/// `reason` of a [`ContainerStatus`].
pub mod reason {
    /// Exit code 0.
    pub const COMPLETED: &str = "Completed";
    /// Any other exit code.
    pub const ERROR: &str = "Error";
    /// A process of the container was killed for want of memory.
    pub const OOM_KILLED: &str = "OOMKilled";
    /// The command cannot be run: it is missing, or not executable.
    pub const CONTAINER_CANNOT_RUN: &str = "ContainerCannotRun";
    /// The container could not be set up: mounts, control group, user.
    pub const START_ERROR: &str = "StartError";
    /// The exit code was lost: the shim died, or the machine was restarted.
    pub const CONTAINER_STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
}

/// What a container is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Its name in the pod.
    pub name: String,
    /// Counts the containers of one name in one sandbox's pod (the restart count).
    pub attempt: u32,
    /// Image reference or id; must be present.
    pub image: String,
    /// What the pod's spec said, for `ContainerStatus::image`. Empty: `image`.
    pub user_specified_image: String,
    /// Entrypoint; empty: the image's.
    pub command: Vec<String>,
    /// Arguments; empty: the image's, if `command` is empty too.
    pub args: Vec<String>,
    /// Empty: the image's, else `/`.
    pub working_dir: String,
    /// Environment, over the image's.
    pub envs: Vec<KeyValue>,
    /// In this order.
    pub mounts: Vec<Mount>,
    /// Besides the default ones.
    pub devices: Vec<Device>,
    /// Free for the node's use.
    pub labels: BTreeMap<String, String>,
    /// Free for the node's use.
    pub annotations: BTreeMap<String, String>,
    /// Log file below the sandbox's log directory, such as `app/0.log`; empty: no log.
    pub log_path: String,
    /// Keep standard input open for `attach`.
    pub stdin: bool,
    /// Close standard input when the first attached client leaves.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Such as `SIGTERM`, `TERM`, `15`. Empty: the image's, else `SIGTERM`.
    pub stop_signal: String,
    /// Limits.
    pub resources: LinuxContainerResources,
    /// What it may do.
    pub security_context: ContainerSecurityContext,
}

/// A pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
}

/// Something of the host inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Absolute path inside.
    pub container_path: String,
    /// Absolute path on the host; must exist. (`/proc/self/fd/…` of the caller cannot be used.)
    pub host_path: PathBuf,
    /// Cannot be written.
    pub readonly: bool,
    /// Whether later mounts are seen.
    pub propagation: MountPropagation,
}

/// Whether mounts made later under a mount are seen on the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// Neither way.
    #[default]
    Private,
    /// The host's are seen by the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A device of the host inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path inside.
    pub container_path: String,
    /// Path on the host.
    pub host_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Limits. `None`: not limited (at creation) or left alone (in an update).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxContainerResources {
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds in a period.
    pub cpu_quota: Option<i64>,
    /// 2 and up; 1024 is one CPU's.
    pub cpu_shares: Option<u64>,
    /// Bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Processes and threads.
    pub pids_limit: Option<i64>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i64>,
    /// Such as `0-3`.
    pub cpuset_cpus: Option<String>,
    /// Such as `0`.
    pub cpuset_mems: Option<String>,
    /// By page size such as `2MB`, bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended, or could not be started.
    Exited,
    /// Cannot be told now.
    Unknown,
}

/// A container as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStatus {
    /// Its id.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// Its name in the pod.
    pub name: String,
    /// As configured.
    pub attempt: u32,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its process was started.
    pub started_at: Option<Timestamp>,
    /// When its process ended.
    pub finished_at: Option<Timestamp>,
    /// 0 to 255, 128 + the signal where one ended it; only when `Exited`.
    pub exit_code: i32,
    /// See [`reason`]; only when `Exited`.
    pub reason: String,
    /// For people; only when `Exited`.
    pub message: String,
    /// The image as the pod's spec named it.
    pub image: String,
    /// The image as status shows it: `repository@sha256:…`, or the id of an image without a digest.
    pub image_ref: String,
    /// The image's id (digest of its configuration).
    pub image_id: String,
    /// As configured.
    pub labels: BTreeMap<String, String>,
    /// As configured.
    pub annotations: BTreeMap<String, String>,
    /// As configured.
    pub mounts: Vec<Mount>,
    /// Absolute path of the log file; empty if there is none.
    pub log_path: PathBuf,
    /// As configured or updated.
    pub resources: LinuxContainerResources,
    /// Process id on the host, when `Running`.
    pub pid: Option<i32>,
    /// The user it runs as, when known.
    pub user: Option<ContainerUser>,
}

/// See `ContainerStatus.user` of the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    /// User id.
    pub uid: i64,
    /// Primary group id.
    pub gid: i64,
    /// All groups.
    pub supplemental_groups: Vec<i64>,
}

/// Which containers to list. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// Only this one.
    pub id: Option<String>,
    /// Only those of this sandbox.
    pub sandbox_id: Option<String>,
    /// Only those in this state.
    pub state: Option<ContainerState>,
    /// Only those with all these labels.
    pub labels: BTreeMap<String, String>,
}

impl ContainerFilter {
    /// Whether the container is one of those asked for.
    pub fn matches(&self, status: &ContainerStatus) -> bool {
        self.id.as_ref().is_none_or(|id| *id == status.id)
            && self.sandbox_id.as_ref().is_none_or(|id| *id == status.sandbox_id)
            && self.state.is_none_or(|state| state == status.state)
            && self
                .labels
                .iter()
                .all(|(key, value)| status.labels.get(key) == Some(value))
    }
}
