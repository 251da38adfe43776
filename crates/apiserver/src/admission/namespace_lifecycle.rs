//! Objects are created only in namespaces that exist and are not going away; the first namespaces
//! stay (`admission/plugin/namespace/lifecycle`).

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::state::State;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        check(state, attributes).await
    }

    async fn validate(
        &self,
        _state: &State,
        attributes: &Attributes<'_>,
        _object: Option<&Value>,
    ) -> Result<(), Status> {
        let immortal = attributes.operation == Operation::Delete
            && attributes.is("", "namespaces")
            && IMMORTAL.contains(&attributes.name);
        if immortal {
            return Err(attributes.forbid("this namespace may not be deleted"));
        }
        Ok(())
    }
}

async fn check(state: &State, attributes: &Attributes<'_>) -> Result<(), Status> {
    let kind = &attributes.resource.kind;
    let about_namespaces = kind.gvk.group.is_empty() && kind.plural == "namespaces";
    // Reviews may be asked of a namespace that does not exist.
    let review = kind.gvk.group == "authorization.k8s.io";
    if attributes.operation != Operation::Create
        || !kind.is_namespaced()
        || about_namespaces
        || review
        || !attributes.subresource.is_empty()
    {
        return Ok(());
    }
    let Some(namespaces) = state.resource("", "v1", "namespaces") else {
        return Ok(());
    };
    let name = attributes.namespace;
    let Some(entry) = namespaces.latest("", name).await? else {
        return Err(Status::not_found(&namespaces.group_resource(), name));
    };
    let namespace = namespaces.remembered(&entry);
    let phase = namespace
        .get("status")
        .and_then(|s| s.get("phase"))
        .and_then(Value::as_str);
    if phase == Some("Terminating") || meta::is_deleting(&namespace) {
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let cause = format!("namespace {name} is being terminated");
        return Err(attributes
            .forbid(why)
            .with_cause("NamespaceTerminating", &cause, "metadata.namespace"));
    }
    Ok(())
}
