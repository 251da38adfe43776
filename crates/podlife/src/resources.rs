//! Requests and limits as control group values (pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos/policy.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Qos, amount, qos, spec};

const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// The period that quotas are given for, microseconds.
pub const QUOTA_PERIOD: u64 = 100_000;
const MIN_QUOTA: i64 = 1_000;

/// Control group values of a container or a pod; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// cpu.shares.
    pub cpu_shares: u64,
    /// cpu.cfs_quota_us, for [`QUOTA_PERIOD`].
    pub cpu_quota: Option<i64>,
    /// memory.limit_in_bytes.
    pub memory_limit: Option<i64>,
    /// By page size such as `2MB`.
    pub hugepages: BTreeMap<String, u64>,
}

/// Shares of so many thousandths of a CPU.
pub fn shares(milli_cpu: i64) -> u64 {
    if milli_cpu <= 0 {
        return MIN_SHARES;
    }
    (milli_cpu as u64 * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Quota of so many thousandths of a CPU; `None` without a limit.
pub fn quota(milli_cpu: i64) -> Option<i64> {
    (milli_cpu > 0).then(|| (milli_cpu.saturating_mul(QUOTA_PERIOD as i64) / 1000).max(MIN_QUOTA))
}

fn lookup<'a>(list: Option<&'a BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list.and_then(|list| list.get(name))
}

/// The request for the resource, falling back on the limit.
pub fn request<'a>(resources: Option<&'a ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    let resources = resources?;
    lookup(resources.requests.as_ref(), name).or_else(|| lookup(resources.limits.as_ref(), name))
}

/// The limit of the resource.
pub fn limit<'a>(resources: Option<&'a ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    lookup(resources?.limits.as_ref(), name)
}

/// Values of a container's control group. Pod-level limits stand in for missing ones.
pub fn container_cgroup(pod_spec: &PodSpec, container: &Container) -> Cgroup {
    let own = container.resources.as_ref();
    let pod = pod_spec.resources.as_ref();
    let cpu_limit = limit(own, "cpu").or_else(|| limit(pod, "cpu")).map_or(0, amount::milli);
    let memory_limit = limit(own, "memory")
        .or_else(|| limit(pod, "memory"))
        .map_or(0, amount::value);
    Cgroup {
        cpu_shares: shares(request(own, "cpu").map_or(0, amount::milli)),
        cpu_quota: quota(cpu_limit),
        memory_limit: (memory_limit > 0).then_some(memory_limit),
        hugepages: hugepages(own),
    }
}

fn hugepages(resources: Option<&ResourceRequirements>) -> BTreeMap<String, u64> {
    let limits = resources.and_then(|r| r.limits.as_ref()).into_iter().flatten();
    let pages = limits.filter_map(|(name, quantity)| {
        let size = name.strip_prefix("hugepages-")?;
        Some((
            format!("{}B", size.trim_end_matches('i')),
            u64::try_from(amount::value(quantity)).ok()?,
        ))
    });
    pages.collect()
}

/// What a pod needs of a resource: the larger of what runs at the end and the most any init step needs, and the
/// overhead (KEP-753). `of` reads one container's amount.
fn effective(pod_spec: &PodSpec, overhead: i64, of: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut peak) = (0i64, 0i64);
    for container in spec::init_containers(pod_spec) {
        if spec::is_sidecar(container) {
            sidecars += of(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(container));
        }
    }
    let regular: i64 = pod_spec.containers.iter().map(&of).sum();
    peak.max(regular + sidecars) + overhead
}

fn overhead(pod_spec: &PodSpec, name: &str, read: impl Fn(&Quantity) -> i64) -> i64 {
    lookup(pod_spec.overhead.as_ref(), name).map_or(0, read)
}

/// Thousandths of a CPU the pod requests.
pub fn pod_cpu_request(pod_spec: &PodSpec) -> i64 {
    if let Some(whole) = request(pod_spec.resources.as_ref(), "cpu") {
        return amount::milli(whole) + overhead(pod_spec, "cpu", amount::milli);
    }
    let of = |c: &Container| request(c.resources.as_ref(), "cpu").map_or(0, amount::milli);
    effective(pod_spec, overhead(pod_spec, "cpu", amount::milli), of)
}

