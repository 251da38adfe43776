//! Tokens of service accounts, which a node gets for the pods that run there
//! (`noderestriction/admission.go` admitServiceAccount).

use std::collections::BTreeSet;

use api::{Status, Value, meta};

use crate::admission::{Attributes, Operation, lookup};
use crate::authz;
use crate::kind::value_at;
use crate::state::State;

/// The verb that lets a node ask for an audience that no pod there uses.
const VERB: &str = "request-serviceaccounts-token-audience";

pub(super) async fn request(
    state: &State,
    attributes: &Attributes<'_>,
    node: &str,
    object: Option<&Value>,
) -> Result<(), Status> {
    let Some(request) =
        object.filter(|_| attributes.operation == Operation::Create && attributes.subresource == "token")
    else {
        return Ok(());
    };
    let text = |path: &str| value_at(request, path).and_then(Value::as_str).unwrap_or("");
    let name = text("spec.boundObjectRef.name");
    let is_pod = (text("spec.boundObjectRef.apiVersion"), text("spec.boundObjectRef.kind")) == ("v1", "Pod");
    if !is_pod || name.is_empty() {
        return Err(attributes.forbid("node requested token not bound to a pod"));
    }
    let uid = text("spec.boundObjectRef.uid");
    if uid.is_empty() {
        return Err(attributes.forbid("node requested token with a pod binding without a uid"));
    }
    let Some(pods) = state.resource("", "v1", "pods") else {
        return Ok(());
    };
    let Some(pod) = lookup::get(state, "", "pods", attributes.namespace, name).await? else {
        return Err(Status::not_found(&pods.group_resource(), name));
    };
    if uid != meta::uid(&pod) {
        return Err(attributes.forbid(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    if value_at(&pod, "spec.nodeName").and_then(Value::as_str) != Some(node) {
        return Err(attributes.forbid("node requested token bound to a pod scheduled on a different node"));
    }
    audience(state, attributes, request, &pod).await
}

async fn audience(state: &State, attributes: &Attributes<'_>, request: &Value, pod: &Value) -> Result<(), Status> {
    let audiences = value_at(request, "spec.audiences").and_then(Value::as_array);
    let wanted = match audiences.map_or(&[][..], Vec::as_slice) {
        [] => "",
        [one] => one.as_str().unwrap_or(""),
        _ => return Err(attributes.forbid("node may only request 0 or 1 audiences")),
    };
    if projected(pod).contains(wanted) || by_drivers(state, pod).await?.contains(wanted) {
        return Ok(());
    }
    let user = &attributes.call.user;
    let question = authz::Attributes {
        user: user.clone(),
        verb: VERB.to_owned(),
        is_resource: true,
        resource: wanted.to_owned(),
        name: attributes.name.to_owned(),
        namespace: attributes.namespace.to_owned(),
        ..authz::Attributes::default()
    };
    if authz::authorize(state, &question).await.is_allowed() {
        return Ok(());
    }
    Err(attributes.forbid(format!(
        "audience {} not found in pod spec volume, {} is not authorized to request service account tokens for this audience",
        api::field::go_quote(wanted),
        user.name
    )))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    value_at(pod, "spec.volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The audiences of the tokens that the pod projects; empty is the API server's own.
fn projected(pod: &Value) -> BTreeSet<String> {
    volumes(pod)
        .filter_map(|volume| value_at(volume, "projected.sources")?.as_array())
        .flatten()
        .filter_map(|source| source.get("serviceAccountToken").filter(|token| token.is_object()))
        .map(|token| token.get("audience").and_then(Value::as_str).unwrap_or("").to_owned())
        .collect()
}

/// The audiences of the tokens that drivers of the pod's volumes ask for.
async fn by_drivers(state: &State, pod: &Value) -> Result<BTreeSet<String>, Status> {
    let mut audiences = BTreeSet::new();
    for volume in volumes(pod) {
        let Some(driver) = driver(state, pod, volume).await? else {
            continue;
        };
        let Some(driver) = lookup::get(state, "storage.k8s.io", "csidrivers", "", &driver).await? else {
            continue;
        };
        let requests = value_at(&driver, "spec.tokenRequests").and_then(Value::as_array);
        audiences.extend(
            requests
                .into_iter()
                .flatten()
                .map(|request| request.get("audience").and_then(Value::as_str).unwrap_or("").to_owned()),
        );
    }
    Ok(audiences)
}

/// The driver of a volume: its own, or that of the volume its claim is bound to.
async fn driver(state: &State, pod: &Value, volume: &Value) -> Result<Option<String>, Status> {
    let text = |value: &Value, path: &str| value_at(value, path).and_then(Value::as_str).map(str::to_owned);
    if let Some(driver) = text(volume, "csi.driver") {
        return Ok(Some(driver));
    }
    let claim = match text(volume, "persistentVolumeClaim.claimName") {
        Some(claim) => claim,
        None if volume.get("ephemeral").is_some_and(Value::is_object) => {
            format!("{}-{}", meta::name(pod), text(volume, "name").unwrap_or_default())
        }
        None => return Ok(None),
    };
    let claim = lookup::get(state, "", "persistentvolumeclaims", meta::namespace(pod), &claim).await?;
    let Some(name) = claim.and_then(|claim| text(&claim, "spec.volumeName")) else {
        return Ok(None);
    };
    let found = lookup::get(state, "", "persistentvolumes", "", &name).await?;
    Ok(found.and_then(|found| text(&found, "spec.csi.driver")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn audiences_that_a_pod_projects() {
        let pod = json!({"spec": {"volumes": [{"projected": {"sources": [
            {"serviceAccountToken": {"path": "a"}},
            {"serviceAccountToken": {"path": "b", "audience": "vault"}}, {"secret": {}}]}}, {"emptyDir": {}}]}});
        assert_eq!(projected(&pod), BTreeSet::from([String::new(), "vault".to_owned()]));
        assert!(projected(&json!({})).is_empty());
    }
}
