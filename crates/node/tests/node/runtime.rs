//! A runtime in memory, whose containers end when a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use node::Clock;
use parking_lot::Mutex;
use runtime::*;
use tokio::sync::broadcast;

pub struct FakeRuntime {
    clock: Clock,
    events: broadcast::Sender<RuntimeEvent>,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    next: u32,
    pub sandboxes: BTreeMap<String, PodSandboxStatus>,
    pub sandbox_configs: BTreeMap<String, PodSandboxConfig>,
    pub containers: BTreeMap<String, ContainerStatus>,
    pub configs: BTreeMap<String, ContainerConfig>,
    pub images: BTreeMap<String, Image>,
    pub pulls: Vec<(String, bool)>,
    /// What pulls of an image fail with.
    pub pull_errors: BTreeMap<String, String>,
    /// Exit codes of exec by command.
    pub exec: BTreeMap<String, i32>,
    pub execs: Vec<String>,
    /// Containers (by name) that ignore their stop signal.
    pub stubborn: BTreeSet<String>,
    pub stops: Vec<(String, u64)>,
    pub fail_sandboxes: u32,
}

impl FakeRuntime {
    pub fn new(clock: Clock) -> FakeRuntime {
        FakeRuntime {
            clock,
            events: broadcast::channel(1000).0,
            state: Mutex::default(),
        }
    }

