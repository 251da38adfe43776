use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, pod, ready};

fn set(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"namespace": "ns", "name": "web", "generation": 1},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
        },
    })
}

fn key() -> Key {
    Key::new("ns", "web")
}

#[test]
fn missing_pods_are_created_and_the_second_run_does_nothing() {
    let mut fake = Fake::new();
    fake.put("replicasets", set(3));
    fake.settle(reconcile, &key());
    let pods = fake.all::<Pod>();
    assert_eq!(pods.len(), 3);
    assert_eq!(pods[0]["metadata"]["generateName"], "web-");
    assert_eq!(pods[0]["metadata"]["ownerReferences"][0]["uid"], "uid-web");
    assert_eq!(fake.json::<ReplicaSet>("ns", "web")["status"]["replicas"], 3);
    assert!(
        fake.events
            .iter()
            .all(|event| event.starts_with("SuccessfulCreate: Created pod: web-")),
        "{:?}",
        fake.events
    );
}

#[test]
fn the_least_useful_pods_go_first() {
    let mut fake = Fake::new();
    fake.put("replicasets", set(1));
    fake.put("pods", ready(pod("a", "web", "web"), "n1", "10.0.0.1"));
    fake.put("pods", pod("b", "web", "web"));
    let mut unready = ready(pod("c", "web", "web"), "n1", "10.0.0.3");
    unready["status"]["conditions"][0]["status"] = json!("False");
    fake.put("pods", unready);
    let plan = reconcile(&fake, &key(), &fake.turn());
    let deleted: Vec<&str> = plan
        .actions()
        .filter_map(|action| match &action.verb {
            crate::Verb::Delete { target, .. } => Some(target.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["b", "c"]);
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<Pod>().len(), 1);
}

#[test]
fn of_ready_pods_the_doubled_up_one_goes() {
    let mut fake = Fake::new();
    fake.put("replicasets", set(2));
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n2")] {
        fake.put("pods", ready(pod(name, "web", "web"), node, "10.0.0.1"));
    }
    fake.settle(reconcile, &key());
    let left: Vec<Value> = fake
        .all::<Pod>()
        .iter()
        .map(|pod| pod["metadata"]["name"].clone())
        .collect();
    assert_eq!(left[0], "a");
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let mut fake = Fake::new();
    fake.put("replicasets", set(1));
    fake.put("pods", pod("orphan", "web", ""));
    fake.put("pods", pod("stranger", "other", "web"));
    fake.put("pods", pod("foreign", "web", "another-set"));
    fake.settle(reconcile, &key());
    assert_eq!(
        fake.json::<Pod>("ns", "orphan")["metadata"]["ownerReferences"][0]["uid"],
        "uid-web"
    );
    assert!(fake.json::<Pod>("ns", "stranger")["metadata"]["ownerReferences"].is_null());
    assert_eq!(
        fake.json::<Pod>("ns", "foreign")["metadata"]["ownerReferences"][0]["name"],
        "another-set"
    );
    assert_eq!(fake.all::<Pod>().len(), 3);
}

#[test]
fn a_deleted_set_neither_creates_nor_adopts() {
    let mut fake = Fake::new();
    let mut set = set(3);
    set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fake.put("replicasets", set).put("pods", pod("orphan", "web", ""));
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<Pod>().len(), 1);
    assert!(fake.json::<Pod>("ns", "orphan")["metadata"]["ownerReferences"].is_null());
}

#[test]
fn a_failed_creation_becomes_a_condition_until_it_works() {
    let mut fake = Fake::new();
    fake.put("replicasets", set(1));
    fake.refuse = Some(("pods", "exceeded quota"));
    let failure = fake.execute(&reconcile(&fake, &key(), &fake.turn()));
    assert_eq!(fake.events, ["FailedCreate: Error creating: exceeded quota"]);
    let turn = Turn { failure, ..fake.turn() };
    fake.execute(&reconcile(&fake, &key(), &turn));
    let status = fake.json::<ReplicaSet>("ns", "web")["status"].clone();
    assert_eq!(status["conditions"][0]["type"], "ReplicaFailure");
    assert_eq!(status["conditions"][0]["reason"], "FailedCreate");
    fake.refuse = None;
    fake.settle(reconcile, &key());
    assert!(fake.json::<ReplicaSet>("ns", "web")["status"]["conditions"].is_null());
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut fake = Fake::new();
    let mut set = set(1);
    set["spec"]["minReadySeconds"] = json!(10);
    fake.put("replicasets", set)
        .put("pods", ready(pod("a", "web", "web"), "n1", "10.0.0.1"));
    fake.sleep(4);
    let plan = reconcile(&fake, &key(), &fake.turn());
    assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(6)));
    fake.settle(reconcile, &key());
    assert!(fake.json::<ReplicaSet>("ns", "web")["status"]["availableReplicas"].is_null());
    fake.sleep(6);
    fake.settle(reconcile, &key());
    assert_eq!(fake.json::<ReplicaSet>("ns", "web")["status"]["availableReplicas"], 1);
}

#[test]
fn a_pod_wakes_its_owner_or_whoever_would_adopt_it() {
    let mut fake = Fake::new();
    fake.put("replicasets", set(1));
    let typed = |value: Value| serde_json::from_value::<Pod>(value).expect("a pod");
    assert_eq!(
        keys_of_pod(&fake, None, Some(&typed(pod("a", "web", "x")))),
        [Key::new("ns", "x")]
    );
    assert_eq!(keys_of_pod(&fake, None, Some(&typed(pod("a", "web", "")))), [key()]);
    assert!(keys_of_pod(&fake, None, Some(&typed(pod("a", "other", "")))).is_empty());
}
