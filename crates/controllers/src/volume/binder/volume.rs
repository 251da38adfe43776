//! What becomes of a volume (`syncVolume`).

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::super::{
    BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONED_BY, claim_ref, migrated, phase_of, policy_of, tell, volume_name,
};
use super::matching::{mode_of_claim, mode_of_volume};
use super::reclaim;
use crate::object::{annotation, name, uid};
use crate::plan::{Action, Confirm, Plan, Reference, Target};
use crate::{Turn, World, gvr_of};

pub(super) fn reconcile(world: &dyn World, key: &str, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(volume) = world.persistent_volumes().get("", key) else {
        return plan;
    };
    if let Some(driver) = annotation(&*volume, PROVISIONED_BY).and_then(migrated)
        && annotation(&*volume, MIGRATED_TO) != Some(driver)
    {
        let patch = json!({"metadata": {"annotations": {MIGRATED_TO: driver}}});
        plan.act(Action::patch_version(&*volume, patch));
        return plan;
    }
    match claim_ref(&volume) {
        None | Some((_, _, "")) => become_phase(&volume, "Available", &mut plan),
        Some((namespace, called, id)) => {
            let claim = world.persistent_volume_claims().get(namespace, called);
            match claim.filter(|claim| uid(&**claim) == id) {
                None => released(world, &volume, (namespace, called, id), turn, &mut plan),
                Some(claim) => claimed(world, &volume, &claim, turn, &mut plan),
            }
        }
    }
    plan
}

/// The claim is there.
fn claimed(world: &dyn World, volume: &PersistentVolume, claim: &PersistentVolumeClaim, turn: &Turn, plan: &mut Plan) {
    let other = volume_name(claim);
    if other.is_empty() {
        // The claim's own turn binds it, unless that is impossible.
        if mode_of_volume(volume) != mode_of_claim(claim) {
            let text = format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                name(claim)
            );
            tell(plan, turn, Reference::to(volume), true, "VolumeMismatch", &text);
            let text = format!(
                "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim due to incompatible volumeMode.",
                name(volume)
            );
            tell(plan, turn, Reference::to(claim), true, "VolumeMismatch", &text);
        }
    } else if other == name(volume) {
        become_phase(volume, "Bound", plan);
    } else if annotation(volume, PROVISIONED_BY).is_some() && policy_of(volume) == "Delete" {
        // It was made for the claim, which got another one.
        if !matches!(phase_of(volume), "Released" | "Failed") {
            plan.act(phase(volume, "Released", ""));
        }
        reclaim::reclaim(world, volume, turn, plan);
    } else {
        unbind(volume, plan);
    }
}

/// The claim is gone.
fn released(
    world: &dyn World,
    volume: &PersistentVolume,
    (namespace, called, id): (&str, &str, &str),
    turn: &Turn,
    plan: &mut Plan,
) {
    if matches!(phase_of(volume), "Released" | "Failed") {
        return reclaim::reclaim(world, volume, turn, plan);
    }
    let claim = Target {
        resource: gvr_of::<PersistentVolumeClaim>(),
        namespace: namespace.to_owned(),
        name: called.to_owned(),
        uid: Some(id.to_owned()),
        resource_version: None,
    };
    // What is done with the storage waits for the next turn, which sees that the claim was really gone.
    plan.act(phase(volume, "Released", "").confirmed(Confirm::Absent(claim)));
}

/// Gives a volume back that a claim did not take after all (`unbindVolume`).
pub(super) fn unbind(volume: &PersistentVolume, plan: &mut Plan) {
    let patch = if annotation(volume, BOUND_BY_CONTROLLER).is_some() {
        json!({"spec": {"claimRef": null}, "metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}})
    } else {
        json!({"spec": {"claimRef": {"uid": null}}})
    };
    plan.act(Action::patch_version(volume, patch));
    become_phase(volume, "Available", plan);
}

fn become_phase(volume: &PersistentVolume, wanted: &str, plan: &mut Plan) {
    if phase_of(volume) != wanted {
        plan.act(phase(volume, wanted, ""));
    }
}

/// Changes the phase.
pub(super) fn phase(volume: &PersistentVolume, phase: &str, message: &str) -> Action {
    let message = match message {
        "" => Value::Null,
        message => json!(message),
    };
    Action::patch_status(volume, json!({"status": {"phase": phase, "message": message}}))
}
