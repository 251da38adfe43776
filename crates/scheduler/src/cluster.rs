//! The scheduler's picture of the cluster, kept up by events (upstream pkg/scheduler/backend/cache).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::framework::{Resource, Shared};
use crate::index::Index;
use crate::intern::Interner;
use crate::node::{NodeInfo, Slot};
use crate::pod::{PodInfo, PodKey};
use crate::shape::Namespaces;
use crate::storage::{PodClaim, Storage, claims};

/// Nodes with the pods on them, those included that were placed here but whose binding has not come
/// back as an event yet.
///
/// A clone is a cluster of its own: what is done to it does not touch this one.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    slots: Vec<NodeInfo>,
    free: Vec<Slot>,
    by_name: HashMap<Arc<str>, Slot>,
    /// Slots of nodes that exist, zone by zone in turn (upstream `nodeTree.list`).
    order: Vec<Slot>,
    order_is_stale: bool,
    /// Names in each zone in the order they came, zones in the order they came.
    zones: Vec<(String, Vec<Slot>)>,
    pods: HashMap<PodKey, (Slot, Confidence)>,
    nominated: HashMap<PodKey, (Arc<str>, Arc<PodInfo>)>,
    nominated_on: HashMap<Arc<str>, HashSet<PodKey>>,
    image_nodes: HashMap<String, u32>,
    namespaces: Arc<Namespaces>,
    index: Index,
    interner: Arc<Interner>,
    storage: Arc<Storage>,
    /// How many volumes of pods that count mean a claim, by `namespace/name`.
    claim_uses: HashMap<String, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confidence {
    Assumed,
    Seen,
}

impl Cluster {
    /// The tables of what pods share.
    #[must_use]
    pub fn interner(&self) -> &Interner {
        &self.interner
    }

    /// What is known of storage.
    #[must_use]
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// An object of storage came, changed or went.
    pub fn observe_storage(&mut self, resource: Resource, old: Option<&Shared>, new: Option<&Shared>) {
        Arc::make_mut(&mut self.storage).observe(resource, old, new);
    }

    /// Whether a pod that counts uses the claim (upstream `IsPVCUsedByPods`).
    #[must_use]
    pub fn is_claim_used(&self, namespace: &str, name: &str) -> bool {
        !self.claim_uses.is_empty() && self.claim_uses.contains_key(&format!("{namespace}/{name}"))
    }

    fn count_claims(&mut self, pod: &PodInfo, there: bool) {
        for claim in claims(pod) {
            let PodClaim::Named(name) = claim else { continue };
            let key = format!("{}/{name}", pod.key.namespace);
            if there {
                *self.claim_uses.entry(key).or_default() += 1;
            } else if let Some(uses) = self.claim_uses.get_mut(&key) {
                *uses -= 1;
                if *uses == 0 {
                    self.claim_uses.remove(&key);
                }
            }
        }
    }

    /// The indexes of topologies, counts of pods and terms.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Slots of the nodes that exist, in the order they are tried in. [`Cluster::settle`] first.
    #[must_use]
    pub fn order(&self) -> &[Slot] {
        &self.order
    }

