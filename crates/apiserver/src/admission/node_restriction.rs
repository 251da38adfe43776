//! What node agents may write: their own node, and their own pods
//! (`plugin/pkg/admission/noderestriction`).

use std::collections::BTreeSet;

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of Kubernetes' own namespaces that a kubelet may set (`kubelet/pkg/apis`).
const KUBELET_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(node) = attributes.call.user.as_node() else {
            return Ok(());
        };
        let kind = &attributes.resource.kind;
        match (kind.gvk.group.as_str(), kind.plural.as_str(), attributes.subresource) {
            ("", "pods", "") => pod(attributes, node, object),
            ("", "pods", "status") => pod_status(attributes, node, object),
            ("", "pods", "eviction") => eviction(state, attributes, node).await,
            ("", "pods", other) => Err(attributes.forbid(format!(
                "unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed"
            ))),
            ("", "nodes", _) => own_node(attributes, node, object),
            ("", "persistentvolumeclaims", "status") | ("", "serviceaccounts", _) => Ok(()),
            ("", "persistentvolumeclaims", _) => Err(attributes.forbid("may only update PVC status")),
            ("coordination.k8s.io", "leases", _) => named_after(attributes, node, object, "lease"),
            ("storage.k8s.io", "csinodes", _) => named_after(attributes, node, object, "CSINode"),
            _ => Ok(()),
        }
    }
}

fn is_on(pod: &Value, node: &str) -> bool {
    value_at(pod, "spec.nodeName").and_then(Value::as_str) == Some(node)
}

fn pod(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let forbid = |why: String| Err(attributes.forbid(why));
    match (attributes.operation, object, attributes.old) {
        (Operation::Delete, _, Some(old)) => {
            if is_on(old, node) {
                return Ok(());
            }
            forbid(format!(
                "node \"{node}\" can only delete pods with spec.nodeName set to itself"
            ))
        }
        (Operation::Create, Some(pod), _) => {
            if meta::annotation(pod, MIRROR).is_none() {
                return forbid(format!(
                    "pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"
                ));
            }
            if !is_on(pod, node) {
                return forbid(format!(
                    "node \"{node}\" can only create pods with spec.nodeName set to itself"
                ));
            }
            let owners = meta::owner_references(pod);
            let owned = matches!(owners.as_slice(), [owner] if owner.api_version == "v1"
                && owner.kind == "Node" && owner.name == node && owner.controller
                && !owner.block_owner_deletion);
            if !owned {
                return forbid(format!(
                    "node \"{node}\" can only create pods with a controller owner reference set to itself"
                ));
            }
            Ok(())
        }
        (operation, ..) => forbid(format!(
            "unexpected operation \"{operation:?}\", node \"{node}\" can only create and delete mirror pods"
        )),
    }
}

fn pod_status(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let (Some(new), Some(old)) = (object, attributes.old) else {
        return Err(attributes.forbid("unexpected operation"));
    };
    if !is_on(old, node) {
        return Err(attributes.forbid(format!(
            "node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"
        )));
    }
    if meta::labels(new) != meta::labels(old) {
        return Err(attributes.forbid(format!("node \"{node}\" cannot update labels through pod status")));
    }
    Ok(())
}

async fn eviction(_state: &State, attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let pods = attributes.resource;
    let entry = pods.latest(attributes.namespace, attributes.name).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&pods.group_resource(), attributes.name))?;
    if is_on(&pods.value(&entry), node) {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "node {node} can only evict pods with spec.nodeName set to itself"
    )))
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    if attributes.name != node {
        return Err(attributes.forbid(format!(
            "node \"{node}\" is not allowed to modify node \"{}\"",
            attributes.name
        )));
    }
    let Some(new) = object else { return Ok(()) };
    if let Some(old) = attributes.old
        && value_at(new, "spec.taints") != value_at(old, "spec.taints")
    {
        return Err(attributes.forbid(format!("node \"{node}\" is not allowed to modify taints")));
    }
    let forbidden = forbidden_labels(new, attributes.old);
    if forbidden.is_empty() {
        return Ok(());
    }
    let list = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    Err(attributes.forbid(match attributes.old {
        None => format!("node \"{node}\" is not allowed to set the following labels: {list}"),
        Some(_) => format!("is not allowed to modify labels: {list}"),
    }))
}

/// Labels that changed though a node may not change them: they steer workloads.
fn forbidden_labels(new: &Value, old: Option<&Value>) -> BTreeSet<String> {
    let (new, old) = (meta::labels(new), old.map(meta::labels).unwrap_or_default());
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter()
        .filter(|key| new.get(*key) != old.get(*key) && is_forbidden(key))
        .cloned()
        .collect()
}

fn is_forbidden(label: &str) -> bool {
    let Some((namespace, _)) = label.split_once('/') else {
        return false;
    };
    let within = |root: &str| namespace == root || namespace.strip_suffix(root).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED) {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io"))
        && !KUBELET_LABELS.contains(&label)
        && !KUBELET_NAMESPACES.iter().any(|root| within(root))
}

fn named_after(attributes: &Attributes<'_>, node: &str, object: Option<&Value>, what: &str) -> Result<(), Status> {
    let name = object.map_or(attributes.name, meta::name);
    if name == node {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "can only access {what} with the same name as the requesting node"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_steer_workloads() {
        for label in [
            "node-restriction.kubernetes.io/x",
            "a.node-restriction.kubernetes.io/x",
            "node-role.kubernetes.io/control-plane",
            "x.k8s.io/y",
        ] {
            assert!(is_forbidden(label), "{label}");
        }
        for label in [
            "kubernetes.io/hostname",
            "example.com/x",
            "plain",
            "x.node.kubernetes.io/y",
            "notkubernetes.io/x",
        ] {
            assert!(!is_forbidden(label), "{label}");
        }
    }
}
