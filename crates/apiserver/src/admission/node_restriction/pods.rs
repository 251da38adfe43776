//! Pods of node agents: mirrors of static pods, and the status of what runs there.

use api::{Status, Value, meta};

use super::unexpected;
use crate::admission::{Attributes, Operation, lookup, references};
use crate::kind::value_at;
use crate::state::State;

const MIRROR: &str = "kubernetes.io/config.mirror";

fn is_on(pod: &Value, node: &str) -> bool {
    value_at(pod, "spec.nodeName").and_then(Value::as_str) == Some(node)
}

pub(super) async fn main(
    state: &State,
    attributes: &Attributes<'_>,
    node: &str,
    object: Option<&Value>,
) -> Result<(), Status> {
    match (attributes.operation, object, attributes.old) {
        (Operation::Delete, _, Some(old)) => {
            if is_on(old, node) {
                return Ok(());
            }
            Err(attributes.forbid(format!(
                "node \"{node}\" can only delete pods with spec.nodeName set to itself"
            )))
        }
        (Operation::Create, Some(pod), _) => {
            mirror(node, pod).map_err(|why| attributes.forbid(why))?;
            owner(state, attributes, node, pod).await
        }
        _ => Err(attributes.forbid(format!(
            "{}, node \"{node}\" can only create and delete mirror pods",
            unexpected(attributes)
        ))),
    }
}

/// Whether it is a pod that a node may make: one that only shows what runs there, and gives it access
/// to nothing.
fn mirror(node: &str, pod: &Value) -> Result<(), String> {
    if meta::annotation(pod, MIRROR).is_none() {
        return Err(format!(
            "pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"
        ));
    }
    if !is_on(pod, node) {
        return Err(format!(
            "node \"{node}\" can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = meta::owner_references(pod);
    let set_to_itself = |how: &str| format!("node \"{node}\" can only create pods with {how} set to itself");
    let owner = match owners.as_slice() {
        [] => return Err(set_to_itself("an owner reference")),
        [owner] => owner,
        _ => return Err(set_to_itself("a single owner reference")),
    };
    if (owner.api_version, owner.kind, owner.name) != ("v1", "Node", node) {
        return Err(set_to_itself("an owner reference"));
    }
    if !owner.controller {
        return Err(set_to_itself("a controller owner reference"));
    }
    if owner.block_owner_deletion {
        return Err(format!(
            "node \"{node}\" must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let account = value_at(pod, "spec.serviceAccountName").and_then(Value::as_str);
    let claims = value_at(pod, "spec.resourceClaims").and_then(Value::as_array);
    let referred = [
        (account.is_some_and(|name| !name.is_empty()), "a service account"),
        (references::secrets(pod), "secrets"),
        (references::config_maps(pod), "configmaps"),
        (references::projects(pod, "clusterTrustBundle"), "clustertrustbundles"),
        (references::volume_claims(pod), "persistentvolumeclaims"),
        (claims.is_some_and(|claims| !claims.is_empty()), "resourceclaims"),
    ];
    match referred.into_iter().find(|(refers, _)| *refers) {
        Some((_, what)) => Err(format!("node \"{node}\" can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// The owner must be the node that there is, not one before it.
async fn owner(state: &State, attributes: &Attributes<'_>, node: &str, pod: &Value) -> Result<(), Status> {
    let Some(nodes) = state.resource("", "v1", "nodes") else {
        return Ok(());
    };
    let Some(found) = lookup::get(state, "", "nodes", "", node).await? else {
        return Err(Status::not_found(&nodes.group_resource(), node));
    };
    let given = meta::owner_references(pod).first().map_or("", |owner| owner.uid);
    if given == meta::uid(&found) {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "node {node} UID mismatch: expected {given} got {}",
        meta::uid(&found)
    )))
}

pub(super) fn status(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let (Operation::Update, Some(new), Some(old)) = (attributes.operation, object, attributes.old) else {
        return Err(attributes.forbid(unexpected(attributes)));
    };
    if !is_on(old, node) {
        return Err(attributes.forbid(format!(
            "node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"
        )));
    }
    if meta::labels(new) != meta::labels(old) {
        return Err(attributes.forbid(format!("node \"{node}\" cannot update labels through pod status")));
    }
    // What claims the pod has decides what the node may read.
    for (field, what) in [
        ("status.resourceClaimStatuses", "resource claim statues"),
        ("status.extendedResourceClaimStatus", "extended resource claim status"),
    ] {
        let of =
            |pod| value_at(pod, field).filter(|value: &&Value| value.as_array().is_none_or(|list| !list.is_empty()));
        if of(new) != of(old) {
            return Err(attributes.forbid(format!("node \"{node}\" cannot update {what}")));
        }
    }
    Ok(())
}

pub(super) async fn eviction(attributes: &Attributes<'_>, node: &str) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Err(attributes.forbid(unexpected(attributes)));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences":
                [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}]}})
    }

    #[test]
    fn mirrors_reach_nothing() {
        assert_eq!(mirror("n", &pod()), Ok(()));
        let cases: [(&str, Value, &str); 9] = [
            ("/metadata/annotations", json!({}), "can only create mirror pods"),
            (
                "/spec/nodeName",
                json!("m"),
                "can only create pods with spec.nodeName set to itself",
            ),
            (
                "/metadata/ownerReferences",
                json!([]),
                "can only create pods with an owner reference set to itself",
            ),
            (
                "/metadata/ownerReferences/0/controller",
                json!(false),
                "can only create pods with a controller owner reference set to itself",
            ),
            (
                "/metadata/ownerReferences/0/name",
                json!("m"),
                "can only create pods with an owner reference set to itself",
            ),
            (
                "/spec/containers",
                json!([{"envFrom": [{"secretRef": {"name": "s"}}]}]),
                "can not create pods that reference secrets",
            ),
            (
                "/spec/containers",
                json!([{"envFrom": [{"configMapRef": {"name": "s"}}]}]),
                "can not create pods that reference configmaps",
            ),
            (
                "/spec",
                json!({"nodeName": "n", "serviceAccountName": "default"}),
                "can not create pods that reference a service account",
            ),
            (
                "/spec",
                json!({"nodeName": "n", "volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}),
                "can not create pods that reference persistentvolumeclaims",
            ),
        ];
        for (path, value, why) in cases {
            let mut pod = pod();
            *pod.pointer_mut(path).unwrap() = value;
            let told = mirror("n", &pod).unwrap_err();
            assert!(told.ends_with(why), "{told}");
        }
    }
}
