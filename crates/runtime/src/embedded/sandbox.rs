//! Sandboxes: making, stopping, removing.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;

use super::shim_client::{ShimConnection, call, kill_shim, spawn};
use super::{Inner, KILL_PATIENCE, Life, Sandbox, lock};
use crate::records::{
    self, ContainerDir, ExitRecord, Phase, RunRecord, SandboxDir, SandboxRecord, ShimRecord, make_private_dir, new_id,
    process_alive,
};
use crate::wire::{Event, Kind, Request, Response};
use crate::{DnsConfig, NamespaceMode, PodSandboxConfig, Result, RuntimeError, RuntimeEvent, reason};

/// How long a shim may take to end all containers.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(15);

fn invalid(field: &'static str, message: impl Into<String>) -> RuntimeError {
    RuntimeError::Invalid {
        field,
        message: message.into(),
    }
}

/// Where all shims are.
pub(super) fn shim_cgroup(root: &str) -> String {
    format!("{root}/shims")
}

/// Where a shim's network namespace can be opened.
pub(super) fn netns_of(shim: ShimRecord) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", shim.pid))
}

impl Inner {
    pub(super) async fn run_pod_sandbox(self: Arc<Self>, config: PodSandboxConfig) -> Result<String> {
        self.check_sandbox(&config)?;
        let id = new_id()?;
        let dir = self.layout.sandbox(&id);
        let record = SandboxRecord {
            id: id.clone(),
            phase: Phase::Creating,
            created_at: Timestamp::now(),
            boot_id: self.boot_id.clone(),
            config,
            ips: Vec::new(),
            log_rotation: self.config.log_rotation,
            network_attached: false,
            shim_cgroup: self.shim_cgroup(),
        };
        match self.make_sandbox(&dir, record.clone()).await {
            Ok(sandbox) => {
                lock(&self.sandboxes).insert(id.clone(), sandbox.clone());
                self.watch(sandbox);
                self.emit(RuntimeEvent::SandboxReady { sandbox_id: id.clone() });
                Ok(id)
            }
            Err(error) => {
                // The record on disk knows how far it got.
                let record = records::read(&dir.record()).ok().flatten().unwrap_or(record);
                if let Err(error) = self.destroy(&dir, &record).await {
                    tracing::warn!(sandbox = %id, %error, "cannot undo an unfinished sandbox; will retry at the next start");
                }
                Err(error)
            }
        }
    }

    pub(super) fn shim_cgroup(&self) -> String {
        shim_cgroup(&self.config.cgroup_root)
    }

    fn check_sandbox(&self, config: &PodSandboxConfig) -> Result<()> {
        let parent = Path::new(&config.cgroup_parent);
        let clean = parent
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !clean || !parent.starts_with(&self.config.cgroup_root) || parent == Path::new(&self.config.cgroup_root) {
            return Err(invalid(
                "cgroup_parent",
                format!(
                    "{:?} is not a path below {}",
                    config.cgroup_parent, self.config.cgroup_root
                ),
            ));
        }
        if !config.log_directory.is_absolute() {
            return Err(invalid("log_directory", "must be absolute"));
        }
        Ok(())
    }

    /// In the order in which leftovers can be told: the folder, then all else.
    async fn make_sandbox(&self, dir: &SandboxDir, mut record: SandboxRecord) -> Result<Arc<Sandbox>> {
        make_private_dir(&dir.path)?;
        records::write(&dir.record(), &record)?;
        make_private_dir(&dir.containers())?;
        let config = &record.config;
        records::write_bytes(&dir.resolv_conf(), &resolv_conf(config.dns_config.as_ref()))?;
        let options = &config.security_context.namespace_options;
        if options.network != NamespaceMode::Node {
            records::write_bytes(&dir.hostname(), format!("{}\n", config.hostname).as_bytes())?;
        }
        fs::create_dir_all(&config.log_directory).map_err(RuntimeError::io("create", &config.log_directory))?;
        {
            let _parents = self.cgroup_parents.lock().await;
            self.cgroups.create(&config.cgroup_parent)?;
            self.cgroups.apply(&config.cgroup_parent, &config.resources)?;
        }
        let shim = spawn(&self.config, dir, &record.id).await?;
        if options.network == NamespaceMode::Pod {
            record.network_attached = true;
            records::write(&dir.record(), &record)?;
            let network = &self.config.network;
            record.ips = network
                .setup(&record.id, &netns_of(shim), &record.config)
                .await
                .map_err(|source| RuntimeError::Network {
                    id: record.id.clone(),
                    source,
                })?;
        }
        record.phase = Phase::Ready;
        records::write(&dir.record(), &record)?;
        Ok(Arc::new(Sandbox::new(dir.clone(), record, Some(shim))))
    }

