//! The objects that every cluster has from its first start: namespaces, priority classes, flow
//! control, what is served locally, and the default policy of RBAC.
//!
//! The policy is upstream's. As the controllers here patch where upstream's update, each gets a
//! second role, `skiff:controller:NAME`, that lets it patch what it may update.

mod controllers;
mod reconcile;
mod roles;

use api::{Gvr, Value};
use serde_json::{Map, json};

use crate::core::namespace::FINALIZER;
use crate::rbac::GROUP;
use crate::scheduling::priority_class::SYSTEM_CLASSES;
use crate::{apiregistration, flowcontrol};

pub use reconcile::{reconcile_binding, reconcile_role};

/// Namespaces that cannot be missing.
pub const NAMESPACES: [&str; 4] = ["kube-system", "default", "kube-public", "kube-node-lease"];
/// The namespace of the control plane's own objects.
const SYSTEM: &str = "kube-system";
const CONTROLLER_PREFIX: &str = "system:controller:";
/// Roles that upstream does not have.
const PATCHER_PREFIX: &str = "skiff:controller:";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// A cluster role as it is written in the tables.
struct Role {
    name: &'static str,
    /// The aggregated role that it is part of; mostly none.
    aggregate_to: &'static str,
    rules: &'static [&'static str],
}

/// The aggregated roles and the one, if any, that each is part of itself.
const AGGREGATED: [(&str, &str); 3] = [("admin", ""), ("edit", "admin"), ("view", "edit")];

/// (binding and cluster role, subjects).
const CLUSTER_BINDINGS: &[(&str, &[Subject])] = &[
    ("cluster-admin", &[Subject::Group("system:masters")]),
    ("system:basic-user", &[Subject::Group("system:authenticated")]),
    (
        "system:cluster-trust-bundle-discovery",
        &[Subject::Group("system:serviceaccounts")],
    ),
    ("system:discovery", &[Subject::Group("system:authenticated")]),
    (
        "system:kube-controller-manager",
        &[Subject::User("system:kube-controller-manager")],
    ),
    ("system:kube-dns", &[Subject::Account("kube-dns")]),
    ("system:kube-scheduler", &[Subject::User("system:kube-scheduler")]),
    ("system:monitoring", &[Subject::Group("system:monitoring")]),
    ("system:node", &[]),
    ("system:node-proxier", &[Subject::User("system:kube-proxy")]),
    (
        "system:public-info-viewer",
        &[
            Subject::Group("system:authenticated"),
            Subject::Group("system:unauthenticated"),
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[Subject::Group("system:serviceaccounts")],
    ),
    ("system:volume-scheduler", &[Subject::User("system:kube-scheduler")]),
];

/// (namespace, role, rules).
const ROLES: &[(&str, &str, &[&str])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            "get list watch : core : configmaps",
            "update : core : configmaps : cluster-info",
            "create patch update : core events.k8s.io : events",
        ],
    ),
    (
        SYSTEM,
        "extension-apiserver-authentication-reader",
        &["get list watch : core : configmaps : extension-apiserver-authentication"],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-controller-manager",
        &[
            "create get list update watch : coordination.k8s.io : leases",
            "create get list update watch : coordination.k8s.io : leasecandidates",
        ],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-scheduler",
        &[
            "create get list update watch : coordination.k8s.io : leases",
            "create get list update watch : coordination.k8s.io : leasecandidates",
        ],
    ),
    (
        SYSTEM,
        "system:controller:bootstrap-signer",
        &["get list watch : core : secrets"],
    ),
    (
        SYSTEM,
        "system:controller:cloud-provider",
        &["create get list watch : core : configmaps"],
    ),
    (
        SYSTEM,
        "system:controller:token-cleaner",
        &[
            "delete get list watch : core : secrets",
            "create patch update : core events.k8s.io : events",
        ],
    ),
];

/// (namespace, binding, role, subjects).
const ROLE_BINDINGS: &[(&str, &str, &str, &[Subject])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Subject::Account("bootstrap-signer")],
    ),
    (
        SYSTEM,
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[
            Subject::User("system:kube-controller-manager"),
            Subject::User("system:kube-scheduler"),
        ],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            Subject::User("system:kube-controller-manager"),
            Subject::Account("kube-controller-manager"),
        ],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[
            Subject::User("system:kube-scheduler"),
            Subject::Account("kube-scheduler"),
        ],
    ),
    (
        SYSTEM,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Subject::Account("bootstrap-signer")],
    ),
    (
        SYSTEM,
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &[Subject::Account("cloud-provider")],
    ),
    (
        SYSTEM,
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &[Subject::Account("token-cleaner")],
    ),
];

