use std::sync::Arc;

use client::Client;
use node::Hollow;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ApiTransport};

#[tokio::test(start_paused = true)]
async fn pods_of_hollow_nodes_come_and_go() {
    let api = Api::new();
    let client = Client::in_process(Arc::new(ApiTransport(api.clone())));
    let stop = CancellationToken::new();
    let hollow = Hollow::start(client, 3, stop.clone());
    assert_eq!(hollow.names(), ["hollow-0", "hollow-1", "hollow-2"]);
    api.until("three leases", |api| (api.list("leases").len() == 3).then_some(()))
        .await;
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "ns"},
        "spec": {"nodeName": "hollow-1", "initContainers": [{"name": "i", "image": "x"}],
            "containers": [{"name": "a", "image": "x", "readinessProbe": {"tcpSocket": {"port": 1}}}]}})
    };
    for name in ["p", "q", "r"] {
        api.put("pods", pod(name));
    }
    let is_ready = |pod: &serde_json::Value| {
        crate::world::condition(pod, "Ready") == "True" && pod["status"]["phase"] == "Running"
    };
    let pods = api
        .until("pods ready", |api| {
            Some(api.list("pods")).filter(|pods| pods.iter().all(is_ready))
        })
        .await;
    let ips: std::collections::BTreeSet<_> = pods.iter().map(|pod| pod["status"]["podIP"].to_string()).collect();
    assert_eq!(ips.len(), 3);
    let nodes = api.list("nodes");
    let addresses: std::collections::BTreeSet<_> = nodes
        .iter()
        .map(|node| node["status"]["addresses"][0]["address"].to_string())
        .collect();
    assert_eq!(addresses.len(), 3, "each node has an address of its own");
    assert_eq!(pods[0]["status"]["hostIP"], "127.1.0.2", "the address of its node");
    let mut node = api.get("nodes", "", "hollow-1").unwrap();
    node["status"]["capacity"]["example.com/gpu"] = json!("5");
    api.put("nodes", node);
    api.until("the resource is allocatable", |api| {
        let node = api.get("nodes", "", "hollow-1")?;
        (node["status"]["allocatable"]["example.com/gpu"] == "5").then_some(())
    })
    .await;
    let mut deleted = api.get("pods", "ns", "q").unwrap();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-11-20T21:00:00Z");
    deleted["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    api.put("pods", deleted);
    api.until("one gone", |api| api.get("pods", "ns", "q").is_none().then_some(()))
        .await;
    stop.cancel();
    hollow.stopped().await;
    assert_eq!(api.list("pods").len(), 2);
}
