//! Giving memory back before the kernel takes it: the pod furthest above its requests goes (pkg/kubelet/eviction).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use podlife::reclaim::{PodUse, first_to_evict};
use podlife::{amount, qos, resources};
use runtime::PodSandboxStats;

use crate::context::Context;
use crate::node_status;
use crate::worker;

/// How often free memory is looked at (upstream's housekeeping interval).
const EVERY: Duration = Duration::from_secs(10);
/// Pods of this priority and above are needed for the node or cluster to work.
const CRITICAL: i32 = 2_000_000_000;

/// Runs until the node stops. One pod at a time: the next only when memory is still short after it has gone.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut evicted: Option<String> = None;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if !node_status::pressure(&ctx).memory {
            evicted = None;
            continue;
        }
        if let Some(uid) = &evicted
            && worker::sandboxes(&ctx, uid)
                .await
                .is_ok_and(|all| all.iter().any(is_ready))
        {
            continue;
        }
        evicted = evict_one(&ctx).await;
    }
}

fn is_ready(sandbox: &runtime::PodSandboxStatus) -> bool {
    sandbox.state == runtime::PodSandboxState::Ready
}

async fn evict_one(ctx: &Context) -> Option<String> {
    let mut uses = Vec::new();
    let mut found = Vec::new();
    for pod in ctx.pods.list() {
        let Some(stats) = stats(ctx, &pod).await else { continue };
        uses.push(usage(&pod, &stats));
        found.push((pod, stats));
    }
    let uid = first_to_evict(&uses)?.uid.clone();
    let (pod, stats) = found
        .iter()
        .find(|(pod, _)| pod.metadata.uid.as_deref() == Some(&uid))?;
    let message = message(ctx, pod, stats);
    tracing::warn!(
        pod = podlife::spec::display(pod),
        "evicting a pod: the machine is short of memory"
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

fn usage(pod: &Pod, stats: &PodSandboxStats) -> PodUse {
    let spec = pod.spec.clone().unwrap_or_default();
    let priority = spec.priority.unwrap_or(0);
    PodUse {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        qos: qos::class(&spec),
        priority,
        used: stats.memory.working_set_bytes,
        requested: u64::try_from(resources::pod_memory_request(&spec)).unwrap_or(0),
        critical: priority >= CRITICAL,
    }
}

fn message(ctx: &Context, pod: &Pod, stats: &PodSandboxStats) -> String {
    let available = ctx.config.machine.load().memory_available;
    let mut out = format!(
        "The node was low on resource: memory. Threshold quantity: {}, available: {}Ki. ",
        ctx.config.thresholds.memory,
        available >> 10
    );
    for container in &stats.containers {
        let used = container.memory.working_set_bytes;
        let spec = pod
            .spec
            .as_ref()
            .and_then(|spec| podlife::spec::find(spec, &container.name))
            .map(|(_, c)| c);
        let request = spec
            .as_ref()
            .and_then(|c| resources::request(c.resources.as_ref(), "memory"));
        if request.map_or(0, amount::value) < i64::try_from(used).unwrap_or(i64::MAX) {
            let asked = request.map_or("0", |quantity| quantity.0.as_str());
            out.push_str(&format!(
                "Container {} was using {}Ki, request is {asked}, has larger consumption of memory. ",
                container.name,
                used >> 10
            ));
        }
    }
    out
}
