//! One decision: which node a pod goes to (upstream schedule_one.go).

use std::sync::Arc;

use jiff::Timestamp;

use crate::cluster::Cluster;
use crate::framework::{Code, Context, Filter, Point, PreFilter, PreScore, Profile, Rejection};
use crate::metrics::Timings;
use crate::node::{NodeInfo, Slot};
use crate::plugins::default_preemption::Candidate;
use crate::pod::PodInfo;
use crate::verdict::Verdict;

/// Fewer nodes than this are always all looked at (upstream `minFeasibleNodesToFind`).
const MIN_FEASIBLE_NODES: usize = 100;
/// The adaptive share never falls below this (upstream `minFeasibleNodesPercentageToFind`).
const MIN_PERCENTAGE: usize = 5;

/// A filter at work on one pod.
pub struct ActiveFilter {
    /// The plugin's name.
    pub plugin: &'static str,
    /// What asks nodes.
    pub filter: Box<dyn Filter>,
}

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub slot: Slot,
    /// Its name.
    pub node: Arc<str>,
    /// Its score; zero when no other node was feasible.
    pub score: i64,
    /// Nodes that were looked at.
    pub evaluated: usize,
    /// Nodes that could have taken it.
    pub feasible: usize,
    /// The node to start with for the next pod.
    pub next_start: usize,
}

/// What one decision starts from.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'c> {
    /// The cluster, settled.
    pub cluster: &'c Cluster,
    /// The plugins.
    pub profile: &'c Profile,
    /// The node to start with, by its place in the order.
    pub start: usize,
    /// A random number, which chooses among nodes of equal score.
    pub random: u64,
    /// The time.
    pub now: Timestamp,
    /// Where it is noted how long things took.
    pub timings: Option<&'c Timings>,
}

/// Another judge of nodes: an extender.
pub trait Judge {
    /// Takes away the nodes that will not do, and says why.
    ///
    /// # Errors
    /// That it could not be asked.
    fn filter(
        &mut self,
        cluster: &Cluster,
        pod: &PodInfo,
        feasible: &mut Vec<Slot>,
        verdict: &mut Verdict,
    ) -> Result<(), String>;

    /// Adds what it thinks of the nodes to their scores.
    fn prioritize(&mut self, cluster: &Cluster, pod: &PodInfo, feasible: &[Slot], scores: &mut [i64]);

    /// Takes away nodes, or changes who would have to leave them, where pods would be evicted.
    ///
    /// # Errors
    /// That it could not be asked.
    fn preempt(&mut self, _cluster: &Cluster, _pod: &PodInfo, _candidates: &mut Vec<Candidate>) -> Result<(), String> {
        Ok(())
    }

    /// Whether it has anything to say about which nodes do.
    fn filters(&self, pod: &PodInfo) -> bool;

    /// Whether it has anything to say about which nodes are good.
    fn prioritizes(&self, pod: &PodInfo) -> bool;
}

/// No extender.
pub struct NoJudge;

impl Judge for NoJudge {
    fn filter(&mut self, _: &Cluster, _: &PodInfo, _: &mut Vec<Slot>, _: &mut Verdict) -> Result<(), String> {
        Ok(())
    }

    fn prioritize(&mut self, _: &Cluster, _: &PodInfo, _: &[Slot], _: &mut [i64]) {}

    fn filters(&self, _: &PodInfo) -> bool {
        false
    }

    fn prioritizes(&self, _: &PodInfo) -> bool {
        false
    }
}

/// Why a pod was not placed.
pub enum Failure {
    /// No node can take it; the filters are still there for PostFilter.
    Unfit(Box<Verdict>, Vec<ActiveFilter>),
    /// A plugin or an extender failed.
    Error(String),
}

