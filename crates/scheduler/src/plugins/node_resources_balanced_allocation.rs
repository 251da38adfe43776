//! Prefers nodes on which CPU and memory would be used in like shares.

use crate::cluster::Cluster;
use crate::framework::{MAX_SCORE, Plugin};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

pub(super) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// A pod that asks for nothing changes no balance.
    fn scores(&self, pod: &PodInfo) -> bool {
        pod.requests.milli_cpu > 0 || pod.requests.memory > 0
    }

    /// One minus the standard deviation of the shares in use (upstream `balancedResourceScorer`).
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "shares between 0 and 1"
    )]
    fn score(&self, _cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (need, have, used) = (&pod.requests, &node.allocatable, &node.requested);
        let shares: Vec<f64> = [
            (have.milli_cpu, used.milli_cpu + need.milli_cpu),
            (have.memory, used.memory + need.memory),
        ]
        .into_iter()
        .filter(|(have, _)| *have > 0)
        .map(|(have, used)| (used as f64 / have as f64).min(1.0))
        .collect();
        let deviation = match shares.as_slice() {
            [cpu, memory] => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    }

    fn wakes_on(&self, _event: ClusterEvent) -> bool {
        false
    }
}
