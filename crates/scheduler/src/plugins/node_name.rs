//! `spec.nodeName` names the only node that will do.

use std::sync::Arc;

use crate::framework::{Action, Context, Filter, Plugin, Point, PreFilter, Registration, Rejection, Resource};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) struct NodeName;

struct Named(Arc<str>);

impl Filter for Named {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if *self.0 == *node.name {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        match &pod.node_name {
            Some(name) => PreFilter::run(Named(name.clone())),
            None => PreFilter::Skip,
        }
    }

    fn events(&self) -> Vec<Registration> {
        vec![(Resource::Node, Action::ADD)]
    }
}