/// What PreFilter found.
struct Prepared {
    filters: Vec<ActiveFilter>,
    /// The only nodes that come into question, and the plugins that said so.
    only: Option<(Vec<Slot>, Vec<&'static str>)>,
}

/// Works out the filters of a pod (PreFilter).
///
/// # Errors
/// The plugin that turned the pod down before any node was asked.
fn prepare(attempt: &Attempt, pod: &Arc<PodInfo>) -> Result<Prepared, (&'static str, Rejection)> {
    let context = attempt.context();
    let mut prepared = Prepared {
        filters: Vec::new(),
        only: None,
    };
    for (plugin, filters) in attempt.profile.filtering() {
        let filtered = Timings::plugin(attempt.timings, Point::PreFilter, plugin.name(), || {
            plugin.pre_filter(&context, pod)
        });
        match filtered {
            PreFilter::Skip => {}
            PreFilter::Reject(rejection) => return Err((plugin.name(), rejection)),
            PreFilter::Run { filter, nodes } => {
                if let Some(filter) = filter.filter(|_| filters) {
                    let plugin = plugin.name();
                    prepared.filters.push(ActiveFilter { plugin, filter });
                }
                if let Some(names) = nodes {
                    prepared.restrict(attempt.cluster, &names, plugin.name())?;
                }
            }
        }
    }
    Ok(prepared)
}

impl Prepared {
    fn restrict(
        &mut self,
        cluster: &Cluster,
        names: &[String],
        plugin: &'static str,
    ) -> Result<(), (&'static str, Rejection)> {
        let mut slots: Vec<Slot> = names
            .iter()
            .filter_map(|name| cluster.node(name))
            .map(|node| node.slot)
            .collect();
        let mut plugins = Vec::new();
        if let Some((known, by)) = self.only.take() {
            slots.retain(|slot| known.contains(slot));
            plugins = by;
        }
        plugins.push(plugin);
        if slots.is_empty() && !names.is_empty() && plugins.len() > 1 {
            let text = format!(
                "node(s) didn't satisfy plugin(s) [{}] simultaneously",
                plugins.join(" ")
            );
            return Err((plugin, Rejection::with(Code::Unresolvable, vec![text])));
        }
        self.only = Some((slots, plugins));
        Ok(())
    }
}

impl<'c> Attempt<'c> {
    fn context(&self) -> Context<'c> {
        Context {
            cluster: self.cluster,
            now: self.now,
        }
    }
}

/// Places `pod`.
///
/// # Errors
/// Why no node can take it, or what failed.
pub fn schedule(attempt: &Attempt, pod: &Arc<PodInfo>, judge: &mut dyn Judge) -> Result<Placement, Failure> {
    let cluster = attempt.cluster;
    let mut verdict = Box::new(Verdict {
        node_count: cluster.node_count(),
        ..Verdict::default()
    });
    if verdict.node_count == 0 {
        return Err(Failure::Unfit(verdict, Vec::new()));
    }
    let prepared = Timings::point(attempt.timings, Point::PreFilter, || {
        let prepared = prepare(attempt, pod);
        let status = prepared
            .as_ref()
            .err()
            .map_or("Success", |(_, rejection)| rejection.code.name());
        (prepared, status)
    });
    let mut prepared = match prepared {
        Ok(prepared) => prepared,
        Err((plugin, rejection)) => {
            if rejection.code == Code::Error {
                let text = rejection.texts(pod).join(", ");
                return Err(Failure::Error(format!("running PreFilter plugin {plugin:?}: {text}")));
            }
            verdict.before = Some((plugin, rejection));
            return Err(Failure::Unfit(verdict, Vec::new()));
        }
    };
    let (mut feasible, evaluated) = Timings::point(attempt.timings, Point::Filter, || {
        (find(attempt, pod, &mut prepared, &mut verdict, judge), "Success")
    });
    if let Some(error) = verdict.error(pod) {
        return Err(Failure::Error(error));
    }
    if !feasible.is_empty()
        && let Err(error) = judge.filter(cluster, pod, &mut feasible, &mut verdict)
    {
        return Err(Failure::Error(error));
    }
    if feasible.is_empty() {
        return Err(Failure::Unfit(verdict, prepared.filters));
    }
    let scores = total_scores(attempt, pod, &feasible, judge);
    let (winner, score) = best(&scores, attempt.random);
    Ok(Placement {
        slot: feasible[winner],
        node: cluster.at(feasible[winner]).name.clone(),
        score,
        evaluated,
        feasible: feasible.len(),
        next_start: (attempt.start + evaluated) % verdict.node_count,
    })
}

/// Feasible nodes, and how many were asked.
fn find(
    attempt: &Attempt,
    pod: &Arc<PodInfo>,
    prepared: &mut Prepared,
    verdict: &mut Verdict,
    judge: &dyn Judge,
) -> (Vec<Slot>, usize) {
    let cluster = attempt.cluster;
    let nominated = pod.nominated.as_ref().or_else(|| cluster.nominated_node(&pod.key));
    if let Some(node) = nominated.and_then(|name| cluster.node(name))
        && admits(cluster, pod, node, &mut prepared.filters).is_ok()
    {
        return (vec![node.slot], 1);
    }
    let nodes: &[Slot] = match &prepared.only {
        None => cluster.order(),
        Some((slots, plugins)) => {
            verdict.left_out = Some((verdict.node_count - slots.len(), plugins.clone())).filter(|(out, _)| *out > 0);
            slots
        }
    };
    let mut wanted = feasible_nodes_to_find(nodes.len(), attempt.profile.percentage_of_nodes_to_score);
    if !attempt.profile.has(Point::Score) && !judge.filters(pod) && !judge.prioritizes(pod) {
        wanted = wanted.min(1);
    }
    let mut feasible = Vec::with_capacity(wanted.min(1024));
    let mut evaluated = 0;
    let start = if nodes.is_empty() {
        0
    } else {
        attempt.start % nodes.len()
    };
    for slot in nodes[start..].iter().chain(&nodes[..start]) {
        if feasible.len() >= wanted {
            break;
        }
        evaluated += 1;
        match admits(cluster, pod, cluster.at(*slot), &mut prepared.filters) {
            Ok(()) => feasible.push(*slot),
            Err((plugin, rejection)) => {
                let failed = rejection.code == Code::Error;
                verdict.add(plugin, rejection, *slot);
                if failed {
                    break;
                }
            }
        }
    }
    (feasible, evaluated)
}

