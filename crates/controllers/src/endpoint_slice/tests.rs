use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, node, pod, ready};

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    })
}

fn key() -> Key {
    Key::new("ns", "web")
}

#[test]
fn conditions_topology_and_ports() {
    let mut fake = Fake::new();
    let mut zoned = node("n1");
    zoned["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z"});
    fake.put("services", service()).put("nodes", zoned);
    let mut leaving = ready(pod("a", "web", ""), "n1", "10.0.0.1");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fake.put("pods", leaving);
    fake.settle(reconcile, &key());
    let slices = fake.all::<EndpointSlice>();
    assert_eq!(slices.len(), 1);
    let endpoint = &slices[0]["endpoints"][0];
    assert_eq!(
        endpoint["conditions"],
        json!({"ready": false, "serving": true, "terminating": true})
    );
    assert_eq!((&endpoint["nodeName"], &endpoint["zone"]), (&json!("n1"), &json!("z")));
    assert_eq!(
        slices[0]["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(slices[0]["metadata"]["generateName"], "web-");
    assert_eq!(slices[0]["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    assert_eq!(slices[0]["metadata"]["ownerReferences"][0]["kind"], "Service");
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let mut fake = Fake::new();
    fake.put("services", service());
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<EndpointSlice>().len(), 1);
    fake.put("pods", ready(pod("a", "web", ""), "n1", "10.0.0.1"));
    fake.settle(reconcile, &key());
    let slices = fake.all::<EndpointSlice>();
    assert_eq!(
        (slices.len(), &slices[0]["endpoints"][0]["addresses"]),
        (1, &json!(["10.0.0.1"]))
    );
    fake.remove::<Pod>("ns", "a");
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<EndpointSlice>().len(), 1);
}

#[test]
fn slices_are_full_and_change_as_little_as_possible() {
    let mut fake = Fake::new();
    fake.put("services", service());
    for index in 0..250 {
        fake.put(
            "pods",
            ready(
                pod(&format!("p{index:03}"), "web", ""),
                "n1",
                &format!("10.0.{}.{}", index / 200, index % 200),
            ),
        );
    }
    fake.settle(reconcile, &key());
    let mut sizes: Vec<usize> = fake
        .all::<EndpointSlice>()
        .iter()
        .map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    fake.change::<Pod>(
        "ns",
        "p007",
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
    );
    let plan = reconcile(&fake, &key(), &fake.turn());
    assert_eq!(plan.actions().count(), 1);
    fake.settle(reconcile, &key());
    fake.put("pods", ready(pod("new", "web", ""), "n1", "10.0.9.9"));
    let plan = reconcile(&fake, &key(), &fake.turn());
    assert_eq!(plan.actions().count(), 1);
    fake.settle(reconcile, &key());
    assert_eq!(fake.all::<EndpointSlice>().len(), 3);
}

#[test]
fn unready_addresses_are_published_on_demand_and_others_slices_left_alone() {
    let mut fake = Fake::new();
    let mut service = service();
    service["spec"]["publishNotReadyAddresses"] = json!(true);
    fake.put("services", service);
    let mut unready = ready(pod("a", "web", ""), "n1", "10.0.0.1");
    unready["status"]["conditions"][0]["status"] = json!("False");
    fake.put("pods", unready);
    fake.put(
        "endpointslices",
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
            "metadata": {"namespace": "ns", "name": "mine", "labels": {"kubernetes.io/service-name": "web"}},
        }),
    );
    fake.settle(reconcile, &key());
    let slices = fake.all::<EndpointSlice>();
    assert_eq!(slices.len(), 2);
    let ours = slices
        .iter()
        .find(|slice| slice["metadata"]["name"] != "mine")
        .expect("ours");
    assert_eq!(
        ours["endpoints"][0]["conditions"],
        json!({"ready": true, "serving": false, "terminating": false})
    );
    fake.change::<Service>("ns", "web", json!({"metadata": {"labels": {"a": "b"}}}));
    fake.settle(reconcile, &key());
    assert!(
        fake.all::<EndpointSlice>()
            .iter()
            .any(|slice| slice["metadata"]["labels"]["a"] == "b")
    );
}
