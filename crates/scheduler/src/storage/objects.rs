//! The objects of storage, reduced to what scheduling reads.

use std::collections::{BTreeMap, HashMap};

use api::Quantity;
use api::labels::Selector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use placement::RequiredTerms;
use serde_json::Value;

use crate::shape;

/// On claims: the node where a pod waits for the volume.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// Volumes that upstream once had built in, whose CSI driver counts in their place: the plugin, its driver, and
/// whether that holds on all nodes (else only where the CSINode says so).
const IN_TREE: [(&str, &str, bool); 5] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com", true),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io", true),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com", true),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org", true),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com", false),
];

/// The CSI driver that counts for an in-tree plugin, and whether it does on every node.
#[must_use]
pub fn in_tree_driver(plugin: &str) -> Option<(&'static str, bool)> {
    let known = IN_TREE.iter().find(|(name, ..)| *name == plugin);
    known.map(|(_, driver, everywhere)| (*driver, *everywhere))
}

fn text(field: &Option<String>) -> String {
    field.clone().unwrap_or_default()
}

fn annotation<'m>(metadata: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn storage(list: Option<&BTreeMap<String, ApiQuantity>>) -> Option<Quantity> {
    list?.get("storage")?.0.parse().ok()
}

/// The claim that a volume is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty when whoever reserved the volume did not know it.
    pub uid: String,
}

/// A persistent volume claim.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// The volume that it names; empty for none.
    pub volume: String,
    /// Its class; empty for none.
    pub class: String,
    /// How it wants to be mounted.
    pub modes: Vec<String>,
    /// `Filesystem` or `Block`.
    pub mode: String,
    /// The class of attributes that it asks for; empty for none.
    pub attributes: String,
    /// The size that it asks for.
    pub request: Option<Quantity>,
    /// Which volumes it takes.
    pub selector: Option<Selector>,
    /// The node where its volume is to be made.
    pub selected_node: Option<String>,
    /// Whether it was bound, completely.
    pub bind_completed: bool,
    /// Whether its volume is gone.
    pub lost: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// UID of what controls it.
    pub controller: String,
}

impl Claim {
    /// Reads a claim.
    #[must_use]
    pub fn of(claim: &PersistentVolumeClaim) -> Claim {
        let metadata = &claim.metadata;
        let spec = claim.spec.clone().unwrap_or_default();
        let mut owners = metadata.owner_references.iter().flatten();
        Claim {
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
            resource_version: text(&metadata.resource_version),
            volume: text(&spec.volume_name),
            class: annotation(metadata, CLASS_BETA).map_or_else(|| text(&spec.storage_class_name), ToOwned::to_owned),
            modes: spec.access_modes.unwrap_or_default(),
            mode: spec.volume_mode.unwrap_or_else(|| "Filesystem".to_owned()),
            attributes: text(&spec.volume_attributes_class_name),
            request: storage(
                spec.resources
                    .as_ref()
                    .and_then(|resources| resources.requests.as_ref()),
            ),
            selector: spec.selector.as_ref().map(|selector| shape::selector(Some(selector))),
            selected_node: annotation(metadata, SELECTED_NODE).map(ToOwned::to_owned),
            bind_completed: annotation(metadata, BIND_COMPLETED).is_some(),
            lost: claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost"),
            deleting: metadata.deletion_timestamp.is_some(),
            controller: owners
                .find(|owner| owner.controller == Some(true))
                .map_or_else(String::new, |owner| owner.uid.clone()),
        }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it has its volume (upstream `isPVCFullyBound`).
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.volume.is_empty() && self.bind_completed
    }

