//! The affinity terms that placed pods carry, and where.

use std::collections::HashMap;
use std::sync::Arc;

use super::buckets::Buckets;
use super::topology::{NO_DOMAIN, Topologies, Topology};
use crate::cluster::Cluster;
use crate::node::Slot;
use crate::pod::PodInfo;
use crate::shape::Term;

/// What a term of a placed pod means for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// They must stay away.
    RequiredAnti,
    /// This pod had to be near them.
    Required,
    /// They are welcome by this much, or unwelcome when it is negative.
    Preferred(i64),
}

/// A term with its carriers by domain.
#[derive(Debug, Clone)]
pub struct Carried {
    /// What it means.
    pub role: Role,
    /// The domains.
    pub topology: Arc<Topology>,
    /// Carriers in each domain.
    pub counts: Arc<Vec<u32>>,
}

#[derive(Debug, Clone)]
struct Entry {
    term: Arc<Term>,
    role: Role,
    per_slot: HashMap<Slot, u32>,
    by_domain: Option<Arc<Vec<u32>>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct CarriedTerms {
    numbers: HashMap<(Arc<Term>, Role), u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    buckets: Buckets,
}

fn terms(pod: &PodInfo) -> impl Iterator<Item = (&Arc<Term>, Role)> {
    let affinity = &pod.shape.affinity;
    let required = affinity.required.iter().map(|term| (term, Role::Required));
    let anti = affinity.required_anti.iter().map(|term| (term, Role::RequiredAnti));
    let near = affinity
        .preferred
        .iter()
        .map(|(weight, term)| (term, Role::Preferred(*weight)));
    let apart = affinity
        .preferred_anti
        .iter()
        .map(|(weight, term)| (term, Role::Preferred(-weight)));
    required.chain(anti).chain(near).chain(apart)
}

impl CarriedTerms {
    pub(super) fn change(&mut self, pod: &PodInfo, slot: Slot, topologies: &mut Topologies, by: i32) {
        if pod.shape.affinity.is_empty() {
            return;
        }
        for (term, role) in terms(pod) {
            let number = self.number(term, role);
            let entry = self.entries[number as usize].as_mut().expect("numbers name entries");
            let topology = topologies.known(&term.topology_key);
            entry.change(slot, topology, by);
            if entry.per_slot.is_empty() {
                self.buckets.remove(&term.pods.labels, number);
                self.numbers.remove(&(term.clone(), role));
                self.entries[number as usize] = None;
                self.free.push(number);
            }
        }
    }

    fn number(&mut self, term: &Arc<Term>, role: Role) -> u32 {
        if let Some(number) = self.numbers.get(&(term.clone(), role)) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 terms")
        });
        self.entries[number as usize] = Some(Entry {
            term: term.clone(),
            role,
            per_slot: HashMap::new(),
            by_domain: None,
        });
        self.numbers.insert((term.clone(), role), number);
        self.buckets.insert(&term.pods.labels, number);
        number
    }

    pub(super) fn forget_domains(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.by_domain = None;
        }
    }

    pub(super) fn matching(
        &mut self,
        cluster: &Cluster,
        pod: &PodInfo,
        topologies: &mut Topologies,
        wanted: impl Fn(Role) -> bool,
    ) -> Vec<Carried> {
        if self.numbers.is_empty() {
            return Vec::new();
        }
        let numbers = self.buckets.candidates(&pod.labels);
        let found = numbers.into_iter().filter_map(|number| {
            let entry = self.entries[number as usize].as_mut().expect("buckets name entries");
            let pods = &entry.term.pods;
            if !wanted(entry.role) || !pods.matches(&pod.key.namespace, &pod.labels, cluster.namespaces()) {
                return None;
            }
            let topology = topologies.get(cluster.slots(), &entry.term.topology_key);
            let counts = entry.by_domain(&topology);
            Some(Carried {
                role: entry.role,
                topology,
                counts,
            })
        });
        found.collect()
    }
}

impl Entry {
    fn change(&mut self, slot: Slot, topology: Option<&Arc<Topology>>, by: i32) {
        let count = self.per_slot.entry(slot).or_insert(0);
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.per_slot.remove(&slot);
        }
        let Some(counts) = &mut self.by_domain else { return };
        let Some(topology) = topology else {
            self.by_domain = None;
            return;
        };
        let domain = topology.domain(slot);
        if domain != NO_DOMAIN {
            let count = &mut Arc::make_mut(counts)[domain as usize];
            *count = count.saturating_add_signed(by);
        }
    }

    fn by_domain(&mut self, topology: &Topology) -> Arc<Vec<u32>> {
        let made = || {
            let mut counts = vec![0; topology.values.len()];
            for (slot, carriers) in &self.per_slot {
                let domain = topology.domain(*slot);
                if domain != NO_DOMAIN {
                    counts[domain as usize] += carriers;
                }
            }
            Arc::new(counts)
        };
        self.by_domain.get_or_insert_with(made).clone()
    }
}
