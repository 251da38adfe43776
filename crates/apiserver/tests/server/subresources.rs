//! scale, binding, eviction.

use apiserver::kind::{Kind, Subresource};
use serde_json::{Value, json};

use crate::harness::{self, Server, server_of};

const PODS: &str = "/api/v1/namespaces/ns/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/ns/deployments";

async fn server() -> Server {
    let mut kinds = harness::kinds();
    let pods = kinds.pop().unwrap();
    kinds.push(
        pods.subresource(Subresource::binding())
            .subresource(Subresource::eviction()),
    );
    kinds.push(Kind::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets").with_status());
    let server = server_of(kinds).await;
    server.namespace("ns").await;
    server
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn scale_reads_and_writes_the_count() {
    let server = server().await;
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}});
    server.post(DEPLOYMENTS, &object).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d/scale");
    let mut scale = server.get(&path).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = json!(4);
    let scaled = server.put(&path, &scale).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 4);
    let object = server.get(&format!("{DEPLOYMENTS}/d")).await.expect(200);
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(4), &json!(2))
    );
    server.put(&path, &scale).await.expect(409);
    let patch = json!({"spec": {"replicas": 2}});
    let merge = "application/merge-patch+json";
    assert_eq!(
        server.patch(&path, merge, &patch).await.expect(200)["spec"]["replicas"],
        2
    );
    let negative = json!({"spec": {"replicas": -1}});
    server.patch(&path, merge, &negative).await.expect(422);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = server().await;
    server.post(PODS, &pod("p")).await.expect(201);
    let binding = |node: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
            "target": {"kind": "Node", "name": node}})
    };
    let path = format!("{PODS}/p/binding");
    let done = server.post(&path, &binding("n1")).await.expect(201);
    assert_eq!(done["status"], "Success");
    let bound = server.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    let condition = &bound["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!("PodScheduled"), &json!("True"))
    );
    let refused = server.post(&path, &binding("n2")).await.expect(409);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with("pod p is already assigned to node \"n1\"")
    );
    let nowhere = server.post(&path, &binding("")).await.expect(500);
    assert_eq!(nowhere["message"], "target.name: Required value");
    let bindings = "/api/v1/namespaces/ns/bindings";
    server.post(bindings, &binding("n2")).await.expect(409);
}

#[tokio::test]
async fn eviction_spends_the_budget() {
    let server = server().await;
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let merge = "application/merge-patch+json";
    for name in ["a", "b"] {
        server.post(PODS, &pod(name)).await.expect(201);
        server
            .patch(&format!("{PODS}/{name}/status"), merge, &running)
            .await
            .expect(200);
    }
    let budgets = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets";
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}});
    server.post(budgets, &budget).await.expect(201);
    let status = json!({"status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}});
    server
        .patch(&format!("{budgets}/x/status"), merge, &status)
        .await
        .expect(200);
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    server
        .post(&format!("{PODS}/a/eviction"), &eviction("a"))
        .await
        .expect(201);
    server.get(&format!("{PODS}/a")).await.expect(404);
    let spent = server.get(&format!("{budgets}/x")).await.expect(200);
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["a"].is_string());
    let refused = server
        .post(&format!("{PODS}/b/eviction"), &eviction("b"))
        .await
        .expect(429);
    assert_eq!(
        refused["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "DisruptionBudget");
    server.get(&format!("{PODS}/b")).await.expect(200);
}