    pub fn add_image(&self, name: &str) {
        let image = Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.into()],
            size_bytes: 10,
            ..Image::default()
        };
        self.state.lock().images.insert(name.into(), image);
    }

    /// The newest container of the name.
    pub fn container(&self, name: &str) -> Option<ContainerStatus> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .filter(|c| c.name == name)
            .max_by_key(|c| (c.created_at, c.attempt))
            .cloned()
    }

    pub fn config(&self, name: &str) -> ContainerConfig {
        let id = self.container(name).unwrap().id;
        self.state.lock().configs[&id].clone()
    }

    /// The newest container of the name ends.
    pub fn exit(&self, name: &str, code: i32) {
        let id = self.container(name).unwrap().id;
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        let mut state = self.state.lock();
        let Some(container) = state
            .containers
            .get_mut(id)
            .filter(|c| c.state == ContainerState::Running)
        else {
            return;
        };
        container.state = ContainerState::Exited;
        container.exit_code = code;
        container.finished_at = Some(self.clock.now());
        container.reason = if code == 0 { reason::COMPLETED } else { reason::ERROR }.into();
        let sandbox_id = container.sandbox_id.clone();
        drop(state);
        self.tell(RuntimeEvent::ContainerExited {
            sandbox_id,
            container_id: id.into(),
        });
    }

    fn tell(&self, event: RuntimeEvent) {
        let _ = self.events.send(event);
    }

    fn missing(what: &'static str, id: &str) -> RuntimeError {
        RuntimeError::NotFound { what, id: id.into() }
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<VersionInfo> {
        Ok(VersionInfo {
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
        })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        Ok(RuntimeStatus {
            runtime_not_ready: None,
            network_not_ready: None,
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        let mut state = self.state.lock();
        if state.fail_sandboxes > 0 {
            state.fail_sandboxes -= 1;
            return Err(RuntimeError::Shim {
                id: "new".into(),
                message: "no luck".into(),
            });
        }
        state.next += 1;
        let id = format!("{:064}", state.next);
        let host = config.security_context.namespace_options.network == NamespaceMode::Node;
        state.sandboxes.insert(
            id.clone(),
            PodSandboxStatus {
                id: id.clone(),
                metadata: config.metadata.clone(),
                state: PodSandboxState::Ready,
                created_at: self.clock.now(),
                ips: if host {
                    Vec::new()
                } else {
                    vec![IpAddr::from([127, 0, 0, 1])]
                },
                namespaces: config.security_context.namespace_options.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
                cgroup_parent: config.cgroup_parent.clone(),
            },
        );
        state.sandbox_configs.insert(id.clone(), config);
        drop(state);
        self.tell(RuntimeEvent::SandboxReady { sandbox_id: id.clone() });
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let running: Vec<String> = {
            let mut state = self.state.lock();
            if let Some(sandbox) = state.sandboxes.get_mut(id) {
                sandbox.state = PodSandboxState::NotReady;
            }
            state
                .containers
                .values()
                .filter(|c| c.sandbox_id == id)
                .map(|c| c.id.clone())
                .collect()
        };
        running.iter().for_each(|id| self.end(id, 137));
        self.tell(RuntimeEvent::SandboxStopped { sandbox_id: id.into() });
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.stop_pod_sandbox(id).await?;
        let mut state = self.state.lock();
        state.sandboxes.remove(id);
        state.containers.retain(|_, c| c.sandbox_id != id);
        drop(state);
        self.tell(RuntimeEvent::SandboxRemoved { sandbox_id: id.into() });
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        self.state
            .lock()
            .sandboxes
            .get(id)
            .cloned()
            .ok_or_else(|| Self::missing("pod sandbox", id))
    }

    async fn list_pod_sandboxes(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandboxStatus>> {
        Ok(self
            .state
            .lock()
            .sandboxes
            .values()
            .filter(|s| filter.matches(s))
            .cloned()
            .collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        let mut state = self.state.lock();
        if !state.sandboxes.contains_key(sandbox_id) {
            return Err(Self::missing("pod sandbox", sandbox_id));
        }
        let logs = state.sandbox_configs[sandbox_id].log_directory.clone();
        state.next += 1;
        let id = format!("{:064}", state.next);
        state.containers.insert(
            id.clone(),
            ContainerStatus {
                id: id.clone(),
                sandbox_id: sandbox_id.into(),
                name: config.name.clone(),
                attempt: config.attempt,
                state: ContainerState::Created,
                created_at: self.clock.now(),
                started_at: None,
                finished_at: None,
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
                image: config.user_specified_image.clone(),
                image_ref: config.image.clone(),
                image_id: config.image.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
                mounts: config.mounts.clone(),
                log_path: logs.join(&config.log_path),
                resources: config.resources.clone(),
                pid: None,
                user: None,
            },
        );
        state.configs.insert(id.clone(), config);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        let container = state
            .containers
            .get_mut(id)
            .ok_or_else(|| Self::missing("container", id))?;
        container.state = ContainerState::Running;
        container.started_at = Some(self.clock.now());
        let log = container.log_path.clone();
        let sandbox_id = container.sandbox_id.clone();
        drop(state);
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(log, "2026-11-20T21:00:00Z stdout F hello\n").unwrap();
        self.tell(RuntimeEvent::ContainerStarted {
            sandbox_id,
            container_id: id.into(),
        });
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        let stubborn = {
            let mut state = self.state.lock();
            let name = state.containers.get(id).map(|c| c.name.clone()).unwrap_or_default();
            state.stops.push((name.clone(), timeout.as_secs()));
            state.stubborn.contains(&name)
        };
        if stubborn {
            tokio::time::sleep(timeout).await;
        }
        self.end(id, if stubborn { 137 } else { 0 });
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.state.lock().containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self, filter: ContainerFilter) -> Result<Vec<ContainerStatus>> {
        Ok(self
            .state
            .lock()
            .containers
            .values()
            .filter(|c| filter.matches(c))
            .cloned()
            .collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        self.state
            .lock()
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| Self::missing("container", id))
    }

    async fn update_container_resources(&self, _: &str, _: LinuxContainerResources) -> Result<()> {
        Ok(())
    }

    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn exec_sync(&self, _: &str, command: Vec<String>, _: Option<Duration>) -> Result<ExecSyncResponse> {
        let mut state = self.state.lock();
        let command = command.join(" ");
        state.execs.push(command.clone());
        let exit_code = state.exec.get(&command).copied().unwrap_or(0);
        Ok(ExecSyncResponse {
            stdout: b"out".to_vec(),
            stderr: Vec::new(),
            exit_code,
        })
    }

    async fn exec(&self, request: ExecRequest) -> Result<StreamSession> {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let text = format!("ran {}", request.command.join(" "));
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut ours, text.as_bytes()).await });
        Ok(StreamSession {
            stdin: None,
            stdout: Some(Box::new(theirs)),
            stderr: None,
            resize: None,
            exit: Box::pin(async { Ok(3) }),
        })
    }

    async fn attach(&self, _: AttachRequest) -> Result<StreamSession> {
        Err(RuntimeError::Unsupported {
            what: "attach",
            message: "in this test".into(),
        })
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let status = self.container_status(id).await?;
        Ok(ContainerStats {
            id: id.into(),
            sandbox_id: status.sandbox_id,
            name: status.name,
            timestamp: self.clock.now(),
            cpu: CpuUsage {
                usage_core_nano_seconds: 5_000_000_000,
            },
            memory: MemoryUsage {
                working_set_bytes: 1000,
                ..MemoryUsage::default()
            },
            process_count: 1,
            writable_layer_bytes: 100_000,
            writable_layer_inodes: 0,
        })
    }

    async fn list_container_stats(&self, filter: ContainerFilter) -> Result<Vec<ContainerStats>> {
        let mut out = Vec::new();
        for container in self.list_containers(filter).await? {
            out.push(self.container_stats(&container.id).await?);
        }
        Ok(out)
    }

    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        let filter = ContainerFilter {
            sandbox_id: Some(id.into()),
            ..ContainerFilter::default()
        };
        Ok(PodSandboxStats {
            id: id.into(),
            timestamp: self.clock.now(),
            cpu: CpuUsage::default(),
            memory: MemoryUsage {
                working_set_bytes: 1000,
                ..MemoryUsage::default()
            },
            process_count: 1,
            network: Vec::new(),
            containers: self.list_container_stats(filter).await?,
        })
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self.state.lock().images.get(image).cloned())
    }

    async fn pull_image(&self, request: PullRequest) -> Result<Image> {
        let mut state = self.state.lock();
        state.pulls.push((request.image.clone(), request.auth.is_some()));
        if let Some(message) = state.pull_errors.get(&request.image) {
            let error = ImageError::NotFound {
                image: request.image.clone(),
                message: message.clone(),
            };
            return Err(error.into());
        }
        drop(state);
        self.add_image(&request.image);
        Ok(self.state.lock().images[&request.image].clone())
    }

    async fn remove_image(&self, id: &str) -> Result<()> {
        self.state.lock().images.retain(|_, image| image.id != id);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage> {
        Ok(FilesystemUsage {
            capacity_bytes: 100,
            available_bytes: 90,
            ..FilesystemUsage::default()
        })
    }

    fn events(&self) -> EventStream {
        EventStream::new(self.events.subscribe())
    }

    async fn sandbox_netns(&self, _: &str) -> Result<Option<PathBuf>> {
        Ok(None)
    }
}