    /// What volumes call it.
    #[must_use]
    pub fn reference(&self) -> ClaimRef {
        ClaimRef {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

/// Who looks after a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A CSI driver.
    Csi {
        /// Its name.
        driver: String,
        /// What it calls the volume.
        handle: String,
    },
    /// What has a CSI driver in its place by now.
    InTree {
        /// The plugin.
        plugin: &'static str,
        /// What the driver calls the volume.
        handle: String,
    },
    /// Anything else: such volumes are not counted.
    Other,
}

/// A persistent volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its version.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its class; empty for none.
    pub class: String,
    /// What it holds.
    pub capacity: Quantity,
    /// How it can be mounted.
    pub modes: Vec<String>,
    /// `Filesystem` or `Block`.
    pub mode: String,
    /// Its class of attributes; empty for none.
    pub attributes: String,
    /// Whether it is free, as its phase says.
    pub available: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The claim that it is for.
    pub claim: Option<ClaimRef>,
    /// Whether it was bound by a controller, not a user.
    pub bound_by_controller: bool,
    /// The nodes that reach it; `None` for all.
    pub reach: Option<RequiredTerms>,
    /// Who looks after it.
    pub source: Source,
}

impl Volume {
    /// Reads a volume.
    #[must_use]
    pub fn of(volume: &PersistentVolume) -> Volume {
        let metadata = &volume.metadata;
        let spec = volume.spec.clone().unwrap_or_default();
        let required = spec
            .node_affinity
            .as_ref()
            .and_then(|affinity| affinity.required.as_ref());
        let labels = metadata.labels.clone().unwrap_or_default();
        Volume {
            name: text(&metadata.name),
            resource_version: text(&metadata.resource_version),
            class: annotation(metadata, CLASS_BETA).map_or_else(|| text(&spec.storage_class_name), ToOwned::to_owned),
            capacity: storage(spec.capacity.as_ref()).unwrap_or_else(Quantity::zero),
            modes: spec.access_modes.clone().unwrap_or_default(),
            mode: spec.volume_mode.clone().unwrap_or_else(|| "Filesystem".to_owned()),
            attributes: text(&spec.volume_attributes_class_name),
            available: volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available"),
            deleting: metadata.deletion_timestamp.is_some(),
            claim: spec.claim_ref.as_ref().map(|claim| ClaimRef {
                namespace: text(&claim.namespace),
                name: text(&claim.name),
                uid: text(&claim.uid),
            }),
            bound_by_controller: annotation(metadata, BOUND_BY_CONTROLLER).is_some(),
            reach: required.map(RequiredTerms::of_selector),
            source: source(&spec, &labels),
            labels,
        }
    }

    /// Whether it is for this claim (upstream `IsVolumeBoundToClaim`).
    #[must_use]
    pub fn is_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|reference| {
            reference.namespace == claim.namespace
                && reference.name == claim.name
                && (reference.uid.is_empty() || reference.uid == claim.uid)
        })
    }

    /// Whether a node with these labels reaches it (upstream `CheckNodeAffinity`, which knows no names of nodes).
    #[must_use]
    pub fn is_reached(&self, labels: &BTreeMap<String, String>) -> bool {
        self.reach.as_ref().is_none_or(|reach| reach.matches("", labels))
    }
}

fn source(spec: &PersistentVolumeSpec, labels: &BTreeMap<String, String>) -> Source {
    let in_tree = |plugin, handle: &str| Source::InTree {
        plugin,
        handle: handle.to_owned(),
    };
    if let Some(csi) = &spec.csi {
        return Source::Csi {
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
        };
    }
    if let Some(disk) = &spec.aws_elastic_block_store {
        return in_tree(IN_TREE[0].0, aws_volume(&disk.volume_id));
    }
    if let Some(disk) = &spec.gce_persistent_disk {
        let zone = labels.get("topology.kubernetes.io/zone");
        let zone = zone.or_else(|| labels.get("failure-domain.beta.kubernetes.io/zone"));
        let zone = zone.map_or("UNSPECIFIED", String::as_str);
        return in_tree(
            IN_TREE[1].0,
            &format!("projects/UNSPECIFIED/zones/{zone}/disks/{}", disk.pd_name),
        );
    }
    if let Some(disk) = &spec.azure_disk {
        return in_tree(IN_TREE[2].0, &disk.disk_uri);
    }
    if let Some(disk) = &spec.cinder {
        return in_tree(IN_TREE[3].0, &disk.volume_id);
    }
    if let Some(disk) = &spec.portworx_volume {
        return in_tree(IN_TREE[4].0, &disk.volume_id);
    }
    Source::Other
}

/// The identifier in `aws://zone/vol-1`.
pub(super) fn aws_volume(id: &str) -> &str {
    let path = id.strip_prefix("aws://").and_then(|rest| rest.split_once('/'));
    path.map_or(id, |(_, volume)| volume.trim_matches('/'))
}

/// A storage class.
#[derive(Debug, Clone)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Who makes its volumes.
    pub provisioner: String,
    /// `Immediate` or `WaitForFirstConsumer`.
    pub binding_mode: Option<String>,
    /// Where volumes may be made: any of these, each with all of its labels.
    pub topologies: Vec<Vec<(String, Vec<String>)>>,
}

impl Class {
    /// Reads a class.
    #[must_use]
    pub fn of(class: &StorageClass) -> Class {
        let expressions = |term: &TopologySelectorTerm| {
            let all = term.match_label_expressions.iter().flatten();
            all.map(|expression| (expression.key.clone(), expression.values.clone()))
                .collect()
        };
        Class {
            name: text(&class.metadata.name),
            provisioner: class.provisioner.clone(),
            binding_mode: class.volume_binding_mode.clone(),
            topologies: class.allowed_topologies.iter().flatten().map(expressions).collect(),
        }
    }

