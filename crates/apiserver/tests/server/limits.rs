//! Quotas, limit ranges and pod security, as clients meet them.

use std::collections::BTreeSet;

use apiserver::kind::Kind;
use serde_json::{Value, json};

use crate::harness::{self, Server, config_map, server_of, server_over};

const PODS: &str = "/api/v1/namespaces/ns/pods";
const QUOTAS: &str = "/api/v1/namespaces/ns/resourcequotas";
const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

fn kinds() -> Vec<Kind> {
    let mut kinds = harness::kinds();
    kinds.push(Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts"));
    kinds.push(Kind::namespaced("", "v1", "ResourceQuota", "resourcequotas").with_status());
    kinds.push(Kind::namespaced("", "v1", "LimitRange", "limitranges"));
    kinds.push(Kind::namespaced("batch", "v1", "CronJob", "cronjobs").with_status());
    kinds
}

async fn server() -> Server {
    let server = server_of(kinds()).await;
    server.namespace("ns").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
        "automountServiceAccountToken": false});
    server
        .post("/api/v1/namespaces/ns/serviceaccounts", &account)
        .await
        .expect(201);
    server
}

/// A quota as its controller leaves it when nothing is there.
async fn quota(server: &Server, name: &str, hard: Value) {
    let object = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
        "spec": {"hard": hard}});
    let mut made = server.post(QUOTAS, &object).await.expect(201);
    let mut used = hard.clone();
    for amount in used.as_object_mut().unwrap().values_mut() {
        *amount = json!("0");
    }
    made["status"] = json!({"hard": hard, "used": used});
    server.put(&format!("{QUOTAS}/{name}/status"), &made).await.expect(200);
}

async fn used(server: &Server, name: &str) -> Value {
    server.get(&format!("{QUOTAS}/{name}")).await.expect(200)["status"]["used"].clone()
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn creates_at_once_cannot_overshoot() {
    let server = server().await;
    quota(&server, "q", json!({"configmaps": "10"})).await;
    let post = async |at: usize| server.post(MAPS, &config_map(&format!("m{at}"), &json!({}))).await;
    let answers = futures_util::future::join_all((0..32).map(post)).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 10);
    let refused: BTreeSet<String> = answers
        .into_iter()
        .filter(|answer| answer.code != 201)
        .map(|answer| {
            let name = answer.json()["details"]["name"].as_str().unwrap().to_owned();
            let message = answer.expect(403)["message"].as_str().unwrap().to_owned();
            message.replace(&format!("\"{name}\""), "NAME")
        })
        .collect();
    let why = "configmaps NAME is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=10, limited: configmaps=10";
    assert_eq!(refused, BTreeSet::from([why.to_owned()]));
    assert_eq!(used(&server, "q").await, json!({"configmaps": "10"}));
}

#[tokio::test]
async fn several_servers_share_a_quota() {
    let server = server().await;
    quota(&server, "q", json!({"count/configmaps": "7"})).await;
    let other = server_over(server.store.clone(), kinds(), |_| {});
    let post = async |at: usize| {
        let object = config_map(&format!("m{at}"), &json!({}));
        if at.is_multiple_of(2) {
            server.post(MAPS, &object).await
        } else {
            other.post(MAPS, &object).await
        }
    };
    let answers = futures_util::future::join_all((0..20).map(post)).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 7);
    assert_eq!(used(&server, "q").await, json!({"count/configmaps": "7"}));
}

#[tokio::test]
async fn pods_are_charged_what_they_ask_for() {
    let server = server().await;
    quota(
        &server,
        "q",
        json!({"pods": "5", "requests.cpu": "1", "limits.memory": "1Gi"}),
    )
    .await;
    let refused = server.post(PODS, &pod("a", json!({}))).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
    );
    let asks = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Mi"}, "limits": {"memory": "100Mi"}});
    server
        .post(&format!("{PODS}?dryRun=All"), &pod("a", asks("600m")))
        .await
        .expect(201);
    assert_eq!(used(&server, "q").await["pods"], "0");
    server.post(PODS, &pod("a", asks("600m"))).await.expect(201);
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "limits.memory": "100Mi"})
    );
    let refused = server.post(PODS, &pod("b", asks("500m"))).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let refused = server
        .post(&format!("{PODS}?dryRun=All"), &pod("b", asks("500m")))
        .await;
    refused.expect(403);
}

#[tokio::test]
async fn limit_ranges_fill_and_bound() {
    let server = server().await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "100m"}, "defaultRequest": {"cpu": "50m"},
         "max": {"cpu": "200m"}, "min": {"cpu": "10m"}}]}});
    server
        .post("/api/v1/namespaces/ns/limitranges", &range)
        .await
        .expect(201);
    let made = server.post(PODS, &pod("a", json!({}))).await.expect(201);
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "100m"}, "requests": {"cpu": "50m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let refused = server
        .post(
            PODS,
            &pod("b", json!({"limits": {"cpu": "1"}, "requests": {"cpu": "5m"}})),
        )
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "pods \"b\" is forbidden: [minimum cpu usage per Container is 10m, but request is 5m, \
         maximum cpu usage per Container is 200m, but limit is 1]"
    );
}

#[tokio::test]
async fn namespaces_say_how_secure_pods_are() {
    let server = server().await;
    server.post(PODS, &pod("old", json!({}))).await.expect(201);
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let patch = "application/merge-patch+json";
    let wrong = labels(json!({"pod-security.kubernetes.io/enforce": "strict"}));
    let refused = server.patch("/api/v1/namespaces/ns", patch, &wrong).await.expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with("Invalid value: \"strict\": must be one of privileged, baseline, restricted")
    );
    let right = labels(json!({"pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "v1.24"}));
    let answer = server.patch("/api/v1/namespaces/ns", patch, &right).await;
    let warnings: Vec<&str> = answer
        .headers
        .get_all("warning")
        .iter()
        .map(|v| v.to_str().unwrap())
        .collect();
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"ns\\\" violate the new PodSecurity enforce level \\\"restricted:v1.24\\\"\"",
            "299 - \"old: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile\"",
        ]
    );
    let refused = server.post(PODS, &pod("a", json!({}))).await.expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "pods \"a\" is forbidden: violates PodSecurity \"restricted:v1.24\": allowPrivilegeEscalation != false \
             (container \"c\" must set securityContext.allowPrivilegeEscalation=false), "
        ),
        "{message}"
    );
    let job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {
        "schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
            "hostPID": true, "containers": [{"name": "c", "image": "i"}]}}}}}});
    let answer = server.post("/apis/batch/v1/namespaces/ns/cronjobs", &job).await;
    let warning = answer.headers["warning"].to_str().unwrap().to_owned();
    answer.expect(201);
    assert!(
        warning.starts_with(
            "299 - \"would violate PodSecurity \\\"restricted:v1.24\\\": host namespaces (hostPID=true), "
        ),
        "{warning}"
    );
}
