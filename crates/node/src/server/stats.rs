//! `/stats/summary` (kubelet/pkg/apis/stats/v1alpha1).

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::{ContainerStats, CpuUsage, MemoryUsage, PodSandboxFilter, PodSandboxState};
use serde_json::{Value, json};

use super::{Answer, Refusal};
use crate::context::Context;

/// Earlier measurements of CPU time, to tell how much is used now.
#[derive(Default)]
pub(super) struct Samples(Mutex<HashMap<String, (Timestamp, u64)>>);

impl Samples {
    /// Nanoseconds of CPU a second since the last measurement.
    fn rate(&self, key: &str, time: Timestamp, nanos: u64) -> Option<u64> {
        let before = self.0.lock().insert(key.to_string(), (time, nanos))?;
        let span = time.duration_since(before.0).as_nanos();
        let used = nanos.checked_sub(before.1)?;
        (span > 0).then(|| (u128::from(used) * 1_000_000_000 / span.unsigned_abs()) as u64)
    }
}

fn cpu(samples: &Samples, key: &str, time: Timestamp, usage: CpuUsage) -> Value {
    let mut out = json!({"time": time.to_string(), "usageCoreNanoSeconds": usage.usage_core_nano_seconds});
    if let Some(rate) = samples.rate(key, time, usage.usage_core_nano_seconds) {
        out["usageNanoCores"] = json!(rate);
    }
    out
}

fn memory(time: Timestamp, usage: MemoryUsage) -> Value {
    let mut out = json!({
        "time": time.to_string(),
        "usageBytes": usage.usage_bytes,
        "workingSetBytes": usage.working_set_bytes,
        "rssBytes": usage.rss_bytes,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    });
    if usage.available_bytes > 0 {
        out["availableBytes"] = json!(usage.available_bytes);
    }
    out
}

fn container(
    ctx: &Context,
    samples: &Samples,
    stats: &ContainerStats,
    fs: &Value,
    started: Option<Timestamp>,
) -> Value {
    let time = stats.timestamp;
    let mut root = fs.clone();
    root["usedBytes"] = json!(stats.writable_layer_bytes);
    root["inodesUsed"] = json!(stats.writable_layer_inodes);
    let mut logs = fs.clone();
    logs["usedBytes"] = json!(0);
    json!({
        "name": stats.name,
        "startTime": started.unwrap_or(ctx.started_at).to_string(),
        "cpu": cpu(samples, &stats.id, time, stats.cpu),
        "memory": memory(time, stats.memory),
        "rootfs": root,
        "logs": logs,
    })
}

fn filesystem(ctx: &Context, now: Timestamp) -> Value {
    let disk = ctx.config.machine.filesystem(ctx.data_dir()).unwrap_or_default();
    json!({
        "time": now.to_string(),
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.capacity.saturating_sub(disk.available),
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

/// The summary.
pub(super) async fn summary(ctx: &Context, samples: &Samples) -> Answer {
    let now = ctx.clock.now();
    let load = ctx.config.machine.load();
    let fs = filesystem(ctx, now);
    let filter = PodSandboxFilter {
        state: Some(PodSandboxState::Ready),
        ..PodSandboxFilter::default()
    };
    let sandboxes = ctx
        .runtime()
        .list_pod_sandboxes(filter)
        .await
        .map_err(Refusal::internal)?;
    let mut pods = Vec::new();
    for sandbox in sandboxes {
        // One that ends meanwhile has no usage.
        let Ok(stats) = ctx.runtime().pod_sandbox_stats(&sandbox.id).await else {
            continue;
        };
        let mut containers = Vec::new();
        for one in &stats.containers {
            let status = ctx.runtime().container_status(&one.id).await.ok();
            containers.push(container(ctx, samples, one, &fs, status.and_then(|s| s.started_at)));
        }
        let time = stats.timestamp;
        let interfaces: Vec<Value> = stats.network.iter().map(|i| json!({
            "name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors,
        })).collect();
        let mut pod = json!({
            "podRef": {"name": sandbox.metadata.name, "namespace": sandbox.metadata.namespace, "uid": sandbox.metadata.uid},
            "startTime": sandbox.created_at.to_string(),
            "containers": containers,
            "cpu": cpu(samples, &sandbox.id, time, stats.cpu),
            "memory": memory(time, stats.memory),
            "process_stats": {"process_count": stats.process_count},
            "ephemeral-storage": fs,
        });
        if let Some(first) = interfaces.first() {
            let mut network = first.clone();
            network["time"] = json!(time.to_string());
            network["interfaces"] = json!(interfaces);
            pod["network"] = network;
        }
        pods.push(pod);
    }
    let usage = CpuUsage {
        usage_core_nano_seconds: load.cpu_nanos,
    };
    let node = json!({
        "nodeName": ctx.config.name,
        "startTime": ctx.started_at.to_string(),
        "cpu": cpu(samples, "", now, usage),
        "memory": {
            "time": now.to_string(),
            "availableBytes": load.memory_available,
            "usageBytes": load.memory_working_set,
            "workingSetBytes": load.memory_working_set,
        },
        "fs": fs,
        "runtime": {"imageFs": fs, "containerFs": fs},
        "rlimit": {"time": now.to_string(), "maxpid": load.max_pids, "curproc": load.pids},
    });
    Ok(super::json(&json!({"node": node, "pods": pods})))
}
