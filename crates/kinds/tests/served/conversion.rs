//! Kinds that are served in several versions, from one storage.

use serde_json::{Value, json};

use crate::harness::{Server, server};

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

async fn with_namespace() -> Server {
    let server = server().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    let answer = server.call("POST", "/api/v1/namespaces", Some(&namespace), &[]).await;
    assert!(matches!(answer.code, 201 | 409), "{}", answer.code);
    server
}

fn autoscaler() -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 5,
            "metrics": [
                {"type": "Resource", "resource": {
                    "name": "memory", "target": {"type": "AverageValue", "averageValue": "200Mi"}}},
                {"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
            ],
        },
    })
}

#[tokio::test]
async fn autoscalers_in_both_versions() {
    let server = with_namespace().await;
    let made = server.post(V2, &autoscaler()).await;
    let web = format!("{V1}/web");
    let old = server.get(&web).await;
    assert_eq!(old["apiVersion"], "autoscaling/v1");
    assert_eq!(old["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 60);
    assert_eq!(old["spec"]["minReplicas"], 1);
    let metrics = old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str();
    assert!(metrics.is_some_and(|text| text.contains("memory")), "{old}");
    // A change by the old version keeps what only the new one can say.
    let mut changed = old.clone();
    changed["spec"]["maxReplicas"] = json!(9);
    server.put(&web, &changed).await;
    let new = server.get(&format!("{V2}/web")).await;
    assert_eq!(new["spec"]["maxReplicas"], 9);
    let names: Vec<&str> = new["spec"]["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["resource"]["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"cpu") && names.contains(&"memory"), "{names:?}");
    assert_eq!(new["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn lists_and_watches_are_in_the_asked_version() {
    let server = with_namespace().await;
    server.post(V2, &autoscaler()).await;
    let list = server.get(V1).await;
    assert_eq!(
        (&list["apiVersion"], &list["kind"]),
        (&json!("autoscaling/v1"), &json!("HorizontalPodAutoscalerList"))
    );
    assert_eq!(list["items"][0]["spec"]["targetCPUUtilizationPercentage"], 60);
    let events = server.events(&format!("{V1}?watch=1"), 1).await;
    assert_eq!(events[0]["type"], "ADDED");
    assert_eq!(events[0]["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(events[0]["object"]["spec"]["targetCPUUtilizationPercentage"], 60);
}

/// What is created in the old version gets its defaults there.
#[tokio::test]
async fn created_in_the_old_version() {
    let server = with_namespace().await;
    let object = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5,
            "targetCPUUtilizationPercentage": 70},
    });
    let made = server.post(V1, &object).await;
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    let new = server.get(&format!("{V2}/web")).await;
    let target = &new["spec"]["metrics"][0]["resource"]["target"];
    assert_eq!(target, &json!({"type": "Utilization", "averageUtilization": 70}));
    let mut wrong = object.clone();
    wrong["metadata"]["name"] = json!("wrong");
    wrong["spec"]["maxReplicas"] = json!(0);
    let answer = server.call("POST", V1, Some(&wrong), &[]).await.expect(422);
    let field = &answer["details"]["causes"][0]["field"];
    assert_eq!(field, "spec.maxReplicas", "{answer}");
}

#[tokio::test]
async fn events_of_both_groups_are_the_same() {
    let server = with_namespace().await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "message": "it runs", "type": "Normal", "count": 3,
        "source": {"component": "kubelet"},
    });
    server.post("/api/v1/namespaces/default/events", &event).await;
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let seen = server.get(&format!("{path}/e")).await;
    assert_eq!(seen["apiVersion"], "events.k8s.io/v1");
    assert_eq!(seen["regarding"]["name"], "p");
    assert_eq!(seen["note"], "it runs");
    assert_eq!(seen["deprecatedCount"], 3);
    assert_eq!(seen["deprecatedSource"]["component"], "kubelet");
    let watched = server.events(&format!("{path}?watch=1"), 1).await;
    assert_eq!(watched[0]["object"]["note"], "it runs");
    let found = server.get(&format!("{path}?fieldSelector=reason%3DStarted")).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}
