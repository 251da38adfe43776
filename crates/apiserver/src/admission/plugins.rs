//! The list of plugins, in the order they run (upstream `kubeapiserver/options/plugins.go`,
//! `AllOrderedPlugins`; those that `DefaultOffAdmissionPlugins` leaves on are `default_on`).

use api::Value;

use super::policy::{MutatingPolicies, ValidatingPolicies};
use super::webhook::{MutatingWebhooks, ValidatingWebhooks};
use super::{
    Plugin, always, always_pull_images, anti_affinity, certificates, default_class, default_toleration,
    event_rate_limit, extended_resource_toleration, external_ips, image_policy, limit_ranger, namespace_lifecycle,
    namespaces, node_restriction, owner_references, pod_node_selector, pod_resize, pod_security,
    pod_toleration_restriction, pod_topology_labels, priority, resource_quota, runtime_class, service_account,
    storage_objects, taint_nodes,
};

/// Makes a plugin from its settings in the admission control configuration.
type Make = fn(Option<&Value>) -> Result<Box<dyn Plugin>, String>;

/// One plugin.
pub(super) struct Line {
    pub name: &'static str,
    pub default_on: bool,
    pub make: Make,
}

const fn on(name: &'static str, make: Make) -> Line {
    Line {
        name,
        default_on: true,
        make,
    }
}

const fn off(name: &'static str, make: Make) -> Line {
    Line {
        name,
        default_on: false,
        make,
    }
}

/// A plugin without settings.
macro_rules! plain {
    ($plugin:expr) => {
        |_| Ok(Box::new($plugin))
    };
}

/// A plugin of a feature that upstream has off by default: known by name, and idle.
const fn gated(name: &'static str) -> Line {
    on(name, plain!(always::Admit))
}

/// Every plugin. Webhooks, ResourceQuota and AlwaysDeny come last.
pub(super) const PLUGINS: &[Line] = &[
    off("AlwaysAdmit", plain!(always::Admit)),
    off("NamespaceAutoProvision", plain!(namespaces::AutoProvision)),
    on("NamespaceLifecycle", plain!(namespace_lifecycle::NamespaceLifecycle)),
    off("NamespaceExists", plain!(namespaces::Exists)),
    off(
        "LimitPodHardAntiAffinityTopology",
        plain!(anti_affinity::LimitPodHardAntiAffinityTopology),
    ),
    on("LimitRanger", plain!(limit_ranger::LimitRanger)),
    on("ServiceAccount", plain!(service_account::ServiceAccount)),
    off("NodeRestriction", plain!(node_restriction::NodeRestriction)),
    on("TaintNodesByCondition", plain!(taint_nodes::TaintNodesByCondition)),
    off("AlwaysPullImages", plain!(always_pull_images::AlwaysPullImages)),
    off("ImagePolicyWebhook", |settings| {
        Ok(Box::new(image_policy::ImagePolicyWebhook::new(settings)?))
    }),
    on("PodSecurity", |settings| {
        Ok(Box::new(pod_security::PodSecurity::new(settings)?))
    }),
    off("PodNodeSelector", |settings| {
        Ok(Box::new(pod_node_selector::PodNodeSelector::new(settings)))
    }),
    on("Priority", plain!(priority::Priority)),
    on(
        "DefaultTolerationSeconds",
        plain!(default_toleration::DefaultTolerationSeconds),
    ),
    off("PodTolerationRestriction", |settings| {
        Ok(Box::new(pod_toleration_restriction::PodTolerationRestriction::new(
            settings,
        )))
    }),
    off("EventRateLimit", |settings| {
        Ok(Box::new(event_rate_limit::EventRateLimit::new(settings)?))
    }),
    off(
        "ExtendedResourceToleration",
        plain!(extended_resource_toleration::ExtendedResourceToleration),
    ),
    on("DefaultStorageClass", plain!(default_class::DefaultStorageClass)),
    on(
        "StorageObjectInUseProtection",
        plain!(storage_objects::StorageObjectInUseProtection),
    ),
    // GenericWorkload.
    gated("PodGroupProtection"),
    off(
        "OwnerReferencesPermissionEnforcement",
        plain!(owner_references::OwnerReferencesPermissionEnforcement),
    ),
    on(
        "PersistentVolumeClaimResize",
        plain!(storage_objects::PersistentVolumeClaimResize),
    ),
    on("RuntimeClass", plain!(runtime_class::RuntimeClass)),
    on("CertificateApproval", plain!(certificates::Approval)),
    on("CertificateSigning", plain!(certificates::Signing)),
    on("ClusterTrustBundleAttest", plain!(certificates::TrustBundleAttest)),
    on(
        "CertificateSubjectRestriction",
        plain!(certificates::SubjectRestriction),
    ),
    on("DefaultIngressClass", plain!(default_class::DefaultIngressClass)),
    off("DenyServiceExternalIPs", plain!(external_ips::DenyServiceExternalIps)),
    on("PodTopologyLabels", plain!(pod_topology_labels::PodTopologyLabels)),
    // GenericWorkload.
    gated("PodGroupWorkloadExists"),
    // WorkloadWithJob.
    gated("JobValidation"),
    on("PodResizeValidator", plain!(pod_resize::PodResizeValidator)),
    on("MutatingAdmissionPolicy", |_| Ok(Box::new(MutatingPolicies::new()))),
    on("MutatingAdmissionWebhook", |settings| {
        Ok(Box::new(MutatingWebhooks::new(settings)?))
    }),
    on("ValidatingAdmissionPolicy", |_| Ok(Box::new(ValidatingPolicies::new()))),
    on("ValidatingAdmissionWebhook", |settings| {
        Ok(Box::new(ValidatingWebhooks::new(settings)?))
    }),
    on("ResourceQuota", |settings| {
        Ok(Box::new(resource_quota::ResourceQuota::new(settings)?))
    }),
    off("AlwaysDeny", plain!(always::Deny)),
];