#[derive(Clone, Copy)]
enum Subject {
    User(&'static str),
    Group(&'static str),
    /// A service account of `kube-system`.
    Account(&'static str),
}

impl Subject {
    fn to_value(self) -> Value {
        match self {
            Subject::User(name) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
            Subject::Group(name) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
            Subject::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}),
        }
    }
}

/// Everything, in an order in which it can be created: each object's resource with the object.
/// Create what is missing; reconcile roles and bindings that are there.
pub fn objects() -> Vec<(Gvr, Value)> {
    let rbac = |resource: &str| Gvr::new(GROUP, "v1", resource);
    let mut all: Vec<(Gvr, Value)> = Vec::new();
    all.extend(
        namespaces()
            .into_iter()
            .map(|object| (Gvr::new("", "v1", "namespaces"), object)),
    );
    all.extend(cluster_roles().into_iter().map(|object| (rbac("clusterroles"), object)));
    all.extend(
        cluster_role_bindings()
            .into_iter()
            .map(|object| (rbac("clusterrolebindings"), object)),
    );
    all.extend(self::roles().into_iter().map(|object| (rbac("roles"), object)));
    all.extend(role_bindings().into_iter().map(|object| (rbac("rolebindings"), object)));
    let classes = Gvr::new("scheduling.k8s.io", "v1", "priorityclasses");
    all.extend(priority_classes().into_iter().map(|object| (classes.clone(), object)));
    let flow = |resource: &str| Gvr::new(flowcontrol::GROUP, "v1", resource);
    let levels = flowcontrol::bootstrap::priority_levels().into_iter();
    all.extend(levels.map(|object| (flow("prioritylevelconfigurations"), object)));
    let schemas = flowcontrol::bootstrap::flow_schemas().into_iter();
    all.extend(schemas.map(|object| (flow("flowschemas"), object)));
    let services = apiregistration::local_services().into_iter();
    all.extend(services.map(|object| (Gvr::new(apiregistration::GROUP, "v1", "apiservices"), object)));
    all
}

/// The system's namespaces.
pub fn namespaces() -> Vec<Value> {
    let namespace = |name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": [FINALIZER]},
            "status": {"phase": "Active"},
        })
    };
    NAMESPACES.into_iter().map(namespace).collect()
}

/// The name of the built-in provisioner of volumes on the nodes' own disks, and of its class.
pub const LOCAL_PATH: (&str, &str) = ("skiff.io/local-path", "local-path");

/// The class of the built-in provisioner. A user may change or delete it: it is made but once.
pub fn local_path_class(default: bool) -> Value {
    let (provisioner, name) = LOCAL_PATH;
    let mut class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    });
    if default {
        class["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    }
    class
}

/// The system's priority classes.
pub fn priority_classes() -> Vec<Value> {
    let class = |(name, value, description): &(&str, i64, &str)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    SYSTEM_CLASSES.iter().map(class).collect()
}

/// The default cluster roles. Aggregated roles already carry their rules.
pub fn cluster_roles() -> Vec<Value> {
    let plain = roles::ROLES
        .iter()
        .map(|role| cluster_role(role.name, role.aggregate_to, rules(role.rules)));
    let controllers = controllers::CONTROLLERS
        .iter()
        .map(|(name, table)| cluster_role(&format!("{CONTROLLER_PREFIX}{name}"), "", rules(table)));
    let patchers = own_roles().map(|(name, rules)| cluster_role(&format!("{PATCHER_PREFIX}{name}"), "", rules));
    let aggregated = AGGREGATED.iter().map(|(name, part_of)| {
        let mut role = cluster_role(name, part_of, aggregated_rules(name));
        role["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{name}"): "true"}}]});
        role
    });
    plain.chain(controllers).chain(aggregated).chain(patchers).collect()
}

