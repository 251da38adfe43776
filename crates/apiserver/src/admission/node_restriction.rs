//! What node agents may write: their own node, their own pods, and little else
//! (`plugin/pkg/admission/noderestriction`).

mod labels;
mod pods;
mod tokens;

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, Step, certificates};
use crate::kind::value_at;
use crate::state::State;

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Signers of the certificates of node agents.
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

pub(super) struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Validate
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        if attributes.operation == Operation::Connect {
            return Ok(());
        }
        let Some(node) = attributes.call.user.as_node() else {
            return Ok(());
        };
        if node.is_empty() {
            let user = api::field::go_quote(&attributes.call.user.name);
            return Err(attributes.forbid(format!("could not determine node from user {user}")));
        }
        let kind = &attributes.resource.kind;
        match (kind.gvk.group.as_str(), kind.plural.as_str(), attributes.subresource) {
            ("", "pods", "") => pods::main(state, attributes, node, object).await,
            ("", "pods", "status") => pods::status(attributes, node, object),
            ("", "pods", "eviction") => pods::eviction(attributes, node).await,
            ("", "pods", other) => Err(attributes.forbid(format!(
                "unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed"
            ))),
            ("", "nodes", _) => own_node(attributes, node, object),
            ("", "persistentvolumeclaims", "status") => claim_status(attributes, node, object),
            ("", "persistentvolumeclaims", _) => Err(attributes.forbid("may only update PVC status")),
            ("", "serviceaccounts", _) => tokens::request(state, attributes, node, object).await,
            ("coordination.k8s.io", "leases", _) => lease(attributes, node, object),
            ("storage.k8s.io", "csinodes", _) => named_after(attributes, node, object, "CSINode"),
            ("resource.k8s.io", "resourceslices", _) => resource_slice(attributes, node, object),
            ("certificates.k8s.io", "certificatesigningrequests", "") => signing_request(attributes, object),
            _ => Ok(()),
        }
    }
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    if object.map_or(attributes.name, meta::name) != node && attributes.name != node {
        return Err(attributes.forbid(format!(
            "node \"{node}\" is not allowed to modify node \"{}\"",
            attributes.name
        )));
    }
    let Some(new) = object else { return Ok(()) };
    let source = |node| value_at(node, "spec.configSource").filter(|source: &&Value| !source.is_null());
    let Some(old) = attributes.old else {
        if source(new).is_some() {
            return Err(attributes.forbid(format!(
                "node \"{node}\" is not allowed to create pods with a non-nil configSource"
            )));
        }
        let forbidden = labels::forbidden(&meta::labels(new), None);
        if forbidden.is_empty() {
            return Ok(());
        }
        return Err(attributes.forbid(format!(
            "node \"{node}\" is not allowed to set the following labels: {}",
            forbidden.join(", ")
        )));
    };
    if source(new).is_some() && source(new) != source(old) {
        return Err(attributes.forbid(format!(
            "node \"{node}\" is not allowed to update configSource to a new non-nil configSource"
        )));
    }
    if value_at(new, "spec.taints") != value_at(old, "spec.taints") {
        return Err(attributes.forbid(format!("node \"{node}\" is not allowed to modify taints")));
    }
    // Else it could have itself collected as garbage.
    if meta::owner_references(new) != meta::owner_references(old) {
        return Err(attributes.forbid(format!("node \"{node}\" is not allowed to modify ownerReferences")));
    }
    let forbidden = labels::forbidden(&meta::labels(new), Some(&meta::labels(old)));
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(attributes.forbid(format!("is not allowed to modify labels: {}", forbidden.join(", "))))
}

/// Of a claim's status a node changes what growing it does.
fn claim_status(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let (Operation::Update, Some(new), Some(old)) = (attributes.operation, object, attributes.old) else {
        return Err(attributes.forbid(unexpected(attributes)));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            meta::remove(&mut claim, field);
        }
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                status.remove(field);
            }
        }
        claim
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "node \"{node}\" is not allowed to update fields other than status.quantity and status.conditions"
    )))
}

fn lease(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    if attributes.namespace != LEASE_NAMESPACE {
        return Err(attributes.forbid(format!(
            "can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"
        )));
    }
    named_after(attributes, node, object, "node lease")
}

fn named_after(attributes: &Attributes<'_>, node: &str, object: Option<&Value>, what: &str) -> Result<(), Status> {
    let name = match (attributes.operation, object) {
        (Operation::Create, Some(object)) => meta::name(object),
        _ => attributes.name,
    };
    if name == node {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "can only access {what} with the same name as the requesting node"
    )))
}

fn resource_slice(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let (slice, verb) = match attributes.operation {
        Operation::Create => (object, "create"),
        Operation::Delete => (attributes.old, "delete"),
        _ => return Ok(()),
    };
    let of = slice.and_then(|slice| value_at(slice, "spec.nodeName")?.as_str());
    if of == Some(node) {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "can only {verb} ResourceSlice with the same NodeName as the requesting node"
    )))
}

/// A node asks for certificates in its own name only.
fn signing_request(attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let Some(request) = object.filter(|_| attributes.operation == Operation::Create) else {
        return Ok(());
    };
    let signer = value_at(request, "spec.signerName")
        .and_then(Value::as_str)
        .unwrap_or("");
    if !NODE_SIGNERS.contains(&signer) {
        return Ok(());
    }
    let (_, names) =
        certificates::subject(request).map_err(|why| attributes.forbid(format!("unable to parse csr: {why}")))?;
    let user = &attributes.call.user.name;
    if names
        .iter()
        .any(|name| name.starts_with("system:node:") && name != user)
    {
        return Err(attributes.forbid(format!("can only create a node CSR with CN={user}")));
    }
    Ok(())
}

/// What is said of an operation that nodes have no business with.
fn unexpected(attributes: &Attributes<'_>) -> String {
    format!("unexpected operation \"{}\"", attributes.operation.as_str())
}
