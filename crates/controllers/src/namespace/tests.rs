use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::json;

use super::*;
use crate::fake::{Fake, namespace, pod};

#[test]
fn content_goes_pods_first_and_then_the_namespace() {
    let mut fake = Fake::new();
    let mut ns = namespace("ns");
    ns["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fake.put("namespaces", ns).put("pods", pod("a", "web", ""));
    fake.put(
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "ns", "name": "c"}}),
    );
    let key = Key::new("", "ns");
    let plan = reconcile(&fake, &key, &fake.turn());
    let deleted: Vec<&str> = plan
        .actions()
        .filter_map(|action| match &action.verb {
            Verb::DeleteAll { resource, .. } => Some(resource.resource.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["pods"]);
    fake.change::<Pod>(
        "ns",
        "a",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}}),
    );
    let plan = reconcile(&fake, &key, &fake.turn());
    fake.execute(&plan);
    let status = fake.json::<Namespace>("", "ns")["status"].clone();
    let message = |kind: &str| {
        let conditions = status["conditions"].as_array().expect("conditions");
        conditions.iter().find(|c| c["type"] == kind).expect("the condition")["message"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    assert_eq!(
        message("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
    );
    assert_eq!(
        message("NamespaceContentRemaining"),
        "Some resources are remaining: configmaps. has 1 resource instances, pods. has 1 resource instances"
    );
    assert!(
        reconcile(&fake, &key, &fake.turn()).is_empty(),
        "waits for the finalizer"
    );
    fake.remove::<Pod>("ns", "a");
    fake.execute(&reconcile(&fake, &key, &fake.turn()));
    let plan = reconcile(&fake, &key, &fake.turn());
    assert!(
        matches!(&plan.steps.last(), Some(crate::Step::One(action)) if matches!(action.verb, Verb::FinalizeNamespace { .. })),
        "{plan:?}"
    );
}

#[test]
fn a_living_namespace_gets_its_account_and_authority() {
    let mut fake = Fake::new();
    fake.put("namespaces", namespace("ns"));
    let key = Key::new("", "ns");
    assert!(reconcile(&fake, &key, &fake.turn()).is_empty());
    fake.settle(crate::service_account::reconcile, &key);
    fake.settle(crate::root_ca::reconcile, &key);
    assert_eq!(
        fake.all::<k8s_openapi::api::core::v1::ServiceAccount>()[0]["metadata"]["name"],
        "default"
    );
    type Map = k8s_openapi::api::core::v1::ConfigMap;
    assert_eq!(fake.json::<Map>("ns", "kube-root-ca.crt")["data"]["ca.crt"], "PEM");
    fake.change::<Map>("ns", "kube-root-ca.crt", json!({"data": {"ca.crt": "other", "x": "y"}}));
    fake.settle(crate::root_ca::reconcile, &key);
    assert_eq!(
        fake.json::<Map>("ns", "kube-root-ca.crt")["data"],
        json!({"ca.crt": "PEM"})
    );
}
