//! What lets a decision about topologies cost the number of domains, not the number of pods.
//!
//! Three kinds of facts, each made when it is first asked for and from then on kept up by every pod
//! that comes or goes:
//! - a [`Topology`]: which value of a node label each node has;
//! - counts of the pods that a selector means, by node and by domain ([`Index::domain_counts`]);
//! - the affinity terms that placed pods carry, by domain ([`Index::carried`]).
//!
//! What is derived from nodes' labels or taints is dropped when those change, which is seldom, and made
//! again from counts by node, which stay.
//!
//! The mutex is there because plugins read through a shared reference and may be the first to ask;
//! one thread decides, so that nobody waits for it.

mod buckets;
mod carried;
mod counts;
mod topology;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use carried::{Carried, Role};
pub use counts::{CountKey, DomainCounts};
pub use topology::{Eligible, EligibleKey, NO_DOMAIN, Topology};

use crate::cluster::Cluster;
use crate::node::Slot;
use crate::pod::PodInfo;
use crate::shape::Namespaces;

/// The indexes of one cluster.
#[derive(Debug, Default)]
pub struct Index {
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Default)]
struct Inner {
    topologies: topology::Topologies,
    counts: counts::Counts,
    carried: carried::CarriedTerms,
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Index {
            inner: Mutex::new(self.lock().clone()),
        }
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&mut self) -> &mut Inner {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The domains of a node label.
    #[must_use]
    pub fn topology(&self, cluster: &Cluster, key: &Arc<str>) -> Arc<Topology> {
        self.lock().topologies.get(cluster.slots(), key)
    }

    /// The nodes that fulfil `key`.
    #[must_use]
    pub fn eligible(&self, cluster: &Cluster, key: &EligibleKey) -> Arc<Eligible> {
        self.lock().topologies.eligible(cluster.slots(), key)
    }

    /// How many pods `key` means in each domain of a topology, of those on nodes in `among`.
    #[must_use]
    pub fn domain_counts(
        &self,
        cluster: &Cluster,
        key: &CountKey,
        topology: &Arc<Topology>,
        among: Option<&Arc<Eligible>>,
    ) -> Arc<DomainCounts> {
        self.lock().counts.by_domain(cluster, key, topology, among)
    }

    /// How many pods `key` means on each node.
    #[must_use]
    pub fn slot_counts(&self, cluster: &Cluster, key: &CountKey) -> Arc<Vec<u32>> {
        self.lock().counts.by_slot(cluster, key)
    }

    /// The terms of placed pods that mean a pod like this one, with the counts of carriers by domain.
    #[must_use]
    pub fn carried(&self, cluster: &Cluster, pod: &PodInfo, wanted: impl Fn(Role) -> bool) -> Vec<Carried> {
        let Inner {
            topologies, carried, ..
        } = &mut *self.lock();
        carried.matching(cluster, pod, topologies, wanted)
    }

    pub(crate) fn pod_added(&mut self, pod: &PodInfo, slot: Slot, namespaces: &Namespaces) {
        let inner = self.inner();
        inner.counts.change(pod, slot, namespaces, 1);
        inner.carried.change(pod, slot, &mut inner.topologies, 1);
    }

    pub(crate) fn pod_removed(&mut self, pod: &PodInfo, slot: Slot, namespaces: &Namespaces) {
        let inner = self.inner();
        inner.counts.change(pod, slot, namespaces, -1);
        inner.carried.change(pod, slot, &mut inner.topologies, -1);
    }

    pub(crate) fn topology_changed(&mut self) {
        let inner = self.inner();
        inner.topologies.clear();
        inner.counts.forget_domains();
        inner.carried.forget_domains();
    }

    pub(crate) fn namespaces_changed(&mut self) {
        self.inner().counts.forget_namespace_selectors();
    }
}
