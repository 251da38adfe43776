//! Nobody makes the garbage collector delete, or keep, what they may not themselves
//! (`plugin/pkg/admission/gc`, OwnerReferencesPermissionEnforcement). Off by default.

use api::meta::OwnerReference;
use api::{GroupVersion, Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::authz::{self, Decision};
use crate::state::State;

pub(super) struct OwnerReferencesPermissionEnforcement;

fn raw(object: &Value) -> Option<&Value> {
    let list = meta::metadata(object)?.get("ownerReferences")?;
    Some(list).filter(|list| list.as_array().is_some_and(|list| !list.is_empty()))
}

/// Owners whose deletion this object would block, and did not before.
fn newly_blocking<'v>(new: &'v Value, old: Option<&Value>) -> Vec<OwnerReference<'v>> {
    let before = old.map(meta::owner_references).unwrap_or_default();
    let blocked = |uid: &str| {
        before
            .iter()
            .any(|owner| owner.uid == uid && owner.block_owner_deletion)
    };
    let mut owners = meta::owner_references(new);
    owners.retain(|owner| owner.block_owner_deletion && !blocked(owner.uid));
    owners
}

async fn decide(state: &State, wanted: authz::Attributes) -> Result<(), String> {
    match authz::authorize(state, &wanted).await {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(format!("{reason}, <nil>")),
    }
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let kind = &attributes.resource.kind;
        // Old node agents mangle them, but the status of a pod cannot change them anyway.
        let harmless = kind.gvk.group.is_empty() && kind.plural == "pods" && attributes.subresource == "status";
        if harmless || raw(object) == attributes.old.and_then(raw) {
            return Ok(());
        }
        if attributes.operation != Operation::Create {
            let mut wanted = authz::Attributes::of(&attributes.call.info, &attributes.call.user);
            wanted.verb = "delete".to_owned();
            wanted.name = attributes.name.to_owned();
            decide(state, wanted).await.map_err(|why| {
                attributes.forbid(format!("cannot set an ownerRef on a resource you can't delete: {why}"))
            })?;
        }
        let owners = newly_blocking(object, attributes.old);
        let finalize = |group: &str, version: &str, resource: &str, name: &str| authz::Attributes {
            user: attributes.call.user.clone(),
            verb: "update".to_owned(),
            is_resource: true,
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            subresource: "finalizers".to_owned(),
            name: name.to_owned(),
            ..authz::Attributes::default()
        };
        if owners.is_empty() || decide(state, finalize("*", "*", "*", "*")).await.is_ok() {
            return Ok(());
        }
        for owner in owners {
            let Some((group, version, resource, namespaced)) = resource_of(state, &owner) else {
                return Err(attributes.forbid(format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {0} Kind {1}: no matches for kind \"{1}\" in version \"{0}\"",
                    owner.api_version, owner.kind
                )));
            };
            let mut wanted = finalize(&group, &version, &resource, owner.name);
            if namespaced {
                wanted.namespace = attributes.namespace.to_owned();
            }
            decide(state, wanted).await.map_err(|why| {
                attributes.forbid(format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}"
                ))
            })?;
        }
        Ok(())
    }
}

/// Group, version and plural of an owner's resource, and whether it is namespaced.
fn resource_of(state: &State, owner: &OwnerReference<'_>) -> Option<(String, String, String, bool)> {
    let version = GroupVersion::parse(owner.api_version).ok()?;
    let gvk = version.with_kind(owner.kind);
    let registry = state.registry.load();
    let kind = registry.kinds().find(|kind| kind.gvk == gvk)?;
    Some((gvk.group, gvk.version, kind.plural.clone(), kind.is_namespaced()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn owners_that_would_be_blocked() {
        let object = |blocks: [bool; 2]| {
            let owner = |uid: &str, block: bool| json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "blockOwnerDeletion": block});
            json!({"metadata": {"ownerReferences": [owner("1", blocks[0]), owner("2", blocks[1])]}})
        };
        let uids = |new: [bool; 2], old: Option<[bool; 2]>| {
            let (new, old) = (object(new), old.map(object));
            newly_blocking(&new, old.as_ref())
                .iter()
                .map(|o| o.uid.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(uids([true, false], None), ["1"]);
        assert_eq!(uids([true, true], Some([true, false])), ["2"]);
        assert!(uids([true, false], Some([true, true])).is_empty());
    }
}
