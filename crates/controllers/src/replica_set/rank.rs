//! Which pods go first (upstream `ActivePodsWithRanks`).

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::object::{annotation, created, uid};
use crate::pod::{is_active, is_ready, node_name, phase, ready_since};

/// Puts the pods to delete first to the front. `related` are the pods among which doubling up on a
/// node counts.
pub(crate) fn order_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        *on_node.entry(node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| on_node.get(node_name(pod)).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        node_name(a)
            .is_empty()
            .cmp(&node_name(b).is_empty())
            .reverse()
            .then_with(|| phase_order(a).cmp(&phase_order(b)))
            .then_with(|| is_ready(a).cmp(&is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| rank(a).cmp(&rank(b)).reverse())
            .then_with(|| younger_first(ready_since(a), ready_since(b), now, a, b))
            .then_with(|| restarts(a).cmp(&restarts(b)).reverse())
            .then_with(|| younger_first(created(&**a), created(&**b), now, a, b))
    });
}

fn phase_order(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    annotation(pod, "controller.kubernetes.io/pod-deletion-cost")
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref());
    statuses
        .unwrap_or_default()
        .iter()
        .map(|status| status.restart_count)
        .max()
        .unwrap_or(0)
}

/// By age on a logarithmic scale; of about the same age, by UID (which is as good as random).
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp, pod_a: &Pod, pod_b: &Pod) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Ordering::Equal,
        (Some(a), Some(b)) => {
            let by_age = age_rank(a, now).cmp(&age_rank(b, now));
            by_age.then_with(|| uid(pod_a).cmp(uid(pod_b)))
        }
        (a, b) => Reverse(a.is_none()).cmp(&Reverse(b.is_none())),
    }
}

fn age_rank(at: Timestamp, now: Timestamp) -> i64 {
    match now.duration_since(at).as_nanos() {
        age if age > 0 => i64::from(age.ilog2()),
        _ => -1,
    }
}
