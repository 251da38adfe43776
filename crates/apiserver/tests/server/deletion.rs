//! Grace, finalizers, propagation, preconditions.

use serde_json::{Value, json};

use crate::harness::{config_map, server};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
const PODS: &str = "/api/v1/namespaces/ns/pods";

fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = server().await;
    server.namespace("ns").await;
    let mut object = config_map("a", &json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(MAPS, &object).await.expect(201);
    let marked = server.delete(&format!("{MAPS}/a")).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let merge = "application/merge-patch+json";
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    server.patch(&format!("{MAPS}/a"), merge, &more).await.expect(422);
    let again = server.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        marked["metadata"]["resourceVersion"]
    );
    let none = json!({"metadata": {"finalizers": null}});
    server.patch(&format!("{MAPS}/a"), merge, &none).await.expect(200);
    server.get(&format!("{MAPS}/a")).await.expect(404);
}

#[tokio::test]
async fn propagation_is_a_finalizer() {
    let server = server().await;
    server.namespace("ns").await;
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        let name = finalizer.to_lowercase();
        server.post(MAPS, &config_map(&name, &json!({}))).await.expect(201);
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        let path = format!("{MAPS}/{name}");
        let marked = server.call("DELETE", &path, Some(&options)).await.expect(200);
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    server.post(MAPS, &config_map("b", &json!({}))).await.expect(201);
    let gone = server
        .delete(&format!("{MAPS}/b?propagationPolicy=Background"))
        .await
        .expect(200);
    assert_eq!(gone["kind"], "Status");
    server
        .delete(&format!("{MAPS}/b?propagationPolicy=Sideways"))
        .await
        .expect(422);
}

#[tokio::test]
async fn preconditions() {
    let server = server().await;
    server.namespace("ns").await;
    let made = server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let path = format!("{MAPS}/a");
    for wrong in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let options = json!({"preconditions": wrong});
        let refused = server.call("DELETE", &path, Some(&options)).await.expect(409);
        assert!(refused["message"].as_str().unwrap().contains("in the precondition"));
    }
    let options = json!({"preconditions": {"uid": made["metadata"]["uid"],
        "resourceVersion": made["metadata"]["resourceVersion"]}});
    server.call("DELETE", &path, Some(&options)).await.expect(200);
}

#[tokio::test]
async fn pods_end_gracefully() {
    let server = server().await;
    server.namespace("ns").await;
    server.post(PODS, &pod("idle", None)).await.expect(201);
    let gone = server.delete(&format!("{PODS}/idle")).await.expect(200);
    assert_eq!(gone["kind"], "Pod");
    server.get(&format!("{PODS}/idle")).await.expect(404);

    server.post(PODS, &pod("busy", Some("n"))).await.expect(201);
    let path = format!("{PODS}/busy");
    let marked = server.delete(&path).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let longer = server
        .delete(&format!("{path}?gracePeriodSeconds=60"))
        .await
        .expect(200);
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = server.delete(&format!("{path}?gracePeriodSeconds=5")).await.expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let at = |pod: &Value| pod["metadata"]["deletionTimestamp"].as_str().unwrap().to_owned();
    assert!(at(&shorter) < at(&marked));
    server.delete(&format!("{path}?gracePeriodSeconds=0")).await.expect(200);
    server.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_namespace_goes_when_its_own_finalizers_are_gone() {
    let server = server().await;
    server.namespace("ns").await;
    let marked = server.delete("/api/v1/namespaces/ns").await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = server.post(MAPS, &config_map("a", &json!({}))).await.expect(403);
    assert_eq!(
        refused["message"],
        "configmaps \"a\" is forbidden: unable to create new content in namespace ns because it is being terminated"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let none = json!({"spec": {"finalizers": null}});
    let merge = "application/merge-patch+json";
    server.patch("/api/v1/namespaces/ns", merge, &none).await.expect(200);
    server.get("/api/v1/namespaces/ns").await.expect(404);
    server.namespace("default").await;
    server.delete("/api/v1/namespaces/default").await.expect(403);
}

#[tokio::test]
async fn collections() {
    let server = server().await;
    server.namespace("ns").await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name, &json!({}));
        object["metadata"]["labels"] = json!({"l": label});
        server.post(MAPS, &object).await.expect(201);
    }
    let gone = server.delete(&format!("{MAPS}?labelSelector=l%3Dx")).await.expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    let left = server.get(MAPS).await.expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}
