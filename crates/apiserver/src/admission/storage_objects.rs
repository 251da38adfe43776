//! Volumes and claims are not deleted under those who use them, and grow only where they can
//! (`plugin/pkg/admission/storage/{storageobjectinuseprotection,persistentvolume/resize}`).

use api::{Quantity, Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, Step, lookup};
use crate::kind::value_at;
use crate::state::State;

pub(super) struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Mutate && group.is_empty() && plural.starts_with("persistentvolume")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, _state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let finalizer = if attributes.is("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if attributes.is("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else {
            return Ok(());
        };
        let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|known| known == finalizer) {
            finalizers.push(finalizer.to_owned());
            meta::set_finalizers(object, &finalizers);
        }
        Ok(())
    }
}

pub(super) struct PersistentVolumeClaimResize;

fn size(claim: &Value) -> Quantity {
    let size = value_at(claim, "spec.resources.requests.storage");
    size.and_then(|size| Quantity::from_json(size).ok()).unwrap_or_default()
}

fn class(claim: &Value) -> &str {
    let annotated = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
    annotated
        .or_else(|| value_at(claim, "spec.storageClassName")?.as_str())
        .unwrap_or("")
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Validate && (group, plural) == ("", "persistentvolumeclaims")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, claim: Option<&Value>) -> Result<(), Status> {
        let (Some(claim), Some(old)) = (claim, attributes.old) else {
            return Ok(());
        };
        if !attributes.is("", "persistentvolumeclaims") || size(claim) <= size(old) {
            return Ok(());
        }
        if value_at(old, "status.phase").and_then(Value::as_str) != Some("Bound") {
            return Err(attributes.forbid("Only bound persistent volume claims can be expanded"));
        }
        let name = class(claim);
        let grows = !name.is_empty()
            && name == class(old)
            && lookup::get(state, "storage.k8s.io", "storageclasses", "", name)
                .await?
                .is_some_and(|class| class.get("allowVolumeExpansion").and_then(Value::as_bool) == Some(true));
        if grows {
            return Ok(());
        }
        Err(attributes.forbid(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}
