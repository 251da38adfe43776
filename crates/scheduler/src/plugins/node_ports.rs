//! A host port is given once a node.

use std::sync::Arc;

use crate::framework::{Action, Context, Event, Filter, Plugin, Point, PreFilter, Registration, Rejection, Resource};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) struct NodePorts;

struct Wanted(Arc<PodInfo>);

impl Filter for Wanted {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let taken = |port| node.ports.iter().any(|held| held.conflicts(port));
        if self.0.shape.host_ports.iter().any(taken) {
            return Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if pod.shape.host_ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::run(Wanted(pod.clone()))
    }

    fn events(&self) -> Vec<Registration> {
        vec![(Resource::AssignedPod, Action::DELETE), (Resource::Node, Action::ADD)]
    }

    /// A pod that goes helps when it held a port that is wanted.
    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        let Some(gone) = event.pods().0.filter(|_| event.resource == Resource::AssignedPod) else {
            return true;
        };
        let wanted = &pod.shape.host_ports;
        gone.shape
            .host_ports
            .iter()
            .any(|held| wanted.iter().any(|port| port.conflicts(held)))
    }
}
