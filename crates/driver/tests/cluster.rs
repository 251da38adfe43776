//! The whole driver against a small API server.

mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::{Gvr, Value, meta};
use client::{Caches, Client, DeleteParams, PatchKind, Propagation, WriteParams};
use driver::{Driver, LeaderElection, Options};
use fake::FakeApi;
use serde_json::json;
use tokio_util::sync::CancellationToken;

struct Cluster {
    server: Arc<FakeApi>,
    client: Client,
    stop: CancellationToken,
    driver: Driver,
}

const PODS: (&str, &str) = ("", "pods");
const DEPLOYMENTS: (&str, &str) = ("apps", "deployments");

impl Cluster {
    async fn start() -> Self {
        let cluster = Self::over(FakeApi::new());
        cluster.furnish().await;
        cluster
    }

    /// A driver over a server.
    fn over(server: Arc<FakeApi>) -> Self {
        let client = Client::in_process(server.clone());
        let stop = CancellationToken::new();
        let caches = Caches::new(client.clone(), stop.clone());
        let options = Options {
            root_ca: "PEM".into(),
            schedule: true,
            controllers: Some(driver::Selection::default()),
            ..Options::default()
        };
        let own = client.clone();
        let driver = Driver::start(controllers::ALL, move |_| own.clone(), caches, options, &stop);
        Self {
            server,
            client,
            stop,
            driver,
        }
    }