/// Controllers that upstream does not have.
const OWN: &[(&str, &[&str])] = &[(
    "local-path-provisioner",
    &[
        "create delete get list update watch : core : persistentvolumes",
        "get list watch : core : persistentvolumeclaims",
        "patch update : core : persistentvolumeclaims/status",
        "get list watch : core : nodes",
        "get list watch : storage.k8s.io : storageclasses",
        "create patch update : core events.k8s.io : events",
    ],
)];

/// The controllers that may update something which they may not patch, each with the rules by
/// which it may.
fn patchers() -> impl Iterator<Item = (&'static str, Vec<Value>)> {
    let missing = |mut rule: Value| {
        let verbs = rule["verbs"].as_array()?;
        let has = |wanted: &str| verbs.iter().any(|verb| verb == wanted);
        if !has("update") || has("patch") {
            return None;
        }
        rule["verbs"] = json!(["patch"]);
        Some(rule)
    };
    controllers::CONTROLLERS.iter().filter_map(move |(name, table)| {
        let rules: Vec<Value> = rules(table).into_iter().filter_map(missing).collect();
        (!rules.is_empty()).then_some((*name, rules))
    })
}

/// The roles that upstream does not have, by the service accounts they are for.
fn own_roles() -> impl Iterator<Item = (&'static str, Vec<Value>)> {
    let own = OWN.iter().map(|(name, table)| (*name, rules(table)));
    patchers().chain(own)
}

/// The rules of the roles that are part of an aggregated one, in the order of the roles' names.
fn aggregated_rules(name: &str) -> Vec<Value> {
    let mut parts: Vec<(&str, Vec<Value>)> = Vec::new();
    for role in roles::ROLES.iter().filter(|role| role.aggregate_to == name) {
        parts.push((role.name, rules(role.rules)));
    }
    for (part, _) in AGGREGATED.iter().filter(|(_, part_of)| *part_of == name) {
        parts.push((part, aggregated_rules(part)));
    }
    parts.sort_by_key(|(name, _)| *name);
    let mut all: Vec<Value> = Vec::new();
    for rule in parts.into_iter().flat_map(|(_, rules)| rules) {
        if !all.contains(&rule) {
            all.push(rule);
        }
    }
    all
}

/// The bindings of the default cluster roles.
pub fn cluster_role_bindings() -> Vec<Value> {
    let plain = CLUSTER_BINDINGS
        .iter()
        .map(|(name, subjects)| cluster_binding(name, subjects));
    let of = |prefix: &str, name| cluster_binding(&format!("{prefix}{name}"), &[Subject::Account(name)]);
    let controllers = controllers::CONTROLLERS
        .iter()
        .map(|(name, _)| of(CONTROLLER_PREFIX, *name));
    let patchers = own_roles().map(|(name, _)| of(PATCHER_PREFIX, name));
    plain.chain(controllers).chain(patchers).collect()
}

/// The default roles in namespaces.
pub fn roles() -> Vec<Value> {
    let role = |(namespace, name, table): &(&str, &str, &[&str])| {
        let mut role = object("Role", name);
        role["metadata"]["namespace"] = (*namespace).into();
        role["rules"] = rules(table).into();
        role
    };
    ROLES.iter().map(role).collect()
}

/// The bindings of the default roles in namespaces.
pub fn role_bindings() -> Vec<Value> {
    let binding = |(namespace, name, role, subjects): &(&str, &str, &str, &[Subject])| {
        let mut binding = object("RoleBinding", name);
        binding["metadata"]["namespace"] = (*namespace).into();
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "Role", "name": role});
        binding["subjects"] = subjects.iter().map(|subject| subject.to_value()).collect();
        binding
    };
    ROLE_BINDINGS.iter().map(binding).collect()
}

/// The Service through which pods reach the API server.
pub fn kubernetes_service(cluster_ip: &str, target_port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": target_port}],
        },
    })
}

/// The networks that the server is configured to take service addresses from, as an object.
pub fn kubernetes_service_cidr(cidrs: &[String]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": cidrs},
    })
}

/// The endpoint slice of [`kubernetes_service`]; `addresses` are all of one family.
pub fn kubernetes_endpoint_slice(addresses: &[&str], port: u16) -> Value {
    let family = if addresses.iter().any(|address| address.contains(':')) {
        "IPv6"
    } else {
        "IPv4"
    };
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": "https", "protocol": "TCP", "port": port}],
    })
}

