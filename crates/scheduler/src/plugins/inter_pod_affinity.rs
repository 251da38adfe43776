//! Pods that want to be near others, or far from them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::config::args::PluginArgs;
use crate::framework::{
    Action, Context, Event, Filter, MAX_SCORE, Plugin, Point, PreFilter, PreScore, Registration, Rejection, Resource,
    Scorer,
};
use crate::index::{CountKey, NO_DOMAIN, Role, Topology};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::shape::{Namespaces, Term};

pub(super) struct InterPodAffinity {
    hard_weight: i64,
    ignore_preferred_of_existing: bool,
}

impl InterPodAffinity {
    pub(super) fn new(args: &PluginArgs) -> InterPodAffinity {
        InterPodAffinity {
            hard_weight: args.hard_pod_affinity_weight,
            ignore_preferred_of_existing: args.ignore_preferred_terms_of_existing_pods,
        }
    }
}

/// Counts by domain, with what preemption pretends on top.
struct Counts {
    topology: Arc<Topology>,
    base: Arc<Vec<u32>>,
    pretended: Vec<(u32, i64)>,
}

impl Counts {
    fn new(topology: Arc<Topology>, base: Arc<Vec<u32>>) -> Counts {
        Counts {
            topology,
            base,
            pretended: Vec::new(),
        }
    }

    fn at(&self, domain: u32) -> i64 {
        let base = self.base.get(domain as usize).copied().unwrap_or(0);
        let pretended = self.pretended.iter().filter(|(d, _)| *d == domain).map(|(_, by)| by);
        i64::from(base) + pretended.sum::<i64>()
    }

    fn pretend(&mut self, node: &NodeInfo, by: i64) {
        let domain = self.topology.domain(node.slot);
        if domain == NO_DOMAIN {
            return;
        }
        match self.pretended.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, known)) => *known += by,
            None => self.pretended.push((domain, by)),
        }
        self.pretended.retain(|(_, by)| *by != 0);
    }
}

struct Required {
    pod: Arc<PodInfo>,
    namespaces: Arc<Namespaces>,
    /// Pods of other pods' anti-affinity, one entry a topology.
    existing: Vec<Counts>,
    /// What preemption pretends of topologies that `existing` does not have: label, value, by.
    other_existing: Vec<(Arc<str>, String, i64)>,
    /// Pods that match all terms of affinity, one entry a term.
    near: Vec<Counts>,
    /// How many there are in all domains of all terms.
    near_total: i64,
    /// Whether the pod matches its own terms: then it may be the first.
    near_itself: bool,
    /// Pods that match a term of anti-affinity, one entry a term.
    apart: Vec<Counts>,
}

impl Required {
    fn means(&self, term: &Term, pod: &PodInfo) -> bool {
        term.pods.matches(&pod.key.namespace, &pod.labels, &self.namespaces)
    }

    fn pretend(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        for term in &pod.shape.affinity.required_anti {
            if !self.means(term, &self.pod) {
                continue;
            }
            match self
                .existing
                .iter_mut()
                .find(|counts| counts.topology.key == term.topology_key)
            {
                Some(counts) => counts.pretend(node, by),
                None => {
                    if let Some(value) = node.labels().get(&*term.topology_key) {
                        self.other_existing.push((term.topology_key.clone(), value.clone(), by));
                    }
                }
            }
        }
        let own = self.pod.clone();
        let affinity = &own.shape.affinity;
        if !affinity.required.is_empty() && affinity.required.iter().all(|term| self.means(term, pod)) {
            for counts in &mut self.near {
                counts.pretend(node, by);
                if counts.topology.domain(node.slot) != NO_DOMAIN {
                    self.near_total += by;
                }
            }
        }
        for (at, term) in affinity.required_anti.iter().enumerate() {
            if self.means(term, pod) {
                self.apart[at].pretend(node, by);
            }
        }
    }

    /// Upstream `satisfyPodAffinity`.
    fn near_enough(&self, node: &NodeInfo) -> bool {
        let mut all = true;
        for counts in &self.near {
            let domain = counts.topology.domain(node.slot);
            if domain == NO_DOMAIN {
                return false;
            }
            all &= counts.at(domain) > 0;
        }
        all || self.near_total == 0 && self.near_itself
    }

