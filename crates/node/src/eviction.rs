//! Giving memory and disk back before nothing is left: what nobody uses goes first, then the pod furthest above its
//! requests (pkg/kubelet/eviction).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use podlife::reclaim::{PodUse, first_to_evict};
use podlife::{amount, qos, resources};
use runtime::PodSandboxStats;

use crate::context::Context;
use crate::node_status::{self, Pressure};
use crate::recorder::Type;
use crate::thresholds::Left;
use crate::{housekeeping, local_storage, worker};

/// How often is looked at what is left (upstream's housekeeping interval).
const EVERY: Duration = Duration::from_secs(10);
/// Pods of this priority and above are needed for the node or cluster to work.
const CRITICAL: i32 = 2_000_000_000;

/// What is to be given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scarce {
    Memory,
    /// Bytes of the disk.
    Disk,
    /// Files of the disk.
    Inodes,
}

impl Scarce {
    /// Memory before disks, as upstream.
    fn of(pressure: Pressure) -> Option<Scarce> {
        [
            (pressure.memory, Scarce::Memory),
            (pressure.disk, Scarce::Disk),
            (pressure.inodes, Scarce::Inodes),
        ]
        .into_iter()
        .find_map(|(is, what)| is.then_some(what))
    }

    /// As messages name it.
    fn resource(self) -> &'static str {
        match self {
            Scarce::Memory => "memory",
            Scarce::Disk => "ephemeral-storage",
            Scarce::Inodes => "inodes",
        }
    }
}

/// Runs until the node stops. One pod at a time: the next only when something is still short after it has gone.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut evicted: Option<String> = None;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let Some(scarce) = Scarce::of(node_status::pressure(&ctx)) else {
            evicted = None;
            continue;
        };
        if let Some(uid) = &evicted
            && worker::sandboxes(&ctx, uid)
                .await
                .is_ok_and(|all| all.iter().any(is_ready))
        {
            continue;
        }
        let resource = scarce.resource();
        let told = format!("Attempting to reclaim {resource}");
        ctx.recorder.node(Type::Warning, "EvictionThresholdMet", told);
        if scarce != Scarce::Memory {
            housekeeping::remove_unused(&ctx).await;
            if Scarce::of(node_status::pressure(&ctx)).is_none() {
                evicted = None;
                continue;
            }
        }
        evicted = evict_one(&ctx, scarce).await;
    }
}

fn is_ready(sandbox: &runtime::PodSandboxStatus) -> bool {
    sandbox.state == runtime::PodSandboxState::Ready
}

/// What a pod has of the scarce thing, container by container, and in all.
struct Share {
    containers: BTreeMap<String, u64>,
    all: u64,
}

async fn evict_one(ctx: &Context, scarce: Scarce) -> Option<String> {
    let mut uses = Vec::new();
    let mut found = Vec::new();
    for pod in ctx.pods.list() {
        let Some(stats) = stats(ctx, &pod).await else { continue };
        let share = share(ctx, &pod, &stats, scarce).await;
        uses.push(usage(&pod, &share, scarce));
        found.push((pod, share));
    }
    let uid = first_to_evict(&uses)?.uid.clone();
    let (pod, share) = found
        .iter()
        .find(|(pod, _)| pod.metadata.uid.as_deref() == Some(&uid))?;
    let message = message(ctx, pod, share, scarce);
    tracing::warn!(
        pod = podlife::spec::display(pod),
        resource = scarce.resource(),
        "evicting a pod: the machine is short of something"
    );
    ctx.workers.evict(&uid, &message);
    Some(uid)
}

async fn stats(ctx: &Context, pod: &Pod) -> Option<PodSandboxStats> {
    let uid = pod.metadata.uid.as_deref()?;
    let sandboxes = worker::sandboxes(ctx, uid).await.ok()?;
    let sandbox = sandboxes.iter().find(|sandbox| is_ready(sandbox))?;
    ctx.runtime().pod_sandbox_stats(&sandbox.id).await.ok()
}

async fn share(ctx: &Context, pod: &Pod, stats: &PodSandboxStats, scarce: Scarce) -> Share {
    if scarce == Scarce::Memory {
        let each = stats.containers.iter();
        return Share {
            containers: each.map(|c| (c.name.clone(), c.memory.working_set_bytes)).collect(),
            all: stats.memory.working_set_bytes,
        };
    }
    let (bytes, files) = local_storage::usage(ctx, pod).await;
    let used = if scarce == Scarce::Disk { bytes } else { files };
    let all = used.volumes.values().chain(used.containers.values()).sum();
    Share {
        containers: used.containers,
        all,
    }
}

fn usage(pod: &Pod, share: &Share, scarce: Scarce) -> PodUse {
    let spec = pod.spec.clone().unwrap_or_default();
    let priority = spec.priority.unwrap_or(0);
    let requested = match scarce {
        Scarce::Memory => resources::pod_memory_request(&spec),
        Scarce::Disk => resources::pod_storage_request(&spec),
        Scarce::Inodes => 0,
    };
    PodUse {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        qos: qos::class(&spec),
        priority,
        used: share.all,
        requested: u64::try_from(requested).unwrap_or(0),
        critical: priority >= CRITICAL,
    }
}

fn message(ctx: &Context, pod: &Pod, share: &Share, scarce: Scarce) -> String {
    let resource = scarce.resource();
    let (threshold, available) = met(ctx, scarce);
    let mut out =
        format!("The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {available}. ");
    if scarce == Scarce::Inodes {
        return out;
    }
    for (name, used) in &share.containers {
        let spec = pod
            .spec
            .as_ref()
            .and_then(|spec| podlife::spec::find(spec, name))
            .map(|(_, c)| c);
        let request = spec
            .as_ref()
            .and_then(|c| resources::request(c.resources.as_ref(), resource));
        if request.map_or(0, amount::value) < i64::try_from(*used).unwrap_or(i64::MAX) {
            let asked = request.map_or("0", |quantity| quantity.0.as_str());
            out.push_str(&format!(
                "Container {name} was using {}Ki, request is {asked}, has larger consumption of {resource}. ",
                used >> 10
            ));
        }
    }
    out
}

/// The threshold that is met, as an amount, and what there is.
fn met(ctx: &Context, scarce: Scarce) -> (String, String) {
    let least = &ctx.config.thresholds;
    let disk = ctx.config.machine.filesystem(ctx.data_dir()).unwrap_or_default();
    let of = |left: Left, all: u64| match left {
        Left::Percent(percent) => Left::Amount((all as f64 * percent / 100.0) as u64),
        amount => amount,
    };
    match scarce {
        Scarce::Memory => {
            let available = ctx.config.machine.load().memory_available;
            let least = of(least.memory, ctx.facts.memory_bytes);
            (least.to_string(), format!("{}Ki", available >> 10))
        }
        Scarce::Disk => {
            let left = least.met_disk(&disk).unwrap_or(least.disk);
            let available = format!("{}Ki", disk.available >> 10);
            (of(left, disk.capacity).to_string(), available)
        }
        Scarce::Inodes => {
            let left = least.met_inodes(&disk).unwrap_or(least.inodes);
            let available = disk.inodes_free.to_string();
            (of(left, disk.inodes).in_numbers(), available)
        }
    }
}
