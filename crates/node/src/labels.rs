//! Labels and annotations by which the node finds its containers again (pkg/kubelet/types/labels.go).

/// Pod name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Pod namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Pod UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Container name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: hash of the container's spec, hexadecimal.
pub const HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often it was started before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: where on the host its termination message is.
pub const TERMINATION_LOG: &str = "skiff.dev/termination-log";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: seconds.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation of a sandbox: its host ports, JSON.
pub const HOST_PORTS: &str = "skiff.dev/host-ports";
