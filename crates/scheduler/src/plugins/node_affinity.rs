//! Node selectors and node affinity.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, Node, PodSpec};
use placement::{PreferredTerms, RequiredTerms};

use crate::config::args::PluginArgs;
use crate::framework::{
    Action, Code, Context, Event, Filter, Order, Plugin, Point, PreFilter, PreScore, Registration, Rejection, Resource,
    Scorer, default_normalize,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Terms of the profile's own come on top of the pod's (`addedAffinity`).
pub(super) struct NodeAffinity {
    added_required: RequiredTerms,
    added_preferred: PreferredTerms,
}

impl NodeAffinity {
    pub(super) fn new(args: &PluginArgs) -> NodeAffinity {
        let spec = PodSpec {
            affinity: args.added_affinity.clone().map(|node_affinity| Affinity {
                node_affinity: Some(node_affinity),
                ..Affinity::default()
            }),
            ..PodSpec::default()
        };
        NodeAffinity {
            added_required: RequiredTerms::of(&spec),
            added_preferred: PreferredTerms::of(&spec),
        }
    }
}

struct Required {
    pod: Arc<PodInfo>,
    added: RequiredTerms,
}

impl Filter for Required {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.added.matches(node.name(), node.labels()) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        if !self.pod.shape.required_nodes.matches(node.name(), node.labels()) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        Ok(())
    }
}

struct Preferred {
    pod: Arc<PodInfo>,
    added: PreferredTerms,
}

impl Scorer for Preferred {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (name, labels) = (node.name(), node.labels());
        self.added.weight(name, labels) + self.pod.shape.preferred_nodes.weight(name, labels)
    }

    fn normalize(&self, scores: &mut [i64], _nodes: &[&NodeInfo]) {
        default_normalize(scores, Order::HighIsGood);
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if self.added_required.is_empty() && pod.shape.required_nodes.is_empty() {
            return PreFilter::Skip;
        }
        if pod.shape.only_nodes.as_ref().is_some_and(Vec::is_empty) {
            return PreFilter::Reject(Rejection::with(
                Code::Unresolvable,
                vec!["pod affinity terms conflict".into()],
            ));
        }
        PreFilter::Run {
            filter: Some(Box::new(Required {
                pod: pod.clone(),
                added: self.added_required.clone(),
            })),
            nodes: pod.shape.only_nodes.clone(),
        }
    }

    fn pre_score(&self, _context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        if self.added_preferred.is_empty() && pod.shape.preferred_nodes.is_empty() {
            return PreScore::Skip;
        }
        PreScore::run(Preferred {
            pod: pod.clone(),
            added: self.added_preferred.clone(),
        })
    }

    fn events(&self) -> Vec<Registration> {
        vec![(Resource::Node, Action::ADD | Action::UPDATE_NODE_LABEL)]
    }

    /// A node helps that did not match and does.
    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        let matches = |node: &Node| {
            let labels = node.metadata.labels.clone().unwrap_or_default();
            let name = node.metadata.name.as_deref().unwrap_or_default();
            self.added_required.matches(name, &labels) && pod.shape.required_nodes.matches(name, &labels)
        };
        match event.nodes() {
            (old, Some(new)) => !old.is_some_and(matches) && matches(new),
            _ => true,
        }
    }
}
