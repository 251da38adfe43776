//! What becomes of a claim (`syncClaim`).

use std::sync::Arc;

use api::Value;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, MIGRATED_TO, PRE_RESIZE_CAPACITY, PROVISIONER, PROVISIONER_BETA,
    SELECTED_NODE, capacity_of, claim_ref, claims_of_pod, class_of_claim, default_class, granted_to, is_for,
    leaves_class_open, migrated, phase_of, spec_of, tell, volume_name, waits_for_consumer,
};
use super::matching::{self, Choice};
use super::provision;
use crate::object::{annotation, name, namespace, to_value, uid};
use crate::plan::{Action, Plan, Reference};
use crate::world::BY_VOLUME_CLAIM;
use crate::{Key, Turn, World};

pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(claim) = world.persistent_volume_claims().get(&key.namespace, &key.name) else {
        return plan;
    };
    if let Some(patch) = migration(&claim) {
        plan.act(Action::patch_version(&*claim, patch));
    } else if annotation(&*claim, BIND_COMPLETED).is_some() {
        bound(world, &claim, &mut plan);
    } else if volume_name(&claim).is_empty() {
        free(world, &claim, turn, &mut plan);
    } else {
        asked(world, &claim, turn, &mut plan);
    }
    plan
}

/// Says that a CSI driver stands in for an old provisioner.
fn migration(claim: &PersistentVolumeClaim) -> Option<Value> {
    let provisioner = annotation(claim, PROVISIONER).or(annotation(claim, PROVISIONER_BETA))?;
    let driver = migrated(provisioner)?;
    (annotation(claim, MIGRATED_TO) != Some(driver))
        .then(|| json!({"metadata": {"annotations": {MIGRATED_TO: driver}}}))
}

/// A claim that takes any volume that fits.
fn free(world: &dyn World, claim: &PersistentVolumeClaim, turn: &Turn, plan: &mut Plan) {
    let delayed = waits_for_consumer(world, claim);
    let node = if delayed { consumers_node(world, claim) } else { None };
    let choice = match &node {
        Some(node) => Choice::On(node),
        None if delayed => Choice::Reserved,
        None => Choice::Any,
    };
    if let Some(volume) = matching::find(world, claim, choice) {
        return bind(&volume, claim, plan);
    }
    if leaves_class_open(claim)
        && let Some(class) = default_class(world)
    {
        let patch = json!({"spec": {"storageClassName": name(&*class)}});
        return plan.act(Action::patch_version(claim, patch));
    }
    let about = Reference::to(claim);
    if delayed && annotation(claim, SELECTED_NODE).is_none() {
        if let Some(node) = node {
            let patch = json!({"metadata": {"annotations": {SELECTED_NODE: name(&*node)}}});
            return plan.act(Action::patch_version(claim, patch));
        }
        let (reason, text) = waiting(world, claim);
        tell(plan, turn, about, false, reason, &text);
    } else if !class_of_claim(claim).is_empty() {
        return provision::ask(world, claim, turn, plan);
    } else {
        let text = "no persistent volumes available for this claim and no storage class is set";
        tell(plan, turn, about, false, "FailedBinding", text);
    }
    status(claim, "Pending", None, plan);
}

/// The node of a pod that waits there for the claim already: one that was put there by hand, or by a scheduler that does
/// not look at volumes. Upstream leaves such pods waiting forever.
fn consumers_node(world: &dyn World, claim: &PersistentVolumeClaim) -> Option<Arc<Node>> {
    let path = format!("{}/{}", namespace(claim), name(claim));
    let mut pods = world.pods().by_index(BY_VOLUME_CLAIM, &path);
    pods.retain(|pod| crate::pod::is_active(pod) && !crate::pod::node_name(pod).is_empty());
    let first = pods.into_iter().min_by_key(|pod| name(&**pod).to_owned())?;
    world.nodes().get("", crate::pod::node_name(&first))
}

fn waiting(world: &dyn World, claim: &PersistentVolumeClaim) -> (&'static str, String) {
    let path = format!("{}/{}", namespace(claim), name(claim));
    let pods = world.pods().by_index(BY_VOLUME_CLAIM, &path);
    let mut names: Vec<&str> = pods
        .iter()
        .filter(|pod| !crate::pod::is_terminal(pod) && crate::pod::node_name(pod).is_empty())
        .filter(|pod| claims_of_pod(pod).contains(&path))
        .map(|pod| name(&**pod))
        .collect();
    names.sort_unstable();
    match names[..] {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_owned(),
        ),
        [one] => ("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
        _ => (
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", names.join(",")),
        ),
    }
}

