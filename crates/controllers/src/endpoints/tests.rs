use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, pod, ready};

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": "web", "labels": {"l": "1"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
    })
}

#[test]
fn addresses_are_grouped_by_readiness_and_stay_put() {
    let mut fake = Fake::new();
    fake.put("services", service());
    fake.put("pods", ready(pod("a", "web", ""), "n1", "10.0.0.1"));
    let mut unready = ready(pod("b", "web", ""), "n1", "10.0.0.2");
    unready["status"]["conditions"][0]["status"] = json!("False");
    fake.put("pods", unready)
        .put("pods", ready(pod("c", "other", ""), "n1", "10.0.0.3"));
    fake.put("pods", pod("d", "web", ""));
    let key = Key::new("ns", "web");
    fake.settle(reconcile, &key);
    let endpoints = fake.json::<Endpoints>("ns", "web");
    let subset = &endpoints["subsets"][0];
    assert_eq!(subset["addresses"][0]["ip"], "10.0.0.1");
    assert_eq!(subset["addresses"][0]["targetRef"]["name"], "a");
    assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.0.0.2");
    assert_eq!(
        subset["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        endpoints["metadata"]["labels"],
        json!({"l": "1", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );

    fake.remove::<Pod>("ns", "a");
    fake.remove::<Pod>("ns", "b");
    fake.settle(reconcile, &key);
    assert!(fake.json::<Endpoints>("ns", "web")["subsets"].is_null());
    fake.remove::<Service>("ns", "web");
    fake.settle(reconcile, &key);
    assert!(fake.all::<Endpoints>().is_empty());
}

#[test]
fn a_headless_service_may_have_no_ports() {
    let mut fake = Fake::new();
    let mut service = service();
    service["spec"] = json!({"selector": {"app": "web"}, "clusterIP": "None"});
    fake.put("services", service);
    let mut named = ready(pod("a", "web", ""), "n1", "10.0.0.1");
    named["spec"]["hostname"] = json!("h");
    named["spec"]["subdomain"] = json!("web");
    fake.put("pods", named);
    fake.settle(reconcile, &Key::new("ns", "web"));
    let endpoints = fake.json::<Endpoints>("ns", "web");
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["hostname"], "h");
    assert_eq!(endpoints["metadata"]["labels"]["service.kubernetes.io/headless"], "");
}

#[test]
fn endpoints_of_people_are_left_alone() {
    let mut fake = Fake::new();
    fake.put(
        "endpoints",
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": "ns", "name": "mine"}}),
    );
    assert!(reconcile(&fake, &Key::new("ns", "mine"), &fake.turn()).is_empty());
}
