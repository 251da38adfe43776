//! Makes room by evicting pods of lower priority (upstream framework/preemption and
//! plugins/defaultpreemption).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::labels::Selector;
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::cluster::Cluster;
use crate::config::args::PluginArgs;
use crate::cycle::{ActiveFilter, admits};
use crate::framework::{
    Action, Context, Event, Plugin, Point, PostFilter, PostFilterContext, Registration, Rejection, Resource, Shared,
};
use crate::node::{NodeInfo, Slot};
use crate::pod::PodInfo;
use crate::shape;
use crate::verdict::Verdict;

#[derive(Debug, Clone)]
struct Budget {
    namespace: String,
    selector: Selector,
    allowed: i32,
    disrupted: Vec<String>,
}

/// The plugin, with the budgets of the cluster.
#[derive(Debug)]
pub(super) struct DefaultPreemption {
    min_percentage: usize,
    min_absolute: usize,
    budgets: Mutex<BTreeMap<(String, String), Budget>>,
}

/// A node with the pods that would have to leave it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub slot: Slot,
    /// The most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a budget protects.
    pub violations: usize,
}

impl DefaultPreemption {
    pub(super) fn new(args: &PluginArgs) -> DefaultPreemption {
        DefaultPreemption {
            min_percentage: args.min_candidate_nodes_percentage,
            min_absolute: args.min_candidate_nodes_absolute,
            budgets: Mutex::default(),
        }
    }

    fn budgets(&self) -> MutexGuard<'_, BTreeMap<(String, String), Budget>> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many nodes are tried (upstream `calculateNumCandidates`).
    fn candidates(&self, nodes: usize) -> usize {
        (nodes * self.min_percentage / 100).max(self.min_absolute).min(nodes)
    }
}

/// Whether the pod may preempt at all (upstream `PodEligibleToPreemptOthers`).
///
/// # Errors
/// Why not.
fn may_preempt(cluster: &Cluster, pod: &PodInfo, verdict: &Verdict) -> Result<(), &'static str> {
    if pod.shape.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = pod.nominated.as_ref().or_else(|| cluster.nominated_node(&pod.key));
    let Some(node) = nominated.and_then(|name| cluster.node(name)) else {
        return Ok(());
    };
    if verdict.of(node.slot).is_some_and(|group| !group.rejection.resolvable()) {
        return Ok(());
    }
    let leaving = |other: &Arc<PodInfo>| other.priority() < pod.priority() && other.terminating && other.preempted;
    if node.pods.iter().any(leaving) {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

/// The more important first: priority, then age (upstream `MoreImportantPod`).
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority()), pod.started)
}

/// Those that a budget protects, and the others (upstream `filterPodsWithPDBViolation`).
fn by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let counts = !pod.labels.is_empty()
                && *budget.namespace == *pod.key.namespace
                && !budget.selector.is_everything()
                && budget.selector.matches(&*pod.labels)
                && !budget.disrupted.iter().any(|name| **name == *pod.key.name);
            if counts {
                *allowed -= 1;
                violates |= *allowed < 0;
            }
        }
        violates
    })
}

/// A node with some of its pods taken away, and the filters that believe it.
struct Trial<'t> {
    cluster: &'t Cluster,
    pod: &'t Arc<PodInfo>,
    node: NodeInfo,
    filters: &'t mut [ActiveFilter],
    /// Pods that are taken away now.
    away: Vec<Arc<PodInfo>>,
}

impl Trial<'_> {
    fn take(&mut self, pod: &Arc<PodInfo>) {
        self.node.remove_pod(&pod.key);
        self.filters
            .iter_mut()
            .for_each(|active| active.filter.remove_pod(pod, &self.node));
        self.away.push(pod.clone());
    }

    fn put(&mut self, pod: &Arc<PodInfo>) {
        self.node.add_pod(pod.clone());
        self.filters
            .iter_mut()
            .for_each(|active| active.filter.add_pod(pod, &self.node));
        self.away.retain(|away| away.key != pod.key);
    }

    fn fits(&mut self) -> Result<(), (&'static str, Rejection)> {
        admits(self.cluster, self.pod, &self.node, self.filters)
    }
}

/// The filters are shared by all trials: each leaves them as it found them.
impl Drop for Trial<'_> {
    fn drop(&mut self) {
        for pod in std::mem::take(&mut self.away) {
            self.put(&pod);
        }
    }
}

/// The fewest pods to evict from a node, those a budget protects kept first (upstream
/// `SelectVictimsOnNode`).
///
/// # Errors
/// Why evicting pods there does not help.
fn select_victims(
    cluster: &Cluster,
    pod: &Arc<PodInfo>,
    slot: Slot,
    filters: &mut [ActiveFilter],
    budgets: &[Budget],
) -> Result<Candidate, (&'static str, Rejection)> {
    let node = cluster.at(slot).clone();
    let mut lower: Vec<_> = node
        .pods
        .iter()
        .filter(|other| other.priority() < pod.priority())
        .cloned()
        .collect();
    if lower.is_empty() {
        let reason = "No preemption victims found for incoming pod";
        return Err(("DefaultPreemption", Rejection::unresolvable(reason)));
    }
    let away = Vec::with_capacity(lower.len());
    let mut trial = Trial {
        cluster,
        pod,
        node,
        filters,
        away,
    };
    lower.iter().for_each(|other| trial.take(other));
    trial.fits()?;
    lower.sort_by_key(|other| importance(other));
    let (protected, others) = by_budget(lower, budgets);
    let mut candidate = Candidate {
        slot,
        victims: Vec::new(),
        violations: 0,
    };
    let all = protected
        .iter()
        .map(|other| (other, true))
        .chain(others.iter().map(|other| (other, false)));
    for (other, protected) in all {
        trial.put(other);
        if trial.fits().is_err() {
            trial.take(other);
            candidate.victims.push(other.clone());
            candidate.violations += usize::from(protected);
        }
    }
    candidate.victims.sort_by_key(|other| importance(other));
    Ok(candidate)
}

