//! A node of the cluster: what upstream calls the kubelet.
//!
//! ```text
//!   API ──watch──> pods ──> Worker (one a pod) ──podlife──> runtime::Runtime
//!    ^                        │  │  │                          │
//!    └── status, events ──────┘  │  └── volumes, probes, hooks │
//!                                └────────── events ───────────┘
//!   Node object, lease, HTTPS API (logs, exec, attach, port-forward, stats), housekeeping
//! ```
//!
//! Invariants:
//! - What to do with a pod is decided in `podlife`, from everything that is true at the moment; a worker only carries
//!   it out. A worker that starts anew finds what runs by labels and goes on.
//! - Pods are told apart by UID. Whatever has the UID of no pod in the API is ended, but only once the API was read.
//! - The node goes away without its pods: stopping it leaves containers running.
//! - Files that containers can reach are opened beneath their volume.
//!
//! Does not know: how containers and networks are made, scheduling, other nodes.
#![warn(missing_docs)]

mod clock;
mod config;
mod context;
mod eviction;
mod extended;
pub mod hollow;
mod hooks;
mod housekeeping;
pub mod labels;
mod local_storage;
mod log_file;
pub mod machine;
mod network;
mod node_status;
mod paths;
mod pods;
mod probes;
mod recorder;
mod registration;
mod server;
mod sources;
mod thresholds;
mod volumes;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;

use client::{Cache, CacheOptions};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use clock::Clock;
pub use config::{NodeConfig, ServerConfig};
pub use hollow::Hollow;
pub use network::NodeNetwork;
pub use registration::LEASES;
pub use thresholds::{Left, ThresholdError, Thresholds};

use context::{Context, Workers};
use recorder::{Recorder, Type};
use sources::Sources;

/// Why a node cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its folder cannot be made.
    #[error("cannot make {path}: {source}; is the disk full, or the data directory not writable?")]
    DataDir {
        /// The folder.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Its HTTPS API cannot be served.
    #[error("cannot serve the node's API on {address}: {source}; is another kubelet running on this machine?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The runtime does not answer.
    #[error("the container runtime does not answer")]
    Runtime(#[from] runtime::RuntimeError),
    /// No address was given.
    #[error("node {0} has no address; give it one with --node-ip")]
    NoAddress(String),
}

/// A running node. Dropping it stops it; so does the token it was started with.
pub struct Node {
    stop: CancellationToken,
    tracker: TaskTracker,
    ready: watch::Receiver<bool>,
    address: Option<SocketAddr>,
    pods: Cache<k8s_openapi::api::core::v1::Pod>,
}

impl Node {
    /// Starts a node, until `shutdown`. Answers at once; [`Node::ready`] tells when it is registered and Ready.
    ///
    /// # Errors
    /// The data directory, the runtime or the address cannot be used.
    pub async fn start(config: NodeConfig, shutdown: CancellationToken) -> Result<Node, NodeError> {
        Node::start_with_clock(config, Clock::system(), shutdown).await
    }

    /// As [`Node::start`], with a clock of its own.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with_clock(
        config: NodeConfig,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Result<Node, NodeError> {
        if config.ips.is_empty() {
            return Err(NodeError::NoAddress(config.name));
        }
        let pods_dir = paths::pods(&config.data_dir);
        std::fs::create_dir_all(&pods_dir).map_err(|source| NodeError::DataDir { path: pods_dir, source })?;
        let stop = shutdown.child_token();
        let (ctx, listener) = open(config, clock, stop.clone()).await?;
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let tracker = TaskTracker::new();
        let (is_ready, ready) = watch::channel(false);
        if let Some(listener) = listener {
            tracker.spawn(server::serve(ctx.clone(), listener));
        }
        tracker.spawn(pods::dispatch(ctx.clone(), tracker.clone()));
        tracker.spawn(housekeeping::run(ctx.clone()));
        tracker.spawn(eviction::run(ctx.clone()));
        tracker.spawn(local_storage::run(ctx.clone()));
        tracker.spawn(keep_registered(ctx.clone(), is_ready));
        Ok(Node {
            stop,
            tracker,
            ready,
            address,
            pods: ctx.pods.clone(),
        })
    }

    /// Waits until the node is registered and reported Ready; false if it was stopped before.
    pub async fn ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// Where its HTTPS API is served.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The pods of this node.
    pub fn pods(&self) -> &Cache<k8s_openapi::api::core::v1::Pod> {
        &self.pods
    }

    /// Stops the node and waits for its tasks. Its pods go on running.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn open(
    mut config: NodeConfig,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(Arc<Context>, Option<tokio::net::TcpListener>), NodeError> {
    let version = config.runtime.version().await?;
    let listener = match &mut config.server {
        None => None,
        Some(server) => {
            let address = server.listen;
            let failed = |source| NodeError::Listen { address, source };
            let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
            server.listen = listener.local_addr().map_err(failed)?;
            Some(listener)
        }
    };
    let client = config.client.clone();
    let workers = Arc::new(Workers::default());
    let told = workers.clone();
    let pods = CacheOptions {
        field_selector: format!("spec.nodeName={}", config.name),
        ..CacheOptions::default()
    };
    let services = config.services.clone();
    let ctx = Context {
        recorder: Recorder::start(client.clone(), &config.name, clock.clone(), stop.clone()),
        services: services.unwrap_or_else(|| Cache::start(client.of(), CacheOptions::default(), &stop)),
        sources: Sources::new(client.clone(), stop.clone(), move |uid| told.sources_changed(uid)),
        pods: Cache::start(client.of(), pods, &stop),
        workers,
        tokens: volumes::Tokens::default(),
        facts: config.machine.facts(),
        started_at: clock.now(),
        runtime_name: format!("{}://{}", version.runtime_name, version.runtime_version),
        clock,
        config,
        stop,
    };
    Ok((Arc::new(ctx), listener))
}

/// Registers the node, then keeps its status and lease.
async fn keep_registered(ctx: Arc<Context>, is_ready: watch::Sender<bool>) {
    let node = tokio::select! {
        node = registration::register(&ctx) => node,
        () = ctx.stop.cancelled() => return,
    };
    ctx.recorder.node(Type::Normal, "Starting", "Starting kubelet.");
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = |c: &k8s_openapi::api::core::v1::NodeCondition| c.type_ == "Ready" && c.status == "True";
    if conditions.into_iter().flatten().any(ready) {
        ctx.recorder.node(
            Type::Normal,
            "NodeReady",
            format!("Node {} status is now: NodeReady", ctx.config.name),
        );
    }
    is_ready.send_replace(true);
    let uid = node.metadata.uid.clone().unwrap_or_default();
    let changed = Arc::new(Notify::new());
    tokio::join!(
        registration::keep_lease(
            ctx.client().clone(),
            ctx.config.name.clone(),
            uid,
            ctx.clock.clone(),
            ctx.stop.clone()
        ),
        registration::keep_status(ctx.clone(), node, changed),
    );
}
