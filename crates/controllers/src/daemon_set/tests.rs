use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, node, ready};

fn set(strategy: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"namespace": "ns", "name": "agent", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}},
        },
    })
}

fn rolling(unavailable: i32, surge: i32) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
}

fn key() -> Key {
    Key::new("ns", "agent")
}

fn with_nodes(nodes: &[&str], strategy: Value) -> Fake {
    let mut fake = Fake::new();
    for name in nodes {
        fake.put("nodes", node(name));
    }
    fake.put("daemonsets", set(strategy));
    fake.settle(reconcile, &key());
    fake
}

fn pods_by_node(fake: &Fake) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = fake
        .all::<Pod>()
        .iter()
        .map(|json| {
            let pod: Pod = serde_json::from_value(json.clone()).expect("a pod");
            (
                pods::target_node(&pod).expect("a node").to_owned(),
                name(&pod).to_owned(),
            )
        })
        .collect();
    all.sort();
    all
}

fn run_all(fake: &mut Fake) {
    for json in fake.all::<Pod>() {
        if json["status"]["phase"] != "Running" {
            let pod: Pod = serde_json::from_value(json.clone()).expect("a pod");
            let node = pods::target_node(&pod).expect("a node").to_owned();
            fake.put("pods", ready(json, &node, "10.0.0.1"));
        }
    }
}

fn images(fake: &Fake) -> Vec<String> {
    let all = fake.all::<Pod>();
    all.iter()
        .map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap_or("").to_owned())
        .collect()
}

#[test]
fn every_node_gets_a_pod_and_the_status_says_so() {
    let mut fake = with_nodes(&["n1", "n2", "n3"], rolling(1, 0));
    let nodes: Vec<String> = pods_by_node(&fake).into_iter().map(|(node, _)| node).collect();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
    run_all(&mut fake);
    fake.settle(reconcile, &key());
    let status = &fake.json::<DaemonSet>("ns", "agent")["status"];
    for (field, count) in [
        ("desiredNumberScheduled", 3),
        ("currentNumberScheduled", 3),
        ("numberReady", 3),
        ("numberAvailable", 3),
        ("updatedNumberScheduled", 3),
        ("observedGeneration", 1),
    ] {
        assert_eq!(status[field], count, "{field} of {status}");
    }
}

#[test]
fn nodes_that_do_not_fit_get_none_and_lose_theirs() {
    let mut fake = with_nodes(&["n1", "n2"], rolling(1, 0));
    run_all(&mut fake);
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "mine", "effect": effect}]}});
    fake.change::<Node>("", "n1", taint("NoSchedule"));
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<Pod>().len(), 2, "what runs may stay");
    assert_eq!(fake.json::<DaemonSet>("ns", "agent")["status"]["numberMisscheduled"], 1);
    fake.change::<Node>("", "n1", taint("NoExecute"));
    fake.settle(reconcile, &key());
    assert_eq!(pods_by_node(&fake).len(), 1);
    fake.change::<DaemonSet>(
        "ns",
        "agent",
        json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}),
    );
    fake.settle(reconcile, &key());
    assert!(fake.all::<Pod>().is_empty());
}

#[test]
fn an_update_replaces_as_many_as_may_be_unavailable() {
    let mut fake = with_nodes(&["n1", "n2", "n3"], rolling(1, 0));
    run_all(&mut fake);
    fake.settle(reconcile, &key());
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "b"}]}}}});
    fake.change::<DaemonSet>("ns", "agent", image);
    for done in 1..=3 {
        fake.settle(reconcile, &key());
        assert_eq!(images(&fake).iter().filter(|image| *image == "b").count(), done);
        assert_eq!(fake.all::<Pod>().len(), 3);
        run_all(&mut fake);
    }
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<ControllerRevision>().len(), 2);
    assert_eq!(
        fake.json::<DaemonSet>("ns", "agent")["status"]["updatedNumberScheduled"],
        3
    );
}

