use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::*;
use crate::fake::{Fake, node, pod, ready};

#[test]
fn pods_of_a_vanished_node_go_after_a_quarantine() {
    let mut fake = Fake::new();
    fake.put("nodes", node("n1"))
        .put("pods", ready(pod("a", "web", ""), "n1", "10.0.0.1"));
    let key = Key::new(NODE, "n1");
    assert!(reconcile(&fake, &key, &fake.turn()).memo.is_none());
    fake.remove::<Node>("", "n1");
    let plan = reconcile(&fake, &key, &fake.turn());
    assert!(plan.is_empty() && plan.requeue_after == Some(QUARANTINE));
    fake.sleep(40);
    let plan = reconcile(
        &fake,
        &key,
        &Turn {
            memo: plan.memo,
            ..fake.turn()
        },
    );
    fake.put("nodes", node("n1"));
    fake.execute(&plan);
    assert_eq!(fake.all::<Pod>().len(), 1, "a live read sees that the node is back");
    fake.remove::<Node>("", "n1");
    fake.execute(&plan);
    assert!(fake.all::<Pod>().is_empty());
}

#[test]
fn deleted_pods_that_no_node_has_go_at_once() {
    let mut fake = Fake::new();
    let mut unscheduled = pod("a", "web", "");
    unscheduled["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fake.put("pods", unscheduled).put("pods", pod("b", "web", ""));
    for name in ["a", "b"] {
        fake.settle(reconcile, &Key::new("ns", name));
    }
    assert_eq!(fake.all::<Pod>().len(), 1);
}
