//! The embedded runtime: [`Runtime`] by libcontainer and overlays, without a daemon.
//!
//! ```text
//! EmbeddedRuntime ── records on disk ── shim (one a pod; see `shim`) ── containers
//! ```
//!
//! What is true is on disk and in the kernel; what is in memory here is a view of it, filled by [`recover`] when the
//! runtime is opened and kept by the shims' events. Verbs run in tasks of their own, so that a caller who stops waiting
//! leaves nothing half done.

mod container;
mod exec;
mod recover;
mod reset;
mod sandbox;
mod shim_client;
mod stats;
mod verbs;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::Flock;
use tokio::sync::{broadcast, watch};

pub use recover::live_pods;
pub use reset::{ResetScope, reset};

use crate::cgroup::Cgroups;
use crate::image::{ImageStore, Pins, Puller};
use crate::records::{
    ContainerDir, ContainerRecord, ExitRecord, Layout, Phase, RunRecord, SandboxDir, SandboxRecord, ShimRecord,
};
use crate::{
    ContainerState, ContainerStatus, Image, ImageError, Mount, PodSandboxState, PodSandboxStatus, Result,
    RuntimeConfig, RuntimeError, RuntimeEvent,
};

#[allow(unused_imports)] // For the documentation's links.
use crate::Runtime;

/// Events that a slow receiver may be behind.
const EVENT_BACKLOG: usize = 1024;
/// How long killed processes are waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    layout: Layout,
    boot_id: String,
    cgroups: Cgroups,
    images: ImageStore,
    puller: Puller,
    events: broadcast::Sender<RuntimeEvent>,
    // Held for look-ups only, never across an await.
    sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    /// Held while parents of containers' groups are made or removed: two sandboxes of one pod share theirs.
    cgroup_parents: tokio::sync::Mutex<()>,
    /// Keeps others out of the data directory.
    _lock: Flock<std::fs::File>,
}

/// A sandbox that is settled (see [`Phase`]).
struct Sandbox {
    id: String,
    dir: SandboxDir,
    /// Held by verbs that change what the sandbox is, also across awaits: one at a time.
    verbs: tokio::sync::Mutex<()>,
    // Held for look-ups and small changes only, never across an await.
    state: Mutex<SandboxState>,
}

struct SandboxState {
    record: SandboxRecord,
    shim: Option<ShimRecord>,
    containers: BTreeMap<String, Arc<Container>>,
}

/// A container.
struct Container {
    id: String,
    dir: ContainerDir,
    sandbox_id: String,
    // Held for look-ups and small changes only, never across an await.
    record: Mutex<ContainerRecord>,
    life: watch::Sender<Life>,
    /// Keeps the image's layers, until the container is removed.
    layers: Mutex<Option<Pins>>,
}

/// Where a container is in its life.
#[derive(Clone, Debug)]
enum Life {
    Created,
    Running(RunRecord),
    Exited(Option<RunRecord>, ExitRecord),
}

/// The state behind a mutex is whole whenever it is not held, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EmbeddedRuntime {
    /// Opens the runtime: takes over the pods that run, and removes what is left of others.
    ///
    /// # Errors
    /// [`RuntimeError::InUse`] if another process has the data directory open.
    pub async fn open(config: RuntimeConfig) -> Result<EmbeddedRuntime> {
        recover::open(config).await
    }

    /// Adds all images for this machine that are in a tar file: an OCI layout, or written by `docker save`; plain, or
    /// compressed by gzip or zstd.
    pub async fn import_images(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        self.inner.images.import(path).await
    }

    /// Makes `skiff.local/hello:latest` of a program, unless it is there and made of this very program.
    pub async fn ensure_hello_image(&self, exe: &Path) -> Result<Image, ImageError> {
        self.inner.images.ensure_hello(exe).await
    }
}

/// A task that we waited for panicked, and so do we; or the process is ending, and with it this task.
async fn ended_early(error: tokio::task::JoinError) -> ! {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_cancelled) => std::future::pending().await,
    }
}

impl Inner {
    fn emit(&self, event: RuntimeEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn find_sandbox(&self, id: &str) -> Option<Arc<Sandbox>> {
        lock(&self.sandboxes).get(id).cloned()
    }

    fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        self.find_sandbox(id).ok_or_else(|| RuntimeError::NotFound {
            what: "pod sandbox",
            id: id.to_owned(),
        })
    }

