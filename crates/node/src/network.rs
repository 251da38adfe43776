//! The built-in pod network, as the runtime wants it.

use std::net::IpAddr;
use std::path::Path;

use async_trait::async_trait;
use net::{HostPort, PodNetError};
use runtime::{AttachedSandbox, NetworkError, PodNetwork, PodSandboxConfig};

use crate::labels;

/// Gives sandboxes addresses of `net::PodNetwork`, and their host ports.
pub struct NodeNetwork(pub net::PodNetwork);

fn failed(message: &str) -> impl FnOnce(PodNetError) -> NetworkError {
    let message = message.to_string();
    move |source| NetworkError {
        message: format!("{message}: {}", report(&source)),
        source: Some(Box::new(source)),
    }
}

fn report(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        out.push_str(": ");
        out.push_str(&inner.to_string());
        source = inner.source();
    }
    out
}

#[async_trait]
impl PodNetwork for NodeNetwork {
    async fn setup(
        &self,
        sandbox_id: &str,
        netns: &Path,
        config: &PodSandboxConfig,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let ports: Vec<HostPort> = match config.annotations.get(labels::HOST_PORTS) {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| NetworkError::new(format!("the sandbox's host ports cannot be read: {error}")))?,
            None => Vec::new(),
        };
        let address = self
            .0
            .setup(sandbox_id, netns, &ports)
            .await
            .map_err(failed("cannot connect the pod"))?;
        Ok(vec![IpAddr::V4(address)])
    }

    async fn teardown(&self, sandbox_id: &str, _: Option<&Path>, _: &PodSandboxConfig) -> Result<(), NetworkError> {
        self.0
            .teardown(sandbox_id)
            .await
            .map_err(failed("cannot disconnect the pod"))
    }

    async fn retain(&self, attached: &[AttachedSandbox]) -> Result<(), NetworkError> {
        let live = attached.iter().map(|sandbox| sandbox.id.clone()).collect();
        self.0
            .reconcile(&live)
            .await
            .map_err(failed("cannot tidy the pod network"))
    }
}