    /// A namespace and a node.
    async fn furnish(&self) {
        self.create(("", "namespaces"), "", json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]},
        })).await;
        self.create(
            ("", "nodes"),
            "",
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {},
                "status": {
                    "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                },
            }),
        )
        .await;
    }

    fn handle(&self, (group, plural): (&str, &str)) -> client::Handle<Value> {
        self.client.dynamic(&Gvr::new(group, "v1", plural))
    }

    async fn create(&self, resource: (&str, &str), namespace: &str, object: Value) {
        self.handle(resource)
            .create(namespace, &object, &WriteParams::default())
            .await
            .expect("created");
    }

    async fn deploy(&self, replicas: u32) {
        self.create(DEPLOYMENTS, "ns", json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "RollingUpdate"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        })).await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&FakeApi) -> bool) {
        self.server.until(what, holds).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.driver.stopped().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_bound_pods_behind_a_service_and_goes_with_all_it_has() {
    let cluster = Cluster::start().await;
    cluster
        .create(
            ("", "services"),
            "ns",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ports": [{"port": 80}]},
            }),
        )
        .await;
    cluster.deploy(3).await;
    cluster
        .until("three pods are bound", |server| {
            server
                .all("/pods")
                .iter()
                .filter(|pod| pod["spec"]["nodeName"] == "n1")
                .count()
                == 3
        })
        .await;
    for (index, pod) in cluster.server.all("/pods").iter().enumerate() {
        let status = json!({"status": {
            "phase": "Running", "podIP": format!("10.0.0.{index}"), "podIPs": [{"ip": format!("10.0.0.{index}")}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        let (name, params) = (meta::name(pod), WriteParams::default());
        cluster
            .handle(PODS)
            .patch_sub("ns", name, "status", PatchKind::Merge, &status, &params)
            .await
            .expect("patched");
    }
    cluster
        .until("the deployment is available", |server| {
            server
                .all("apps/deployments")
                .iter()
                .all(|deployment| deployment["status"]["availableReplicas"] == 3)
        })
        .await;
    cluster
        .until("a slice has three ready endpoints", |server| {
            let slices = server.all("discovery.k8s.io/endpointslices");
            slices
                .iter()
                .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .count()
                == 3
        })
        .await;
    cluster
        .until("Endpoints have three addresses", |server| {
            server
                .all("/endpoints")
                .iter()
                .any(|e| e["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == 3))
        })
        .await;
    cluster
        .until("events tell of it", |server| {
            let reasons: Vec<Value> = server
                .all("/events")
                .iter()
                .map(|event| event["reason"].clone())
                .collect();
            ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"]
                .iter()
                .all(|reason| reasons.contains(&json!(reason)))
        })
        .await;
    let created = cluster
        .server
        .all("/events")
        .iter()
        .filter(|event| event["reason"] == "SuccessfulCreate")
        .count();
    assert_eq!(
        (created, cluster.server.all("/pods").len()),
        (3, 3),
        "no pod was created twice"
    );

    cluster
        .handle(DEPLOYMENTS)
        .delete("ns", "web", &DeleteParams::default().propagate(Propagation::Background))
        .await
        .expect("deleted");
    cluster
        .until("all is gone", |server| {
            server.all("apps/replicasets").is_empty() && server.all("/pods").is_empty()
        })
        .await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn foreground_deletion_takes_the_dependents_first() {
    let cluster = Cluster::start().await;
    cluster.deploy(2).await;
    cluster.until("two pods", |server| server.all("/pods").len() == 2).await;
    let foreground = DeleteParams::default().propagate(Propagation::Foreground);
    cluster
        .handle(DEPLOYMENTS)
        .delete("ns", "web", &foreground)
        .await
        .expect("deleted");
    cluster
        .until("the deployment is gone", |server| {
            let gone = server.all("apps/deployments").is_empty();
            assert!(
                !gone || server.all("/pods").is_empty() && server.all("apps/replicasets").is_empty(),
                "owners go last"
            );
            gone
        })
        .await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_and_are_adopted_again() {
    let cluster = Cluster::start().await;
    cluster.deploy(2).await;
    cluster.until("two pods", |server| server.all("/pods").len() == 2).await;
    cluster
        .until("the set says so", |server| {
            server
                .all("apps/replicasets")
                .iter()
                .all(|set| set["status"]["replicas"] == 2)
        })
        .await;
    let orphan = DeleteParams::default().propagate(Propagation::Orphan);
    cluster
        .handle(DEPLOYMENTS)
        .delete("ns", "web", &orphan)
        .await
        .expect("deleted");
    cluster
        .until("the deployment is gone", |server| {
            server.all("apps/deployments").is_empty()
        })
        .await;
    let sets = cluster.server.all("apps/replicasets");
    assert!(sets[0]["metadata"]["ownerReferences"].is_null());
    cluster.deploy(2).await;
    cluster
        .until("the set is adopted", |server| {
            server
                .all("apps/replicasets")
                .iter()
                .all(|set| !set["metadata"]["ownerReferences"].is_null())
        })
        .await;
    assert_eq!(
        (
            cluster.server.all("apps/replicasets").len(),
            cluster.server.all("/pods").len()
        ),
        (1, 2)
    );
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_furniture_and_goes_with_all_in_it() {
    let cluster = Cluster::start().await;
    cluster
        .until("a service account and a root CA", |server| {
            server.all("/serviceaccounts").len() == 1 && server.all("/configmaps").len() == 1
        })
        .await;
    cluster.deploy(2).await;
    cluster.until("two pods", |server| server.all("/pods").len() == 2).await;
    cluster
        .handle(("", "namespaces"))
        .delete("", "ns", &DeleteParams::default())
        .await
        .expect("deleted");
    cluster
        .until("the namespace is gone", |server| server.all("/namespaces").is_empty())
        .await;
    for resource in [
        "/pods",
        "apps/replicasets",
        "apps/deployments",
        "/configmaps",
        "/serviceaccounts",
    ] {
        assert!(cluster.server.all(resource).is_empty(), "{resource}");
    }
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn leadership_passes_on_when_it_is_given_up() {
    let client = Client::in_process(FakeApi::new());
    let stop = CancellationToken::new();
    let first = LeaderElection::new(client.clone(), "lock", "a")
        .lead(&stop)
        .await
        .expect("free");
    let mut second = tokio::spawn({
        let stop = stop.clone();
        async move { LeaderElection::new(client, "lock", "b").lead(&stop).await.expect("won") }
    });
    let early = tokio::time::timeout(std::time::Duration::from_secs(60), &mut second).await;
    assert!(early.is_err(), "two leaders at once");
    first.release().await;
    let second = second.await.expect("no panic");
    assert!(!second.lost().is_cancelled());
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_not_hammered_and_is_overcome() {
    let cluster = Cluster::start().await;
    cluster.server.quota_exceeded.store(true, Ordering::Relaxed);
    cluster.deploy(10).await;
    let has_failure = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "ReplicaFailure")
    };
    cluster
        .until("the set and the deployment say so", |server| {
            server.all("apps/replicasets").iter().any(has_failure)
                && server.all("apps/deployments").iter().any(has_failure)
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(100)).await;
    let refused = cluster.server.refused.load(Ordering::Relaxed);
    assert!((2..40).contains(&refused), "{refused} attempts in 100 s");
    cluster.server.quota_exceeded.store(false, Ordering::Relaxed);
    cluster
        .until("ten pods", |server| server.all("/pods").len() == 10)
        .await;
    cluster
        .until("the condition is gone", |server| {
            !server.all("apps/deployments").iter().any(has_failure)
        })
        .await;
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_moment_loses_and_doubles_nothing() {
    let cluster = Cluster::start().await;
    cluster.deploy(20).await;
    let mut server = cluster.server.clone();
    cluster
        .until("the first pod", |server| !server.all("/pods").is_empty())
        .await;
    cluster.end().await;
    for count in [5, 12, 20] {
        let cluster = Cluster::over(server);
        cluster
            .until("more pods", |server| server.all("/pods").len() >= count)
            .await;
        server = cluster.server.clone();
        cluster.end().await;
    }
    let cluster = Cluster::over(server);
    cluster
        .until("all are bound", |server| {
            let pods = server.all("/pods");
            assert!(pods.len() <= 20, "{} pods", pods.len());
            pods.iter().filter(|pod| pod["spec"]["nodeName"] == "n1").count() == 20
        })
        .await;
    assert_eq!(cluster.server.all("apps/replicasets").len(), 1);
    cluster.end().await;
}

#[tokio::test(start_paused = true)]
async fn quotas_follow_what_there_is() {
    let cluster = Cluster::start().await;
    let hard = json!({"pods": "5", "count/deployments.apps": "2", "configmaps": "9"});
    cluster
        .create(
            ("", "resourcequotas"),
            "ns",
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}),
        )
        .await;
    let used = |pods: &'static str, deployments: &'static str| {
        move |server: &FakeApi| {
            server.all("/resourcequotas").iter().any(|quota| {
                let used = &quota["status"]["used"];
                used["pods"] == pods && used["count/deployments.apps"] == deployments
            })
        }
    };
    cluster.until("nothing is used", used("0", "0")).await;
    cluster.deploy(3).await;
    cluster.until("pods and deployment are counted", used("3", "1")).await;
    cluster
        .handle(DEPLOYMENTS)
        .delete("ns", "web", &DeleteParams::default())
        .await
        .expect("deleted");
    cluster.until("all is given back", used("0", "0")).await;
    cluster.end().await;
}
