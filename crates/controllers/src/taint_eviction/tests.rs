use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, node, pod, ready};

fn tainted(fake: &mut Fake, tolerations: Value) {
    let mut node = node("n1");
    node["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute", "timeAdded": api::time::format(fake.now)}]);
    let mut pod = ready(pod("a", "web", ""), "n1", "10.0.0.1");
    pod["spec"]["tolerations"] = tolerations;
    fake.put("nodes", node).put("pods", pod);
}

#[test]
fn pods_stay_as_long_as_they_tolerate() {
    let forever = json!([{"key": "k", "operator": "Exists"}]);
    let minute = json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]);
    let other = json!([{"key": "other", "operator": "Exists"}]);
    for (tolerations, expected) in [
        (forever, None),
        (minute, Some(60)),
        (other, Some(0)),
        (json!([]), Some(0)),
    ] {
        let mut fake = Fake::new();
        tainted(&mut fake, tolerations.clone());
        let key = Key::new("ns", "a");
        let plan = reconcile(&fake, &key, &fake.turn());
        match expected {
            None => assert_eq!(plan, Plan::nothing(), "{tolerations}"),
            Some(0) => assert_eq!(plan.actions().count(), 3, "{tolerations}"),
            Some(seconds) => {
                assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(seconds)));
                fake.sleep(seconds);
                fake.execute(&reconcile(&fake, &key, &fake.turn()));
                assert!(fake.all::<Pod>().is_empty());
                assert_eq!(fake.events, ["TaintManagerEviction: Marking for deletion Pod ns/a"]);
            }
        }
    }
}

#[test]
fn a_taint_that_goes_away_cancels_the_eviction() {
    let mut fake = Fake::new();
    tainted(
        &mut fake,
        json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 60}]),
    );
    let key = Key::new("ns", "a");
    let memo = reconcile(&fake, &key, &fake.turn()).memo;
    fake.change::<Node>("", "n1", json!({"spec": {"taints": null}}));
    let plan = reconcile(&fake, &key, &Turn { memo, ..fake.turn() });
    fake.execute(&plan);
    assert_eq!(fake.events, ["TaintManagerEviction: Cancelling deletion of Pod ns/a"]);
    assert_eq!(plan.memo, None);
}
