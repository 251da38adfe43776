//! Pods of one kind are spread over domains.

mod defaults;

use std::sync::Arc;

use api::labels::{Operator, Requirement, Selector};
use k8s_openapi::api::core::v1::Node;

use crate::config::args::PluginArgs;
use crate::framework::{
    Action, Context, Event, Filter, MAX_SCORE, Plugin, Point, PreFilter, PreScore, Registration, Rejection, Resource,
    Scorer, Shared,
};
use crate::index::{CountKey, DomainCounts, Eligible, EligibleKey, NO_DOMAIN, Topology};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::shape::{PodSelector, Spread};
use defaults::Owners;

/// The label whose domains are nodes: counted on the node itself when nodes are scored.
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) struct PodTopologySpread {
    defaults: Vec<Spread>,
    system_defaulted: bool,
    owners: Owners,
}

impl PodTopologySpread {
    pub(super) fn new(args: &PluginArgs) -> PodTopologySpread {
        PodTopologySpread {
            system_defaulted: args.spread_defaults.is_none(),
            defaults: args.spread_defaults.clone().unwrap_or_else(defaults::system),
            owners: Owners::default(),
        }
    }

    /// The pod's constraints of one sort, or the default ones when it has none of its own.
    fn constraints(&self, pod: &PodInfo, required: bool) -> Vec<Spread> {
        if pod.shape.spread.is_empty() {
            return self.default_constraints(pod, required);
        }
        let own = pod.shape.spread.iter().filter(|spread| spread.required == required);
        own.map(|spread| with_match_label_keys(spread, pod)).collect()
    }

    fn default_constraints(&self, pod: &PodInfo, required: bool) -> Vec<Spread> {
        let mut constraints = self
            .defaults
            .iter()
            .filter(|spread| spread.required == required)
            .peekable();
        if constraints.peek().is_none() {
            return Vec::new();
        }
        let selector = self.owners.selector(pod);
        if selector.is_everything() {
            return Vec::new();
        }
        let pods = Arc::new(PodSelector::within(&pod.key.namespace, selector));
        let with = |spread: &Spread| Spread {
            pods: pods.clone(),
            ..spread.clone()
        };
        constraints.map(with).collect()
    }
}

/// Adds the values that the pod's own labels have (upstream `filterTopologySpreadConstraints`).
fn with_match_label_keys(spread: &Spread, pod: &PodInfo) -> Spread {
    let own = spread
        .match_label_keys
        .iter()
        .filter_map(|key| Some((key, pod.labels.get(key)?)));
    let more: Vec<Requirement> = own
        .filter_map(|(key, value)| Requirement::new(key, Operator::In, vec![value.to_owned()]).ok())
        .collect();
    if more.is_empty() || spread.pods.labels.is_nothing() {
        return spread.clone();
    }
    let all = more
        .into_iter()
        .chain(spread.pods.labels.requirements().iter().cloned());
    Spread {
        pods: Arc::new(PodSelector {
            labels: Selector::new(all.collect()),
            ..(*spread.pods).clone()
        }),
        ..spread.clone()
    }
}

/// The nodes that count for a constraint.
fn eligible(context: &Context, pod: &PodInfo, spread: &Spread, labels: &[Arc<str>]) -> Arc<Eligible> {
    let required = Some(&pod.shape.required_nodes).filter(|required| spread.honors_affinity && !required.is_empty());
    let key = EligibleKey {
        labels: labels.to_vec(),
        required: required.cloned(),
        tolerations: spread.honors_taints.then(|| pod.shape.tolerations.clone()),
    };
    context.cluster.index().eligible(context.cluster, &key)
}

fn counted(spread: &Spread) -> CountKey {
    CountKey {
        all: vec![spread.pods.clone()],
        living: true,
    }
}

fn keys(constraints: &[Spread]) -> Vec<Arc<str>> {
    constraints.iter().map(|spread| spread.topology_key.clone()).collect()
}

struct Constraint {
    spread: Spread,
    topology: Arc<Topology>,
    eligible: Arc<Eligible>,
    counts: Arc<DomainCounts>,
    /// 1 when the pod counts itself.
    itself: i64,
    /// What preemption pretends: domain, by.
    pretended: Vec<(u32, i64)>,
    least: i64,
}

impl Constraint {
    fn new(context: &Context, pod: &PodInfo, spread: Spread, labels: &[Arc<str>]) -> Constraint {
        let index = context.cluster.index();
        let topology = index.topology(context.cluster, &spread.topology_key);
        let eligible = eligible(context, pod, &spread, labels);
        let counts = index.domain_counts(context.cluster, &counted(&spread), &topology, Some(&eligible));
        let mut constraint = Constraint {
            itself: i64::from(spread.pods.labels.matches(&*pod.labels)),
            spread,
            topology,
            eligible,
            counts,
            pretended: Vec::new(),
            least: 0,
        };
        constraint.least = constraint.least();
        constraint
    }

