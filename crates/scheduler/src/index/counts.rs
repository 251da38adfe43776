//! Counts of the pods that selectors mean.

use std::collections::HashMap;
use std::sync::Arc;

use super::buckets::Buckets;
use super::topology::{Eligible, NO_DOMAIN, Topology};
use crate::cluster::Cluster;
use crate::node::Slot;
use crate::pod::PodInfo;
use crate::shape::{Namespaces, PodSelector};

/// Selectors that are counted at most; half of them are forgotten when there are more. What is
/// forgotten is counted anew when it is asked for.
const MAX_COUNTED: usize = 1024;

/// Which pods are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CountKey {
    /// Those that every one of these means.
    pub all: Vec<Arc<PodSelector>>,
    /// Whether pods that are being deleted do not count.
    pub living: bool,
}

impl CountKey {
    fn means(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        !(self.living && pod.terminating)
            && self
                .all
                .iter()
                .all(|pods| pods.matches(&pod.key.namespace, &pod.labels, namespaces))
    }
}

/// Counts by domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainCounts {
    /// Pods in each domain.
    pub counts: Vec<u32>,
    /// Nodes in each domain; a domain without any does not exist.
    pub nodes: Arc<Vec<u32>>,
    /// How many domains exist.
    pub domains: usize,
    /// Pods in all domains.
    pub total: u64,
}

impl DomainCounts {
    fn of(per_slot: &[u32], topology: &Topology, among: Option<&Arc<Eligible>>) -> DomainCounts {
        let mut counts = vec![0; topology.values.len()];
        let mut nodes = vec![0; topology.values.len()];
        let mut total = 0;
        for (slot, domain) in topology.domains().iter().enumerate() {
            let slot = Slot::try_from(slot).expect("a slot");
            if *domain == NO_DOMAIN || among.is_some_and(|among| !among.has(slot)) {
                continue;
            }
            let pods = per_slot.get(slot as usize).copied().unwrap_or(0);
            counts[*domain as usize] += pods;
            nodes[*domain as usize] += 1;
            total += u64::from(pods);
        }
        DomainCounts {
            domains: nodes.iter().filter(|nodes| **nodes > 0).count(),
            counts,
            nodes: Arc::new(nodes),
            total,
        }
    }
}

#[derive(Debug, Clone)]
struct View {
    topology: Arc<Topology>,
    among: Option<Arc<Eligible>>,
    counts: Arc<DomainCounts>,
}

impl View {
    fn is_of(&self, topology: &Arc<Topology>, among: Option<&Arc<Eligible>>) -> bool {
        Arc::ptr_eq(&self.topology, topology)
            && match (&self.among, among) {
                (None, None) => true,
                (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
                _ => false,
            }
    }
}

#[derive(Debug, Clone)]
struct Counted {
    key: CountKey,
    per_slot: Arc<Vec<u32>>,
    views: Vec<View>,
    last_used: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    numbers: HashMap<CountKey, u32>,
    counted: Vec<Counted>,
    buckets: Buckets,
    uses: u64,
}

impl Counts {
    pub(super) fn by_slot(&mut self, cluster: &Cluster, key: &CountKey) -> Arc<Vec<u32>> {
        self.entry(cluster, key).per_slot.clone()
    }

    pub(super) fn by_domain(
        &mut self,
        cluster: &Cluster,
        key: &CountKey,
        topology: &Arc<Topology>,
        among: Option<&Arc<Eligible>>,
    ) -> Arc<DomainCounts> {
        let counted = self.entry(cluster, key);
        if let Some(view) = counted.views.iter().find(|view| view.is_of(topology, among)) {
            return view.counts.clone();
        }
        let counts = Arc::new(DomainCounts::of(&counted.per_slot, topology, among));
        // Views of other eligibilities of the same topology are of pods that differ; few are in use at once.
        if counted.views.len() >= 8 {
            counted.views.remove(0);
        }
        counted.views.push(View {
            topology: topology.clone(),
            among: among.cloned(),
            counts: counts.clone(),
        });
        counts
    }

    fn entry(&mut self, cluster: &Cluster, key: &CountKey) -> &mut Counted {
        self.uses += 1;
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None => self.count(cluster, key),
        };
        let counted = &mut self.counted[number as usize];
        counted.last_used = self.uses;
        counted
    }

    fn count(&mut self, cluster: &Cluster, key: &CountKey) -> u32 {
        if self.counted.len() >= MAX_COUNTED {
            self.forget_old();
        }
        let of_node = |pods: &[Arc<PodInfo>]| pods.iter().filter(|pod| key.means(pod, cluster.namespaces())).count();
        let per_slot = cluster
            .slots()
            .iter()
            .map(|node| u32::try_from(of_node(&node.pods)).unwrap_or(u32::MAX));
        let counted = Counted {
            key: key.clone(),
            per_slot: Arc::new(per_slot.collect()),
            views: Vec::new(),
            last_used: self.uses,
        };
        self.push(counted)
    }

    fn push(&mut self, counted: Counted) -> u32 {
        let number = u32::try_from(self.counted.len()).expect("few are counted");
        self.numbers.insert(counted.key.clone(), number);
        let everything = api::labels::Selector::everything();
        let labels = counted.key.all.first().map_or(&everything, |pods| &pods.labels);
        self.buckets.insert(labels, number);
        self.counted.push(counted);
        number
    }

    fn keep(&mut self, wanted: impl Fn(&Counted) -> bool) {
        let old = std::mem::take(&mut self.counted);
        (self.numbers, self.buckets) = (HashMap::new(), Buckets::default());
        for counted in old.into_iter().filter(wanted) {
            self.push(counted);
        }
    }

    fn forget_old(&mut self) {
        let mut ages: Vec<u64> = self.counted.iter().map(|counted| counted.last_used).collect();
        ages.sort_unstable();
        let middle = ages[ages.len() / 2];
        self.keep(|counted| counted.last_used > middle);
    }

    pub(super) fn change(&mut self, pod: &PodInfo, slot: Slot, namespaces: &Namespaces, by: i32) {
        if self.counted.is_empty() {
            return;
        }
        for number in self.buckets.candidates(&pod.labels) {
            let counted = &mut self.counted[number as usize];
            if counted.key.means(pod, namespaces) {
                counted.change(slot, by);
            }
        }
    }

    pub(super) fn forget_domains(&mut self) {
        for counted in &mut self.counted {
            counted.views.clear();
        }
    }

    pub(super) fn forget_namespace_selectors(&mut self) {
        let by_namespace = |pods: &Arc<PodSelector>| pods.namespace_selector.is_some();
        if self
            .counted
            .iter()
            .any(|counted| counted.key.all.iter().any(by_namespace))
        {
            self.keep(|counted| !counted.key.all.iter().any(by_namespace));
        }
    }
}

impl Counted {
    fn change(&mut self, slot: Slot, by: i32) {
        let per_slot = Arc::make_mut(&mut self.per_slot);
        if per_slot.len() <= slot as usize {
            per_slot.resize(slot as usize + 1, 0);
        }
        let count = &mut per_slot[slot as usize];
        *count = count.saturating_add_signed(by);
        for view in &mut self.views {
            let domain = view.topology.domain(slot);
            if domain == NO_DOMAIN || view.among.as_ref().is_some_and(|among| !among.has(slot)) {
                continue;
            }
            let counts = Arc::make_mut(&mut view.counts);
            let count = &mut counts.counts[domain as usize];
            *count = count.saturating_add_signed(by);
            counts.total = counts.total.saturating_add_signed(i64::from(by));
        }
    }
}
