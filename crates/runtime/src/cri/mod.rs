//! The trait and its messages.

mod container;
mod error;
mod event;
mod image;
mod network;
mod sandbox;
mod security;
mod stats;
mod stream;

pub use container::*;
pub use error::*;
pub use event::*;
pub use image::*;
pub use network::*;
pub use sandbox::*;
pub use security::*;
pub use stats::*;
pub use stream::*;

use std::time::Duration;

use async_trait::async_trait;

/// The verbs of the CRI.
///
/// # Guarantees
/// - Stop and remove verbs are idempotent: an unknown or already stopped id is success.
/// - `remove_pod_sandbox` stops the sandbox and removes its containers first, forcibly.
/// - A verb that was interrupted (the process died in it) is completed or undone when the runtime is next opened.
/// - A sandbox id or container id is never used twice.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version of the runtime behind this trait.
    async fn version(&self) -> Result<VersionInfo>;

    /// Conditions `RuntimeReady` and `NetworkReady`.
    async fn status(&self) -> Result<RuntimeStatus>;

    /// Makes a sandbox with its namespaces, cgroup and network, and returns its id.
    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String>;

    /// Kills every container of the sandbox and takes its network down. Its records stay.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;

    /// Removes the sandbox and all that belongs to it.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;

    /// The sandbox as it is now.
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus>;

    /// All sandboxes that match.
    async fn list_pod_sandboxes(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandboxStatus>>;

    /// Prepares a container (state `Created`) from an image that is present, and returns its id.
    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String>;

    /// Starts a created container. Fails with [`RuntimeError::Start`] where its process could not be started; the
    /// container is `Exited` then.
    async fn start_container(&self, id: &str) -> Result<()>;

    /// Sends the stop signal, waits up to `timeout`, then kills. Returns when the container has ended.
    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()>;

    /// Removes the container, killing it first if it runs. Its log file stays (its owner is the node).
    async fn remove_container(&self, id: &str) -> Result<()>;

    /// All containers that match.
    async fn list_containers(&self, filter: ContainerFilter) -> Result<Vec<ContainerStatus>>;

    /// The container as it is now.
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;

    /// Changes limits in place. `None` fields stay as they are.
    async fn update_container_resources(&self, id: &str, resources: LinuxContainerResources) -> Result<()>;

    /// Opens the log file anew, after it was renamed.
    async fn reopen_container_log(&self, id: &str) -> Result<()>;

    /// Runs a command in a running container and collects its output (at most 16 MiB a stream). A `timeout` of `None`
    /// waits for ever; when it passes, the command is killed and [`RuntimeError::Timeout`] returned.
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Option<Duration>) -> Result<ExecSyncResponse>;

    /// Starts a command in a running container. The command is killed when the returned session is dropped.
    async fn exec(&self, request: ExecRequest) -> Result<StreamSession>;

    /// Attaches to a running container's standard streams.
    async fn attach(&self, request: AttachRequest) -> Result<StreamSession>;

    /// Usage of one container.
    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;

    /// Usage of all containers that match and run.
    async fn list_container_stats(&self, filter: ContainerFilter) -> Result<Vec<ContainerStats>>;

    /// Usage of a sandbox: its cgroup, network, and containers.
    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats>;

    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>>;

    /// The image that a reference, an image id or a digest names; `None` if it is not here.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;

    /// Pulls an image, unless the very same pull is under way already: then it waits for that one.
    async fn pull_image(&self, request: PullRequest) -> Result<Image>;

    /// Removes an image with all its names. Containers made from it are not disturbed.
    async fn remove_image(&self, image: &str) -> Result<()>;

    /// What the images use, and what the file system under them has left.
    async fn image_fs_info(&self) -> Result<FilesystemUsage>;

    /// Changes from now on.
    fn events(&self) -> EventStream;

    /// A path at which the sandbox's network namespace can be opened while the sandbox is ready; `None` if it is the
    /// host's.
    async fn sandbox_netns(&self, id: &str) -> Result<Option<std::path::PathBuf>>;
}

/// See [`Runtime::version`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Such as `skiff`.
    pub runtime_name: String,
    /// Such as `0.1.0`; the node shows `name://version`.
    pub runtime_version: String,
}

/// See [`Runtime::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// `None` when containers can be run, else why not.
    pub runtime_not_ready: Option<String>,
    /// `None` when pods can get a network, else why not.
    pub network_not_ready: Option<String>,
}
