//! Probes: for each running container and kind a task that tries, counts (by `podlife::probe`) and tells the worker
//! when a verdict changes (pkg/kubelet/prober).

mod attempt;
mod grpc;
pub(crate) mod http;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, Probe};
use parking_lot::Mutex;
use podlife::probe::{Around, Kind, Prober};
use podlife::{ContainerState, ProbeResult, ProbeResults, RuntimeStatus, spec};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::context::Context;
use crate::recorder::Type;

/// The probes of a pod.
pub(crate) struct ProbeSet {
    ctx: Arc<Context>,
    running: HashMap<(String, Kind), Running>,
    shared: Arc<Shared>,
}

struct Running {
    around: watch::Sender<Around>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Shared {
    results: Mutex<ProbeResults>,
    changed: Notify,
}

fn map_of(results: &mut ProbeResults, kind: Kind) -> &mut std::collections::BTreeMap<String, ProbeResult> {
    match kind {
        Kind::Startup => &mut results.startup,
        Kind::Liveness => &mut results.liveness,
        Kind::Readiness => &mut results.readiness,
    }
}

/// What one task probes.
pub(crate) struct Target {
    pub ctx: Arc<Context>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub probe: Probe,
    pub id: String,
    pub ip: Option<IpAddr>,
}

impl ProbeSet {
    pub fn new(ctx: Arc<Context>) -> ProbeSet {
        ProbeSet {
            ctx,
            running: HashMap::new(),
            shared: Arc::default(),
        }
    }

    /// The verdicts now.
    pub fn results(&self) -> ProbeResults {
        self.shared.results.lock().clone()
    }

    /// Some verdict changed.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Has a task for each probe of each running container, and no other.
    pub fn sync(&mut self, pod: &Arc<Pod>, runtime: &RuntimeStatus, previous: &PodStatus) {
        let Some(pod_spec) = pod.spec.as_ref() else { return };
        let deleted = pod.metadata.deletion_timestamp.is_some();
        let ip = match runtime.active_sandbox() {
            Some(sandbox) if !spec::host_network(pod_spec) => sandbox.ips.first().copied(),
            _ => self.ctx.config.ips.first().copied(),
        };
        let mut keep = Vec::new();
        for (_, container) in spec::containers(pod_spec) {
            let kinds = [
                (Kind::Startup, &container.startup_probe),
                (Kind::Liveness, &container.liveness_probe),
                (Kind::Readiness, &container.readiness_probe),
            ];
            let Some(running) = runtime
                .latest(&container.name)
                .filter(|c| c.state == ContainerState::Running)
            else {
                continue;
            };
            for (kind, probe) in kinds {
                let Some(probe) = probe else { continue };
                let key = (running.id.clone(), kind);
                keep.push(key.clone());
                let around = Around {
                    started: self.is_started(&container, &running.id),
                    deleted,
                };
                if let Some(task) = self.running.get(&key) {
                    task.around
                        .send_if_modified(|old| std::mem::replace(old, around) != around);
                    continue;
                }
                let known = known_verdict(previous, &running.id, kind);
                let target = Target {
                    ctx: self.ctx.clone(),
                    pod: pod.clone(),
                    container: container.clone(),
                    probe: probe.clone(),
                    id: running.id.clone(),
                    ip,
                };
                self.start(key, target, running.started_at, known, around);
            }
        }
        self.running.retain(|key, _| keep.contains(key));
        let mut results = self.shared.results.lock();
        for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
            map_of(&mut results, kind).retain(|id, _| keep.contains(&(id.clone(), kind)));
        }
    }

    fn is_started(&self, container: &Container, id: &str) -> bool {
        container.startup_probe.is_none() || self.shared.results.lock().startup.get(id) == Some(&ProbeResult::Success)
    }

    fn start(
        &mut self,
        key: (String, Kind),
        target: Target,
        started_at: Option<Timestamp>,
        known: Option<ProbeResult>,
        around: Around,
    ) {
        let kind = key.1;
        let prober = Prober::new(
            kind,
            &target.probe,
            started_at.unwrap_or_else(|| self.ctx.clock.now()),
            known,
        );
        map_of(&mut self.shared.results.lock(), kind).insert(key.0.clone(), prober.verdict());
        let (around, receiver) = watch::channel(around);
        let task = tokio::spawn(run(target, prober, receiver, self.shared.clone())).abort_handle();
        self.running.insert(key, Running { around, task });
    }
}

/// What was reported of this very container before: the verdict of an agent that ran earlier.
fn known_verdict(previous: &PodStatus, id: &str, kind: Kind) -> Option<ProbeResult> {
    let lists = [&previous.container_statuses, &previous.init_container_statuses];
    let is_it =
        |status: &&ContainerStatus| status.container_id.as_deref().and_then(|full| full.rsplit('/').next()) == Some(id);
    let status = lists.into_iter().flatten().flatten().find(is_it)?;
    let good = match kind {
        Kind::Startup => status.started == Some(true),
        Kind::Readiness => status.ready,
        Kind::Liveness => return None,
    };
    good.then_some(ProbeResult::Success)
}

async fn run(target: Target, mut prober: Prober, mut around: watch::Receiver<Around>, shared: Arc<Shared>) {
    let clock = target.ctx.clock.clone();
    loop {
        let next = prober.next(*around.borrow_and_update());
        tokio::select! {
            changed = around.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = clock.sleep_until(next) => {}
        }
        let outcome = attempt::attempt(&target, prober.timeout()).await;
        report(&target, prober.kind(), &outcome);
        if let Some(verdict) = prober.observe(outcome.result, clock.now()) {
            map_of(&mut shared.results.lock(), prober.kind()).insert(target.id.clone(), verdict);
            shared.changed.notify_one();
        }
    }
}

fn report(target: &Target, kind: Kind, outcome: &attempt::Outcome) {
    let what = match outcome.result {
        ProbeResult::Success => return,
        ProbeResult::Failure => "failed",
        ProbeResult::Unknown => "errored",
    };
    let message = format!("{} probe {what}: {}", kind.as_str(), outcome.message);
    target
        .ctx
        .recorder
        .container(&target.pod, &target.container.name, Type::Warning, "Unhealthy", message);
}
