//! The list of plugins, in the order they run (upstream `kubeapiserver/options/plugins.go`,
//! `AllOrderedPlugins`; those that `DefaultOffAdmissionPlugins` leaves on are `default_on`).

use api::Value;

use super::webhook::{MutatingWebhooks, ValidatingWebhooks};
use super::{
    Plugin, default_toleration, limit_ranger, namespace_lifecycle, node_restriction, pod_security, priority,
    resource_quota, service_account, taint_nodes,
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

/// Every plugin. Webhooks, ResourceQuota and AlwaysDeny come last.
pub(super) const PLUGINS: &[Line] = &[
    on("NamespaceLifecycle", |_| {
        Ok(Box::new(namespace_lifecycle::NamespaceLifecycle))
    }),
    on("LimitRanger", |_| Ok(Box::new(limit_ranger::LimitRanger))),
    on("ServiceAccount", |_| Ok(Box::new(service_account::ServiceAccount))),
    off("NodeRestriction", |_| Ok(Box::new(node_restriction::NodeRestriction))),
    on("TaintNodesByCondition", |_| {
        Ok(Box::new(taint_nodes::TaintNodesByCondition))
    }),
    on("PodSecurity", |settings| {
        Ok(Box::new(pod_security::PodSecurity::new(settings)?))
    }),
    on("Priority", |_| Ok(Box::new(priority::Priority))),
    on("DefaultTolerationSeconds", |_| {
        Ok(Box::new(default_toleration::DefaultTolerationSeconds))
    }),
    on("MutatingAdmissionWebhook", |settings| {
        Ok(Box::new(MutatingWebhooks::new(settings)?))
    }),
    on("ValidatingAdmissionWebhook", |settings| {
        Ok(Box::new(ValidatingWebhooks::new(settings)?))
    }),
    on("ResourceQuota", |settings| {
        Ok(Box::new(resource_quota::ResourceQuota::new(settings)?))
    }),
];