    fn others_refuse(&self, node: &NodeInfo) -> bool {
        if self.existing.iter().any(|counts| held(counts, node)) {
            return true;
        }
        let others = self.other_existing.iter();
        let here = others.filter(|(key, value, _)| node.labels().get(&**key) == Some(value));
        here.map(|(.., by)| by).sum::<i64>() > 0
    }
}

fn held(counts: &Counts, node: &NodeInfo) -> bool {
    let domain = counts.topology.domain(node.slot);
    domain != NO_DOMAIN && counts.at(domain) > 0
}

impl Filter for Required {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.near_enough(node) {
            return Err(Rejection::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if self.apart.iter().any(|counts| held(counts, node)) {
            return Err(Rejection::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        if self.others_refuse(node) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Rejection::unschedulable(reason));
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.pretend(pod, node, 1);
    }

    fn remove_pod(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.pretend(pod, node, -1);
    }
}

/// Scores by domain, one entry a topology.
struct Preferred(Vec<(Arc<Topology>, Vec<i64>)>);

impl Preferred {
    fn add(&mut self, topology: &Arc<Topology>, counts: &[u32], weight: i64) {
        let at = self
            .0
            .iter()
            .position(|(known, _)| known.key == topology.key)
            .unwrap_or_else(|| {
                self.0.push((topology.clone(), vec![0; topology.values.len()]));
                self.0.len() - 1
            });
        let scores = self.0[at].1.iter_mut();
        scores
            .zip(counts)
            .for_each(|(score, count)| *score += weight * i64::from(*count));
    }
}

impl Scorer for Preferred {
    fn score(&self, node: &NodeInfo) -> i64 {
        let scores = self.0.iter();
        scores
            .filter_map(|(topology, scores)| scores.get(topology.domain(node.slot) as usize))
            .sum()
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "scores")]
    fn normalize(&self, scores: &mut [i64], _nodes: &[&NodeInfo]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            let share = if span > 0 {
                (*score - least) as f64 / span as f64
            } else {
                0.0
            };
            *score = (MAX_SCORE as f64 * share) as i64;
        }
    }
}

impl InterPodAffinity {
    fn existing(&self, context: &Context, pod: &PodInfo) -> Vec<Counts> {
        let carried = context
            .cluster
            .index()
            .carried(context.cluster, pod, |role| role == Role::RequiredAnti);
        let mut existing: Vec<Counts> = Vec::new();
        for term in carried {
            match existing
                .iter_mut()
                .find(|counts| counts.topology.key == term.topology.key)
            {
                None => existing.push(Counts::new(term.topology, term.counts)),
                Some(counts) => {
                    let sums = Arc::make_mut(&mut counts.base).iter_mut();
                    sums.zip(&*term.counts).for_each(|(sum, count)| *sum += count);
                }
            }
        }
        existing
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn watches(&self) -> &'static [Resource] {
        &[Resource::Namespace]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        pod.shape
            .affinity
            .terms()
            .any(|term| term.pods.namespace_selector.is_some())
    }

    fn pre_filter(&self, context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        let affinity = &pod.shape.affinity;
        let existing = self.existing(context, pod);
        if existing.is_empty() && affinity.required.is_empty() && affinity.required_anti.is_empty() {
            return PreFilter::Skip;
        }
        let (cluster, index) = (context.cluster, context.cluster.index());
        let count = |term: &Arc<Term>, key: &CountKey| {
            let topology = index.topology(cluster, &term.topology_key);
            let counts = index.domain_counts(cluster, key, &topology, None);
            let total = i64::try_from(counts.total).unwrap_or(i64::MAX);
            (Counts::new(topology, Arc::new(counts.counts.clone())), total)
        };
        let all = CountKey {
            all: affinity.required.iter().map(|term| term.pods.clone()).collect(),
            living: false,
        };
        let near: Vec<_> = affinity.required.iter().map(|term| count(term, &all)).collect();
        let apart = affinity.required_anti.iter().map(|term| {
            let pods = CountKey {
                all: vec![term.pods.clone()],
                living: false,
            };
            count(term, &pods).0
        });
        let namespaces = cluster.namespaces();
        let means = |term: &Arc<Term>| term.pods.matches(&pod.key.namespace, &pod.labels, namespaces);
        PreFilter::run(Required {
            existing,
            other_existing: Vec::new(),
            near_total: near.iter().map(|(_, total)| total).sum(),
            near: near.into_iter().map(|(counts, _)| counts).collect(),
            near_itself: affinity.required.iter().all(means),
            apart: apart.collect(),
            pod: pod.clone(),
            namespaces: namespaces.clone(),
        })
    }

