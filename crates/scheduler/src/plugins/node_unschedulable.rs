//! A cordoned node takes only pods that tolerate it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use placement::tolerates;

use crate::framework::{Action, Context, Event, Filter, Plugin, Point, PreFilter, Registration, Rejection, Resource};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) struct NodeUnschedulable;

struct Cordon {
    tolerated: bool,
}

fn tolerated(pod: &PodInfo) -> bool {
    let tolerations = &pod.shape.tolerations;
    if tolerations.is_empty() {
        return false;
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

impl Filter for Cordon {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if node.unschedulable && !self.tolerated {
            return Err(Rejection::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        PreFilter::run(Cordon {
            tolerated: tolerated(pod),
        })
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::Node, Action::ADD | Action::UPDATE_NODE_TAINT),
            (Resource::UnscheduledPod, Action::UPDATE_POD_TOLERATIONS),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        let cordoned = |node: &k8s_openapi::api::core::v1::Node| {
            node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
        };
        match (event.resource, event.nodes().1) {
            (Resource::Node, Some(node)) => !cordoned(node) || tolerated(pod),
            (Resource::UnscheduledPod, _) => tolerated(pod),
            _ => true,
        }
    }
}
