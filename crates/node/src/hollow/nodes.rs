//! Node objects and their heartbeats: one task for all nodes.

use std::sync::Arc;
use std::time::Duration;

use api::Gvr;
use client::{ClientError, PatchKind, WriteParams};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{CONCURRENCY, Registration, Shared, extended, status};
use crate::registration::{self, LEASE_SECONDS, LEASES, RENEW};

const RETRY: Duration = Duration::from_secs(1);
/// A node's status is written after so many heartbeats.
const REPORT_EVERY: u64 = 30;
/// Heartbeats closer to each other than this are sent together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Registers the nodes, then keeps them alive, for ever.
pub(super) async fn keep(shared: Arc<Shared>) {
    let count = shared.config.names.len();
    if count == 0 {
        return;
    }
    let mut registered = JoinSet::new();
    for index in 0..count {
        let shared = shared.clone();
        registered.spawn(async move { (index, shared.enter(index).await) });
    }
    let mut uids = vec![String::new(); count];
    while let Some(Ok((index, uid))) = registered.join_next().await {
        uids[index] = uid;
    }
    beat(shared, uids.into()).await;
}

/// Heartbeats, spread evenly over the time in which each node has to send one.
async fn beat(shared: Arc<Shared>, uids: Arc<[String]>) {
    let (begun, count) = (Instant::now(), uids.len() as u64);
    let at = |beat: u64| begun + RENEW.mul_f64(beat as f64 / count as f64);
    let mut beats = JoinSet::new();
    let mut next = 0;
    loop {
        tokio::time::sleep_until(at(next).max(Instant::now() + TOGETHER.min(RENEW / 2))).await;
        let now = Instant::now();
        while at(next) <= now {
            // A slow server gets fewer heartbeats, not a heap of them.
            while beats.len() >= CONCURRENCY {
                beats.join_next().await;
            }
            let (shared, uids, number) = (shared.clone(), uids.clone(), next);
            beats.spawn(async move {
                let index = (number % count) as usize;
                shared.heartbeat(index, &uids[index], number / count).await;
            });
            next += 1;
        }
        while beats.try_join_next().is_some() {}
    }
}

impl Shared {
    /// Makes the node and its lease, however long it takes; answers with the node's UID.
    async fn enter(&self, index: usize) -> String {
        loop {
            let entered = async {
                let _permit = self.permits.acquire().await;
                let uid = self.register(index).await?;
                self.renew(index, &uid).await?;
                Ok::<_, ClientError>(uid)
            };
            match entered.await {
                Ok(uid) => return uid,
                Err(error) => {
                    let node = &self.config.names[index];
                    tracing::warn!(
                        error = error.report(),
                        node,
                        "cannot register a hollow node; will retry"
                    );
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn register(&self, index: usize) -> Result<String, ClientError> {
        let name = &self.config.names[index];
        let nodes = self.client.of::<Node>();
        let uid = |node: Node| node.metadata.uid.unwrap_or_default();
        if self.config.registration == Registration::Others {
            return nodes.get("", name).await.map(uid);
        }
        let mut labels = registration::labels(name, "amd64");
        labels.insert(extended::LABEL.into(), "true".into());
        if let Some(zone) = index.checked_rem(self.config.zones.len()) {
            labels.insert("topology.kubernetes.io/zone".into(), self.config.zones[zone].clone());
        }
        labels.extend(self.config.labels.clone());
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": self.config.taints},
            "status": self.node_status(name),
        });
        match nodes.create("", &node, &WriteParams::default()).await {
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        // A node from before, and one whose status was not taken from its creation, says how it is.
        self.report(name, self.node_status(name)).await.map(uid)
    }

    async fn report(&self, name: &str, status: Value) -> Result<Node, ClientError> {
        let patch = json!({"status": status});
        let nodes = self.client.of::<Node>();
        let params = WriteParams::default();
        nodes
            .patch_sub("", name, "status", PatchKind::Strategic, &patch, &params)
            .await
    }

    async fn heartbeat(&self, index: usize, uid: &str, round: u64) {
        let name = &self.config.names[index];
        let beaten = async {
            self.renew(index, uid).await?;
            if round % REPORT_EVERY == REPORT_EVERY - 1 && self.config.registration == Registration::OwnNodes {
                let mut status = self.node_status(name);
                for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                    condition
                        .as_object_mut()
                        .map(|condition| condition.remove("lastTransitionTime"));
                }
                match self.report(name, status).await {
                    Err(error) if error.is_not_found() => self.register(index).await.map(drop)?,
                    reported => drop(reported?),
                }
            }
            Ok::<_, ClientError>(())
        };
        if let Err(error) = beaten.await {
            tracing::warn!(
                error = error.report(),
                node = name,
                "a hollow node's heartbeat failed; the next one may not"
            );
        }
    }

    async fn renew(&self, index: usize, uid: &str) -> Result<(), ClientError> {
        let name = &self.config.names[index];
        let leases = self.client.dynamic(&Gvr::new("coordination.k8s.io", "v1", "leases"));
        let now = api::time::format_micro(self.clock.now());
        let patch = json!({"spec": {
            "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
        }});
        let params = WriteParams::default();
        match leases.patch(LEASES, name, PatchKind::Merge, &patch, &params).await {
            Err(error) if error.is_not_found() => {}
            renewed => return renewed.map(drop),
        }
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASES, "ownerReferences": owner},
            "spec": patch["spec"],
        });
        match leases.create(LEASES, &lease, &params).await {
            Err(error) if error.is_already_exists() => Ok(()),
            created => created.map(drop),
        }
    }

    fn node_status(&self, name: &str) -> Value {
        json!({
            "addresses": [{"type": "InternalIP", "address": self.addresses[name].to_string()}, {"type": "Hostname", "address": name}],
            "capacity": self.config.capacity,
            "allocatable": self.config.capacity,
            "conditions": status::node_conditions(self.clock.now()),
            "nodeInfo": {
                "machineID": name, "systemUUID": name, "bootID": name, "kernelVersion": "hollow", "osImage": "hollow",
                "containerRuntimeVersion": "hollow://1", "kubeletVersion": "v1.37.0", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64",
            },
        })
    }
}