    /// Removes all that an unfinished or removed sandbox has, whatever there is of it. May be repeated.
    pub(super) async fn destroy(&self, dir: &SandboxDir, record: &SandboxRecord) -> Result<()> {
        let shim: Option<ShimRecord> = records::read(&dir.shim_record()).ok().flatten();
        let cgroups: Vec<String> = records::list_ids(&dir.containers())?
            .into_iter()
            .map(|id| format!("{}/{id}", record.config.cgroup_parent))
            .collect();
        self.end_processes(shim, cgroups).await?;
        if record.network_attached {
            self.teardown(record, None).await?;
        }
        self.prune_cgroup_parent(&record.id, &record.config.cgroup_parent).await;
        let path = dir.path.clone();
        Inner::blocking(move || records::remove_tree(&path)).await
    }

    /// Kills a shim and everything in some control groups.
    pub(super) async fn end_processes(&self, shim: Option<ShimRecord>, cgroups: Vec<String>) -> Result<()> {
        let all = self.cgroups.clone();
        Inner::blocking(move || {
            kill_shim(shim);
            // All are tried, whatever becomes of one.
            let mut result = Ok(());
            for cgroup in &cgroups {
                result = result.and(all.destroy(cgroup, KILL_PATIENCE));
            }
            result
        })
        .await
    }

    async fn teardown(&self, record: &SandboxRecord, netns: Option<&Path>) -> Result<()> {
        let network = &self.config.network;
        network
            .teardown(&record.id, netns, &record.config)
            .await
            .map_err(|source| RuntimeError::Network {
                id: record.id.clone(),
                source,
            })
    }

    /// Removes a sandbox's parent group, unless another sandbox of its pod has it as well.
    async fn prune_cgroup_parent(&self, id: &str, parent: &str) {
        let _parents = self.cgroup_parents.lock().await;
        let shared = self.all_sandboxes().iter().any(|other| {
            let state = lock(&other.state);
            other.id != id && state.record.phase == Phase::Ready && state.record.config.cgroup_parent == parent
        });
        if !shared {
            self.cgroups.prune(parent, &self.config.cgroup_root);
        }
    }

    pub(super) async fn stop_pod_sandbox(self: Arc<Self>, id: String) -> Result<()> {
        let Some(sandbox) = self.find_sandbox(&id) else {
            return Ok(());
        };
        let _verb = sandbox.verbs.lock().await;
        self.stop_locked(&sandbox).await
    }

    /// The caller holds the sandbox's verbs.
    async fn stop_locked(&self, sandbox: &Sandbox) -> Result<()> {
        if !sandbox.is_ready() {
            return Ok(());
        }
        let shim = lock(&sandbox.state).shim;
        // Held open, so that the network can be taken down after the shim has ended.
        let netns = shim.and_then(|shim| {
            let file = fs::File::open(netns_of(shim)).ok()?;
            process_alive(shim.pid, shim.start_time).then_some(file)
        });
        let shutdown = tokio::time::timeout(SHUTDOWN_PATIENCE, call(&sandbox.dir, &Request::Shutdown)).await;
        if !matches!(shutdown, Ok(Ok(Response::Done))) {
            tracing::warn!(sandbox = %sandbox.id, "the shim did not end its containers; killing all");
        }
        self.settle_stopped(sandbox, netns).await
    }

