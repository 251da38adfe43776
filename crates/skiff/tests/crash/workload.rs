//! What happens in the cluster: pods that stay, pods and ConfigMaps that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use client::{Client, DeleteParams, ListParams, WatchEvent, WatchParams, WriteParams};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Namespace, Pod, Service, ServiceAccount};
use serde_json::{Value, json};
use tokio::sync::watch::{Receiver, Sender};

use super::cluster::{Cluster, until};
use super::host;
use super::ledger::Ledger;
use super::moments::Moments;

pub const NAMESPACE: &str = "crash";
/// Pods of the Deployment that nobody touches.
const STEADY: usize = 2;
/// Pods and ConfigMaps that are there at once, about.
const KEEP: usize = 5;
/// A writer waits at most this long for events: there may be none left.
const PACE: Duration = Duration::from_millis(300);

fn pod_spec() -> Value {
    json!({"containers": [{"name": "hello", "image": "skiff.local/hello", "imagePullPolicy": "IfNotPresent"}]})
}

/// Pods behind a Service, which stay from before the first crash until after the last.
pub async fn start(client: &Client) -> Containers {
    let params = WriteParams::default();
    client
        .of::<Namespace>()
        .create("", &json!({"metadata": {"name": NAMESPACE}}), &params)
        .await
        .unwrap();
    until("the namespace has its service account", 10, async || {
        client
            .get::<ServiceAccount>(NAMESPACE, "default")
            .await
            .map_err(|error| error.report())
    })
    .await;
    let labels = json!({"app": "steady"});
    let deployment = json!({
        "metadata": {"name": "steady"},
        "spec": {
            "replicas": STEADY,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec()},
        },
    });
    client
        .of::<Deployment>()
        .create(NAMESPACE, &deployment, &params)
        .await
        .unwrap();
    let service = json!({
        "metadata": {"name": "steady"},
        "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    client
        .of::<Service>()
        .create(NAMESPACE, &service, &params)
        .await
        .unwrap();
    let mut containers = Containers::default();
    until("the Deployment runs", 30, async || {
        for pod in client
            .list::<Pod>(NAMESPACE, &ListParams::default())
            .await
            .map_err(|error| error.report())?
            .items
        {
            containers.see(&pod);
        }
        if containers.count() == STEADY {
            Ok(())
        } else {
            Err(format!("{} run", containers.count()))
        }
    })
    .await;
    containers
}

/// Follows the pods; kills skiff after a number of events, or within a moment after that.
pub async fn watch_and_kill(
    cluster: &mut Cluster,
    containers: &mut Containers,
    moments: &mut Moments,
    events: Sender<u64>,
) {
    let mut watch = cluster
        .client()
        .watch::<Pod>(NAMESPACE, &WatchParams::default())
        .await
        .unwrap();
    let count = 4 + moments.below(36);
    let moment = Duration::from_micros(moments.below(20_000));
    for number in 1..=count {
        let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
        match event
            .expect("nothing happened for 30 s")
            .expect("the watch goes on")
            .unwrap()
        {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => containers.see(&pod),
            WatchEvent::Error(status) => panic!("{status}"),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark { .. } => {}
        }
        events.send_replace(number);
    }
    if let Ok(Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)))) =
        tokio::time::timeout(moment, watch.next()).await
    {
        containers.see(&pod);
    }
    cluster.kill();
    containers.look_at_host(&cluster.data);
}

/// Creates and deletes pods until nobody answers; goes on when the watch has shown something.
pub async fn write_pods(
    client: &Client,
    ledger: &mut Ledger,
    mut moments: Moments,
    round: usize,
    mut events: Receiver<u64>,
) {
    for number in 0.. {
        let created = ledger.created();
        let written = if created.len() < KEEP && (created.len() < 2 || moments.below(3) > 0) {
            let name = format!("pod-{round}-{number}");
            let pod = json!({"metadata": {"name": name, "labels": {"app": "steady"}}, "spec": pod_spec()});
            ledger.create::<Pod>(client, &name, &pod).await
        } else {
            let name = &created[usize::try_from(moments.below(created.len() as u64)).unwrap()];
            // At once, almost at once, or as the pod says.
            let grace_period_seconds = [Some(0), Some(1), None][usize::try_from(moments.below(3)).unwrap()];
            ledger
                .delete::<Pod>(
                    client,
                    name,
                    &DeleteParams {
                        grace_period_seconds,
                        ..DeleteParams::default()
                    },
                )
                .await
        };
        if written.is_err() {
            return;
        }
        let next = *events.borrow_and_update() + 1 + moments.below(3);
        // When there is no watch any more, the next request has no answer either.
        let _ = tokio::time::timeout(PACE, events.wait_for(|seen| *seen >= next)).await;
    }
}

/// The same with ConfigMaps.
pub async fn write_maps(
    client: &Client,
    ledger: &mut Ledger,
    mut moments: Moments,
    round: usize,
    mut events: Receiver<u64>,
) {
    for number in 0.. {
        let created = ledger.created();
        let written = if created.len() < KEEP * 4 && moments.below(3) > 0 || created.is_empty() {
            let name = format!("map-{round}-{number}");
            let map = json!({"metadata": {"name": name}, "data": {"name": name}});
            ledger.create::<ConfigMap>(client, &name, &map).await
        } else {
            let name = &created[usize::try_from(moments.below(created.len() as u64)).unwrap()];
            ledger.delete::<ConfigMap>(client, name, &DeleteParams::default()).await
        };
        if written.is_err() {
            return;
        }
        if moments.below(4) == 0 {
            let next = *events.borrow_and_update() + 1;
            let _ = tokio::time::timeout(PACE, events.wait_for(|seen| *seen >= next)).await;
        }
    }
}

