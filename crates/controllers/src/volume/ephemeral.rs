//! A claim for each ephemeral volume of a pod, owned by the pod (upstream `pkg/controller/volume/ephemeral`).

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::tell;
use crate::controller::{Controller, Trigger};
use crate::object::{controller_reference, is_controlled_by, is_deleting, name, namespace, uid};
use crate::plan::{Action, Plan, Reference};
use crate::world::BY_VOLUME_CLAIM;
use crate::{Key, Turn, World};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ephemeral-volume-controller",
    account: "ephemeral-volume-controller",
    triggers: &[Trigger::Pod(keys_of_pod), Trigger::PersistentVolumeClaim(keys_of_claim)],
    reconcile,
};

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.ephemeral.is_some())
}

fn wants(pod: &Pod) -> bool {
    !is_deleting(pod) && volumes(pod).next().is_some()
}

/// Pods do not get other volumes later.
fn keys_of_pod(_: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let fresh = new.filter(|pod| old.is_none() && wants(pod));
    fresh.into_iter().map(Key::of).collect()
}

/// A claim that goes while its pod is there is made anew.
fn keys_of_claim(
    world: &dyn World,
    old: Option<&PersistentVolumeClaim>,
    new: Option<&PersistentVolumeClaim>,
) -> Vec<Key> {
    let (Some(gone), None) = (old, new) else {
        return Vec::new();
    };
    let pods = world
        .pods()
        .by_index(BY_VOLUME_CLAIM, &format!("{}/{}", namespace(gone), name(gone)));
    pods.iter()
        .filter(|pod| wants(pod))
        .map(|pod| Key::of(&**pod))
        .collect()
}

/// Makes the claims that are missing.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(pod) = world.pods().get(&key.namespace, &key.name).filter(|pod| wants(pod)) else {
        return plan;
    };
    for volume in volumes(&pod) {
        let called = format!("{}-{}", name(&*pod), volume.name);
        match world.persistent_volume_claims().get(&key.namespace, &called) {
            Some(claim) if is_controlled_by(&*claim, uid(&*pod)) => {}
            Some(claim) => {
                let text = format!(
                    "ephemeral volume {}: PVC {}/{called} was not created for pod {key} (pod is not owner)",
                    volume.name,
                    namespace(&*claim)
                );
                tell(&mut plan, turn, Reference::to(&*pod), true, "FailedBinding", &text);
                return plan;
            }
            None => {
                let failure = format!("ephemeral volume {}: create PVC {called}: {{error}}", volume.name);
                let action = Action::create(&claim_for(&pod, volume, called));
                plan.act(action.telling_failure(Reference::to(&*pod), "FailedBinding", failure));
            }
        }
    }
    plan
}

fn claim_for(pod: &Pod, volume: &Volume, called: String) -> PersistentVolumeClaim {
    let template = volume
        .ephemeral
        .as_ref()
        .and_then(|source| source.volume_claim_template.clone())
        .unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(called),
            namespace: Some(namespace(pod).to_owned()),
            annotations: metadata.annotations,
            labels: metadata.labels,
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        ..PersistentVolumeClaim::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::{Fake, pod};

    fn with_volume() -> Fake {
        let mut fake = Fake::new();
        let mut pod = pod("p", "app", "");
        pod["spec"]["volumes"] = json!([
            {"name": "plain", "emptyDir": {}},
            {"name": "data", "ephemeral": {"volumeClaimTemplate": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }}},
        ]);
        fake.put("pods", pod);
        fake
    }

    #[test]
    fn a_claim_is_made_and_owned_by_the_pod() {
        let mut fake = with_volume();
        let key = Key::new("ns", "p");
        fake.settle(reconcile, &key);
        let claim = fake.json::<PersistentVolumeClaim>("ns", "p-data");
        assert_eq!(claim["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
        let owner = &claim["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["name"], &owner["controller"]),
            (&json!("Pod"), &json!("p"), &json!(true))
        );
        assert_eq!(fake.all::<PersistentVolumeClaim>().len(), 1);
    }

    #[test]
    fn somebody_elses_claim_is_told_of_once() {
        let mut fake = with_volume();
        fake.put("persistentvolumeclaims", json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "ns", "name": "p-data"}, "spec": {},
        }));
        fake.settle(reconcile, &Key::new("ns", "p"));
        assert_eq!(
            fake.events,
            ["FailedBinding: ephemeral volume data: PVC ns/p-data was not created for pod ns/p (pod is not owner)"]
        );
    }

    #[test]
    fn a_pod_that_goes_gets_none() {
        let mut fake = with_volume();
        fake.change::<Pod>(
            "ns",
            "p",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        );
        fake.settle(reconcile, &Key::new("ns", "p"));
        assert!(fake.all::<PersistentVolumeClaim>().is_empty());
    }
}
