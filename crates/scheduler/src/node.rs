//! A node with what is placed on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::{HostPort, PodInfo, PodKey};
use crate::resources::Resources;

/// A node, and the sum of its pods.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The object; `None` while only its pods are known.
    pub node: Option<Arc<Node>>,
    /// What may be given to pods.
    pub allocatable: Resources,
    /// How many pods may run.
    pub allowed_pods: i64,
    /// What its pods ask for.
    pub requested: Resources,
    /// What scoring assumes that its pods use.
    pub nonzero_requested: Resources,
    /// Its pods, assumed ones too.
    pub pods: BTreeMap<PodKey, Arc<PodInfo>>,
    /// Sizes in bytes of the images that it has, by every name.
    pub images: BTreeMap<String, i64>,
}

impl NodeInfo {
    pub(crate) fn empty() -> NodeInfo {
        NodeInfo {
            node: None,
            allocatable: Resources::default(),
            allowed_pods: 0,
            requested: Resources::default(),
            nonzero_requested: Resources::default(),
            pods: BTreeMap::new(),
            images: BTreeMap::new(),
        }
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::from_list).unwrap_or_default();
        self.allowed_pods = allocatable
            .and_then(|list| list.get("pods"))
            .and_then(|pods| pods.0.parse::<api::Quantity>().ok())
            .map_or(0, |pods| pods.value());
        self.images = status
            .and_then(|status| status.images.as_ref())
            .into_iter()
            .flatten()
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.node = Some(node);
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.nonzero_requested.add(&pod.nonzero);
        self.pods.insert(pod.key.clone(), pod);
    }

    pub(crate) fn remove_pod(&mut self, key: &PodKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests);
        self.nonzero_requested.subtract(&pod.nonzero);
        Some(pod)
    }

    /// The node's name; empty while only its pods are known.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node
            .as_ref()
            .and_then(|node| node.metadata.name.as_deref())
            .unwrap_or_default()
    }

    /// The node's labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.node
            .as_ref()
            .and_then(|node| node.metadata.labels.as_ref())
            .unwrap_or(&NONE)
    }

    /// The node's taints.
    #[must_use]
    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// Whether it is cordoned.
    #[must_use]
    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
    }

    /// Whether a pod of this node holds the port.
    #[must_use]
    pub fn port_taken(&self, port: &HostPort) -> bool {
        self.pods
            .values()
            .flat_map(|pod| &pod.host_ports)
            .any(|taken| taken.conflicts(port))
    }
}