/// The node where eviction does the least harm (upstream `pickOneNodeForPreemption`): fewest budgets
/// broken, then least highest priority, least sum of priorities, fewest pods, latest start of the most
/// important pod.
#[must_use]
pub fn pick_one(candidates: &[Candidate]) -> Option<&Candidate> {
    let highest = |candidate: &Candidate| candidate.victims.first().map_or(i32::MIN, |pod| pod.priority());
    candidates.iter().min_by_key(|candidate| {
        let offset = i64::from(i32::MAX) + 1;
        let sum: i64 = candidate
            .victims
            .iter()
            .map(|pod| i64::from(pod.priority()) + offset)
            .sum();
        let most_important = candidate
            .victims
            .iter()
            .filter(|pod| pod.priority() == highest(candidate));
        let earliest = most_important.map(|pod| pod.started).min();
        (
            candidate.violations,
            highest(candidate),
            sum,
            candidate.victims.len(),
            Reverse(earliest),
        )
    })
}

impl DefaultPreemption {
    /// Nodes that would do after evictions, and why others would not.
    fn try_nodes(&self, context: &mut PostFilterContext, pod: &Arc<PodInfo>) -> (Vec<Candidate>, Verdict) {
        let cluster = context.cluster;
        let mut report = Verdict {
            node_count: cluster.node_count(),
            ..Verdict::default()
        };
        let mut potential = Vec::new();
        for slot in cluster.order() {
            if context.verdict.is_resolvable(*slot) {
                potential.push(*slot);
            } else {
                let rejection = Rejection::unresolvable("Preemption is not helpful for scheduling");
                report.add("DefaultPreemption", rejection, *slot);
            }
        }
        let mut found: Vec<Candidate> = Vec::new();
        if potential.is_empty() {
            return (found, report);
        }
        let budgets: Vec<Budget> = self.budgets().values().cloned().collect();
        let enough = self.candidates(potential.len());
        let offset = usize::try_from(context.random % potential.len() as u64).expect("smaller than a length");
        let (mut peaceful, mut violating) = (0, 0);
        for slot in potential[offset..].iter().chain(&potential[..offset]) {
            match select_victims(cluster, pod, *slot, context.filters, &budgets) {
                Ok(candidate) if candidate.victims.is_empty() => {}
                Ok(candidate) => {
                    match candidate.violations {
                        0 => peaceful += 1,
                        _ => violating += 1,
                    }
                    found.push(candidate);
                    if peaceful > 0 && peaceful + violating >= enough {
                        break;
                    }
                }
                Err((plugin, rejection)) => report.add(plugin, rejection, *slot),
            }
        }
        (found, report)
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn watches(&self) -> &'static [Resource] {
        &[Resource::PodDisruptionBudget]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        pod.priority() > 0
    }

    fn observe(&self, _resource: Resource, old: Option<&Shared>, new: Option<&Shared>) {
        let Some(object) = new.or(old) else { return };
        let Some(budget) = object.downcast_ref::<PodDisruptionBudget>() else {
            return;
        };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let key = (text(&budget.metadata.namespace), text(&budget.metadata.name));
        if new.is_none() {
            self.budgets().remove(&key);
            return;
        }
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        let known = Budget {
            namespace: key.0.clone(),
            selector: shape::selector(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: disrupted.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        };
        self.budgets().insert(key, known);
    }

    fn events(&self) -> Vec<Registration> {
        vec![(Resource::AssignedPod, Action::DELETE)]
    }

    fn hint(&self, _context: &Context, _pod: &PodInfo, _event: &Event) -> bool {
        true
    }

    fn post_filter(&self, context: &mut PostFilterContext, pod: &Arc<PodInfo>) -> PostFilter {
        if let Err(why) = may_preempt(context.cluster, pod, context.verdict) {
            return PostFilter::Unschedulable(format!("preemption: {why}"));
        }
        let (mut candidates, report) = self.try_nodes(context, pod);
        if !candidates.is_empty()
            && let Err(error) = context.judge.preempt(context.cluster, pod, &mut candidates)
        {
            return PostFilter::Unschedulable(format!("preemption: {error}"));
        }
        match pick_one(&candidates) {
            Some(best) => PostFilter::Preempt {
                node: context.cluster.at(best.slot).name.clone(),
                victims: best.victims.clone(),
            },
            None => PostFilter::Unschedulable(format!("preemption: {}", report.message(pod))),
        }
    }
}
