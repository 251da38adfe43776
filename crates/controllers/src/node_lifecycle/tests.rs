use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, node, pod, ready};

fn key(name: &str) -> Key {
    Key::new("", name)
}

fn taints(fake: &Fake, name: &str) -> Vec<String> {
    let node = fake.json::<Node>("", name);
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints
        .iter()
        .map(|t| {
            format!(
                "{}:{}",
                t["key"].as_str().unwrap_or(""),
                t["effect"].as_str().unwrap_or("")
            )
        })
        .collect()
}

fn live(fake: &mut Fake, names: &[&str]) {
    for name in names {
        fake.heartbeats.insert((*name).to_owned(), fake.now);
    }
}

#[test]
fn a_live_node_is_looked_at_when_its_time_is_up() {
    let mut fake = Fake::new();
    fake.put("nodes", node("n1"));
    fake.settle(reconcile, &key("n1"));
    assert_eq!(fake.events, ["RegisteredNode: Registered Node n1 in Controller"]);
    fake.sleep(20);
    let turn = Turn {
        memo: Some(fake.now),
        ..fake.turn()
    };
    let plan = reconcile(&fake, &key("n1"), &turn);
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(30)));
}

#[test]
fn a_silent_node_among_others_is_unknown_and_tainted() {
    let mut fake = Fake::new();
    fake.put("nodes", node("n1")).put("nodes", node("n2"));
    fake.put("pods", ready(pod("a", "web", ""), "n1", "10.0.0.1"));
    fake.sleep(100);
    live(&mut fake, &["n2"]);
    fake.settle(reconcile, &key("n1"));
    let status = fake.json::<Node>("", "n1")["status"].clone();
    assert_eq!(status["conditions"][0]["status"], "Unknown");
    assert_eq!(status["conditions"][0]["reason"], "NodeStatusUnknown");
    assert_eq!(status["conditions"][1]["reason"], "NodeStatusNeverUpdated");
    let unreachable = "node.kubernetes.io/unreachable";
    assert_eq!(
        taints(&fake, "n1"),
        [format!("{unreachable}:NoSchedule"), format!("{unreachable}:NoExecute")]
    );
    assert_eq!(
        fake.json::<Pod>("ns", "a")["status"]["conditions"][0]["status"],
        "False"
    );
    let told = |text: &str| fake.events.iter().any(|event| event == text);
    assert!(told("NodeNotReady: Node n1 status is now: NodeNotReady") && told("NodeNotReady: Node is not ready"));

    fake.change::<Node>(
        "",
        "n1",
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    live(&mut fake, &["n1"]);
    fake.settle(reconcile, &key("n1"));
    assert!(taints(&fake, "n1").is_empty());
}

#[test]
fn nothing_is_evicted_while_all_nodes_look_dead() {
    let mut fake = Fake::new();
    fake.put("nodes", node("n1")).put("nodes", node("n2"));
    fake.sleep(100);
    for name in ["n1", "n2", "n1", "n2"] {
        fake.settle(reconcile, &key(name));
    }
    for name in ["n1", "n2"] {
        assert_eq!(taints(&fake, name), ["node.kubernetes.io/unreachable:NoSchedule"]);
    }
}

#[test]
fn taints_come_one_by_one_and_stop_when_most_of_a_zone_is_bad() {
    let mut fake = Fake::new();
    let names = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
    for name in names {
        fake.put("nodes", node(name));
    }
    fake.sleep(100);
    live(&mut fake, &names[2..]);
    fake.settle(reconcile, &key("n1"));
    fake.settle(reconcile, &key("n2"));
    assert_eq!((taints(&fake, "n1").len(), taints(&fake, "n2").len()), (2, 1));
    let turn = Turn {
        memo: Some(fake.now),
        ..fake.turn()
    };
    assert_eq!(
        reconcile(&fake, &key("n2"), &turn).requeue_after,
        Some(SignedDuration::from_secs(10))
    );
    fake.sleep(10);
    fake.settle(reconcile, &key("n2"));
    assert_eq!(taints(&fake, "n2").len(), 2);

    fake.sleep(100);
    live(&mut fake, &names[5..]);
    for name in ["n3", "n4", "n5", "n3"] {
        fake.settle(reconcile, &key(name));
    }
    assert_eq!(taints(&fake, "n3").len(), 2, "seen while fewer than half were bad");
    assert_eq!(
        taints(&fake, "n5"),
        ["node.kubernetes.io/unreachable:NoSchedule"],
        "5 of 7 are bad"
    );
}

#[test]
fn conditions_and_cordons_become_taints() {
    let mut fake = Fake::new();
    let mut node = node("n1");
    node["spec"]["unschedulable"] = json!(true);
    node["status"]["conditions"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"type": "DiskPressure", "status": "True"}));
    fake.put("nodes", node);
    fake.settle(reconcile, &key("n1"));
    assert_eq!(
        taints(&fake, "n1"),
        [
            "node.kubernetes.io/disk-pressure:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule",
        ]
    );
    fake.change::<Node>(
        "",
        "n1",
        json!({"spec": {"unschedulable": null}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    fake.settle(reconcile, &key("n1"));
    assert_eq!(fake.json::<Node>("", "n1")["spec"]["taints"], Value::Null);
}
