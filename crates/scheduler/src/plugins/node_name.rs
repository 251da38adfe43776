//! `spec.nodeName` names the only node that will do.

use crate::framework::{Plugin, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filters(&self, pod: &PodInfo) -> bool {
        pod.node_name().is_some()
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.node_name().is_none_or(|name| name == node.name()) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }

    fn wakes_on(&self, event: ClusterEvent) -> bool {
        event.is_node()
    }
}
