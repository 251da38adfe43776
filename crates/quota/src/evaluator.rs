//! What objects of each resource use (upstream `apiserver/pkg/quota/v1/interfaces.go`,
//! `pkg/quota/v1/evaluator/core/registry.go`).

use api::{GroupResource, Value};
use jiff::Timestamp;

use crate::amounts::{self, Amounts};
use crate::{Requirement, device_claim, pod, service, volume_claim};

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
}

/// Knows what objects of one resource use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// `pods`.
    Pods,
    /// `services`.
    Services,
    /// `persistentvolumeclaims`.
    VolumeClaims,
    /// `resourceclaims.resource.k8s.io`.
    DeviceClaims,
    /// Any other resource: objects are counted.
    Count {
        /// `count/<resource>.<group>`.
        name: String,
        /// The old name of some core resources: `secrets`.
        alias: Option<&'static str>,
    },
}

/// Core resources that could be counted before there was `count/`.
const ALIASES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

/// The resource name that counts objects: `count/deployments.apps`, `count/pods`.
pub fn count_name(resource: &GroupResource) -> String {
    if resource.group.is_empty() {
        format!("count/{}", resource.resource)
    } else {
        format!("count/{}.{}", resource.resource, resource.group)
    }
}

impl Evaluator {
    /// The evaluator of a resource.
    pub fn of(resource: &GroupResource) -> Self {
        match (resource.group.as_str(), resource.resource.as_str()) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::VolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Self::DeviceClaims,
            (group, name) => Self::Count {
                name: count_name(resource),
                alias: ALIASES.into_iter().find(|alias| group.is_empty() && *alias == name),
            },
        }
    }

    /// Whether it can use more after such a request.
    pub fn handles(&self, operation: Operation, subresource: &str, object: &Value, old: Option<&Value>) -> bool {
        match (self, subresource) {
            (Self::Pods, "") => operation == Operation::Create,
            (Self::Pods, "resize") => operation == Operation::Update,
            (Self::VolumeClaims, "status") => old.is_some_and(|old| volume_claim::is_recharged(object, old)),
            (Self::Services | Self::VolumeClaims | Self::DeviceClaims, "") => true,
            (Self::Count { .. }, "") => operation == Operation::Create,
            _ => false,
        }
    }

    /// Whether it charges that name.
    pub fn matches_resource(&self, name: &str) -> bool {
        match self {
            Self::Pods => pod::matches_resource(name),
            Self::Services => service::RESOURCES.contains(&name),
            Self::VolumeClaims => volume_claim::matches_resource(name),
            Self::DeviceClaims => device_claim::matches_resource(name),
            Self::Count { name: own, alias } => own == name || *alias == Some(name),
        }
    }

    /// Whether the object is within the scope.
    pub fn matches_scope(&self, requirement: &Requirement, object: &Value) -> bool {
        match self {
            Self::Pods => pod::matches_scope(requirement, object),
            Self::VolumeClaims => volume_claim::matches_scope(requirement, object),
            Self::Services | Self::DeviceClaims | Self::Count { .. } => false,
        }
    }

    /// What the object uses.
    pub fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        match self {
            Self::Pods => pod::usage(object, now),
            Self::Services => service::usage(object),
            Self::VolumeClaims => volume_claim::usage(object),
            Self::DeviceClaims => device_claim::usage(object),
            Self::Count { name, alias } => {
                let names = std::iter::once(name.clone()).chain(alias.map(str::to_owned));
                names.map(|name| (name, amounts::one())).collect()
            }
        }
    }

    /// Whether the object says all that a quota on these resources requires it to say.
    ///
    /// # Errors
    /// What it lacks, in upstream's words.
    pub fn constraints(&self, required: &[String], object: &Value) -> Result<(), String> {
        match self {
            Self::Pods => pod::constraints(required, object),
            _ => Ok(()),
        }
    }

    /// Whether it knows scopes at all: what a configuration limits by scope must be covered.
    pub(crate) fn knows_scopes(&self) -> bool {
        matches!(self, Self::Pods | Self::VolumeClaims)
    }
}