#[test]
fn a_surge_keeps_the_old_pod_until_the_new_one_is_available() {
    let mut fake = with_nodes(&["n1", "n2"], rolling(0, 1));
    run_all(&mut fake);
    fake.settle(reconcile, &key());
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "b"}]}}}});
    fake.change::<DaemonSet>("ns", "agent", image);
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<Pod>().len(), 3);
    for _ in 0..2 {
        run_all(&mut fake);
        fake.settle(reconcile, &key());
    }
    run_all(&mut fake);
    fake.settle(reconcile, &key());
    assert_eq!(images(&fake), ["b", "b"]);
}

#[test]
fn a_failed_pod_is_replaced_after_ever_longer() {
    let mut fake = with_nodes(&["n1"], rolling(1, 0));
    let mut turn = fake.turn();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let pod = fake.all::<Pod>().remove(0);
        let name = pod["metadata"]["name"].as_str().expect("named").to_owned();
        fake.change::<Pod>("ns", &name, json!({"status": {"phase": "Failed"}}));
        let plan = reconcile(
            &fake,
            &key(),
            &Turn {
                now: fake.now,
                ..turn.clone()
            },
        );
        let wait = plan.requeue_after.expect("a time to look again").as_secs();
        waits.push(wait);
        turn.notes = plan.notes;
        fake.sleep(wait);
        for _ in 0..2 {
            let plan = reconcile(
                &fake,
                &key(),
                &Turn {
                    now: fake.now,
                    ..turn.clone()
                },
            );
            if !plan.notes.is_empty() {
                turn.notes = plan.notes.clone();
            }
            fake.execute(&plan);
        }
        assert_ne!(fake.all::<Pod>()[0]["metadata"]["name"], json!(name));
    }
    assert_eq!(waits, [1, 2, 4, 8]);
    let told = fake
        .events
        .iter()
        .filter(|event| event.starts_with("FailedDaemonPod: Found failed daemon pod ns/agent-"));
    assert_eq!(told.count(), 4);
}

#[test]
fn the_history_is_cut_and_reused() {
    let mut fake = with_nodes(&["n1"], json!({"type": "OnDelete"}));
    fake.change::<DaemonSet>("ns", "agent", json!({"spec": {"revisionHistoryLimit": 1}}));
    for image in ["b", "c", "d", "a"] {
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        fake.change::<DaemonSet>("ns", "agent", image);
        fake.settle(reconcile, &key());
    }
    let mut revisions: Vec<Value> = fake
        .all::<ControllerRevision>()
        .iter()
        .map(|r| r["revision"].clone())
        .collect();
    revisions.sort_by_key(|revision| revision.as_i64());
    assert_eq!(
        revisions,
        [4, 5],
        "the pod runs the first template, which is the fifth now"
    );
}

#[test]
fn a_new_revision_with_an_owner_makes_no_turn() {
    let fake = with_nodes(&["n1"], rolling(1, 0));
    let revision: ControllerRevision = serde_json::from_value(fake.all::<ControllerRevision>().remove(0)).unwrap();
    assert_eq!(keys_of_revision(&fake, None, Some(&revision)), []);
    assert_eq!(keys_of_revision(&fake, Some(&revision), Some(&revision)), [key()]);
    assert_eq!(keys_of_revision(&fake, Some(&revision), None), [key()]);
    let mut orphan = revision.clone();
    orphan.metadata.owner_references = None;
    assert_eq!(keys_of_revision(&fake, None, Some(&orphan)), [key()]);
}

#[test]
fn revisions_of_older_controllers_are_still_current() {
    let mut fake = with_nodes(&["n1"], rolling(1, 0));
    let mut revision = fake.all::<ControllerRevision>().remove(0);
    revision["data"]["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    fake.put("controllerrevisions", revision);
    let pods = fake.all::<Pod>();
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<ControllerRevision>().len(), 1);
    assert_eq!(fake.all::<Pod>(), pods, "nothing is rolled out");
}
