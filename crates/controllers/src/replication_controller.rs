//! ReplicationControllers: the elder brother of ReplicaSets, and run as one (upstream `pkg/controller/replication`).

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use typed::Decoded;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{controller_of, has_labels, is_deleting, namespace, to_value};
use crate::{Key, Plan, Turn, World, replica_set};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicationcontroller-controller",
    account: "replication-controller",
    triggers: &[Trigger::ReplicationController(own_key), Trigger::Pod(keys_of_pod)],
    reconcile,
};

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let owners = [old, new].into_iter().flatten().filter_map(|pod| {
        let owner = controller_of(pod).filter(|owner| owner.kind == "ReplicationController")?;
        Some(Key::new(namespace(pod), owner.name.as_str()))
    });
    let mut keys: Vec<Key> = owners.collect();
    keys.dedup();
    if let Some(orphan) = new.filter(|pod| controller_of(*pod).is_none() && !is_deleting(*pod)) {
        let all = world.replication_controllers().list(namespace(orphan)).into_iter();
        let matching = all.filter(|controller| {
            let selector = controller.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector
                .is_some_and(|selector| !selector.is_empty() && has_labels(selector, orphan.metadata.labels.as_ref()))
        });
        keys.extend(matching.map(|controller| Key::of(&*controller)));
    }
    keys
}

/// As a ReplicaSet's.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    match world.replication_controllers().get(&key.namespace, &key.name) {
        Some(controller) => replica_set::sync(world, &*controller, &as_set(&controller), turn),
        None => Plan::nothing(),
    }
}

/// The same fields in a ReplicaSet (upstream `conversion.go`).
fn as_set(controller: &ReplicationController) -> ReplicaSet {
    let spec = controller.spec.clone().unwrap_or_default();
    let status = controller.status.as_ref().map(to_value);
    ReplicaSet {
        metadata: controller.metadata.clone(),
        spec: ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector {
                match_labels: spec.selector,
                match_expressions: None,
            },
            template: spec.template,
        },
        status: status.and_then(|status| ReplicaSetStatus::from_tree(&status).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::Fake;

    #[test]
    fn pods_come_and_go_as_those_of_a_set() {
        let mut fake = Fake::new();
        fake.put(
            "replicationcontrollers",
            json!({
                "apiVersion": "v1", "kind": "ReplicationController",
                "metadata": {"namespace": "ns", "name": "web", "generation": 3},
                "spec": {
                    "replicas": 2, "selector": {"app": "web"},
                    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
                },
            }),
        );
        let key = Key::new("ns", "web");
        fake.settle(reconcile, &key);
        let pods = fake.all::<Pod>();
        assert_eq!(pods.len(), 2);
        assert_eq!(
            pods[0]["metadata"]["ownerReferences"][0]["kind"],
            "ReplicationController"
        );
        let status = &fake.json::<ReplicationController>("ns", "web")["status"];
        assert_eq!(
            (&status["replicas"], &status["observedGeneration"]),
            (&json!(2), &json!(3))
        );
        fake.change::<ReplicationController>("ns", "web", json!({"spec": {"replicas": 0}}));
        fake.settle(reconcile, &key);
        assert!(fake.all::<Pod>().is_empty());
    }
}
