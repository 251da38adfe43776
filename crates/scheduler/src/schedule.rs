//! One scheduling decision (upstream pkg/scheduler/schedule_one.go).

use crate::cluster::Cluster;
use crate::framework::{Plugin, Profile};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::verdict::{NodeVerdict, Verdict};

/// Below this many nodes all are looked at (upstream `minFeasibleNodesToFind`).
const MIN_FEASIBLE_NODES: usize = 100;
/// The adaptive share never falls below this (upstream `minFeasibleNodesPercentageToFind`).
const MIN_PERCENTAGE: usize = 5;

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// Its weighted score.
    pub score: i64,
    /// Nodes that were looked at.
    pub evaluated: usize,
    /// Nodes that could take the pod.
    pub feasible: usize,
    /// Where the next decision starts, so that nodes take turns.
    pub next_start: usize,
}

/// Decides on a node for `pod`. `start` is the last placement's `next_start`; `tie` is a random number
/// that chooses among nodes of equal score.
///
/// # Errors
/// Why no node can take it, node by node.
pub fn schedule(
    cluster: &Cluster,
    pod: &PodInfo,
    profile: &Profile,
    start: usize,
    tie: u64,
) -> Result<Placement, Verdict> {
    let nodes: Vec<&NodeInfo> = cluster.nodes().collect();
    let filters: Vec<&dyn Plugin> = profile
        .plugins
        .iter()
        .map(|(plugin, _)| plugin.as_ref())
        .filter(|plugin| plugin.filters(pod))
        .collect();
    let wanted = feasible_nodes_to_find(nodes.len(), profile.percentage_of_nodes_to_score);
    let mut verdict = Verdict {
        node_count: nodes.len(),
        ..Verdict::default()
    };
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let mut evaluated = 0;
    for offset in 0..nodes.len() {
        if feasible.len() >= wanted {
            break;
        }
        let node = nodes[(start + offset) % nodes.len()];
        evaluated += 1;
        match rejection(&filters, pod, node) {
            None => feasible.push(node),
            Some(rejected) => {
                verdict.nodes.insert(node.name().to_owned(), rejected);
            }
        }
    }
    if feasible.is_empty() {
        return Err(verdict);
    }
    let scores = weighted_scores(cluster, pod, profile, &feasible);
    let best = *scores.iter().max().expect("there is a feasible node");
    let winners: Vec<usize> = (0..scores.len()).filter(|index| scores[*index] == best).collect();
    let winner = winners[usize::try_from(tie % winners.len() as u64).expect("smaller than a length")];
    Ok(Placement {
        node: feasible[winner].name().to_owned(),
        score: best,
        evaluated,
        feasible: feasible.len(),
        next_start: (start + evaluated) % nodes.len(),
    })
}

fn rejection(filters: &[&dyn Plugin], pod: &PodInfo, node: &NodeInfo) -> Option<NodeVerdict> {
    filters.iter().find_map(|plugin| {
        plugin.filter(pod, node).err().map(|rejection| NodeVerdict {
            plugin: plugin.name(),
            reasons: rejection.reasons,
            resolvable: rejection.resolvable,
        })
    })
}

fn weighted_scores(cluster: &Cluster, pod: &PodInfo, profile: &Profile, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    if nodes.len() == 1 {
        return totals;
    }
    let scoring = profile
        .plugins
        .iter()
        .filter(|(plugin, weight)| *weight > 0 && plugin.scores(pod));
    for (plugin, weight) in scoring {
        let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(cluster, pod, node)).collect();
        plugin.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * weight;
        }
    }
    totals
}

/// How many feasible nodes are enough (upstream `numFeasibleNodesToFind`).
fn feasible_nodes_to_find(nodes: usize, percentage: Option<usize>) -> usize {
    if nodes < MIN_FEASIBLE_NODES {
        return nodes;
    }
    let percentage = percentage
        .filter(|percentage| *percentage > 0)
        .unwrap_or_else(|| 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE));
    (nodes * percentage.min(100) / 100).max(MIN_FEASIBLE_NODES)
}

#[cfg(test)]
mod tests;