    /// Makes sure that nothing of a sandbox runs, and records that it is stopped.
    async fn settle_stopped(&self, sandbox: &Sandbox, netns: Option<fs::File>) -> Result<()> {
        let (shim, cgroups) = {
            let state = lock(&sandbox.state);
            let cgroups = state
                .containers
                .values()
                .map(|container| lock(&container.record).cgroup.clone())
                .collect();
            (state.shim, cgroups)
        };
        self.end_processes(shim, cgroups).await?;
        for container in sandbox.containers() {
            self.settle_container(&container);
        }
        let mut record = lock(&sandbox.state).record.clone();
        if record.network_attached {
            use std::os::fd::AsRawFd;
            let path = netns
                .as_ref()
                .map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())));
            self.teardown(&record, path.as_deref()).await?;
        }
        record.network_attached = false;
        record.phase = Phase::Stopped;
        records::write(&sandbox.dir.record(), &record)?;
        {
            let mut state = lock(&sandbox.state);
            state.record = record;
            state.shim = None;
        }
        self.emit(RuntimeEvent::SandboxStopped {
            sandbox_id: sandbox.id.clone(),
        });
        Ok(())
    }

    /// A container whose processes are known to be gone.
    fn settle_container(&self, container: &super::Container) {
        self.load_exit(container);
        let run = container.run();
        if let Some(run) = run {
            let exit = lost_exit();
            if let Err(error) = records::write(&container.dir.exit(), &exit) {
                tracing::warn!(container = %container.id, %error, "cannot record that a container ended");
            }
            self.set_exited(container, Some(run), exit);
        }
    }

    pub(super) async fn remove_pod_sandbox(self: Arc<Self>, id: String) -> Result<()> {
        let Some(sandbox) = self.find_sandbox(&id) else {
            return Ok(());
        };
        let _verb = sandbox.verbs.lock().await;
        self.stop_locked(&sandbox).await?;
        let mut record = lock(&sandbox.state).record.clone();
        record.phase = Phase::Removing;
        records::write(&sandbox.dir.record(), &record)?;
        self.destroy(&sandbox.dir, &record).await?;
        lock(&self.sandboxes).remove(&id);
        let containers = std::mem::take(&mut lock(&sandbox.state).containers);
        for (container_id, container) in containers {
            lock(&container.layers).take();
            self.emit(RuntimeEvent::ContainerRemoved {
                sandbox_id: id.clone(),
                container_id,
            });
        }
        self.images.collect_layers();
        self.emit(RuntimeEvent::SandboxRemoved { sandbox_id: id });
        Ok(())
    }

    /// Follows a shim's events, in a task that ends with the shim or the runtime.
    pub(super) fn watch(self: &Arc<Self>, sandbox: Arc<Sandbox>) {
        let runtime = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Err(error) = follow(&runtime, &sandbox).await {
                tracing::debug!(sandbox = %sandbox.id, %error, "a shim's events ended");
            }
            if let Some(runtime) = runtime.upgrade() {
                runtime.shim_ended(&sandbox).await;
            }
        });
    }

    /// A shim is gone, or does not answer. If nobody stopped it, the sandbox is lost.
    async fn shim_ended(&self, sandbox: &Sandbox) {
        let _verb = sandbox.verbs.lock().await;
        if !sandbox.is_ready() {
            return;
        }
        tracing::warn!(sandbox = %sandbox.id, "a pod's shim died; the pod is stopped");
        if let Err(error) = self.settle_stopped(sandbox, None).await {
            tracing::error!(sandbox = %sandbox.id, %error, "cannot stop a pod whose shim died");
        }
    }

    /// Takes over from its record that a container runs.
    pub(super) fn load_run(&self, container: &super::Container) {
        let Ok(Some(run)) = records::read::<RunRecord>(&container.dir.running()) else {
            return;
        };
        let changed = container.life.send_if_modified(|life| {
            // It may have ended already.
            let created = matches!(life, Life::Created);
            if created {
                *life = Life::Running(run);
            }
            created
        });
        if changed {
            self.emit(RuntimeEvent::ContainerStarted {
                sandbox_id: container.sandbox_id.clone(),
                container_id: container.id.clone(),
            });
        }
    }

    /// Takes a container's end over from its records, if it is recorded.
    pub(super) fn load_exit(&self, container: &super::Container) {
        match records::read::<ExitRecord>(&container.dir.exit()) {
            Ok(Some(exit)) => {
                let run = records::read::<RunRecord>(&container.dir.running()).ok().flatten();
                self.set_exited(container, run, exit);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(container = %container.id, %error, "cannot read how a container ended"),
        }
    }

    fn set_exited(&self, container: &super::Container, run: Option<RunRecord>, exit: ExitRecord) {
        let changed = container.life.send_if_modified(|life| {
            let first = !matches!(life, Life::Exited(..));
            if first {
                *life = Life::Exited(run, exit);
            }
            first
        });
        if changed {
            self.emit(RuntimeEvent::ContainerExited {
                sandbox_id: container.sandbox_id.clone(),
                container_id: container.id.clone(),
            });
        }
    }
}

