//! The scheduler's picture of the cluster, kept up by events (upstream pkg/scheduler/backend/cache).

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::node::NodeInfo;
use crate::pod::{PodInfo, PodKey};

/// Nodes in a stable order with the pods on them, those included that were placed here but whose
/// binding has not come back as an event yet.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Where each pod counts, and whether that is only assumed.
    pods: HashMap<PodKey, (String, Confidence)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confidence {
    Assumed,
    Seen,
}

impl Cluster {
    /// Nodes that exist, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|node| node.node.is_some())
    }

    /// How many nodes exist.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes().count()
    }

    /// The node called `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name
            .get(name)
            .map(|index| &self.nodes[*index])
            .filter(|node| node.node.is_some())
    }

    /// A node came or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.entry(&name).set_node(node);
    }

    /// A node went; its pods are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(&index) = self.by_name.get(name) {
            self.nodes[index].node = None;
            self.forget_if_empty(name);
        }
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

    /// Takes back [`Cluster::assume`], unless the binding was seen since.
    pub fn forget(&mut self, key: &PodKey) {
        if matches!(self.pods.get(key), Some((_, Confidence::Assumed))) {
            self.remove_pod(key);
        }
    }

    /// A bound pod came or changed. A finished pod holds nothing.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        match pod.node_name().map(String::from) {
            Some(node) if !pod.is_finished() => self.place(pod, &node, Confidence::Seen),
            _ => {
                self.remove_pod(&pod.key);
            }
        }
    }

    /// A pod went. Returns whether it counted.
    pub fn remove_pod(&mut self, key: &PodKey) -> bool {
        let Some((node, _)) = self.pods.remove(key) else {
            return false;
        };
        if let Some(&index) = self.by_name.get(&node) {
            self.nodes[index].remove_pod(key);
            self.forget_if_empty(&node);
        }
        true
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, confidence: Confidence) {
        self.remove_pod(&pod.key);
        self.pods.insert(pod.key.clone(), (node.to_owned(), confidence));
        self.entry(node).add_pod(pod);
    }

    fn entry(&mut self, name: &str) -> &mut NodeInfo {
        let index = *self.by_name.entry(name.to_owned()).or_insert_with(|| {
            self.nodes.push(NodeInfo::empty());
            self.nodes.len() - 1
        });
        &mut self.nodes[index]
    }

    fn forget_if_empty(&mut self, name: &str) {
        let Some(&index) = self.by_name.get(name) else { return };
        if self.nodes[index].node.is_some() || !self.nodes[index].pods.is_empty() {
            return;
        }
        self.by_name.remove(name);
        self.nodes.swap_remove(index);
        if let Some(moved) = self.nodes.get(index) {
            let moved_name = moved
                .pods
                .keys()
                .next()
                .and_then(|key| self.pods.get(key))
                .map(|(node, _)| node.clone());
            let moved_name = if moved.node.is_some() {
                Some(moved.name().to_owned())
            } else {
                moved_name
            };
            if let Some(moved_name) = moved_name {
                self.by_name.insert(moved_name, index);
            }
        }
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
        let waiting = Arc::new(PodInfo::new(Arc::new(pod("p").requests("1", "1Mi").build())));
        cluster.assume(waiting.clone(), "n1");
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 1000);
        let bound = Arc::new(PodInfo::new(Arc::new(pod("p").requests("1", "1Mi").on("n1").build())));
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
        cluster.set_pod(Arc::new(PodInfo::new(Arc::new(
            pod("p").requests("1", "1Mi").on("n1").build(),
        ))));
        cluster.remove_node("n1");
        cluster.remove_node("n2");
        assert_eq!(cluster.nodes().map(NodeInfo::name).collect::<Vec<_>>(), ["n3"]);
        cluster.set_node(node("n1").cpu("2").build());
        assert_eq!(cluster.node("n1").unwrap().requested.milli_cpu, 1000);
        assert_eq!(cluster.node("n3").unwrap().requested.milli_cpu, 0);
    }
}