    fn at(&self, domain: u32) -> i64 {
        let pretended = self.pretended.iter().filter(|(d, _)| *d == domain).map(|(_, by)| by);
        i64::from(self.counts.counts[domain as usize]) + pretended.sum::<i64>()
    }

    /// The count of the emptiest domain; zero when there are too few domains (`minMatchNum`).
    fn least(&self) -> i64 {
        if i64::try_from(self.counts.domains).unwrap_or(i64::MAX) < self.spread.min_domains {
            return 0;
        }
        let domains = self.counts.counts.iter().zip(&*self.counts.nodes);
        let existing = domains.zip(0_u32..).filter(|((_, nodes), _)| **nodes > 0);
        let counts = existing.map(|((count, _), domain)| {
            if self.pretended.is_empty() {
                i64::from(*count)
            } else {
                self.at(domain)
            }
        });
        counts.min().unwrap_or(i64::from(i32::MAX))
    }

    /// A pod that is being deleted was not counted, so that it does not count when it is taken away either
    /// (upstream forgets this in `updateWithPod`).
    fn pretend(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        if pod.terminating {
            return;
        }
        let domain = self.topology.domain(node.slot);
        if domain == NO_DOMAIN || !self.eligible.has(node.slot) || !self.spread.pods.labels.matches(&*pod.labels) {
            return;
        }
        match self.pretended.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, known)) => *known += by,
            None => self.pretended.push((domain, by)),
        }
        self.pretended.retain(|(_, by)| *by != 0);
        self.least = self.least();
    }
}

struct Required {
    namespace: Arc<str>,
    constraints: Vec<Constraint>,
}