/// The UIDs of all pods.
pub async fn pod_uids(client: &Client) -> BTreeSet<String> {
    let list = client.list::<Pod>("", &ListParams::default()).await.unwrap();
    list.items.into_iter().map(|pod| pod.metadata.uid.unwrap()).collect()
}

/// Deletes everything and waits until it is gone.
pub async fn remove(client: &Client) {
    let params = DeleteParams::default();
    client.delete::<Namespace>("", NAMESPACE, &params).await.unwrap();
    until("the namespace is gone", 40, async || {
        match client.get::<Namespace>("", NAMESPACE).await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.report()),
            Ok(namespace) => {
                let pods = client
                    .list::<Pod>(NAMESPACE, &ListParams::default())
                    .await
                    .map_err(|error| error.report())?;
                let names: Vec<_> = pods.items.into_iter().map(|pod| pod.metadata.name).collect();
                Err(format!("pods {names:?}; {:?}", namespace.status))
            }
        }
    })
    .await;
}

/// A container that ran, and its process as soon as it was looked for.
#[derive(Debug)]
struct Running {
    id: String,
    process: Option<host::Process>,
}

/// Containers that were seen running, in the API or on the host, by the name of their pod.
#[derive(Debug, Default)]
pub struct Containers {
    seen: BTreeMap<String, Running>,
    /// By identity, as first shown. One that was killed with skiff before it ran may have had a predecessor.
    restarts: BTreeMap<String, i32>,
    /// On the host when skiff was killed, by identity: nobody may know of them yet.
    at_kill: BTreeMap<String, host::Process>,
}

fn status_of(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

impl Containers {
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Remembers a pod that runs.
    pub fn see(&mut self, pod: &Pod) {
        let Some(status) = status_of(pod) else { return };
        if status.state.as_ref().is_none_or(|state| state.running.is_none())
            || pod.metadata.deletion_timestamp.is_some()
        {
            return;
        }
        let id = status
            .container_id
            .as_deref()
            .expect("a running container has an identity");
        self.remember(
            pod.metadata.name.as_deref().unwrap(),
            id.strip_prefix("skiff://").expect("skiff's own runtime"),
        );
    }

    fn remember(&mut self, name: &str, id: &str) -> &mut Running {
        let known = self.seen.entry(name.into()).or_insert_with(|| Running {
            id: id.into(),
            process: None,
        });
        assert_eq!(known.id, id, "{name} has another container");
        known
    }

    /// Remembers what runs on the host.
    pub fn look_at_host(&mut self, data: &Path) {
        self.at_kill = host::containers();
        self.at_kill.retain(|id, _| host::is_started(data, id));
    }

    /// Those whose pods may have been deleted.
    pub fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        self.seen.retain(|name, _| !gone(name));
    }

    /// All are there, in the API and on the host, as they were.
    pub async fn verify(&mut self, client: &Client) {
        let list = client.list::<Pod>(NAMESPACE, &ListParams::default()).await.unwrap();
        let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        let pods: BTreeMap<String, Pod> = list
            .items
            .into_iter()
            .map(|pod| (pod.metadata.name.clone().unwrap(), pod))
            .collect();
        let processes = host::containers();
        for (id, process) in std::mem::take(&mut self.at_kill) {
            let pod = pods
                .iter()
                .find(|(_, pod)| stays(pod) && pod.metadata.uid.as_ref() == Some(&process.pod));
            if let Some((name, _)) = pod {
                self.remember(name, &id).process.get_or_insert(process);
            }
        }
        // One whose deletion was not answered may end meanwhile.
        self.seen.retain(|name, _| pods.get(name).is_none_or(stays));
        for (name, running) in &mut self.seen {
            assert!(pods.contains_key(name), "{name} ran, and is not there any more");
            let process = processes.get(&running.id);
            let process = process.unwrap_or_else(|| panic!("container {} of {name} does not run", running.id));
            let known = running.process.get_or_insert_with(|| process.clone());
            assert_eq!(known, process, "{name} has another process");
        }
        let counts = &mut self.restarts;
        let ids: BTreeMap<String, String> = self
            .seen
            .iter()
            .map(|(name, running)| (name.clone(), format!("skiff://{}", running.id)))
            .collect();
        until("the API shows the containers that run", 10, async || {
            let list = client
                .list::<Pod>(NAMESPACE, &ListParams::default())
                .await
                .map_err(|error| error.report())?;
            for pod in list.items {
                let Some(id) = ids.get(pod.metadata.name.as_deref().unwrap()) else {
                    continue;
                };
                let shown = status_of(&pod).filter(|status| status.container_id.as_ref() == Some(id));
                let shown = shown.ok_or_else(|| format!("not {id}: {:?}", pod.status))?;
                let restarts = *counts.entry(id.clone()).or_insert(shown.restart_count);
                assert_eq!(shown.restart_count, restarts, "{id} was restarted");
            }
            Ok(())
        })
        .await;
    }
}