/// Whether all filters let the pod onto the node: with the pods for which room is kept there, and
/// without them (upstream `RunFilterPluginsWithNominatedPods`).
///
/// # Errors
/// The first plugin that says no.
pub fn admits(
    cluster: &Cluster,
    pod: &PodInfo,
    node: &NodeInfo,
    filters: &mut [ActiveFilter],
) -> Result<(), (&'static str, Rejection)> {
    let kept = |other: &&Arc<PodInfo>| other.priority() >= pod.priority() && other.key != pod.key;
    let mut nominated = cluster.nominated_on(&node.name).filter(kept).peekable();
    if nominated.peek().is_some() {
        let others: Vec<_> = nominated.cloned().collect();
        let mut fuller = node.clone();
        for other in &others {
            fuller.add_pod(other.clone());
            filters
                .iter_mut()
                .for_each(|active| active.filter.add_pod(other, &fuller));
        }
        let fits = check(&fuller, filters);
        for other in &others {
            filters
                .iter_mut()
                .for_each(|active| active.filter.remove_pod(other, node));
        }
        fits?;
    }
    check(node, filters)
}

fn check(node: &NodeInfo, filters: &[ActiveFilter]) -> Result<(), (&'static str, Rejection)> {
    for active in filters {
        if let Err(rejection) = active.filter.check(node) {
            return Err((active.plugin, rejection));
        }
    }
    Ok(())
}

/// Every plugin's scores and their weights, in the order of the profile: what an explanation shows.
pub fn scores_by_plugin(attempt: &Attempt, pod: &Arc<PodInfo>, feasible: &[Slot]) -> Vec<(&'static str, Vec<i64>)> {
    let nodes: Vec<&NodeInfo> = feasible.iter().map(|slot| attempt.cluster.at(*slot)).collect();
    let context = attempt.context();
    let mut all = Vec::new();
    for (_, plugin, weight) in attempt.profile.at(Point::Score).filter(|(.., weight)| *weight != 0) {
        let name = plugin.name();
        let prepared = Timings::plugin(attempt.timings, Point::PreScore, name, || {
            plugin.pre_score(&context, pod, &nodes)
        });
        if let PreScore::Run(scorer) = prepared {
            let mut scores = Timings::plugin(attempt.timings, Point::Score, name, || {
                let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score(node)).collect();
                scorer.normalize(&mut scores, &nodes);
                scores
            });
            scores.iter_mut().for_each(|score| *score *= weight);
            all.push((plugin.name(), scores));
        }
    }
    all
}

fn total_scores(attempt: &Attempt, pod: &Arc<PodInfo>, feasible: &[Slot], judge: &mut dyn Judge) -> Vec<i64> {
    let mut totals = vec![0; feasible.len()];
    if feasible.len() > 1 {
        let all = Timings::point(attempt.timings, Point::Score, || {
            (scores_by_plugin(attempt, pod, feasible), "Success")
        });
        for (_, scores) in all {
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score);
        }
        judge.prioritize(attempt.cluster, pod, feasible, &mut totals);
    }
    totals
}

/// One of the best, by a random number.
fn best(scores: &[i64], random: u64) -> (usize, i64) {
    let best = *scores.iter().max().expect("there is a feasible node");
    let ties = scores.iter().filter(|score| **score == best).count();
    let chosen = usize::try_from(random % ties as u64).expect("smaller than a length");
    let mut winners = scores.iter().enumerate().filter(|(_, score)| **score == best);
    (winners.nth(chosen).expect("one of the ties").0, best)
}

/// How many feasible nodes are enough (upstream `numFeasibleNodesToFind`).
#[must_use]
pub fn feasible_nodes_to_find(nodes: usize, percentage: Option<usize>) -> usize {
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
