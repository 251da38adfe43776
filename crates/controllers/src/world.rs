//! What a controller sees: the cluster as caches show it, the time, and what became of its last try.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Gvr;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::{Untyped, UntypedKind};

/// Name of the index of pods by node name.
pub const BY_NODE: &str = "node";
/// Name of the index of pods and volumes by the claim they are for, as `namespace/name`; volumes that are for none have
/// `free:` and their class.
pub const BY_VOLUME_CLAIM: &str = "volume-claim";
/// Name of the index of claims that are not bound by what they wait for: `class:` or `volume:` and its name.
pub const BY_WISH: &str = "wish";
/// Name of the index of objects that no controller owns, by namespace.
pub const ORPHANS: &str = "orphans";
/// Name of the index of endpoint slices by `namespace/service`.
pub const BY_SERVICE: &str = "service";

/// The key of a reconciliation: an object, or whatever else a controller calls so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key by its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<K: crate::Object>(object: &K) -> Self {
        Self::new(crate::object::namespace(object), crate::object::name(object))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The objects of one kind.
pub trait View<K> {
    /// One object.
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>>;
    /// All of a namespace (all at all, if it is empty), by namespace and name.
    fn list(&self, namespace: &str) -> Vec<Arc<K>>;
    /// Those that name this UID as an owner.
    fn owned_by(&self, uid: &str) -> Vec<Arc<K>>;
    /// Those that an index has under a value: [`BY_NODE`], [`BY_SERVICE`], [`ORPHANS`].
    fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>>;
}

/// Calls a macro with all kinds that controllers see, as `view: path::to::Kind as Kind`. The one list: views, triggers
/// and caches follow from it.
#[macro_export]
macro_rules! for_each_kind {
    ($then:ident) => {
        $then! {
            pods: core::v1::Pod as Pod,
            nodes: core::v1::Node as Node,
            namespaces: core::v1::Namespace as Namespace,
            services: core::v1::Service as Service,
            endpoints: core::v1::Endpoints as Endpoints,
            endpoint_slices: discovery::v1::EndpointSlice as EndpointSlice,
            service_accounts: core::v1::ServiceAccount as ServiceAccount,
            deployments: apps::v1::Deployment as Deployment,
            replica_sets: apps::v1::ReplicaSet as ReplicaSet,
            replication_controllers: core::v1::ReplicationController as ReplicationController,
            stateful_sets: apps::v1::StatefulSet as StatefulSet,
            daemon_sets: apps::v1::DaemonSet as DaemonSet,
            controller_revisions: apps::v1::ControllerRevision as ControllerRevision,
            jobs: batch::v1::Job as Job,
            cron_jobs: batch::v1::CronJob as CronJob,
            persistent_volume_claims: core::v1::PersistentVolumeClaim as PersistentVolumeClaim,
            persistent_volumes: core::v1::PersistentVolume as PersistentVolume,
            pod_disruption_budgets: policy::v1::PodDisruptionBudget as PodDisruptionBudget,
            cluster_roles: rbac::v1::ClusterRole as ClusterRole,
            resource_quotas: core::v1::ResourceQuota as ResourceQuota,
            service_cidrs: networking::v1::ServiceCIDR as ServiceCidr,
            ip_addresses: networking::v1::IPAddress as IpAddress,
            storage_classes: storage::v1::StorageClass as StorageClass,
            volume_attachments: storage::v1::VolumeAttachment as VolumeAttachment,
            csi_drivers: storage::v1::CSIDriver as CsiDriver,
        }
    };
}

macro_rules! world {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        /// A read-only view of the cluster.
        #[allow(missing_docs, reason = "the names are the kinds")]
        pub trait World {
            $(fn $view(&self) -> &dyn View<k8s_openapi::api::$($path)::+>;)+
            /// Only the maps named `kube-root-ca.crt`.
            fn root_ca_maps(&self) -> &dyn View<ConfigMap>;
            /// A kind that has no type.
            fn untyped(&self, kind: UntypedKind) -> &dyn View<Untyped>;
            /// When this process last saw a node give a sign of life (its lease or its status renewed), by
            /// this machine's clock: nodes' clocks may be wrong. At least the start of this process.
            fn last_heartbeat(&self, node: &str) -> Timestamp;
            /// What is in a namespace.
            fn contents(&self, namespace: &str) -> Contents;
            /// A resource of which all objects are watched: with its version, and the newest revision that was seen.
            fn watched(&self, group: &str, resource: &str) -> Option<(Gvr, u64)>;
            /// The certificate authority that pods verify the API server with, in PEM.
            fn root_ca(&self) -> &str;
            /// What the `/scale` of an object of any kind says.
            fn scale(&self, namespace: &str, api_version: &str, kind: &str, name: &str) -> Scaled;
            /// What was told of the cluster's network.
            fn network(&self) -> &crate::Network;
            /// The node on whose disk this process makes volumes, if it does.
            fn local_volumes(&self) -> Option<&crate::LocalVolumes>;
        }
    };
}
for_each_kind!(world);

/// What is known of a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// It was read.
    Known {
        /// The object's UID.
        uid: String,
        /// How many replicas are wanted.
        replicas: i32,
    },
    /// There is no such object.
    Absent,
    /// It cannot be read.
    Refused(String),
    /// It is being read; keys of those who want to know run again then.
    Asked,
}

/// What is in a namespace, of every kind that the server has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// All resources whose objects live in namespaces and can be deleted.
    pub resources: Vec<Gvr>,
    /// Those of them that are not watched: whether any object is left is not known.
    pub unwatched: Vec<Gvr>,
    /// What is left of the watched ones.
    pub remaining: Vec<Remaining>,
    /// Why the resources are not all known, if they are not.
    pub discovery_failure: Option<String>,
}

/// The objects of one resource in a namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Remaining {
    /// The resource.
    pub resource: Gvr,
    /// How many there are.
    pub count: usize,
    /// How many of them are not being deleted yet.
    pub untouched: usize,
    /// How many of them wait for each finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

/// What went wrong in a key's last plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The resource that the failed action was about.
    pub resource: String,
    /// The error, as the server told it.
    pub message: String,
}

/// The circumstances of a reconciliation.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The time.
    pub now: Timestamp,
    /// What went wrong the last time, if anything did.
    pub failure: Option<Failure>,
    /// What the last plan asked to keep. Lost when the process ends: it may only delay.
    pub memo: Option<Timestamp>,
    /// The last plan's [`crate::Plan::notes`]. Lost when the process ends, too.
    pub notes: BTreeMap<String, Timestamp>,
}

impl Turn {
    /// A first turn at this time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            failure: None,
            memo: None,
            notes: BTreeMap::new(),
        }
    }
}