/// The Endpoints of [`kubernetes_service`], for clients that do not know slices.
pub fn kubernetes_endpoints(addresses: &[&str], port: u16) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": addresses,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    })
}

fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    })
}

fn cluster_role(name: &str, aggregate_to: &str, rules: Vec<Value>) -> Value {
    let mut role = object("ClusterRole", name);
    if !aggregate_to.is_empty() {
        role["metadata"]["labels"][format!("{AGGREGATE}{aggregate_to}")] = "true".into();
    }
    role["rules"] = rules.into();
    role
}

fn cluster_binding(name: &str, subjects: &[Subject]) -> Value {
    let mut binding = object("ClusterRoleBinding", name);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
    if !subjects.is_empty() {
        binding["subjects"] = subjects.iter().map(|subject| subject.to_value()).collect();
    }
    binding
}

fn rules(table: &[&str]) -> Vec<Value> {
    table.iter().map(|text| rule(text)).collect()
}

/// Reads one rule of the tables.
fn rule(text: &str) -> Value {
    let words = |text: &str| -> Vec<Value> {
        text.split_whitespace()
            .map(|word| if word == "core" { "".into() } else { word.into() })
            .collect()
    };
    let mut rule = Map::new();
    if let Some((verbs, paths)) = text.split_once(" @ ") {
        rule.insert("verbs".to_owned(), words(verbs).into());
        rule.insert("nonResourceURLs".to_owned(), words(paths).into());
        return Value::Object(rule);
    }
    // Resource names contain colons, but never with spaces around them.
    for (field, part) in ["verbs", "apiGroups", "resources", "resourceNames"]
        .into_iter()
        .zip(text.split(" : "))
    {
        rule.insert(field.to_owned(), words(part).into());
    }
    Value::Object(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_object_is_valid_for_its_kind() {
        let kinds = crate::all();
        for (gvr, object) in objects() {
            let kind = kinds
                .iter()
                .find(|kind| kind.plural == gvr.resource && kind.gvk.group == gvr.group)
                .unwrap_or_else(|| panic!("no kind for {gvr}"));
            let mut object = object;
            let before = object.clone();
            if let Some(default) = &kind.strategy.default {
                default(&mut object);
            }
            assert_eq!(object, before, "{gvr} is complete");
            if let Some(validate) = &kind.strategy.validate {
                assert_eq!(validate(&object), [], "{gvr} {}", object["metadata"]["name"]);
            }
        }
    }

    #[test]
    fn bindings_bind_roles_that_are_there() {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        let all: HashSet<String> = cluster_roles().iter().map(name).collect();
        assert_eq!(all.len(), cluster_roles().len(), "names are unique");
        for binding in cluster_role_bindings() {
            assert!(
                all.contains(binding["roleRef"]["name"].as_str().unwrap()),
                "{}",
                name(&binding)
            );
        }
        let inner: HashSet<String> = roles().iter().map(name).collect();
        for binding in role_bindings() {
            assert!(
                inner.contains(binding["roleRef"]["name"].as_str().unwrap()),
                "{}",
                name(&binding)
            );
        }
    }

    #[test]
    fn rules_are_read_from_the_tables() {
        assert_eq!(
            rule("get list : core apps : pods pods/log : a:b c"),
            json!({"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods", "pods/log"], "resourceNames": ["a:b", "c"]})
        );
        assert_eq!(
            rule("get @ /healthz /livez"),
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez"]})
        );
        let patchers: Vec<_> = patchers()
            .filter(|(name, _)| *name == "root-ca-cert-publisher")
            .collect();
        assert_eq!(
            patchers,
            [("root-ca-cert-publisher", vec![rule("patch : core : configmaps")])]
        );
    }

    #[test]
    fn aggregated_roles_hold_their_parts() {
        let roles = cluster_roles();
        let rules = |name: &str| {
            let role = roles.iter().find(|role| role["metadata"]["name"] == name).unwrap();
            role["rules"].as_array().unwrap().clone()
        };
        let (admin, edit, view) = (rules("admin"), rules("edit"), rules("view"));
        assert!(view.iter().all(|rule| edit.contains(rule)) && edit.iter().all(|rule| admin.contains(rule)));
        assert!(edit.len() > view.len() && admin.len() > edit.len());
    }
}