    fn pre_score(&self, context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        let affinity = &pod.shape.affinity;
        if self.ignore_preferred_of_existing && !affinity.has_preferred() {
            return PreScore::Skip;
        }
        let (cluster, index) = (context.cluster, context.cluster.index());
        let mut preferred = Preferred(Vec::new());
        for term in index.carried(cluster, pod, |role| role != Role::RequiredAnti) {
            let weight = match term.role {
                Role::Preferred(weight) => weight,
                _ => self.hard_weight,
            };
            if weight != 0 {
                preferred.add(&term.topology, &term.counts, weight);
            }
        }
        let near = affinity.preferred.iter().map(|(weight, term)| (*weight, term));
        let apart = affinity.preferred_anti.iter().map(|(weight, term)| (-weight, term));
        for (weight, term) in near.chain(apart) {
            let topology = index.topology(cluster, &term.topology_key);
            let key = CountKey {
                all: vec![term.pods.clone()],
                living: false,
            };
            let counts = index.domain_counts(cluster, &key, &topology, None);
            if counts.total > 0 {
                preferred.add(&topology, &counts.counts, weight);
            }
        }
        if preferred.0.is_empty() {
            return PreScore::Skip;
        }
        PreScore::run(preferred)
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (
                Resource::AssignedPod,
                Action::ADD | Action::DELETE | Action::UPDATE_POD_LABEL,
            ),
            (Resource::UnscheduledPod, Action::UPDATE_POD_LABEL),
            (Resource::Node, Action::ADD | Action::UPDATE_NODE_LABEL),
        ]
    }

    fn hint(&self, context: &Context, pod: &PodInfo, event: &Event) -> bool {
        match event.resource {
            Resource::AssignedPod => pod_helps(context.cluster.namespaces(), pod, event.pods()),
            Resource::Node => node_helps(pod, event.nodes()),
            _ => true,
        }
    }
}

/// A pod helps that comes to be one to be near to, or goes or ceases to be one to be far from (upstream
/// `isSchedulableAfterPodChange`).
fn pod_helps(namespaces: &Namespaces, pod: &PodInfo, change: (Option<&PodInfo>, Option<&PodInfo>)) -> bool {
    let means = |term: &Arc<Term>, other: &PodInfo| term.pods.matches(&other.key.namespace, &other.labels, namespaces);
    let affinity = &pod.shape.affinity;
    let near =
        |other: &PodInfo| !affinity.required.is_empty() && affinity.required.iter().all(|term| means(term, other));
    let apart = |other: &PodInfo| affinity.required_anti.iter().any(|term| means(term, other));
    let refuses = |other: &PodInfo| other.shape.affinity.required_anti.iter().any(|term| means(term, pod));
    match change {
        (None, None) => true,
        (None, Some(new)) => near(new),
        (Some(old), None) => apart(old) || refuses(old),
        (Some(old), Some(new)) => near(new) && !near(old) || apart(old) && !apart(new),
    }
}

/// A node helps that has, newly or with another value, a label that a term is about.
fn node_helps(pod: &PodInfo, (old, new): (Option<&Node>, Option<&Node>)) -> bool {
    let Some(new) = new else { return true };
    let label = |node: &Node, key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key).cloned())
    };
    let affinity = &pod.shape.affinity;
    let changed = |term: &Arc<Term>| match old {
        None => label(new, &term.topology_key).is_some(),
        Some(old) => label(old, &term.topology_key) != label(new, &term.topology_key),
    };
    let near = affinity.required.iter().any(changed);
    // A node without the label, too, is one to be far away on.
    let apart = match old {
        None => !affinity.required_anti.is_empty(),
        Some(_) => affinity.required_anti.iter().any(changed),
    };
    // Turned down by others' terms: any new place may do.
    near || apart || affinity.required.is_empty() && affinity.required_anti.is_empty()
}
