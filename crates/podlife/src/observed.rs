//! What is known of a pod's sandboxes and containers at one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

/// Everything the runtime has of one pod (by UID).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeStatus {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Of all sandboxes, newest first.
    pub containers: Vec<Container>,
}

/// A sandbox of the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// Counts the pod's sandboxes.
    pub attempt: u32,
    /// Takes containers.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Addresses, primary first; empty with the host's network.
    pub ips: Vec<IpAddr>,
    /// Shares the host's network.
    pub host_network: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Ended.
    Exited,
    /// Cannot be told.
    Unknown,
}

impl ContainerState {
    /// As upstream prints it in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Exited => "exited",
            ContainerState::Unknown => "unknown",
        }
    }
}

/// A container of the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Name in the pod's spec.
    pub name: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When `Exited`.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// As the spec named it.
    pub image: String,
    /// As status shows it.
    pub image_id: String,
    /// How often containers of this name were started before.
    pub restart_count: i32,
    /// [`crate::spec::hash`] of the spec it was made from.
    pub hash: u64,
    /// Its user, where known: uid, gid, groups.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

impl RuntimeStatus {
    /// The newest container of the name.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest container of the name in the sandbox.
    pub fn latest_in(&self, sandbox_id: &str, name: &str) -> Option<&Container> {
        self.containers
            .iter()
            .find(|c| c.name == name && c.sandbox_id == sandbox_id)
    }

    /// Those that run or may run.
    pub fn live(&self) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// The sandbox that containers are to be made in: the newest, if it is ready.
    pub fn active_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }
}

/// A probe's verdict on one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It passed.
    Success,
    /// It failed often enough.
    Failure,
    /// No verdict yet.
    Unknown,
}

/// Verdicts by container id. A container without a probe of a kind has no entry there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeResults {
    /// Startup probes.
    pub startup: BTreeMap<String, ProbeResult>,
    /// Liveness probes.
    pub liveness: BTreeMap<String, ProbeResult>,
    /// Readiness probes.
    pub readiness: BTreeMap<String, ProbeResult>,
}
