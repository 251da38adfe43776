//! A node with what is placed on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::{PodInfo, PodKey};
use crate::resources::{self, Resources};
use crate::shape::HostPort;

/// Index of a node in the cluster; another node may get it after this one is gone.
pub type Slot = u32;

/// A node, and the sum of its pods.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// Where it is in the cluster's tables.
    pub slot: Slot,
    /// How many pods may run.
    pub allowed_pods: i64,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// Whether it has taints.
    pub tainted: bool,
    /// What may be given to pods.
    pub allocatable: Resources,
    /// What its pods ask for.
    pub requested: Resources,
    /// What scoring assumes that its pods use.
    pub nonzero_requested: Resources,
    /// Its pods, assumed ones too.
    pub pods: Vec<Arc<PodInfo>>,
    /// Host ports that its pods hold.
    pub ports: Vec<HostPort>,
    /// The object; `None` while only its pods are known.
    pub node: Option<Arc<Node>>,
    /// Sizes in bytes of the images that it has, by every name.
    pub images: Arc<HashMap<String, i64>>,
    /// Its name.
    pub name: Arc<str>,
}

impl NodeInfo {
    pub(crate) fn empty(slot: Slot, name: Arc<str>) -> NodeInfo {
        NodeInfo {
            slot,
            allowed_pods: 0,
            unschedulable: false,
            tainted: false,
            allocatable: Resources::default(),
            requested: Resources::default(),
            nonzero_requested: Resources::default(),
            pods: Vec::new(),
            ports: Vec::new(),
            node: None,
            images: Arc::default(),
            name,
        }
    }

    /// Takes over the object. Returns whether what never changes in a running cluster's routine did
    /// change: labels, taints, cordon, or that the node is there at all.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) -> bool {
        let changed = self.node.as_ref().is_none_or(|old| {
            old.metadata.labels != node.metadata.labels
                || old.spec.as_ref().and_then(|s| s.taints.as_ref())
                    != node.spec.as_ref().and_then(|s| s.taints.as_ref())
        });
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::from_list).unwrap_or_default();
        self.allowed_pods = allocatable
            .and_then(|list| list.get("pods"))
            .map_or(0, |pods| resources::parse(pods).value());
        let images = |node: &Node| node.status.as_ref().and_then(|status| status.images.clone());
        if self.node.as_ref().map(|old| images(old)) != Some(images(&node)) {
            self.images = Arc::new(images_of(&node));
        }
        self.node = Some(node);
        self.unschedulable = self.spec().and_then(|spec| spec.unschedulable).unwrap_or(false);
        self.tainted = !self.taints().is_empty();
        changed
    }

    fn spec(&self) -> Option<&k8s_openapi::api::core::v1::NodeSpec> {
        self.node.as_ref()?.spec.as_ref()
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.shape.requests);
        self.nonzero_requested.add(&pod.shape.nonzero);
        self.ports.extend(pod.shape.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    pub(crate) fn remove_pod(&mut self, key: &PodKey) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|pod| pod.key == *key)?;
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.shape.requests);
        self.nonzero_requested.subtract(&pod.shape.nonzero);
        for port in &pod.shape.host_ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }

    /// Whether the node itself is known, not only pods on it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.node.is_some()
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node's labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = self.node.as_ref().and_then(|node| node.metadata.labels.as_ref());
        labels.unwrap_or(&NONE)
    }

    /// The node's taints.
    #[must_use]
    pub fn taints(&self) -> &[Taint] {
        self.spec().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// The failure domain that nodes are taken from in turn (component-helpers/node/topology
    /// `GetZoneKey`); empty when the node has none.
    #[must_use]
    pub fn zone(&self) -> String {
        let labels = self.labels();
        let first = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| labels.get(*name))
                .map_or("", String::as_str)
        };
        let region = first([
            "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/region",
        ]);
        let zone = first(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]);
        if region.is_empty() && zone.is_empty() {
            return String::new();
        }
        format!("{region}:\0:{zone}")
    }
}

fn images_of(node: &Node) -> HashMap<String, i64> {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    images
        .flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        })
        .collect()
}
