//! Whom to ask for a volume (`provisionClaim`). Nothing is made here: provisioners watch the claims.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use super::super::{MIGRATED_TO, PROVISIONER, PROVISIONER_BETA, class_of_claim, migrated, tell};
use crate::object::annotation;
use crate::plan::{Action, Plan, Reference};
use crate::volume::local_path;
use crate::{Turn, World};

/// Names the provisioner on the claim and says who is waited for.
pub(super) fn ask(world: &dyn World, claim: &PersistentVolumeClaim, turn: &Turn, plan: &mut Plan) {
    let (about, class) = (Reference::to(claim), class_of_claim(claim));
    let Some(found) = world.storage_classes().get("", class) else {
        let text = format!("storageclass.storage.k8s.io {class:?} not found");
        return tell(plan, turn, about, true, "ProvisioningFailed", &text);
    };
    let asked = found.provisioner.as_str();
    let driver = migrated(asked);
    if asked.starts_with("kubernetes.io/") && driver.is_none() {
        return tell(
            plan,
            turn,
            about,
            true,
            "ProvisioningFailed",
            &format!("no volume plugin matched name: {asked}"),
        );
    }
    let provisioner = driver.unwrap_or(asked);
    if annotation(claim, PROVISIONER) != Some(provisioner) {
        let mut annotations = json!({PROVISIONER: provisioner, PROVISIONER_BETA: provisioner});
        if driver.is_some() {
            annotations[MIGRATED_TO] = json!(provisioner);
        }
        let action = Action::patch_version(claim, json!({"metadata": {"annotations": annotations}}));
        let failure = "Error saving claim: {error}";
        plan.act(action.telling_failure(about.clone(), "ProvisioningFailed", failure));
    }
    if provisioner != local_path::PROVISIONER {
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        tell(plan, turn, about, false, "ExternalProvisioning", &text);
    }
}