async fn follow(runtime: &Weak<Inner>, sandbox: &Sandbox) -> io::Result<()> {
    let known_to_run: Vec<_> = sandbox
        .containers()
        .into_iter()
        .filter(|container| container.run().is_some())
        .collect();
    let mut connection = ShimConnection::open(&sandbox.dir).await?;
    connection.send(&Request::Watch, &[]).await?;
    let Response::State(state) = connection.response().await? else {
        return Err(io::Error::other("the pod's shim answered out of turn"));
    };
    // What ended or came up while nobody watched.
    if let Some(runtime) = runtime.upgrade() {
        for container in known_to_run
            .iter()
            .filter(|container| !state.running.contains(&container.id))
        {
            runtime.settle_container(container);
        }
        for container in sandbox.containers() {
            if state.running.contains(&container.id) {
                runtime.load_run(&container);
            } else {
                // It may have come up and ended since it was asked what runs.
                runtime.load_exit(&container);
            }
        }
    }
    drop(known_to_run);
    loop {
        let (Kind::Event, payload) = connection.next().await? else {
            continue;
        };
        let event: Event = serde_json::from_slice(&payload).map_err(io::Error::other)?;
        let Some(runtime) = runtime.upgrade() else {
            return Ok(());
        };
        let (Event::Started { id } | Event::Exited { id } | Event::Oom { id }) = &event;
        let Some(container) = lock(&sandbox.state).containers.get(id).cloned() else {
            continue;
        };
        match event {
            Event::Started { .. } => runtime.load_run(&container),
            Event::Exited { .. } => runtime.load_exit(&container),
            Event::Oom { id } => {
                runtime.emit(RuntimeEvent::ContainerOom {
                    sandbox_id: sandbox.id.clone(),
                    container_id: id,
                });
            }
        }
    }
}

/// For a container whose exit code nobody saw.
pub(super) fn lost_exit() -> ExitRecord {
    ExitRecord {
        exit_code: 137,
        reason: reason::CONTAINER_STATUS_UNKNOWN.to_owned(),
        message: "The container could not be located when the pod was terminated".to_owned(),
        finished_at: Timestamp::now(),
    }
}

/// Whether a container's folder is complete.
pub(super) fn is_complete(dir: &ContainerDir) -> bool {
    dir.record().exists()
}

fn resolv_conf(dns: Option<&DnsConfig>) -> Vec<u8> {
    let Some(dns) = dns else {
        // A machine without resolver has none to give.
        return fs::read("/etc/resolv.conf").unwrap_or_default();
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_as_the_kubelet_writes_it() {
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["ns.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            String::from_utf8(resolv_conf(Some(&dns))).unwrap(),
            "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }
}
