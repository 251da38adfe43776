//! The built-in admission plugins, seen through what becomes of pods and nodes.

use apiserver::kind::Kind;
use serde_json::json;

use crate::harness::{self, Server, server_of};

const PODS: &str = "/api/v1/namespaces/ns/pods";

async fn server() -> Server {
    let mut kinds = harness::kinds();
    kinds.push(Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts"));
    kinds.push(Kind::cluster("", "v1", "Node", "nodes"));
    kinds.push(Kind::cluster(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
    ));
    let server = server_of(kinds).await;
    server.namespace("ns").await;
    server
}

fn pod(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn pods_get_account_token_priority_and_tolerations() {
    let server = server().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]});
    let accounts = "/api/v1/namespaces/ns/serviceaccounts";
    // The pod may be asked for before the account's controller has come to it.
    let object = pod("a");
    let (made, _) = tokio::join!(server.post(PODS, &object), server.post(accounts, &account));
    let spec = &made.expect(201)["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(
        (&spec["priority"], &spec["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let name = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-"));
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}])
    );
    let keys: Vec<&str> = spec["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);

    let mut quiet = pod("b");
    quiet["spec"]["automountServiceAccountToken"] = json!(false);
    let made = server.post(PODS, &quiet).await.expect(201);
    assert_eq!(made["spec"].get("volumes"), None);

    let mut stranger = pod("c");
    stranger["spec"]["serviceAccountName"] = json!("nobody");
    let refused = server.post(PODS, &stranger).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"c\" is forbidden: error looking up service account ns/nobody: serviceaccount \"nobody\" not found"
    );
}

#[tokio::test]
async fn priority_classes() {
    let server = server().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    server
        .post("/api/v1/namespaces/ns/serviceaccounts", &account)
        .await
        .expect(201);
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64, default: bool| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "globalDefault": default})
    };
    server.post(classes, &class("high", 100, false)).await.expect(201);
    server.post(classes, &class("usual", 7, true)).await.expect(201);
    let refused = server.post(classes, &class("other", 8, true)).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with("PriorityClass usual is already marked as default. Only one default can exist")
    );
    let made = server.post(PODS, &pod("a")).await.expect(201);
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["priorityClassName"]),
        (&json!(7), &json!("usual"))
    );
    let mut high = pod("b");
    high["spec"]["priorityClassName"] = json!("high");
    assert_eq!(server.post(PODS, &high).await.expect(201)["spec"]["priority"], 100);
    high["metadata"]["name"] = json!("c");
    high["spec"]["priority"] = json!(3);
    server.post(PODS, &high).await.expect(403);
    let mut none = pod("d");
    none["spec"]["priorityClassName"] = json!("none");
    let refused = server.post(PODS, &none).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"d\" is forbidden: no PriorityClass with name none was found"
    );
}

#[tokio::test]
async fn new_nodes_are_not_ready() {
    let server = server().await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    let made = server.post("/api/v1/nodes", &node).await.expect(201);
    assert_eq!(
        made["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}
