//! The trait's verbs, each in a task of its own: a caller who stops waiting does not stop the work.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::sandbox::netns_of;
use super::{EmbeddedRuntime, ended_early, lock};
use crate::records::Phase;
use crate::*;

/// Runs to its end whatever the caller does.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => ended_early(error).await,
    }
}

#[async_trait]
impl Runtime for EmbeddedRuntime {
    async fn version(&self) -> Result<VersionInfo> {
        Ok(VersionInfo {
            runtime_name: "skiff".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        Ok(RuntimeStatus {
            runtime_not_ready: None,
            network_not_ready: self.inner.config.network.not_ready().await,
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        detached(self.inner.clone().run_pod_sandbox(config)).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        detached(self.inner.clone().stop_pod_sandbox(id.to_owned())).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        detached(self.inner.clone().remove_pod_sandbox(id.to_owned())).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        Ok(self.inner.sandbox(id)?.status())
    }

    async fn list_pod_sandboxes(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandboxStatus>> {
        let mut found: Vec<_> = self
            .inner
            .all_sandboxes()
            .iter()
            .map(|sandbox| sandbox.status())
            .filter(|status| filter.matches(status))
            .collect();
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        detached(self.inner.clone().create_container(sandbox_id.to_owned(), config)).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        detached(self.inner.clone().start_container(id.to_owned())).await
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        // Not detached: a caller who gives up waiting for a long grace period may want to say something else.
        self.inner.clone().stop_container(id.to_owned(), timeout).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        detached(self.inner.clone().remove_container(id.to_owned())).await
    }

    async fn list_containers(&self, filter: ContainerFilter) -> Result<Vec<ContainerStatus>> {
        let mut found: Vec<_> = self
            .inner
            .all_sandboxes()
            .iter()
            .flat_map(|sandbox| sandbox.containers())
            .map(|container| container.status())
            .filter(|status| filter.matches(status))
            .collect();
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.inner.container(id)?.1.status())
    }

    async fn update_container_resources(&self, id: &str, resources: LinuxContainerResources) -> Result<()> {
        detached(self.inner.clone().update_container_resources(id.to_owned(), resources)).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        self.inner.clone().reopen_container_log(id.to_owned()).await
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Option<Duration>) -> Result<ExecSyncResponse> {
        self.inner.clone().exec_sync(id.to_owned(), command, timeout).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<StreamSession> {
        self.inner.clone().exec(request).await
    }

    async fn attach(&self, request: AttachRequest) -> Result<StreamSession> {
        self.inner.clone().attach(request).await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        self.inner.clone().container_stats(id.to_owned()).await
    }

    async fn list_container_stats(&self, filter: ContainerFilter) -> Result<Vec<ContainerStats>> {
        self.inner.clone().list_container_stats(filter).await
    }

    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        self.inner.clone().pod_sandbox_stats(id.to_owned()).await
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.inner.images.list())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self.inner.images.find(image))
    }

    async fn pull_image(&self, request: PullRequest) -> Result<Image> {
        Ok(self.inner.puller.pull(request).await?)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let (images, image) = (self.inner.images.clone(), image.to_owned());
        detached(async move { images.remove(&image).await }).await
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage> {
        self.inner.images.usage()
    }

    fn events(&self) -> EventStream {
        EventStream::new(self.inner.events.subscribe())
    }

    async fn sandbox_netns(&self, id: &str) -> Result<Option<PathBuf>> {
        let sandbox = self.inner.sandbox(id)?;
        let state = lock(&sandbox.state);
        let options = &state.record.config.security_context.namespace_options;
        if options.network == NamespaceMode::Node || state.record.phase != Phase::Ready {
            return Ok(None);
        }
        Ok(state.shim.map(netns_of))
    }
}
