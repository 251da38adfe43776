use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::PodSandboxConfig;

/// Why the pod network could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NetworkError {
    /// What failed, on what.
    pub message: String,
    /// What it failed with.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl NetworkError {
    /// An error without a source.
    pub fn new(message: impl Into<String>) -> NetworkError {
        NetworkError {
            message: message.into(),
            source: None,
        }
    }
}

/// A sandbox that has a network, as [`PodNetwork::retain`] is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedSandbox {
    /// The sandbox.
    pub id: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Where its network namespace can be opened.
    pub netns: PathBuf,
}

/// Gives sandboxes their addresses. Not called for sandboxes on the host's network.
///
/// The namespace has its loopback up already.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects a namespace and returns the pod's addresses, the primary one first.
    async fn setup(
        &self,
        sandbox_id: &str,
        netns: &Path,
        config: &PodSandboxConfig,
    ) -> Result<Vec<IpAddr>, NetworkError>;

    /// Undoes `setup`, also one that was interrupted. Idempotent. The namespace may be gone: then `netns` is `None`.
    async fn teardown(
        &self,
        sandbox_id: &str,
        netns: Option<&Path>,
        config: &PodSandboxConfig,
    ) -> Result<(), NetworkError>;

    /// Called once when the runtime is opened, before any other call: these sandboxes have a network, whatever else
    /// is found of earlier ones is to be removed.
    async fn retain(&self, attached: &[AttachedSandbox]) -> Result<(), NetworkError>;

    /// `None` when pods can get a network, else why not.
    async fn not_ready(&self) -> Option<String> {
        None
    }
}

/// Leaves pods with a loopback only.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackNetwork;

#[async_trait]
impl PodNetwork for LoopbackNetwork {
    async fn setup(&self, _: &str, _: &Path, _: &PodSandboxConfig) -> Result<Vec<IpAddr>, NetworkError> {
        Ok(Vec::new())
    }

    async fn teardown(&self, _: &str, _: Option<&Path>, _: &PodSandboxConfig) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn retain(&self, _: &[AttachedSandbox]) -> Result<(), NetworkError> {
        Ok(())
    }
}
