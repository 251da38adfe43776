//! Simulated nodes, for trying a control plane without root, for tests and measurements with many nodes (upstream's
//! kubemark, and KWOK).
//!
//! ```text
//!   nodes: one task ── registers all, then renews a lease every RENEW / N; one watch ──► extended resources
//!   pods:  one watch ──► stages ──► timers (one heap) ──► requests, CONCURRENCY at a time
//! ```
//!
//! Guarantees: a pod is in at most one request at a time, and is judged again by what came of it. Nothing is kept of a
//! pod for which no stage is due. Does not know: which API server it talks to.

mod extended;
mod nodes;
mod path;
mod pods;
mod stages;
mod status;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use client::Client;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
pub use stages::{StageError, Stages};

/// Requests about nodes, and about pods, under way at a time.
const CONCURRENCY: usize = 128;

/// The first node's address, 127.1.0.1: each has one of its own, at which nobody answers but this machine.
const FIRST_ADDRESS: u32 = 0x7f01_0001;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct HollowConfig {
    /// Names of the nodes.
    pub names: Vec<String>,
    /// Who makes the Node objects and says how they are.
    pub registration: Registration,
    /// Capacity and allocatable resources of each node.
    pub capacity: BTreeMap<String, String>,
    /// Labels of each node, beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Zones that the nodes are in, one after the other.
    pub zones: Vec<String>,
    /// Taints of each node.
    pub taints: Vec<Value>,
    /// What becomes of pods.
    pub stages: Stages,
    /// Transitions of pods a second at most.
    pub rate: Option<f64>,
}

/// Who makes the Node objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The simulated nodes themselves.
    OwnNodes,
    /// Somebody else, before; the simulation renews their leases and runs their pods.
    Others,
}

impl HollowConfig {
    /// `hollow-0` to `hollow-<count-1>`, with the stages that are the default.
    pub fn new(count: usize) -> HollowConfig {
        let capacity = [
            ("cpu", "32"),
            ("memory", "128Gi"),
            ("ephemeral-storage", "1Ti"),
            ("pods", "110"),
        ];
        HollowConfig {
            names: (0..count).map(|n| format!("hollow-{n}")).collect(),
            registration: Registration::OwnNodes,
            capacity: capacity
                .map(|(name, amount)| (name.to_owned(), amount.to_owned()))
                .into(),
            labels: BTreeMap::new(),
            zones: Vec::new(),
            taints: Vec::new(),
            stages: Stages::default(),
            rate: None,
        }
    }
}

/// Simulated nodes that run.
pub struct Hollow {
    tracker: TaskTracker,
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    clock: Clock,
    config: HollowConfig,
    /// The nodes' addresses, by name.
    addresses: HashMap<String, Ipv4Addr>,
    permits: Semaphore,
    next_ip: AtomicU32,
    transitions: AtomicU64,
    stop: CancellationToken,
}

impl Hollow {
    /// Starts `count` nodes of the usual kind, until `shutdown`. The client needs the rights of nodes.
    pub fn start(client: Client, count: usize, shutdown: CancellationToken) -> Hollow {
        Hollow::start_with(client, HollowConfig::new(count), shutdown)
    }

    /// Starts the nodes, until `shutdown`.
    pub fn start_with(client: Client, config: HollowConfig, shutdown: CancellationToken) -> Hollow {
        let shared = Arc::new(Shared {
            client,
            clock: Clock::system(),
            addresses: config
                .names
                .iter()
                .cloned()
                .zip((FIRST_ADDRESS..).map(Ipv4Addr::from))
                .collect(),
            config,
            permits: Semaphore::new(CONCURRENCY),
            next_ip: AtomicU32::new(0),
            transitions: AtomicU64::new(0),
            stop: shutdown.child_token(),
        });
        let tracker = TaskTracker::new();
        for part in [Part::Nodes, Part::Resources, Part::Pods] {
            let shared = shared.clone();
            tracker.spawn(async move {
                let stop = shared.stop.clone();
                match part {
                    Part::Nodes => stop.run_until_cancelled(nodes::keep(shared)).await,
                    Part::Resources => stop.run_until_cancelled(extended::keep(shared)).await,
                    Part::Pods => stop.run_until_cancelled(pods::run(shared)).await,
                };
            });
        }
        tracker.close();
        Hollow { tracker, shared }
    }

    /// Names of the nodes.
    pub fn names(&self) -> &[String] {
        &self.shared.config.names
    }

    /// How many times a pod was brought into another state so far.
    pub fn transitions(&self) -> u64 {
        self.shared.transitions.load(Ordering::Relaxed)
    }

    /// Waits until all tasks have ended after the shutdown.
    pub async fn stopped(self) {
        self.tracker.wait().await;
    }
}

enum Part {
    Nodes,
    Resources,
    Pods,
}

impl Drop for Hollow {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
