//! A host port is given once a node.

use crate::framework::{Plugin, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filters(&self, pod: &PodInfo) -> bool {
        !pod.host_ports.is_empty()
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.host_ports.iter().any(|port| node.port_taken(port)) {
            return Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn wakes_on(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::PodRemoved || event == ClusterEvent::NodeAdded
    }
}
