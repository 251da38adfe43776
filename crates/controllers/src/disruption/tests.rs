use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;

use super::*;
use crate::fake::{Fake, pod, ready};

fn world(spec: Value, replicas: i32) -> Fake {
    let mut fake = Fake::new();
    let mut budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"namespace": "ns", "name": "budget", "generation": 1}, "spec": spec,
    });
    budget["spec"]["selector"] = json!({"matchLabels": {"app": "web"}});
    fake.put("poddisruptionbudgets", budget);
    fake.put(
        "replicasets",
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "ns", "name": "web"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}},
        }),
    );
    for n in 0..replicas {
        fake.put("pods", ready(pod(&format!("web-{n}"), "web", "web"), "n1", "10.0.0.1"));
    }
    fake.settle(reconcile, &key());
    fake
}

fn key() -> Key {
    Key::new("ns", "budget")
}

fn status(fake: &Fake) -> Value {
    fake.json::<PodDisruptionBudget>("ns", "budget")["status"].clone()
}

#[test]
fn what_may_go_follows_from_the_budget_and_the_scale() {
    for (spec, desired, allowed) in [
        (json!({"minAvailable": 3}), 3, 2),
        (json!({"minAvailable": "50%"}), 3, 2),
        (json!({"maxUnavailable": 1}), 4, 1),
        (json!({"maxUnavailable": "30%"}), 3, 2),
        (json!({"minAvailable": 7}), 7, 0),
    ] {
        let fake = world(spec.clone(), 5);
        let status = status(&fake);
        let numbers = ["expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed"]
            .map(|field| status[field].clone());
        assert_eq!(numbers, [json!(5), json!(5), json!(desired), json!(allowed)], "{spec}");
        let reason = if allowed > 0 {
            "SufficientPods"
        } else {
            "InsufficientPods"
        };
        assert_eq!(status["conditions"][0]["reason"], reason);
    }
}

#[test]
fn an_evicted_pod_counts_as_gone_until_it_turns_out_to_stay() {
    let mut fake = world(json!({"maxUnavailable": 2}), 5);
    let now = api::time::format(fake.now);
    fake.change::<PodDisruptionBudget>("ns", "budget", json!({"status": {"disruptedPods": {"web-0": now}}}));
    fake.settle(reconcile, &key());
    assert_eq!(status(&fake)["disruptionsAllowed"], 1);
    fake.sleep(121);
    fake.settle(reconcile, &key());
    assert_eq!(
        (&status(&fake)["disruptionsAllowed"], &status(&fake)["disruptedPods"]),
        (&json!(2), &Value::Null)
    );
}

#[test]
fn pods_of_unknown_controllers_allow_nothing() {
    let mut fake = world(json!({"maxUnavailable": 1}), 2);
    fake.remove::<ReplicaSet>("ns", "web");
    fake.settle(reconcile, &key());
    let status = status(&fake);
    assert_eq!(
        (&status["disruptionsAllowed"], &status["conditions"][0]["reason"]),
        (&json!(0), &json!("SyncFailed"))
    );
}

#[test]
fn controllers_of_any_kind_count_by_their_scale() {
    let cases = [
        (Some(("uid-web", 5)), "InsufficientPods"),
        (Some(("another", 5)), "SyncFailed"),
        (Some(("", 5)), "SyncFailed"),
        (None, "SyncFailed"),
    ];
    for (scale, reason) in cases {
        let mut fake = world(json!({"maxUnavailable": 1}), 3);
        for n in 0..3 {
            let owner = json!([{"apiVersion": "example.com/v1", "kind": "Herd", "name": "web", "uid": "uid-web", "controller": true}]);
            fake.change::<Pod>(
                "ns",
                &format!("web-{n}"),
                json!({"metadata": {"ownerReferences": owner}}),
            );
        }
        if let Some(scale) = scale {
            fake.scales.insert(("Herd", "web"), scale);
        }
        fake.settle(reconcile, &key());
        let status = status(&fake);
        assert_eq!(status["conditions"][0]["reason"], reason, "{scale:?}");
        if reason == "InsufficientPods" {
            // Three of five are there: none may go.
            assert_eq!(
                (
                    &status["expectedPods"],
                    &status["desiredHealthy"],
                    &status["disruptionsAllowed"]
                ),
                (&json!(5), &json!(4), &json!(0))
            );
        }
    }
}