    /// Whether its volumes are chosen when a pod is placed.
    #[must_use]
    pub fn waits_for_consumer(&self) -> bool {
        self.binding_mode.as_deref() == Some("WaitForFirstConsumer")
    }

    /// Whether volumes may be made for a node with these labels (upstream `MatchTopologySelectorTerms`).
    #[must_use]
    pub fn allows(&self, labels: &BTreeMap<String, String>) -> bool {
        let matches =
            |(key, values): &(String, Vec<String>)| labels.get(key).is_some_and(|value| values.contains(value));
        self.topologies.is_empty()
            || self
                .topologies
                .iter()
                .any(|term| !term.is_empty() && term.iter().all(matches))
    }
}

/// What CSI drivers say of a node.
#[derive(Debug, Clone, Default)]
pub struct CsiNode {
    /// The drivers that are there, with the most volumes that they attach.
    pub limits: HashMap<String, Option<i64>>,
    /// In-tree plugins whose drivers have taken over there.
    pub migrated: Vec<String>,
}

impl CsiNode {
    /// Reads the object: its name and the rest.
    #[must_use]
    pub fn of(object: &Value) -> (String, CsiNode) {
        let drivers = object["spec"]["drivers"].as_array().into_iter().flatten();
        let limits = drivers.filter_map(|driver| {
            let name = driver["name"].as_str()?.to_owned();
            Some((name, driver["allocatable"]["count"].as_i64()))
        });
        let migrated = object["metadata"]["annotations"][MIGRATED_PLUGINS]
            .as_str()
            .unwrap_or_default();
        let node = CsiNode {
            limits: limits.collect(),
            migrated: migrated
                .split(',')
                .filter(|name| !name.is_empty())
                .map(ToOwned::to_owned)
                .collect(),
        };
        (api::meta::name(object).to_owned(), node)
    }
}

/// A CSI driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Driver {
    /// Whether it tells how much space is left.
    pub tells_capacity: bool,
    /// Whether pods must not go where it is missing (`preventPodSchedulingIfMissing`).
    pub must_be_there: bool,
}

impl Driver {
    /// Reads the object: its name and the rest.
    #[must_use]
    pub fn of(driver: &CSIDriver) -> (String, Driver) {
        let read = Driver {
            tells_capacity: driver.spec.storage_capacity == Some(true),
            must_be_there: driver.spec.prevent_pod_scheduling_if_missing == Some(true),
        };
        (text(&driver.metadata.name), read)
    }
}

/// How much space some nodes have for volumes of a class.
#[derive(Debug, Clone)]
pub struct Capacity {
    /// The class.
    pub class: String,
    /// The nodes; `None` for none.
    pub nodes: Option<Selector>,
    /// The space, in bytes.
    pub bytes: Option<i64>,
    /// The largest volume, in bytes.
    pub largest: Option<i64>,
}

impl Capacity {
    /// Reads the object: `namespace/name` and the rest.
    #[must_use]
    pub fn of(object: &Value) -> (String, Capacity) {
        let field = |field: &str| object.get(field).filter(|value| !value.is_null());
        let bytes = |name: &str| Some(Quantity::from_json(field(name)?).ok()?.value());
        let topology = field("nodeTopology");
        let selector = topology.and_then(|topology| serde_json::from_value::<LabelSelector>(topology.clone()).ok());
        let key = format!("{}/{}", api::meta::namespace(object), api::meta::name(object));
        let capacity = Capacity {
            class: object["storageClassName"].as_str().unwrap_or_default().to_owned(),
            nodes: selector.map(|selector| shape::selector(Some(&selector))),
            bytes: bytes("capacity"),
            largest: bytes("maximumVolumeSize"),
        };
        (key, capacity)
    }

    /// The largest volume for which there is certainly room (upstream `volumeLimit`).
    #[must_use]
    pub fn limit(&self) -> Option<i64> {
        self.largest.or(self.bytes)
    }
}

/// A volume that is attached to a node, or is to be.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The node.
    pub node: String,
    /// The driver.
    pub driver: String,
    /// The volume's name; `None` for one of a pod's own.
    pub volume: Option<String>,
}

impl Attachment {
    /// Reads the object: its name and the rest.
    #[must_use]
    pub fn of(attachment: &VolumeAttachment) -> (String, Attachment) {
        let spec = &attachment.spec;
        let read = Attachment {
            node: spec.node_name.clone(),
            driver: spec.attacher.clone(),
            volume: spec.source.persistent_volume_name.clone(),
        };
        (text(&attachment.metadata.name), read)
    }
}