    fn all_sandboxes(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.sandboxes).values().cloned().collect()
    }

    fn find_container(&self, id: &str) -> Option<(Arc<Sandbox>, Arc<Container>)> {
        self.all_sandboxes().into_iter().find_map(|sandbox| {
            let container = lock(&sandbox.state).containers.get(id).cloned()?;
            Some((sandbox, container))
        })
    }

    fn container(&self, id: &str) -> Result<(Arc<Sandbox>, Arc<Container>)> {
        self.find_container(id).ok_or_else(|| RuntimeError::NotFound {
            what: "container",
            id: id.to_owned(),
        })
    }

    /// Runs something that blocks: waits for processes, removes trees.
    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => ended_early(error).await,
        }
    }
}

impl Sandbox {
    fn new(dir: SandboxDir, record: SandboxRecord, shim: Option<ShimRecord>) -> Sandbox {
        Sandbox {
            id: record.id.clone(),
            dir,
            verbs: tokio::sync::Mutex::new(()),
            state: Mutex::new(SandboxState {
                record,
                shim,
                containers: BTreeMap::new(),
            }),
        }
    }

    fn is_ready(&self) -> bool {
        lock(&self.state).record.phase == Phase::Ready
    }

    fn need_ready(&self) -> Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        Err(RuntimeError::WrongState {
            what: "pod sandbox",
            id: self.id.clone(),
            state: "not ready".to_owned(),
            needed: "ready",
        })
    }

    fn status(&self) -> PodSandboxStatus {
        let state = lock(&self.state);
        let SandboxRecord {
            id,
            created_at,
            config,
            ips,
            phase,
            ..
        } = &state.record;
        PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: if *phase == Phase::Ready {
                PodSandboxState::Ready
            } else {
                PodSandboxState::NotReady
            },
            created_at: *created_at,
            ips: ips.clone(),
            namespaces: config.security_context.namespace_options.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            cgroup_parent: config.cgroup_parent.clone(),
        }
    }

    fn containers(&self) -> Vec<Arc<Container>> {
        lock(&self.state).containers.values().cloned().collect()
    }
}

impl Container {
    fn new(dir: ContainerDir, record: ContainerRecord, life: Life, layers: Pins) -> Container {
        Container {
            id: record.id.clone(),
            dir,
            sandbox_id: record.sandbox_id.clone(),
            record: Mutex::new(record),
            life: watch::Sender::new(life),
            layers: Mutex::new(Some(layers)),
        }
    }

    fn run(&self) -> Option<RunRecord> {
        match &*self.life.borrow() {
            Life::Running(run) => Some(run.clone()),
            _ => None,
        }
    }

    fn wrong_state(&self, needed: &'static str) -> RuntimeError {
        let state = match &*self.life.borrow() {
            Life::Created => "created",
            Life::Running(_) => "running",
            Life::Exited(..) => "exited",
        };
        RuntimeError::WrongState {
            what: "container",
            id: self.id.clone(),
            state: state.to_owned(),
            needed,
        }
    }

    fn status(&self) -> ContainerStatus {
        let record = lock(&self.record);
        let life = self.life.borrow();
        let (state, run, exit) = match &*life {
            Life::Created => (ContainerState::Created, None, None),
            Life::Running(run) => (ContainerState::Running, Some(run), None),
            Life::Exited(run, exit) => (ContainerState::Exited, run.as_ref(), Some(exit)),
        };
        let config = &record.config;
        let image = if config.user_specified_image.is_empty() {
            &config.image
        } else {
            &config.user_specified_image
        };
        let mounts: Vec<Mount> = config.mounts.clone();
        ContainerStatus {
            id: self.id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            state,
            created_at: record.created_at,
            started_at: run.map(|run| run.started_at),
            finished_at: exit.map(|exit| exit.finished_at),
            exit_code: exit.map_or(0, |exit| exit.exit_code),
            reason: exit.map(|exit| exit.reason.clone()).unwrap_or_default(),
            message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
            image: image.clone(),
            image_ref: record.image_ref.clone(),
            image_id: record.image_id.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts,
            log_path: record.log_path.clone(),
            resources: config.resources.clone(),
            pid: run.filter(|_| exit.is_none()).map(|run| run.pid),
            user: run.map(|run| run.user.clone()),
        }
    }
}
