use serde::{Deserialize, Serialize};

/// Which namespace a process is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The pod's.
    #[default]
    Pod,
    /// The container's own (PID only).
    Container,
    /// The machine's.
    Node,
}

/// Namespaces of a sandbox and its containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceOption {
    /// `Pod` or `Node`.
    pub network: NamespaceMode,
    /// `Pod` is `shareProcessNamespace`; `Container` is the default.
    pub pid: NamespaceMode,
    /// `Pod` or `Node`.
    pub ipc: NamespaceMode,
}

impl Default for NamespaceOption {
    fn default() -> NamespaceOption {
        NamespaceOption {
            network: NamespaceMode::Pod,
            pid: NamespaceMode::Container,
            ipc: NamespaceMode::Pod,
        }
    }
}

/// What holds for a whole pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSecurityContext {
    /// The pod's namespaces; a container's own options cannot differ, except PID.
    pub namespace_options: NamespaceOption,
}

/// What a container's process may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurityContext {
    /// All capabilities and devices, no seccomp, nothing masked, `/sys` writable.
    pub privileged: bool,
    /// Changes to the default capabilities.
    pub capabilities: Capabilities,
    /// User id. `None`: `run_as_username`, else the image's user.
    pub run_as_user: Option<i64>,
    /// Group id. `None`: the user's group in the image's `/etc/passwd`, else 0. Needs a user.
    pub run_as_group: Option<i64>,
    /// User name in the image, where `run_as_user` is not given.
    pub run_as_username: String,
    /// Further groups (`supplementalGroups` and `fsGroup`), besides those of the image's `/etc/group`.
    pub supplemental_groups: Vec<i64>,
    /// Do not add the groups that the image's `/etc/group` gives the user (`supplementalGroupsPolicy: Strict`).
    pub strict_supplemental_groups: bool,
    /// The root file system cannot be written.
    pub readonly_rootfs: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: SecurityProfile,
    /// Paths to hide. `None`: [`default_masked_paths`].
    pub masked_paths: Option<Vec<String>>,
    /// Paths to make read-only. `None`: [`default_readonly_paths`].
    pub readonly_paths: Option<Vec<String>>,
    /// PID namespace of this container: `Pod`, `Container` or `Node`.
    pub pid: NamespaceMode,
}

impl Default for ContainerSecurityContext {
    fn default() -> ContainerSecurityContext {
        ContainerSecurityContext {
            privileged: false,
            capabilities: Capabilities::default(),
            run_as_user: None,
            run_as_group: None,
            run_as_username: String::new(),
            supplemental_groups: Vec::new(),
            strict_supplemental_groups: false,
            readonly_rootfs: false,
            no_new_privs: false,
            seccomp: SecurityProfile::default(),
            masked_paths: None,
            readonly_paths: None,
            pid: NamespaceMode::Container,
        }
    }
}

/// Changes to the default capabilities. Names with or without `CAP_`, any case; `ALL` is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// To add.
    pub add: Vec<String>,
    /// To drop. `add` wins over `drop: ALL`; otherwise a dropped one is dropped.
    pub drop: Vec<String>,
}

/// A system call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// None (upstream's default).
    #[default]
    Unconfined,
    /// The runtime's default profile.
    RuntimeDefault,
    /// A profile of the node: an absolute path.
    Localhost(String),
}

/// Paths hidden from containers by default.
pub fn default_masked_paths() -> Vec<String> {
    [
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ]
    .map(String::from)
    .to_vec()
}

/// Paths that containers cannot write by default.
pub fn default_readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        .map(String::from)
        .to_vec()
}