    /// Nodes that exist, in order. [`Cluster::settle`] first.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.order.iter().map(|slot| &self.slots[*slot as usize])
    }

    /// How many nodes exist.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.zones.iter().map(|(_, slots)| slots.len()).sum()
    }

    /// All slots, those of nodes that are gone included: a table by slot is as long as this.
    #[must_use]
    pub fn slots(&self) -> &[NodeInfo] {
        &self.slots
    }

    /// The node at a slot.
    #[must_use]
    pub fn at(&self, slot: Slot) -> &NodeInfo {
        &self.slots[slot as usize]
    }

    /// The node called `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        let slot = *self.by_name.get(name)?;
        Some(self.at(slot)).filter(|node| node.exists())
    }

    /// Works out the order of nodes after some came or went.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.order_is_stale) {
            return;
        }
        self.order.clear();
        let longest = self.zones.iter().map(|(_, slots)| slots.len()).max().unwrap_or(0);
        for turn in 0..longest {
            self.order
                .extend(self.zones.iter().filter_map(|(_, slots)| slots.get(turn)));
        }
    }

    /// A node came or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let slot = self.slot_of(node.metadata.name.as_deref().unwrap_or_default());
        let info = &mut self.slots[slot as usize];
        let (old_zone, old_images) = (info.exists().then(|| info.zone()), info.images.clone());
        if info.set_node(node) {
            self.index.topology_changed();
        }
        let (zone, images) = (info.zone(), info.images.clone());
        if !Arc::ptr_eq(&old_images, &images) {
            self.count_images(&old_images, &images);
        }
        if old_zone.as_deref() != Some(&zone) {
            self.leave_zone(slot);
            match self.zones.iter_mut().find(|(name, _)| *name == zone) {
                Some((_, slots)) => slots.push(slot),
                None => self.zones.push((zone, vec![slot])),
            }
            self.order_is_stale = true;
        }
    }

    /// A node went; its pods are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(&slot) = self.by_name.get(name) else { return };
        self.leave_zone(slot);
        let images = std::mem::take(&mut self.slots[slot as usize].images);
        self.count_images(&images, &HashMap::new());
        let info = &mut self.slots[slot as usize];
        info.node = None;
        (info.unschedulable, info.tainted) = (false, false);
        self.index.topology_changed();
        self.free_if_empty(slot);
    }

    fn leave_zone(&mut self, slot: Slot) {
        for (_, slots) in &mut self.zones {
            slots.retain(|known| *known != slot);
        }
        self.zones.retain(|(_, slots)| !slots.is_empty());
        self.order_is_stale = true;
    }

    fn count_images(&mut self, old: &HashMap<String, i64>, new: &HashMap<String, i64>) {
        for name in new.keys().filter(|name| !old.contains_key(*name)) {
            *self.image_nodes.entry(name.clone()).or_default() += 1;
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            if let Some(count) = self.image_nodes.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.image_nodes.remove(name);
                }
            }
        }
    }

    /// How many nodes have an image.
    #[must_use]
    pub fn nodes_with_image(&self, name: &str) -> u32 {
        self.image_nodes.get(name).copied().unwrap_or(0)
    }

    /// Counts `pod` on `node` before the API knows.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node, Confidence::Assumed);
    }

    /// Whether the pod counts on some node.
    #[must_use]
    pub fn holds(&self, key: &PodKey) -> bool {
        self.pods.contains_key(key)
    }

    /// The pod as it counts, with the node it counts on.
    #[must_use]
    pub fn placed(&self, key: &PodKey) -> Option<(&NodeInfo, &Arc<PodInfo>)> {
        let node = self.at(self.pods.get(key)?.0);
        node.pods.iter().find(|pod| pod.key == *key).map(|pod| (node, pod))
    }

    /// How many pods count.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Whether the pod counts on a node only because it was placed there, not seen yet.
    #[must_use]
    pub fn is_assumed(&self, key: &PodKey) -> bool {
        matches!(self.pods.get(key), Some((_, Confidence::Assumed)))
    }

    /// Takes back [`Cluster::assume`], unless the binding was seen since.
    pub fn forget(&mut self, key: &PodKey) {
        if self.is_assumed(key) {
            self.remove_pod(key);
        }
    }

    /// A bound pod came or changed. A finished pod holds nothing.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        match pod.node_name.clone() {
            Some(node) if !pod.finished => self.place(pod, &node, Confidence::Seen),
            _ => {
                self.remove_pod(&pod.key);
            }
        }
    }

    /// A pod went. Returns whether it counted.
    pub fn remove_pod(&mut self, key: &PodKey) -> bool {
        let Some((slot, _)) = self.pods.remove(key) else {
            return false;
        };
        let info = &mut self.slots[slot as usize];
        if let Some(pod) = info.remove_pod(key) {
            self.index.pod_removed(&pod, slot, &self.namespaces);
            self.count_claims(&pod, false);
        }
        self.free_if_empty(slot);
        true
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, confidence: Confidence) {
        if let Some((slot, known)) = self.pods.get_mut(&pod.key)
            && *self.slots[*slot as usize].name == *node
        {
            // The usual case: an assumed pod comes back unchanged.
            *known = confidence;
            let info = &mut self.slots[*slot as usize];
            let held = info
                .pods
                .iter_mut()
                .find(|held| held.key == pod.key)
                .expect("it counts here");
            if held.is_like(&pod) && held.terminating == pod.terminating {
                *held = pod;
                return;
            }
        }
        self.remove_pod(&pod.key);
        let slot = self.slot_of(node);
        self.pods.insert(pod.key.clone(), (slot, confidence));
        self.index.pod_added(&pod, slot, &self.namespaces);
        self.count_claims(&pod, true);
        self.slots[slot as usize].add_pod(pod);
    }

    fn slot_of(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let name = self.interner.text(name);
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = Slot::try_from(self.slots.len()).expect("fewer than 2^32 nodes");
            self.slots.push(NodeInfo::empty(slot, name.clone()));
            slot
        });
        self.slots[slot as usize] = NodeInfo::empty(slot, name.clone());
        self.by_name.insert(name, slot);
        self.index.topology_changed();
        slot
    }

    fn free_if_empty(&mut self, slot: Slot) {
        let info = &self.slots[slot as usize];
        if info.exists() || !info.pods.is_empty() {
            return;
        }
        self.by_name.remove(&info.name);
        self.slots[slot as usize] = NodeInfo::empty(slot, Arc::from(""));
        self.free.push(slot);
    }

    /// A namespace came or changed its labels.
    pub fn set_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        if self.namespaces.get(name).is_some_and(|known| **known == labels) {
            return;
        }
        Arc::make_mut(&mut self.namespaces).insert(name.into(), Arc::new(labels));
        self.index.namespaces_changed();
    }

    /// A namespace went.
    pub fn remove_namespace(&mut self, name: &str) {
        Arc::make_mut(&mut self.namespaces).remove(name);
        self.index.namespaces_changed();
    }

    /// The labels of all namespaces that are known.
    #[must_use]
    pub fn namespaces(&self) -> &Arc<Namespaces> {
        &self.namespaces
    }

    /// Keeps room on a node for a pod whose victims are still leaving; `None` gives it back.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        if let Some((old, _)) = self.nominated.remove(&pod.key)
            && let Some(keys) = self.nominated_on.get_mut(&old)
        {
            keys.remove(&pod.key);
            if keys.is_empty() {
                self.nominated_on.remove(&old);
            }
        }
        if let Some(node) = node {
            let node = self.interner.text(node);
            self.nominated.insert(pod.key.clone(), (node.clone(), pod.clone()));
            self.nominated_on.entry(node).or_default().insert(pod.key.clone());
        }
    }

    /// The node that a pod is nominated for.
    #[must_use]
    pub fn nominated_node(&self, key: &PodKey) -> Option<&Arc<str>> {
        self.nominated.get(key).map(|(node, _)| node)
    }

    /// Pods that room is kept for on a node.
    pub fn nominated_on(&self, node: &str) -> impl Iterator<Item = &Arc<PodInfo>> {
        let keys = if self.nominated.is_empty() {
            None
        } else {
            self.nominated_on.get(node)
        };
        keys.into_iter().flatten().map(|key| &self.nominated[key].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    #[test]
    fn assumed_pods_count_until_forgotten_and_seen_ones_stay() {
        let mut cluster = Cluster::default();
        cluster.set_node(node("n1").cpu("2").build());
        let waiting = pod("p").requests("1", "1Mi").info();
        cluster.assume(waiting.clone(), "n1");
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 1000);
        let bound = pod("p").requests("1", "1Mi").on("n1").info();
        cluster.set_pod(bound.clone());
        cluster.forget(&waiting.key);
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 1000);
        assert!(cluster.remove_pod(&bound.key));
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 0);
        cluster.assume(waiting.clone(), "n1");
        cluster.forget(&waiting.key);
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 0);
    }

    #[test]
    fn a_node_that_goes_takes_nothing_along() {
        let mut cluster = Cluster::default();
        for name in ["n1", "n2", "n3"] {
            cluster.set_node(node(name).cpu("2").build());
        }
        cluster.set_pod(pod("p").requests("1", "1Mi").on("n1").info());
        cluster.remove_node("n1");
        cluster.remove_node("n2");
        cluster.settle();
        assert_eq!(cluster.nodes().map(NodeInfo::name).collect::<Vec<_>>(), ["n3"]);
        cluster.set_node(node("n1").cpu("2").build());
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 1000);
        assert_eq!(cluster.node("n3").unwrap().requested.milli_cpu, 0);
    }

    #[test]
    fn zones_take_turns() {
        let mut cluster = Cluster::default();
        let zone = "topology.kubernetes.io/zone";
        for (name, value) in [
            ("a1", "a"),
            ("a2", "a"),
            ("a3", "a"),
            ("b1", "b"),
            ("c1", "c"),
            ("c2", "c"),
        ] {
            cluster.set_node(node(name).label(zone, value).build());
        }
        cluster.settle();
        let names: Vec<_> = cluster.nodes().map(NodeInfo::name).collect();
        assert_eq!(names, ["a1", "b1", "c1", "a2", "c2", "a3"]);
    }

    #[test]
    fn room_is_kept_for_the_nominated() {
        let mut cluster = Cluster::default();
        let waiting = pod("p").info();
        cluster.nominate(&waiting, Some("n1"));
        cluster.nominate(&waiting, Some("n2"));
        assert_eq!(cluster.nominated_on("n1").count(), 0);
        assert_eq!(cluster.nominated_on("n2").count(), 1);
        cluster.nominate(&waiting, None);
        assert_eq!(cluster.nominated_on("n2").count(), 0);
    }
}
