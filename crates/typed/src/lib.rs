//! Typed Kubernetes objects (of `k8s-openapi`), with their decoders compiled once.
//!
//! A generic decoder is compiled into every crate that asks for it, and a Pod's is 100 KB of code: with several askers
//! decoders were a tenth of the program and a minute of its build. So who decodes an object asks [`Decoded`], whose
//! implementations here are no generic code, and reads JSON text by one route.
//!
//! # Invariants
//! - What is decoded and encoded again keeps every field that the type has, and no other: written objects are therefore
//!   created from types, but changed by patches.
//!
//! # What it does not know
//! Defaults, validation, protobuf, and where objects come from.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Error, Value};

/// What is decoded from JSON by code that is compiled once, in the crate that says so: see [`decoded!`].
pub trait Decoded: Sized + Send + 'static {
    /// Decodes JSON text.
    ///
    /// # Errors
    /// It is no JSON, or not of this type.
    fn from_json(json: &[u8]) -> Result<Self, Error>;

    /// Decodes a tree.
    ///
    /// # Errors
    /// It is not of this type.
    fn from_tree(tree: &Value) -> Result<Self, Error> {
        Self::from_json(&serde_json::to_vec(tree)?)
    }
}

/// A typed object.
pub trait Object: Resource + Metadata<Ty = ObjectMeta> + Decoded + Serialize + Clone + Debug + Sync {}

impl<K: Resource + Metadata<Ty = ObjectMeta> + Decoded + Serialize + Clone + Debug + Sync> Object for K {}

/// Implements [`Decoded`] for types that `serde` can decode.
#[macro_export]
macro_rules! decoded {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::Decoded for $type {
            fn from_json(json: &[u8]) -> Result<Self, $crate::reexported::Error> {
                $crate::reexported::from_slice(json)
            }
        }
    )+};
}

/// Makes an [`Object`] of a structure with `metadata`, whose group and kind are its handle's and not its own.
#[macro_export]
macro_rules! object_of_any_kind {
    ($type:ty) => {
        $crate::decoded!($type);

        impl $crate::reexported::Resource for $type {
            const API_VERSION: &'static str = "";
            const GROUP: &'static str = "";
            const KIND: &'static str = "";
            const VERSION: &'static str = "";
            const URL_PATH_SEGMENT: &'static str = "";
            type Scope = $crate::reexported::NamespaceResourceScope;
        }

        impl $crate::reexported::Metadata for $type {
            type Ty = $crate::reexported::ObjectMeta;

            fn metadata(&self) -> &$crate::reexported::ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut $crate::reexported::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// What the macros name.
#[doc(hidden)]
pub mod reexported {
    pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    pub use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
    pub use serde_json::{Error, from_slice};
}

mod kinds {
    use k8s_openapi::api::{
        apps, authentication, authorization, batch, coordination, core, discovery, events, networking, policy, rbac,
        storage,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    decoded!(
        apps::v1::ControllerRevision,
        apps::v1::DaemonSet,
        apps::v1::Deployment,
        apps::v1::ReplicaSet,
        apps::v1::StatefulSet,
        authentication::v1::TokenReview,
        authorization::v1::SubjectAccessReview,
        batch::v1::CronJob,
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::ConfigMap,
        core::v1::Endpoints,
        core::v1::Event,
        core::v1::Namespace,
        core::v1::Node,
        core::v1::PersistentVolume,
        core::v1::PersistentVolumeClaim,
        core::v1::Pod,
        core::v1::ReplicationController,
        core::v1::ResourceQuota,
        core::v1::Secret,
        core::v1::Service,
        core::v1::ServiceAccount,
        discovery::v1::EndpointSlice,
        events::v1::Event,
        networking::v1::IPAddress,
        networking::v1::ServiceCIDR,
        policy::v1::PodDisruptionBudget,
        rbac::v1::ClusterRole,
        storage::v1::CSIDriver,
        storage::v1::StorageClass,
        storage::v1::VolumeAttachment,
    );

    // Parts that are decoded by themselves: what decodes them is compiled already.
    decoded!(
        ObjectMeta,
        apps::v1::ReplicaSetStatus,
        core::v1::ContainerStatus,
        core::v1::NodeSelector,
        core::v1::PodTemplateSpec,
    );
}

decoded!(Value, Box<RawValue>);
