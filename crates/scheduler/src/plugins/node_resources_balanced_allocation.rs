//! Prefers nodes on which resources would be used in like shares, or in liker ones than now.

use std::sync::Arc;

use super::resource_scoring::{Level, Scored, asks_for_any, balance, scored};
use crate::config::args::{PluginArgs, ResourceSpec};
use crate::framework::{Context, MAX_SCORE, Plugin, Point, PreScore, Scorer};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub(super) struct NodeResourcesBalancedAllocation {
    resources: Vec<ResourceSpec>,
}

impl NodeResourcesBalancedAllocation {
    pub(super) fn new(args: &PluginArgs) -> Self {
        NodeResourcesBalancedAllocation {
            resources: args.balanced_resources.clone(),
        }
    }
}

struct Balance(Vec<Scored>);

impl Scorer for Balance {
    /// The balance with the pod, against the one without it (upstream `balancedResourceScorer`).
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut levels = self.0.iter().filter_map(|scored| scored.level(node, &node.requested));
        let (one, two, three) = (levels.next(), levels.next(), levels.next());
        let levels: &[Level] = match (one, two, three) {
            (None, ..) => &[],
            (Some(one), None, _) => &[one],
            (Some(one), Some(two), None) => &[one, two],
            (Some(one), Some(two), Some(three)) => {
                let all: Vec<Level> = [one, two, three].into_iter().chain(levels).collect();
                return improvement(&all);
            }
        };
        improvement(levels)
    }
}

fn improvement(levels: &[Level]) -> i64 {
    let (with, without) = (
        balance(levels, |level| level.after),
        balance(levels, |level| level.before),
    );
    MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    /// A pod that asks for nothing changes no balance.
    fn pre_score(&self, _context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        let scored = scored(&self.resources, &pod.shape.requests);
        if !asks_for_any(&scored) {
            return PreScore::Skip;
        }
        PreScore::run(Balance(scored))
    }
}