/// Bytes of memory the pod requests.
pub fn pod_memory_request(pod_spec: &PodSpec) -> i64 {
    if let Some(whole) = request(pod_spec.resources.as_ref(), "memory") {
        return amount::value(whole) + overhead(pod_spec, "memory", amount::value);
    }
    let of = |c: &Container| request(c.resources.as_ref(), "memory").map_or(0, amount::value);
    effective(pod_spec, overhead(pod_spec, "memory", amount::value), of)
}

/// What the pod asks for of the node's disk, bytes.
pub fn pod_storage_request(pod_spec: &PodSpec) -> i64 {
    let of = |c: &Container| request(c.resources.as_ref(), "ephemeral-storage").map_or(0, amount::value);
    effective(pod_spec, overhead(pod_spec, "ephemeral-storage", amount::value), of)
}

/// The limit of the pod as a whole; `None` unless every container has one.
fn pod_limit(pod_spec: &PodSpec, name: &str, read: fn(&Quantity) -> i64) -> Option<i64> {
    let over = overhead(pod_spec, name, read);
    if let Some(whole) = limit(pod_spec.resources.as_ref(), name) {
        return Some(read(whole) + over);
    }
    let mut all = spec::init_containers(pod_spec).iter().chain(&pod_spec.containers);
    if !all.all(|c| limit(c.resources.as_ref(), name).is_some_and(|q| read(q) > 0)) {
        return None;
    }
    Some(effective(pod_spec, over, |c| {
        limit(c.resources.as_ref(), name).map_or(0, read)
    }))
}

/// Values of a pod's control group (`ResourceConfigForPod`).
pub fn pod_cgroup(pod_spec: &PodSpec) -> Cgroup {
    if qos::class(pod_spec) == Qos::BestEffort {
        return Cgroup {
            cpu_shares: MIN_SHARES,
            ..Cgroup::default()
        };
    }
    Cgroup {
        cpu_shares: shares(pod_cpu_request(pod_spec)),
        cpu_quota: pod_limit(pod_spec, "cpu", amount::milli).and_then(quota),
        memory_limit: pod_limit(pod_spec, "memory", amount::value),
        hugepages: BTreeMap::new(),
    }
}

/// Priority from which on a pod is critical for its node.
const NODE_CRITICAL: i32 = 2_000_001_000;

/// oom_score_adj of a container on a machine with so many bytes of memory (`GetContainerOOMScoreAdjust`).
pub fn oom_score_adj(pod: &Pod, container: &Container, capacity: i64) -> i64 {
    let Some(pod_spec) = pod.spec.as_ref() else { return 1000 };
    if pod_spec.priority.is_some_and(|priority| priority >= NODE_CRITICAL) {
        return -997;
    }
    let adjust = |c: &Container| {
        let request = request(c.resources.as_ref(), "memory").map_or(0, amount::value);
        let share = if capacity > 0 {
            (i128::from(request) * 1000 / i128::from(capacity)) as i64
        } else {
            0
        };
        match 1000 - share {
            low if low < 3 => 3,
            1000 => 999,
            between => between,
        }
    };
    match qos::class(pod_spec) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable if spec::is_sidecar(container) => {
            // A sidecar is not to go before those it serves.
            let least = pod_spec.containers.iter().map(adjust).min().unwrap_or(999);
            adjust(container).min(least)
        }
        Qos::Burstable => adjust(container),
    }
}

/// The pod's parent control group below `root`.
pub fn cgroup_parent(root: &str, pod: &Pod) -> String {
    let class = pod.spec.as_ref().map_or(Qos::BestEffort, qos::class);
    format!(
        "{root}/{}/pod{}",
        class.folder(),
        pod.metadata.uid.as_deref().unwrap_or_default()
    )
}
