use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LinuxContainerResources, NamespaceOption, PodSecurityContext};

/// What a pod sandbox is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSandboxConfig {
    /// Whose sandbox it is.
    pub metadata: PodSandboxMetadata,
    /// Host name of the pod; not used with the host's network.
    pub hostname: String,
    /// Absolute folder for the containers' logs; made if it is missing.
    pub log_directory: PathBuf,
    /// Becomes `/etc/resolv.conf` of the containers, unless they mount one. `None`: the host's.
    pub dns_config: Option<DnsConfig>,
    /// Free for the node's use.
    pub labels: BTreeMap<String, String>,
    /// Free for the node's use.
    pub annotations: BTreeMap<String, String>,
    /// Parent control group, absolute, such as `/skiff/burstable/pod<uid>`. Made and removed with the sandbox.
    pub cgroup_parent: String,
    /// Limits of the parent control group.
    pub resources: LinuxContainerResources,
    /// Kernel parameters of the pod's namespaces, such as `net.ipv4.ip_local_port_range`.
    pub sysctls: BTreeMap<String, String>,
    /// Namespaces, and the defaults of all containers.
    pub security_context: PodSecurityContext,
}

/// Whose sandbox it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSandboxMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's UID.
    pub uid: String,
    /// Counts the sandboxes of one pod.
    pub attempt: u32,
}

/// Contents of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// Whether a sandbox can take containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSandboxState {
    /// Its namespaces and network are there.
    Ready,
    /// It was stopped, its shim died, or the machine was restarted.
    NotReady,
}

/// A sandbox as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSandboxStatus {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub metadata: PodSandboxMetadata,
    /// Whether it can take containers.
    pub state: PodSandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// The pod's addresses, the primary one first; empty with the host's network.
    pub ips: Vec<IpAddr>,
    /// Its namespaces.
    pub namespaces: NamespaceOption,
    /// As configured.
    pub labels: BTreeMap<String, String>,
    /// As configured.
    pub annotations: BTreeMap<String, String>,
    /// As configured.
    pub cgroup_parent: String,
}

/// Which sandboxes to list. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSandboxFilter {
    /// Only this one.
    pub id: Option<String>,
    /// Only those in this state.
    pub state: Option<PodSandboxState>,
    /// Only those with all these labels.
    pub labels: BTreeMap<String, String>,
}

impl PodSandboxFilter {
    /// Whether the sandbox is one of those asked for.
    pub fn matches(&self, status: &PodSandboxStatus) -> bool {
        self.id.as_ref().is_none_or(|id| *id == status.id)
            && self.state.is_none_or(|state| state == status.state)
            && self
                .labels
                .iter()
                .all(|(key, value)| status.labels.get(key) == Some(value))
    }
}
