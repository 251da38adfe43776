//! What pods ask for must fit what the node has left; by default emptier nodes score higher.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::resource_scoring::{Scored, Strategy, assumed_requests, scored};
use crate::config::args::{PluginArgs, ResourceSpec, ScoringStrategy};
use crate::framework::{
    Action, Code, Context, Event, Filter, MAX_SCORE, Plugin, Point, PreFilter, PreScore, Reasons, Registration,
    Rejection, Resource, Scorer,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::Resources;

pub(super) struct NodeResourcesFit {
    ignored: Vec<String>,
    ignored_groups: Vec<String>,
    strategy: Strategy,
    resources: Vec<ResourceSpec>,
}

impl NodeResourcesFit {
    pub(super) fn new(args: &PluginArgs) -> NodeResourcesFit {
        // The file scores shapes from 0 to 10.
        let scaled = |shape: &[(i64, i64)]| shape.iter().map(|(x, y)| (*x, y * (MAX_SCORE / 10))).collect();
        NodeResourcesFit {
            ignored: args.ignored_resources.clone(),
            ignored_groups: args.ignored_resource_groups.clone(),
            strategy: match &args.scoring_strategy {
                ScoringStrategy::LeastAllocated => Strategy::LeastAllocated,
                ScoringStrategy::MostAllocated => Strategy::MostAllocated,
                ScoringStrategy::RequestedToCapacityRatio(shape) => Strategy::RequestedToCapacityRatio(scaled(shape)),
            },
            resources: args.fit_resources.clone(),
        }
    }

    fn ignores(&self, name: &str) -> bool {
        let native = !name.contains('/') || name.contains("kubernetes.io/");
        let group = name.split('/').next().unwrap_or_default();
        !native && (self.ignored.iter().any(|known| known == name) || self.ignored_groups.iter().any(|g| g == group))
    }

    fn room(&self, pod: &Arc<PodInfo>) -> Room {
        let requests = &pod.shape.requests;
        Room {
            pod: pod.clone(),
            ignored: requests.scalar.iter().map(|(name, _)| self.ignores(name)).collect(),
            asks_for_nothing: requests.is_zero(),
        }
    }
}

struct Room {
    pod: Arc<PodInfo>,
    /// Whether each scalar request is somebody else's business.
    ignored: Vec<bool>,
    asks_for_nothing: bool,
}

impl Room {
    /// What is short, as [`Reasons::Short`] has it, and whether even the empty node would be.
    fn short(&self, node: &NodeInfo) -> (u64, bool) {
        let mut short = u64::from(i64::try_from(node.pods.len()).unwrap_or(i64::MAX) + 1 > node.allowed_pods);
        if self.asks_for_nothing {
            return (short, false);
        }
        let (need, have, used) = (&self.pod.shape.requests, &node.allocatable, &node.requested);
        let mut hopeless = false;
        let mut look = |bit: usize, need: i64, have: i64, used: i64| {
            if need > 0 && need > have - used {
                short |= 1 << bit.min(63);
                hopeless |= need > have;
            }
        };
        look(1, need.milli_cpu, have.milli_cpu, used.milli_cpu);
        look(2, need.memory, have.memory, used.memory);
        look(
            3,
            need.ephemeral_storage,
            have.ephemeral_storage,
            used.ephemeral_storage,
        );
        for (at, (name, amount)) in need.scalar.iter().enumerate() {
            if !self.ignored[at] {
                look(4 + at, *amount, have.scalar(name), used.scalar(name));
            }
        }
        (short, hopeless)
    }
}

impl Filter for Room {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let (short, hopeless) = self.short(node);
        if short == 0 {
            return Ok(());
        }
        Err(Rejection {
            reasons: Reasons::Short(short),
            code: if hopeless {
                Code::Unresolvable
            } else {
                Code::Unschedulable
            },
        })
    }
}

struct Fullness {
    strategy: Strategy,
    resources: Vec<Scored>,
}

impl Scorer for Fullness {
    fn score(&self, node: &NodeInfo) -> i64 {
        let levels = self
            .resources
            .iter()
            .filter_map(|scored| scored.level(node, &node.nonzero_requested));
        self.strategy.score(levels)
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        PreFilter::run(self.room(pod))
    }

    fn pre_score(&self, _context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        PreScore::run(Fullness {
            strategy: self.strategy.clone(),
            resources: scored(&self.resources, assumed_requests(pod)),
        })
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::AssignedPod, Action::DELETE | Action::UPDATE_POD_SCALE_DOWN),
            (Resource::UnscheduledPod, Action::UPDATE_POD_SCALE_DOWN),
            (Resource::Node, Action::ADD | Action::UPDATE_ALLOCATABLE),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        match event.resource {
            Resource::Node => match event.nodes() {
                (old, Some(new)) => self.node_helps(pod, old, new),
                _ => true,
            },
            Resource::AssignedPod => match event.pods() {
                (Some(old), None) => old.node_name.is_some() || event.action.meets(Action::DELETE),
                (Some(old), Some(new)) => frees(&old.shape.requests, &new.shape.requests, &pod.shape.requests),
                _ => true,
            },
            _ => true,
        }
    }
}

impl NodeResourcesFit {
    /// Whether the empty node has what the pod asks for, and more of it than before.
    fn node_helps(&self, pod: &PodInfo, old: Option<&Node>, new: &Node) -> bool {
        let of = |node: &Node| {
            let list = node
                .status
                .as_ref()
                .and_then(|status| status.allocatable.clone())
                .unwrap_or_default();
            let pods = list.get("pods").map_or(0, |pods| crate::resources::parse(pods).value());
            (Resources::from_list(&list), pods)
        };
        let (have, pods) = of(new);
        let need = &pod.shape.requests;
        let names: Vec<&str> = ["cpu", "memory", "ephemeral-storage"]
            .into_iter()
            .chain(
                need.scalar
                    .iter()
                    .map(|(name, _)| &**name)
                    .filter(|name| !self.ignores(name)),
            )
            .filter(|name| need.amount(name) > 0)
            .collect();
        let fits = pods > 0 && names.iter().all(|name| need.amount(name) <= have.amount(name));
        let grew = old.map(of).is_none_or(|(before, pods_before)| {
            pods > pods_before || names.iter().any(|name| have.amount(name) > before.amount(name))
        });
        fits && grew
    }
}

/// Whether a pod that was made smaller gives back something that is wanted.
fn frees(before: &Resources, after: &Resources, wanted: &Resources) -> bool {
    let names = wanted.scalar.iter().map(|(name, _)| &**name);
    ["cpu", "memory", "ephemeral-storage"]
        .into_iter()
        .chain(names)
        .any(|name| wanted.amount(name) > 0 && after.amount(name) < before.amount(name))
}