impl Filter for Required {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for constraint in &self.constraints {
            let domain = constraint.topology.domain(node.slot);
            if domain == NO_DOMAIN {
                let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(Rejection::unresolvable(reason));
            }
            let skew = constraint.at(domain) + constraint.itself - constraint.least;
            if skew > constraint.spread.max_skew {
                return Err(Rejection::unschedulable(
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        if pod.key.namespace == self.namespace {
            self.constraints
                .iter_mut()
                .for_each(|constraint| constraint.pretend(pod, node, 1));
        }
    }

    fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        if pod.key.namespace == self.namespace {
            self.constraints
                .iter_mut()
                .for_each(|constraint| constraint.pretend(pod, node, -1));
        }
    }
}

enum SoftCounts {
    /// Of each node itself.
    Slots(Arc<Vec<u32>>),
    /// Of each domain.
    Domains(Arc<DomainCounts>),
}

struct Soft {
    topology: Arc<Topology>,
    counts: SoftCounts,
    weight: f64,
    base: f64,
}

struct Preferred {
    constraints: Vec<Soft>,
    /// Whether nodes without all labels score nothing.
    all_labels: bool,
}

impl Preferred {
    fn ignores(&self, node: &NodeInfo) -> bool {
        self.all_labels
            && self
                .constraints
                .iter()
                .any(|soft| soft.topology.domain(node.slot) == NO_DOMAIN)
    }
}

impl Scorer for Preferred {
    #[expect(clippy::cast_possible_truncation, reason = "a score")]
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignores(node) {
            return 0;
        }
        let mut score = 0.0;
        for soft in &self.constraints {
            let domain = soft.topology.domain(node.slot);
            if domain == NO_DOMAIN {
                continue;
            }
            let count = match &soft.counts {
                SoftCounts::Slots(counts) => counts.get(node.slot as usize).copied().unwrap_or(0),
                SoftCounts::Domains(counts) => counts.counts[domain as usize],
            };
            score += f64::from(count) * soft.weight + soft.base;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64], nodes: &[&NodeInfo]) {
        let ignored: Vec<bool> = nodes.iter().map(|node| self.ignores(node)).collect();
        let counting = || {
            scores
                .iter()
                .zip(&ignored)
                .filter(|(_, ignored)| !**ignored)
                .map(|(score, _)| *score)
        };
        let least = counting().min().unwrap_or(i64::MAX);
        let most = counting().max().unwrap_or(0).max(0);
        for (score, ignored) in scores.iter_mut().zip(&ignored) {
            *score = match (ignored, most) {
                (true, _) => 0,
                (false, 0) => MAX_SCORE,
                (false, _) => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }
}

impl PodTopologySpread {
    #[expect(clippy::cast_precision_loss, reason = "numbers of nodes")]
    fn soft(
        &self,
        context: &Context,
        pod: &PodInfo,
        feasible: &[&NodeInfo],
        spread: &Spread,
        all: &[Arc<Topology>],
        all_labels: bool,
    ) -> Soft {
        let (cluster, index) = (context.cluster, context.cluster.index());
        let topology = index.topology(cluster, &spread.topology_key);
        let lacks = |node: &NodeInfo| all_labels && all.iter().any(|topology| topology.domain(node.slot) == NO_DOMAIN);
        let scored = feasible.iter().filter(|node| !lacks(node));
        let (counts, size) = if &*spread.topology_key == HOSTNAME {
            (
                SoftCounts::Slots(index.slot_counts(cluster, &counted(spread))),
                scored.count(),
            )
        } else {
            let labels: Vec<Arc<str>> = all
                .iter()
                .filter(|_| all_labels)
                .map(|topology| topology.key.clone())
                .collect();
            let eligible = eligible(context, pod, spread, &labels);
            let counts = index.domain_counts(cluster, &counted(spread), &topology, Some(&eligible));
            // Nodes without the label are one more domain.
            let mut seen = vec![false; topology.values.len() + 1];
            for node in scored {
                let domain = topology.domain(node.slot);
                let at = if domain == NO_DOMAIN {
                    topology.values.len()
                } else {
                    domain as usize
                };
                seen[at] = true;
            }
            (SoftCounts::Domains(counts), seen.iter().filter(|seen| **seen).count())
        };
        Soft {
            topology,
            counts,
            weight: ((size + 2) as f64).ln(),
            base: (spread.max_skew - 1) as f64,
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn watches(&self) -> &'static [Resource] {
        if self.defaults.is_empty() {
            return &[];
        }
        &[
            Resource::Service,
            Resource::ReplicationController,
            Resource::ReplicaSet,
            Resource::StatefulSet,
        ]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        pod.shape.spread.is_empty()
    }

    fn observe(&self, _resource: Resource, old: Option<&Shared>, new: Option<&Shared>) {
        self.owners.observe(old, new);
    }

    fn pre_filter(&self, context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        let constraints = self.constraints(pod, true);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        let labels = keys(&constraints);
        let made = constraints
            .into_iter()
            .map(|spread| Constraint::new(context, pod, spread, &labels));
        PreFilter::run(Required {
            namespace: pod.key.namespace.clone(),
            constraints: made.collect(),
        })
    }

    fn pre_score(&self, context: &Context, pod: &Arc<PodInfo>, feasible: &[&NodeInfo]) -> PreScore {
        let constraints = self.constraints(pod, false);
        if constraints.is_empty() {
            return PreScore::Skip;
        }
        // The system's defaults let nodes without a zone be spread over by name.
        let all_labels = !pod.shape.spread.is_empty() || !self.system_defaulted;
        let index = context.cluster.index();
        let all: Vec<_> = keys(&constraints)
            .iter()
            .map(|key| index.topology(context.cluster, key))
            .collect();
        let soft = constraints
            .iter()
            .map(|spread| self.soft(context, pod, feasible, spread, &all, all_labels));
        PreScore::run(Preferred {
            constraints: soft.collect(),
            all_labels,
        })
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (
                Resource::AssignedPod,
                Action::ADD | Action::DELETE | Action::UPDATE_POD_LABEL,
            ),
            (Resource::UnscheduledPod, Action::UPDATE_POD_LABEL),
            (
                Resource::Node,
                Action::ADD | Action::DELETE | Action::UPDATE_NODE_LABEL | Action::UPDATE_NODE_TAINT,
            ),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        let constraints = self.constraints(pod, true);
        match event.resource {
            Resource::AssignedPod => pod_helps(pod, &constraints, event.pods()),
            Resource::Node => node_helps(&constraints, event),
            _ => true,
        }
    }
}

/// A pod helps that comes to be, or ceases to be, one that a constraint counts (upstream
/// `isSchedulableAfterPodChange`).
fn pod_helps(pod: &PodInfo, constraints: &[Spread], change: (Option<&PodInfo>, Option<&PodInfo>)) -> bool {
    let means = |spread: &Spread, other: &PodInfo| {
        other.key.namespace == pod.key.namespace && spread.pods.labels.matches(&*other.labels)
    };
    match change {
        (None, None) => true,
        (Some(other), None) | (None, Some(other)) => constraints.iter().any(|spread| means(spread, other)),
        (Some(old), Some(new)) => constraints
            .iter()
            .any(|spread| means(spread, old) != means(spread, new)),
    }
}

fn node_helps(constraints: &[Spread], event: &Event) -> bool {
    let complete = |node: &Node| {
        let has = |key: &str| {
            node.metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels.contains_key(key))
        };
        constraints.iter().all(|spread| has(&spread.topology_key))
    };
    match event.nodes() {
        (Some(old), Some(new)) => {
            let label = |node: &Node, key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key).cloned());
            let moved = |spread: &Spread| label(old, &spread.topology_key) != label(new, &spread.topology_key);
            let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
            let retainted = constraints.iter().any(|spread| spread.honors_taints) && taints(old) != taints(new);
            (complete(old) || complete(new)) && (constraints.iter().any(moved) || retainted)
        }
        (None, Some(node)) | (Some(node), None) => complete(node),
        (None, None) => true,
    }
}