/// A claim that asks for one volume by name.
fn asked(world: &dyn World, claim: &PersistentVolumeClaim, turn: &Turn, plan: &mut Plan) {
    let Some(volume) = world.persistent_volumes().get("", volume_name(claim)) else {
        return status(claim, "Pending", None, plan);
    };
    let about = Reference::to(claim);
    if claim_ref(&volume).is_none() {
        match matching::mismatch(&volume, claim) {
            None => bind(&volume, claim, plan),
            Some(problem) => {
                let text = format!("Cannot bind to requested volume {:?}: {problem}", name(&*volume));
                tell(plan, turn, about, true, "VolumeMismatch", &text);
                status(claim, "Pending", None, plan);
            }
        }
    } else if is_for(&volume, claim) {
        bind(&volume, claim, plan);
    } else {
        let text = format!("volume {:?} already bound to a different claim.", name(&*volume));
        tell(plan, turn, about, true, "FailedBinding", &text);
        if annotation(claim, BOUND_BY_CONTROLLER).is_none() {
            status(claim, "Pending", None, plan);
        }
    }
}

/// A claim that was bound once.
fn bound(world: &dyn World, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let lost = |reason, text: &str, plan: &mut Plan| {
        let about = Reference::to(claim);
        let already = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost");
        if let (false, Some(action)) = (already, status_action(claim, "Lost", None)) {
            plan.finally(action.telling(about, reason, text).warning());
        }
    };
    if volume_name(claim).is_empty() {
        let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", text, plan);
    }
    let Some(volume) = world.persistent_volumes().get("", volume_name(claim)) else {
        // A volume that was just made may not be in sight yet; only its absence on the server counts.
        let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        let before = plan.last.len();
        lost("ClaimLost", text, plan);
        for action in &mut plan.last[before..] {
            action.confirm.push(crate::Confirm::Absent(crate::Target {
                resource: crate::gvr_of::<PersistentVolume>(),
                namespace: String::new(),
                name: volume_name(claim).to_owned(),
                uid: None,
                resource_version: None,
            }));
        }
        return;
    };
    match claim_ref(&volume) {
        None => bind(&volume, claim, plan),
        Some((.., id)) if id == uid(claim) => bind(&volume, claim, plan),
        Some(_) => {
            let text = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost("ClaimMisbound", text, plan);
        }
    }
}

/// Binds both sides, the volume first.
pub(super) fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    if claim_ref(volume) != Some((namespace(claim), name(claim), uid(claim))) {
        let mut patch = json!({"spec": {"claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": namespace(claim),
            "name": name(claim),
            "uid": uid(claim),
            "resourceVersion": claim.metadata.resource_version,
        }}});
        if !is_for(volume, claim) && annotation(volume, BOUND_BY_CONTROLLER).is_none() {
            patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        plan.act(Action::patch_version(volume, patch));
    }
    if phase_of(volume) != "Bound" {
        plan.act(super::volume::phase(volume, "Bound", ""));
    }
    let mut patch = json!({});
    if volume_name(claim) != name(volume) {
        patch["spec"]["volumeName"] = json!(name(volume));
        if annotation(claim, BOUND_BY_CONTROLLER).is_none() {
            patch["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
    }
    if annotation(claim, BIND_COMPLETED).is_none() {
        patch["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
    }
    if patch != json!({}) {
        plan.act(Action::patch_version(claim, patch));
    }
    if let Some(action) = status_action(claim, "Bound", Some(volume)) {
        plan.act(action);
    }
}

fn status(claim: &PersistentVolumeClaim, phase: &str, volume: Option<&PersistentVolume>, plan: &mut Plan) {
    plan.last.extend(status_action(claim, phase, volume));
}

/// What makes the status so, if it is not (`updateClaimStatus`). The size is told when the claim becomes bound; later
/// it is the expansion's.
fn status_action(claim: &PersistentVolumeClaim, phase: &str, volume: Option<&PersistentVolume>) -> Option<Action> {
    let known = claim.status.clone().unwrap_or_default();
    let (mut patch, changes) = (json!({}), known.phase.as_deref() != Some(phase));
    if changes {
        patch["phase"] = json!(phase);
    }
    match volume {
        None => {
            let there = [
                ("accessModes", known.access_modes.is_some()),
                ("capacity", known.capacity.is_some()),
                (
                    "currentVolumeAttributesClassName",
                    known.current_volume_attributes_class_name.is_some(),
                ),
            ];
            for (field, _) in there.into_iter().filter(|(_, there)| *there) {
                patch[field] = Value::Null;
            }
        }
        Some(volume) => {
            let spec = spec_of(volume);
            if known.access_modes != spec.access_modes {
                patch["accessModes"] = to_value(&spec.access_modes);
            }
            if changes {
                let before = annotation(volume, PRE_RESIZE_CAPACITY).and_then(|text| text.parse().ok());
                let capacity: Option<api::Quantity> = before.or(capacity_of(volume));
                if capacity.is_some() && capacity != granted_to(claim) {
                    patch["capacity"] = json!({"storage": capacity.map(|size| size.to_string())});
                }
                if known.current_volume_attributes_class_name != spec.volume_attributes_class_name {
                    patch["currentVolumeAttributesClassName"] = to_value(&spec.volume_attributes_class_name);
                }
            }
        }
    }
    (patch != json!({})).then(|| Action::patch_status(claim, json!({"status": patch})))
}
