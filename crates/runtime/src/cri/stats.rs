use jiff::Timestamp;

/// Usage of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStats {
    /// Its id.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// Its name in the pod.
    pub name: String,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// CPU.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub process_count: u64,
    /// Bytes of its writable layer.
    pub writable_layer_bytes: u64,
    /// Files of its writable layer.
    pub writable_layer_inodes: u64,
}

/// Usage of a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSandboxStats {
    /// Its id.
    pub id: String,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// CPU of all of it.
    pub cpu: CpuUsage,
    /// Memory of all of it.
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub process_count: u64,
    /// Its interfaces, loopback left out; empty with the host's network.
    pub network: Vec<InterfaceUsage>,
    /// Those of its containers that run.
    pub containers: Vec<ContainerStats>,
}

/// CPU usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// Nanoseconds of one core, since the start.
    pub usage_core_nano_seconds: u64,
}

/// Memory usage, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use, without what can be dropped at once.
    pub working_set_bytes: u64,
    /// In use, page cache included.
    pub usage_bytes: u64,
    /// Anonymous.
    pub rss_bytes: u64,
    /// Limit less working set; 0 if there is no limit.
    pub available_bytes: u64,
    /// Since the start.
    pub page_faults: u64,
    /// Since the start.
    pub major_page_faults: u64,
}

/// Usage of a network interface, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Such as `eth0`.
    pub name: String,
    /// Bytes in.
    pub rx_bytes: u64,
    /// Errors in.
    pub rx_errors: u64,
    /// Bytes out.
    pub tx_bytes: u64,
    /// Errors out.
    pub tx_errors: u64,
}
