//! Domains of nodes by label, and which nodes a pod's constraints are about.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;
use placement::{RequiredTerms, first_untolerated};

use crate::node::{NodeInfo, Slot};

/// The domain of a node without the label.
pub const NO_DOMAIN: u32 = u32::MAX;

/// Eligibilities that are kept at most; the one not asked for the longest goes.
const MAX_ELIGIBLE: usize = 64;

/// Nodes by the value of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The label.
    pub key: Arc<str>,
    /// The number of each node's value, by slot.
    domains: Vec<u32>,
    /// The values, by number.
    pub values: Vec<Box<str>>,
}

impl Topology {
    fn of(slots: &[NodeInfo], key: &Arc<str>) -> Topology {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut values: Vec<Box<str>> = Vec::new();
        let domains = slots.iter().map(|node| {
            let Some(value) = node.labels().get(&**key) else {
                return NO_DOMAIN;
            };
            *numbers.entry(value).or_insert_with(|| {
                values.push(value.as_str().into());
                u32::try_from(values.len() - 1).expect("no more values than nodes")
            })
        });
        Topology {
            key: key.clone(),
            domains: domains.collect(),
            values,
        }
    }

    /// The number of a node's domain; [`NO_DOMAIN`] without the label.
    #[must_use]
    pub fn domain(&self, slot: Slot) -> u32 {
        self.domains.get(slot as usize).copied().unwrap_or(NO_DOMAIN)
    }

    /// All nodes' domains, by slot.
    #[must_use]
    pub fn domains(&self) -> &[u32] {
        &self.domains
    }
}

/// What makes a node one that counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EligibleKey {
    /// Labels that it must have.
    pub labels: Vec<Arc<str>>,
    /// Node affinity that it must fulfil.
    pub required: Option<RequiredTerms>,
    /// Tolerations that must cover its taints.
    pub tolerations: Option<Vec<Toleration>>,
}

impl EligibleKey {
    fn admits(&self, node: &NodeInfo) -> bool {
        let labels = node.labels();
        let required = self.required.as_ref();
        node.exists()
            && self.labels.iter().all(|key| labels.contains_key(&**key))
            && required.is_none_or(|required| required.matches(node.name(), labels))
            && self.tolerations.as_ref().is_none_or(|tolerations| {
                first_untolerated(node.taints(), tolerations, &["NoSchedule", "NoExecute"]).is_none()
            })
    }
}

/// The nodes that count, by slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Eligible(Vec<bool>);

impl Eligible {
    /// Whether the node at `slot` counts.
    #[must_use]
    pub fn has(&self, slot: Slot) -> bool {
        self.0.get(slot as usize).copied().unwrap_or(false)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Topologies {
    topologies: HashMap<Arc<str>, Arc<Topology>>,
    /// Most recently used last.
    eligible: Vec<(EligibleKey, Arc<Eligible>)>,
}

impl Topologies {
    pub(super) fn clear(&mut self) {
        self.topologies.clear();
        self.eligible.clear();
    }

    pub(super) fn known(&self, key: &Arc<str>) -> Option<&Arc<Topology>> {
        self.topologies.get(key)
    }

    pub(super) fn get(&mut self, slots: &[NodeInfo], key: &Arc<str>) -> Arc<Topology> {
        let made = || Arc::new(Topology::of(slots, key));
        self.topologies.entry(key.clone()).or_insert_with(made).clone()
    }

    pub(super) fn eligible(&mut self, slots: &[NodeInfo], key: &EligibleKey) -> Arc<Eligible> {
        if let Some(at) = self.eligible.iter().rposition(|(known, _)| known == key) {
            let last = self.eligible.len() - 1;
            self.eligible.swap(at, last);
            return self.eligible[last].1.clone();
        }
        if self.eligible.len() == MAX_ELIGIBLE {
            self.eligible.remove(0);
        }
        let made = Arc::new(Eligible(slots.iter().map(|node| key.admits(node)).collect()));
        self.eligible.push((key.clone(), made.clone()));
        made
    }
}
