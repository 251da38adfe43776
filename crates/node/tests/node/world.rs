//! A node and what is around it.

use std::net::IpAddr;
use std::sync::Arc;

use client::Client;
use jiff::Timestamp;
use node::{Clock, Node, NodeConfig, ServerConfig};
use pki::{AltNames, Pki, PkiConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ApiTransport};
use crate::machine::FakeMachine;
use crate::runtime::FakeRuntime;

pub struct World {
    pub api: Arc<Api>,
    pub runtime: Arc<FakeRuntime>,
    pub machine: Arc<FakeMachine>,
    pub clock: Clock,
    pub folder: tempfile::TempDir,
    pub node: Option<Node>,
    pub server: Option<ServerConfig>,
}

impl World {
    /// A node that is Ready, time being paused.
    pub async fn start() -> World {
        World::start_with(None).await
    }

    /// As [`World::start`], serving its HTTPS API on the loopback.
    pub async fn serving() -> (World, Pki) {
        let folder = tempfile::tempdir().unwrap();
        let names = AltNames {
            dns: Vec::new(),
            ips: vec![],
        };
        let ips = vec![IpAddr::from([127, 0, 0, 1])];
        let config = PkiConfig {
            apiserver: names,
            node_name: "n1".into(),
            node_ips: ips,
        };
        let pki = Pki::open(folder.path(), &config).unwrap();
        let tls = pki::server_config(&pki.kubelet_server, &pki.ca_pem).unwrap();
        let server = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls,
        };
        (World::start_with(Some(server)).await, pki)
    }

    async fn start_with(server: Option<ServerConfig>) -> World {
        let clock = Clock::tokio("2026-11-20T21:00:00Z".parse::<Timestamp>().unwrap());
        let mut world = World {
            api: Api::new(),
            runtime: Arc::new(FakeRuntime::new(clock.clone())),
            machine: Arc::default(),
            clock,
            folder: tempfile::tempdir().unwrap(),
            node: None,
            server,
        };
        world.runtime.add_image("img:1");
        world.start_node().await;
        world
    }

    pub async fn start_node(&mut self) {
        let config = self.config();
        let node = Node::start_with_clock(config, self.clock.clone(), CancellationToken::new())
            .await
            .unwrap();
        assert!(node.ready().await);
        self.node = Some(node);
    }

    pub fn config(&self) -> NodeConfig {
        let client = Client::in_process(Arc::new(ApiTransport(self.api.clone())));
        let ips = vec![IpAddr::from([192, 168, 0, 1])];
        let mut config = NodeConfig::new(
            "n1",
            ips,
            client,
            self.runtime.clone(),
            self.machine.clone(),
            self.folder.path(),
        );
        config.server = self.server.clone();
        config.cluster_dns = vec![IpAddr::from([10, 96, 0, 10])];
        config
    }

    pub async fn stop_node(&mut self) {
        self.node.take().unwrap().stop().await;
    }

    /// Makes a pod on the node.
    pub fn pod(&self, name: &str, spec: Value) -> Value {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        self.api.put(
            "pods",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "ns"},
                "spec": spec,
            }),
        )
    }

    /// One container `a` of a present image.
    pub fn simple(&self, name: &str) -> Value {
        self.pod(name, json!({"containers": [{"name": "a", "image": "img:1"}]}))
    }

    pub fn get(&self, name: &str) -> Value {
        self.api.get("pods", "ns", name).unwrap_or_default()
    }

    pub async fn phase(&self, name: &str, phase: &str) -> Value {
        self.api
            .until(&format!("{name} {phase}"), |api| {
                api.get("pods", "ns", name)
                    .filter(|pod| pod["status"]["phase"] == phase)
            })
            .await
    }

    /// Waits for something about a pod.
    pub async fn pod_is(&self, name: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        self.api
            .until(&format!("{name}: {what}"), |api| {
                api.get("pods", "ns", name).filter(&look)
            })
            .await
    }

    pub async fn ready(&self, name: &str) -> Value {
        self.pod_is(name, "Ready", |pod| condition(pod, "Ready") == "True")
            .await
    }

    pub async fn event(&self, text: &str) {
        self.api
            .until(text, |api| {
                api.messages().iter().any(|m| m.contains(text)).then_some(())
            })
            .await;
    }

    /// What `kubectl delete` does.
    pub fn delete(&self, name: &str, grace: i64) {
        let mut pod = self.get(name);
        let when = self
            .clock
            .now()
            .saturating_add(jiff::SignedDuration::from_secs(grace))
            .unwrap();
        pod["metadata"]["deletionTimestamp"] = json!(when.to_string());
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.api.put("pods", pod);
    }

    pub async fn gone(&self, name: &str) {
        let what = format!("{name} gone");
        self.api
            .until(&what, |api| api.get("pods", "ns", name).is_none().then_some(()))
            .await;
    }
}

pub fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let conditions = pod["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default()
}
