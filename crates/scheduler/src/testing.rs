//! Builders for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::framework::{Code, Context, Plugin, PreFilter, Rejection, Resource, Shared};
use crate::intern::Interner;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Node, NodeSpec, NodeStatus, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec,
    ResourceRequirements, Taint, Toleration,
};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub(crate) fn container(name: &str, cpu: &str, memory: &str) -> Container {
    let list = [("cpu", cpu), ("memory", memory)];
    let requests = list
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    Container {
        name: name.into(),
        resources: Some(ResourceRequirements {
            requests: Some(requests.collect()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[derive(Clone)]
pub(crate) struct PodBuilder(Pod);

pub(crate) fn pod(name: &str) -> PodBuilder {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("default".into());
    pod.metadata.uid = Some(format!("uid-{name}"));
    let containers = vec![Container {
        name: "c".into(),
        ..Default::default()
    }];
    pod.spec = Some(PodSpec {
        containers,
        ..Default::default()
    });
    PodBuilder(pod)
}

impl PodBuilder {
    fn spec(&mut self) -> &mut PodSpec {
        self.0.spec.as_mut().unwrap()
    }

    pub(crate) fn requests(mut self, cpu: &str, memory: &str) -> Self {
        self.spec().containers = vec![container("c", cpu, memory)];
        self
    }

    pub(crate) fn on(mut self, node: &str) -> Self {
        self.spec().node_name = Some(node.into());
        self
    }

    pub(crate) fn priority(mut self, priority: i32) -> Self {
        self.spec().priority = Some(priority);
        self
    }

    pub(crate) fn selects(mut self, key: &str, value: &str) -> Self {
        self.spec().node_selector = Some(BTreeMap::from([(key.into(), value.into())]));
        self
    }

    pub(crate) fn tolerates(mut self, key: &str) -> Self {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            ..Default::default()
        };
        self.spec().tolerations.get_or_insert_default().push(toleration);
        self
    }

    pub(crate) fn host_port(mut self, port: i32) -> Self {
        let port = ContainerPort {
            container_port: port,
            host_port: Some(port),
            ..Default::default()
        };
        self.spec().containers[0].ports = Some(vec![port]);
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        let labels = self.0.metadata.labels.get_or_insert_default();
        labels.insert(key.into(), value.into());
        self
    }

    pub(crate) fn spec_from(mut self, edit: impl FnOnce(&mut PodSpec)) -> Self {
        edit(self.spec());
        self
    }

    /// Sets a part of the specification from JSON.
    pub(crate) fn json(self, part: serde_json::Value) -> Self {
        self.spec_from(|spec| {
            let mut whole = serde_json::to_value(&*spec).unwrap();
            for (key, value) in part.as_object().unwrap() {
                whole[key] = value.clone();
            }
            *spec = serde_json::from_value(whole).unwrap();
        })
    }

    pub(crate) fn object(self) -> Pod {
        self.0
    }

    pub(crate) fn info(self) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(&self.0, &Interner::default()))
    }
}

#[derive(Clone)]
pub(crate) struct NodeBuilder(Node);

pub(crate) fn node(name: &str) -> NodeBuilder {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    let amounts = [("cpu", "4"), ("memory", "8Gi"), ("pods", "110")];
    let allocatable = amounts
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    node.status = Some(NodeStatus {
        allocatable: Some(allocatable.collect()),
        ..Default::default()
    });
    node.spec = Some(NodeSpec::default());
    NodeBuilder(node)
}

impl NodeBuilder {
    fn amount(mut self, name: &str, amount: &str) -> Self {
        let status = self.0.status.as_mut().unwrap();
        status
            .allocatable
            .as_mut()
            .unwrap()
            .insert(name.into(), Quantity(amount.into()));
        self
    }

    pub(crate) fn cpu(self, amount: &str) -> Self {
        self.amount("cpu", amount)
    }

    pub(crate) fn pods(self, amount: &str) -> Self {
        self.amount("pods", amount)
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.into(), value.into());
        self
    }

    pub(crate) fn taint(mut self, key: &str, effect: &str) -> Self {
        let taint = Taint {
            key: key.into(),
            effect: effect.into(),
            ..Default::default()
        };
        self.0.spec.as_mut().unwrap().taints.get_or_insert_default().push(taint);
        self
    }

    pub(crate) fn cordoned(mut self) -> Self {
        self.0.spec.as_mut().unwrap().unschedulable = Some(true);
        self
    }

    pub(crate) fn build(self) -> Arc<Node> {
        Arc::new(self.0)
    }
}

/// An object of storage, as plugins see it, from JSON.
pub(crate) fn stored(resource: Resource, object: serde_json::Value) -> Shared {
    fn typed<T: serde::de::DeserializeOwned + Send + Sync + 'static>(object: serde_json::Value) -> Shared {
        Arc::new(serde_json::from_value::<T>(object).unwrap())
    }
    match resource {
        Resource::PersistentVolume => typed::<PersistentVolume>(object),
        Resource::PersistentVolumeClaim => typed::<PersistentVolumeClaim>(object),
        Resource::StorageClass => typed::<StorageClass>(object),
        Resource::CsiDriver => typed::<CSIDriver>(object),
        Resource::VolumeAttachment => typed::<VolumeAttachment>(object),
        _ => Arc::new(object),
    }
}

impl Cluster {
    /// With an object of storage.
    pub(crate) fn see(&mut self, resource: Resource, object: serde_json::Value) {
        let object = stored(resource, object);
        self.observe_storage(resource, None, Some(&object));
    }

    /// Nodes and what the plugin says of each: the text of the rejection, or `fits`.
    pub(crate) fn ask(&self, plugin: &dyn Plugin, pod: &Arc<PodInfo>) -> Vec<String> {
        let context = Context {
            cluster: self,
            now: Timestamp::UNIX_EPOCH,
        };
        let words = |rejection: &Rejection| {
            let mark = match rejection.code {
                Code::Unschedulable => "may be preempted: ",
                Code::Unresolvable => "",
                Code::Error => "error: ",
            };
            format!("{mark}{}", rejection.texts(pod).join(", "))
        };
        match plugin.pre_filter(&context, pod) {
            PreFilter::Skip => vec!["skipped".to_owned()],
            PreFilter::Reject(rejection) => vec![format!("before: {}", words(&rejection))],
            PreFilter::Run { filter, .. } => {
                let filter = filter.expect("it filters");
                let say = |node: &NodeInfo| filter.check(node).map_or_else(|no| words(&no), |()| "fits".to_owned());
                self.nodes().map(say).collect()
            }
        }
    }
}

impl PodBuilder {
    /// With a volume of a claim.
    pub(crate) fn claims(mut self, claim: &str) -> Self {
        let volume = serde_json::json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let volume = serde_json::from_value(volume).unwrap();
        self.spec().volumes.get_or_insert_default().push(volume);
        self
    }

    /// With a volume from JSON.
    pub(crate) fn volume(mut self, volume: serde_json::Value) -> Self {
        let volume = serde_json::from_value(volume).unwrap();
        self.spec().volumes.get_or_insert_default().push(volume);
        self
    }
}
