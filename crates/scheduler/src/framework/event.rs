//! What happens in a cluster and may let a pod in that was turned down (upstream framework/events.go).

use std::any::Any;
use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::pod::PodInfo;

/// An object of any kind, as the plugin that asked for it knows it.
pub type Shared = Arc<dyn Any + Send + Sync>;

/// Kinds that plugins follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Pods that count on a node.
    AssignedPod,
    /// The pending pod itself.
    UnscheduledPod,
    /// Nodes.
    Node,
    /// Namespaces.
    Namespace,
    /// Services.
    Service,
    /// Replication controllers.
    ReplicationController,
    /// Replica sets.
    ReplicaSet,
    /// Stateful sets.
    StatefulSet,
    /// Pod disruption budgets.
    PodDisruptionBudget,
    /// Persistent volumes.
    PersistentVolume,
    /// Persistent volume claims.
    PersistentVolumeClaim,
    /// Storage classes.
    StorageClass,
    /// CSI nodes.
    CsiNode,
    /// CSI drivers.
    CsiDriver,
    /// CSI storage capacities.
    CsiStorageCapacity,
    /// Volume attachments.
    VolumeAttachment,
    /// Claims of devices.
    ResourceClaim,
    /// Devices that nodes offer.
    ResourceSlice,
    /// Classes of devices.
    DeviceClass,
    /// Taints of devices.
    DeviceTaintRule,
}

impl Resource {
    /// Whether [`crate::storage::Storage`] has it.
    #[must_use]
    pub fn is_storage(self) -> bool {
        matches!(
            self,
            Resource::PersistentVolume
                | Resource::PersistentVolumeClaim
                | Resource::StorageClass
                | Resource::CsiNode
                | Resource::CsiDriver
                | Resource::CsiStorageCapacity
                | Resource::VolumeAttachment
        )
    }

    /// Upstream's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Resource::AssignedPod => "AssignedPod",
            Resource::UnscheduledPod => "UnscheduledPod",
            Resource::Node => "Node",
            Resource::Namespace => "Namespace",
            Resource::Service => "Service",
            Resource::ReplicationController => "ReplicationController",
            Resource::ReplicaSet => "ReplicaSet",
            Resource::StatefulSet => "StatefulSet",
            Resource::PodDisruptionBudget => "PodDisruptionBudget",
            Resource::PersistentVolume => "PersistentVolume",
            Resource::PersistentVolumeClaim => "PersistentVolumeClaim",
            Resource::StorageClass => "StorageClass",
            Resource::CsiNode => "CSINode",
            Resource::CsiDriver => "CSIDriver",
            Resource::CsiStorageCapacity => "CSIStorageCapacity",
            Resource::VolumeAttachment => "VolumeAttachment",
            Resource::ResourceClaim => "ResourceClaim",
            Resource::ResourceSlice => "ResourceSlice",
            Resource::DeviceClass => "DeviceClass",
            Resource::DeviceTaintRule => "DeviceTaintRule",
        }
    }
}

/// What happened to an object; several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Action(u32);

impl Action {
    /// It came.
    pub const ADD: Action = Action(1);
    /// It went.
    pub const DELETE: Action = Action(1 << 1);
    /// A node's allocatable changed.
    pub const UPDATE_ALLOCATABLE: Action = Action(1 << 2);
    /// A node's labels changed.
    pub const UPDATE_NODE_LABEL: Action = Action(1 << 3);
    /// A node's taints or its cordon changed.
    pub const UPDATE_NODE_TAINT: Action = Action(1 << 4);
    /// A node's conditions changed.
    pub const UPDATE_NODE_CONDITION: Action = Action(1 << 5);
    /// A node's annotations changed.
    pub const UPDATE_NODE_ANNOTATION: Action = Action(1 << 6);
    /// A pod's labels changed.
    pub const UPDATE_POD_LABEL: Action = Action(1 << 7);
    /// A pod asks for less.
    pub const UPDATE_POD_SCALE_DOWN: Action = Action(1 << 8);
    /// A pod's tolerations changed.
    pub const UPDATE_POD_TOLERATIONS: Action = Action(1 << 9);
    /// A pod's last scheduling gate went.
    pub const UPDATE_POD_GATES_ELIMINATED: Action = Action(1 << 10);
    /// The names of claims that were made for a pod changed.
    pub const UPDATE_POD_GENERATED_CLAIM: Action = Action(1 << 11);
    /// Anything else changed.
    pub const UPDATE_OTHER: Action = Action(1 << 12);
    /// Anything changed.
    pub const UPDATE: Action = Action(((1 << 13) - 1) & !3);
    /// Anything happened.
    pub const ALL: Action = Action((1 << 13) - 1);
    /// Nothing.
    pub const NONE: Action = Action(0);

    /// Whether both have something in common.
    #[must_use]
    pub fn meets(self, other: Action) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// `self` if `when`.
    #[must_use]
    pub fn when(self, when: bool) -> Action {
        if when { self } else { Action::NONE }
    }
}

impl BitOr for Action {
    type Output = Action;

    fn bitor(self, other: Action) -> Action {
        Action(self.0 | other.0)
    }
}

/// Which events a plugin wants to hear of.
pub type Registration = (Resource, Action);

/// Something that happened.
#[derive(Clone)]
pub struct Event {
    /// To what kind of object.
    pub resource: Resource,
    /// What.
    pub action: Action,
    /// The object before: [`PodInfo`] for pods, [`Node`] for nodes, the API's type for others.
    pub old: Option<Shared>,
    /// The object after.
    pub new: Option<Shared>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:?}, {:?})", self.resource, self.action)
    }
}

impl Event {
    /// An event without objects: hints take it for one that may help.
    #[must_use]
    pub fn bare(resource: Resource, action: Action) -> Event {
        Event {
            resource,
            action,
            old: None,
            new: None,
        }
    }

    /// The object before and after, as what it is.
    #[must_use]
    pub fn objects<T: 'static>(&self) -> (Option<&T>, Option<&T>) {
        (
            self.old.as_deref().and_then(|object| object.downcast_ref::<T>()),
            self.new.as_deref().and_then(|object| object.downcast_ref::<T>()),
        )
    }

    /// The pod before and after.
    #[must_use]
    pub fn pods(&self) -> (Option<&PodInfo>, Option<&PodInfo>) {
        self.objects::<PodInfo>()
    }

    /// The node before and after.
    #[must_use]
    pub fn nodes(&self) -> (Option<&Node>, Option<&Node>) {
        self.objects::<Node>()
    }

    /// Whether a registration asks for it.
    #[must_use]
    pub fn is_wanted_by(&self, registration: &Registration) -> bool {
        registration.0 == self.resource && registration.1.meets(self.action)
    }
}
