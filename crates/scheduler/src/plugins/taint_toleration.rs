//! Taints keep pods away, or make a node less welcome.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Toleration};
use placement::{first_untolerated, tolerates};

use crate::framework::{
    Action, Context, Event, Filter, Order, Plugin, Point, PreFilter, PreScore, Registration, Rejection, Resource,
    Scorer, default_normalize,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) struct TaintToleration;

/// Effects that keep pods away.
const KEEP_AWAY: [&str; 2] = ["NoSchedule", "NoExecute"];

struct Tolerated(Arc<PodInfo>);

impl Filter for Tolerated {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !node.tainted || first_untolerated(node.taints(), &self.0.shape.tolerations, &KEEP_AWAY).is_none() {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
    }
}

/// Counts taints that make a node less welcome.
struct Unwelcome(Vec<Toleration>);

impl Scorer for Unwelcome {
    fn score(&self, node: &NodeInfo) -> i64 {
        if !node.tainted {
            return 0;
        }
        let tolerated = |taint| self.0.iter().any(|toleration| tolerates(toleration, taint));
        let taints = node.taints().iter();
        let disliked = taints.filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(taint));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64], _nodes: &[&NodeInfo]) {
        default_normalize(scores, Order::LowIsGood);
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        PreFilter::run(Tolerated(pod.clone()))
    }

    fn pre_score(&self, _context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        let soft =
            |toleration: &&Toleration| matches!(toleration.effect.as_deref(), None | Some("" | "PreferNoSchedule"));
        PreScore::run(Unwelcome(pod.shape.tolerations.iter().filter(soft).cloned().collect()))
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::Node, Action::ADD | Action::UPDATE_NODE_TAINT),
            (Resource::UnscheduledPod, Action::UPDATE_POD_TOLERATIONS),
        ]
    }

    /// A node helps that was untolerated and is tolerated.
    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        let tolerated = |node: &Node| {
            let taints = node
                .spec
                .as_ref()
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default();
            first_untolerated(taints, &pod.shape.tolerations, &KEEP_AWAY).is_none()
        };
        match (event.resource, event.nodes()) {
            (Resource::Node, (old, Some(new))) => !old.is_some_and(tolerated) && tolerated(new),
            _ => true,
        }
    }
}
