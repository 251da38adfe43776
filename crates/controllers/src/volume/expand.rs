//! Claims that ask for more than they have (upstream `pkg/controller/volume/expand`). Volumes of CSI drivers are their
//! resizers' work; those of [`super::local_path`] are grown here, and what is left to do on the node is done there.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::{
    MIGRATED_TO, PRE_RESIZE_CAPACITY, PROVISIONED_BY, capacity_of, claim_ref, granted_to, local_path, request_of, tell,
    volume_name,
};
use crate::controller::{Controller, Trigger, own_key};
use crate::object::{annotation, name, namespace, seconds, to_value, uid};
use crate::plan::{Action, Plan, Reference};
use crate::{Key, Turn, World};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "persistentvolume-expander-controller",
    account: "expand-controller",
    triggers: &[
        Trigger::PersistentVolumeClaim(own_key),
        Trigger::PersistentVolume(keys_of_volume),
    ],
    reconcile,
};

pub(super) const PENDING: &str = "FileSystemResizePending";
const PENDING_TEXT: &str = "Waiting for user to (re-)start a pod to finish file system resize of volume on node.";

fn keys_of_volume(_: &dyn World, old: Option<&PersistentVolume>, new: Option<&PersistentVolume>) -> Vec<Key> {
    let resized = new.filter(|volume| old.map(capacity_of) != Some(capacity_of(volume)));
    let claim = resized.and_then(claim_ref);
    claim
        .map(|(namespace, name, _)| Key::new(namespace, name))
        .into_iter()
        .collect()
}

/// Grows what is too small, or says whose work that is.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(claim) = world.persistent_volume_claims().get(&key.namespace, &key.name) else {
        return plan;
    };
    let Some(granted) = granted_to(&claim) else { return plan };
    let Some(volume) = world.persistent_volumes().get("", volume_name(&claim)) else {
        return plan;
    };
    if claim_ref(&volume) != Some((namespace(&*claim), name(&*claim), uid(&*claim))) {
        return plan;
    }
    let (wanted, before) = (request_of(&claim), annotation(&*volume, PRE_RESIZE_CAPACITY));
    if wanted <= granted && before.is_none() {
        return plan;
    }
    if annotation(&*volume, PROVISIONED_BY) != Some(local_path::PROVISIONER) {
        let text = match annotation(&*volume, MIGRATED_TO).and(annotation(&*volume, PROVISIONED_BY)) {
            Some(old) => format!("CSI migration enabled for {old}; waiting for external resizer to expand the pvc"),
            None => "waiting for an external controller to expand this PVC".to_owned(),
        };
        if wanted > granted {
            tell(
                &mut plan,
                turn,
                Reference::to(&*claim),
                false,
                "ExternalExpanding",
                &text,
            );
        }
        return plan;
    }
    let capacity = capacity_of(&volume).unwrap_or_else(api::Quantity::zero);
    if capacity < wanted {
        let begun = json!({"status": {
            "allocatedResources": {"storage": wanted.to_string()},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"},
            "conditions": with_condition(&claim, "Resizing", "", turn),
        }});
        plan.act(Action::patch_status(&*claim, begun));
        let mut patch = json!({"spec": {"capacity": {"storage": wanted.to_string()}}});
        if before.is_none() {
            patch["metadata"]["annotations"][PRE_RESIZE_CAPACITY] = json!(granted.to_string());
        }
        plan.act(Action::patch_version(&*volume, patch));
    } else if granted < capacity && !has_condition(&claim, PENDING) {
        // From here on it is the node's work.
        let left = json!({"status": {
            "allocatedResources": {"storage": capacity.to_string()},
            "allocatedResourceStatuses": {"storage": "NodeResizePending"},
            "conditions": with_condition(&claim, PENDING, PENDING_TEXT, turn),
        }});
        plan.act(Action::patch_status(&*claim, left));
    } else if before.is_some() && granted >= capacity {
        let patch = json!({"metadata": {"annotations": {PRE_RESIZE_CAPACITY: null}}});
        plan.act(Action::patch_version(&*volume, patch));
    }
    plan
}

/// Whether a condition is true.
pub(super) fn has_condition(claim: &PersistentVolumeClaim, kind: &str) -> bool {
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

/// The conditions without those of resizing.
pub(super) fn other_conditions(claim: &PersistentVolumeClaim) -> Vec<Value> {
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    let others = conditions
        .into_iter()
        .flatten()
        .filter(|condition| !matches!(condition.type_.as_str(), "Resizing" | PENDING));
    others.map(to_value).collect()
}

fn with_condition(claim: &PersistentVolumeClaim, kind: &str, message: &str, turn: &Turn) -> Value {
    let mut all = other_conditions(claim);
    let mut condition = json!({"type": kind, "status": "True", "lastTransitionTime": to_value(&seconds(turn.now))});
    if !message.is_empty() {
        condition["message"] = json!(message);
    }
    all.push(condition);
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn grown(provisioner: &str) -> Fake {
        let mut fake = Fake::new();
        fake.put("persistentvolumeclaims", json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "ns", "name": "c", "uid": "u"},
            "spec": {"volumeName": "v", "resources": {"requests": {"storage": "2Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
        }));
        fake.put(
            "persistentvolumes",
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "v", "annotations": {PROVISIONED_BY: provisioner}},
                "spec": {"capacity": {"storage": "1Gi"}, "claimRef": {"namespace": "ns", "name": "c", "uid": "u"}},
                "status": {"phase": "Bound"},
            }),
        );
        fake
    }

    #[test]
    fn a_local_volume_grows_and_then_waits_for_its_node() {
        let mut fake = grown(local_path::PROVISIONER);
        let key = Key::new("ns", "c");
        fake.settle(reconcile, &key);
        let volume = fake.json::<PersistentVolume>("", "v");
        assert_eq!(volume["spec"]["capacity"]["storage"], "2Gi");
        assert_eq!(volume["metadata"]["annotations"][PRE_RESIZE_CAPACITY], "1Gi");
        let status = fake.json::<PersistentVolumeClaim>("ns", "c")["status"].clone();
        assert_eq!(status["capacity"]["storage"], "1Gi", "until the node has done its part");
        assert_eq!(status["allocatedResources"]["storage"], "2Gi");
        assert_eq!(status["allocatedResourceStatuses"]["storage"], "NodeResizePending");
        assert_eq!(status["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(status["conditions"][0]["type"], PENDING);
        fake.change::<PersistentVolumeClaim>("ns", "c", json!({"status": {"capacity": {"storage": "2Gi"}}}));
        fake.settle(reconcile, &key);
        assert!(fake.json::<PersistentVolume>("", "v")["metadata"]["annotations"][PRE_RESIZE_CAPACITY].is_null());
    }

    #[test]
    fn others_volumes_are_their_resizers_work() {
        let mut fake = grown("csi.example.com");
        fake.settle(reconcile, &Key::new("ns", "c"));
        assert_eq!(
            fake.events,
            ["ExternalExpanding: waiting for an external controller to expand this PVC"]
        );
        assert_eq!(
            fake.json::<PersistentVolume>("", "v")["spec"]["capacity"]["storage"],
            "1Gi"
        );
    }

    #[test]
    fn a_volume_that_is_bound_elsewhere_is_left_alone() {
        let mut fake = grown(local_path::PROVISIONER);
        fake.change::<PersistentVolume>("", "v", json!({"spec": {"claimRef": {"uid": "other"}}}));
        fake.settle(reconcile, &Key::new("ns", "c"));
        assert_eq!(
            fake.json::<PersistentVolume>("", "v")["spec"]["capacity"]["storage"],
            "1Gi"
        );
    }
}
