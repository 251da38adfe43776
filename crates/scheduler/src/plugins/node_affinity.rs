//! Node selectors and node affinity.

use crate::cluster::Cluster;
use crate::framework::{Order, Plugin, Rejection, default_normalize};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filters(&self, pod: &PodInfo) -> bool {
        !pod.required.is_empty()
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.required.matches(node.name(), node.labels()) {
            return Ok(());
        }
        Err(Rejection::unresolvable(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }

    fn scores(&self, pod: &PodInfo) -> bool {
        !pod.preferred.is_empty()
    }

    fn score(&self, _cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        pod.preferred.weight(node.name(), node.labels())
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, Order::HighIsGood);
    }

    fn wakes_on(&self, event: ClusterEvent) -> bool {
        event.is_node()
    }
}
