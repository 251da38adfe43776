//! Claims and volumes stay as long as something uses them (upstream `pkg/controller/volume/pvcprotection`,
//! `pvprotection`).

use api::Value;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{is_deleting, name, namespace};
use crate::plan::{Action, Plan};
use crate::pod::node_name;
use crate::{Key, Object, Turn, World};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

pub(crate) const CLAIMS: Controller = Controller {
    name: "persistentvolumeclaim-protection-controller",
    account: "pvc-protection-controller",
    triggers: &[Trigger::PersistentVolumeClaim(own_key), Trigger::Pod(keys_of_pod)],
    reconcile: reconcile_claim,
};

pub(crate) const VOLUMES: Controller = Controller {
    name: "persistentvolume-protection-controller",
    account: "pv-protection-controller",
    triggers: &[Trigger::PersistentVolume(own_key)],
    reconcile: reconcile_volume,
};

/// The claims that a pod names, those of its ephemeral volumes included.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", name(pod), volume.name)),
        (None, None) => None,
    })
}

fn keys_of_pod(_: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let pods = [old, new].into_iter().flatten();
    let mut keys: Vec<Key> = pods
        .flat_map(|pod| claims_of(pod).map(|claim| Key::new(namespace(pod), claim)))
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn has<K: Object>(object: &K, finalizer: &str) -> bool {
    object
        .metadata()
        .finalizers
        .iter()
        .flatten()
        .any(|held| held == finalizer)
}

fn with<K: Object>(object: &K, finalizer: &str) -> Action {
    let mut finalizers = object.metadata().finalizers.clone().unwrap_or_default();
    finalizers.push(finalizer.to_owned());
    Action::patch_version(object, json!({"metadata": {"finalizers": finalizers}}))
}

fn without<K: Object>(object: &K, finalizer: &str) -> Action {
    let left: Vec<&String> = object
        .metadata()
        .finalizers
        .iter()
        .flatten()
        .filter(|held| *held != finalizer)
        .collect();
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    Action::patch_version(object, json!({"metadata": {"finalizers": left}}))
}

fn keep<K: Object>(object: &K, finalizer: &str, in_use: impl FnOnce() -> bool) -> Plan {
    let mut plan = Plan::nothing();
    match (is_deleting(object), has(object, finalizer)) {
        (true, true) if !in_use() => plan.act(without(object, finalizer)),
        (false, false) => plan.act(with(object, finalizer)),
        _ => {}
    }
    plan
}

/// Lets a claim go that is being deleted, when no pod on a node names it.
pub fn reconcile_claim(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let Some(claim) = world.persistent_volume_claims().get(&key.namespace, &key.name) else {
        return Plan::nothing();
    };
    keep(&*claim, CLAIM_FINALIZER, || {
        let pods = world.pods().list(&key.namespace);
        pods.iter()
            .any(|pod| !node_name(pod).is_empty() && claims_of(pod).any(|named| named == key.name))
    })
}

/// Lets a volume go that is being deleted, when no claim is bound to it.
pub fn reconcile_volume(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let Some(volume) = world.persistent_volumes().get("", &key.name) else {
        return Plan::nothing();
    };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    keep::<PersistentVolume>(&volume, VOLUME_FINALIZER, || phase == Some("Bound"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    use super::*;
    use crate::fake::{Fake, pod};

    #[test]
    fn a_claim_in_use_stays_until_its_pods_are_gone() {
        let mut fake = Fake::new();
        fake.put("persistentvolumeclaims", json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "ns", "name": "data"}, "spec": {},
        }));
        let key = Key::new("ns", "data");
        fake.settle(reconcile_claim, &key);
        let finalizers =
            |fake: &Fake| fake.json::<PersistentVolumeClaim>("ns", "data")["metadata"]["finalizers"].clone();
        assert_eq!(finalizers(&fake), json!([CLAIM_FINALIZER]));
        let mut user = pod("user", "app", "");
        user["spec"]["nodeName"] = json!("n1");
        user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
        fake.put("pods", user);
        let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        fake.change::<PersistentVolumeClaim>("ns", "data", deleting);
        fake.settle(reconcile_claim, &key);
        assert_eq!(finalizers(&fake), json!([CLAIM_FINALIZER]));
        fake.remove::<Pod>("ns", "user");
        fake.settle(reconcile_claim, &key);
        assert!(finalizers(&fake).is_null());
    }

    #[test]
    fn a_bound_volume_stays() {
        let mut fake = Fake::new();
        fake.put("persistentvolumes", json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "spec": {}, "status": {"phase": "Bound"},
            "metadata": {"name": "v", "finalizers": [VOLUME_FINALIZER], "deletionTimestamp": "2026-01-01T00:00:00Z"},
        }));
        let key = Key::new("", "v");
        fake.settle(reconcile_volume, &key);
        assert!(!fake.json::<PersistentVolume>("", "v")["metadata"]["finalizers"].is_null());
        fake.change::<PersistentVolume>("", "v", json!({"status": {"phase": "Released"}}));
        fake.settle(reconcile_volume, &key);
        assert!(fake.json::<PersistentVolume>("", "v")["metadata"]["finalizers"].is_null());
    }
}
