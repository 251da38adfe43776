//! The Node's status (pkg/kubelet/nodestatus/setters.go).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::context::Context;
use crate::machine::Load;

/// Images shown at most, the largest ones.
const MAX_IMAGES: usize = 50;
/// Names of an image shown at most.
const MAX_NAMES: usize = 5;

/// What the machine has for pods.
pub(crate) fn capacity(ctx: &Context) -> BTreeMap<String, Quantity> {
    let disk = ctx.config.machine.filesystem(ctx.data_dir()).unwrap_or_default();
    BTreeMap::from([
        ("cpu".to_string(), Quantity(ctx.facts.cpus.to_string())),
        (
            "memory".to_string(),
            Quantity(format!("{}Ki", ctx.facts.memory_bytes / 1024)),
        ),
        (
            "ephemeral-storage".to_string(),
            Quantity(format!("{}Ki", disk.capacity / 1024)),
        ),
        ("pods".to_string(), Quantity(ctx.config.max_pods.to_string())),
    ])
}

/// Whether the machine runs short of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub memory: bool,
    /// Bytes of the disk.
    pub disk: bool,
    /// Files of the disk.
    pub inodes: bool,
    pub pids: bool,
}

pub(crate) fn pressure(ctx: &Context) -> Pressure {
    let Load {
        memory_available,
        pids,
        max_pids,
        ..
    } = ctx.config.machine.load();
    let disk = ctx.config.machine.filesystem(ctx.data_dir()).unwrap_or_default();
    let least = &ctx.config.thresholds;
    Pressure {
        memory: memory_available > 0 && least.memory.is_short(memory_available, ctx.facts.memory_bytes),
        disk: least.met_disk(&disk).is_some(),
        inodes: least.met_inodes(&disk).is_some(),
        pids: least.pids.is_short(max_pids.saturating_sub(pids), max_pids),
    }
}

/// The status now; `previous` for the times of conditions.
pub(crate) async fn status(ctx: &Context, previous: Option<&NodeStatus>) -> NodeStatus {
    let now = ctx.clock.now();
    let capacity = capacity(ctx);
    let addresses = ctx.config.ips.iter().map(|ip| ("InternalIP", ip.to_string()));
    let addresses = addresses.chain([("Hostname", ctx.config.name.clone())]);
    let addresses = addresses
        .map(|(kind, address)| NodeAddress {
            type_: kind.to_string(),
            address,
        })
        .collect();
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(ctx, previous, now).await),
        // The API server need not translate WebSockets for this agent.
        declared_features: Some(vec!["ExtendWebSocketsToKubelet".to_owned()]),
        daemon_endpoints: ctx.config.server.as_ref().map(|server| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(server.listen.port()),
            }),
        }),
        images: Some(images(ctx).await),
        node_info: Some(info(ctx)),
        ..NodeStatus::default()
    }
}

fn info(ctx: &Context) -> NodeSystemInfo {
    let facts = &ctx.facts;
    NodeSystemInfo {
        architecture: facts.architecture.clone(),
        boot_id: facts.boot_id.clone(),
        container_runtime_version: ctx.runtime_name.clone(),
        kernel_version: facts.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: ctx.config.version.clone(),
        machine_id: facts.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: facts.os_image.clone(),
        system_uuid: facts.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

async fn images(ctx: &Context) -> Vec<ContainerImage> {
    let mut all = ctx.runtime().list_images().await.unwrap_or_default();
    all.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
    let shown = all.into_iter().take(MAX_IMAGES).map(|image| ContainerImage {
        names: Some(
            image
                .repo_digests
                .into_iter()
                .chain(image.repo_tags)
                .take(MAX_NAMES)
                .collect(),
        ),
        size_bytes: i64::try_from(image.size_bytes).ok(),
    });
    shown.collect()
}

async fn conditions(ctx: &Context, previous: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let pressure = pressure(ctx);
    let ready = match ctx.runtime().status().await {
        Ok(status) => {
            let why = status.runtime_not_ready.or(status.network_not_ready);
            why.map(|why| format!("container runtime is not ready: {why}"))
        }
        Err(error) => Some(format!("container runtime status check failed: {error}")),
    };
    let under = |kind, is: bool, good: (&'static str, &'static str), bad: (&'static str, &'static str)| {
        let (reason, message) = if is { bad } else { good };
        condition(kind, is, reason, message, previous, now)
    };
    vec![
        under(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            (
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
        ),
        under(
            "DiskPressure",
            pressure.disk || pressure.inodes,
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ),
        under(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ),
        match ready {
            None => condition(
                "Ready",
                true,
                "KubeletReady",
                "kubelet is posting ready status",
                previous,
                now,
            ),
            Some(why) => condition("Ready", false, "KubeletNotReady", &why, previous, now),
        },
    ]
}

/// A condition; its transition time is the previous one's unless the status changed.
pub(crate) fn condition(
    kind: &str,
    is: bool,
    reason: &str,
    message: &str,
    previous: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeCondition {
    let status = if is { "True" } else { "False" };
    let old = previous
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten()
        .find(|c| c.type_ == kind);
    let now = Some(Time(podlife::whole_seconds(now)));
    let kept = old
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    NodeCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_heartbeat_time: now.clone(),
        last_transition_time: kept.or(now),
    }
}

/// Whether the two say the same, heartbeats aside.
pub(crate) fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        status
            .conditions
            .iter_mut()
            .flatten()
            .for_each(|c| c.last_heartbeat_time = None);
        status
    };
    plain(a) == plain(b)
}
