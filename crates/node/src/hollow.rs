//! Simulated nodes, for trying a control plane without root and for tests with many nodes (upstream's kubemark).
//!
//! They are registered, keep their leases and are Ready; their pods become Running and Ready at once, and go when they
//! are deleted. One watch serves the pods of all of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::{Cache, CacheOptions, Client, ClientError, DeleteParams, PatchKind, Preconditions, WriteParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use podlife::{
    Container, ContainerState, Lifecycle, ProbeResult, ProbeResults, RuntimeStatus, Sandbox, StatusInputs, spec,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::registration;

/// Requests of all hollow nodes under way at a time.
const CONCURRENCY: usize = 64;
/// Between attempts.
const RETRY: Duration = Duration::from_secs(1);
/// The status is written this often (the lease more often).
const REPORT: Duration = Duration::from_secs(300);

/// Simulated nodes `hollow-0` to `hollow-<n-1>`.
pub struct Hollow {
    tracker: TaskTracker,
    stop: CancellationToken,
    names: Vec<String>,
}

/// Whether a report says when conditions changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    New,
    Keep,
}

struct Shared {
    client: Client,
    clock: Clock,
    names: BTreeSet<String>,
    permits: Semaphore,
    next_ip: AtomicU32,
    /// UIDs of pods that are being written.
    busy: Mutex<HashSet<String>>,
    stop: CancellationToken,
}

impl Hollow {
    /// Starts them, until `shutdown`. The client needs the rights of nodes.
    pub fn start(client: Client, count: usize, shutdown: CancellationToken) -> Hollow {
        let names: Vec<String> = (0..count).map(|n| format!("hollow-{n}")).collect();
        let stop = shutdown.child_token();
        let shared = Arc::new(Shared {
            client,
            clock: Clock::system(),
            names: names.iter().cloned().collect(),
            permits: Semaphore::new(CONCURRENCY),
            next_ip: AtomicU32::new(0),
            busy: Mutex::default(),
            stop: stop.clone(),
        });
        let tracker = TaskTracker::new();
        for name in &names {
            let (shared, name, stop) = (shared.clone(), name.clone(), stop.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = shared.keep_node(&name) => {}
                }
            });
        }
        tracker.spawn(shared.follow_pods(tracker.clone()));
        tracker.close();
        Hollow { tracker, stop, names }
    }

    /// Names of the nodes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Waits until all tasks have ended after the shutdown.
    pub async fn stopped(self) {
        self.tracker.wait().await;
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    async fn keep_node(&self, name: &str) {
        let uid = loop {
            match self.register(name).await {
                Ok(node) => break node.metadata.uid.unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(error = %error.report(), node = name, "cannot register a hollow node; will retry");
                }
            }
            tokio::time::sleep(RETRY).await;
        };
        let lease = registration::keep_lease(
            self.client.clone(),
            name.into(),
            uid,
            self.clock.clone(),
            self.stop.clone(),
        );
        let report = async {
            loop {
                tokio::time::sleep(REPORT).await;
                if let Err(error) = self.report(name, Times::Keep).await {
                    tracing::warn!(error = %error.report(), node = name, "cannot report a hollow node; will retry");
                }
            }
        };
        tokio::select! {
            () = lease => {}
            () = report => {}
        }
    }

    async fn register(&self, name: &str) -> Result<Node, ClientError> {
        let _permit = self.permits.acquire().await;
        let nodes = self.client.of::<Node>();
        let mut labels = registration::labels(name, "amd64");
        labels.insert("skiff.dev/hollow".into(), "true".into());
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {},
            "status": status(name, self.clock.now()),
        });
        match nodes.create("", &node, &WriteParams::default()).await {
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        self.report(name, Times::New).await
    }

    async fn report(&self, name: &str, times: Times) -> Result<Node, ClientError> {
        let mut status = status(name, self.clock.now());
        if let (Times::Keep, Some(conditions)) = (times, status["conditions"].as_array_mut()) {
            conditions
                .iter_mut()
                .for_each(|c| drop(c.as_object_mut().and_then(|c| c.remove("lastTransitionTime"))));
        }
        let patch = json!({"status": status});
        let nodes = self.client.of::<Node>();
        nodes
            .patch_sub(
                "",
                name,
                "status",
                PatchKind::Strategic,
                &patch,
                &WriteParams::default(),
            )
            .await
    }

    async fn follow_pods(self: Arc<Self>, tracker: TaskTracker) {
        let options = CacheOptions {
            field_selector: "spec.nodeName!=".into(),
            ..CacheOptions::default()
        };
        let pods = Cache::start(self.client.of::<Pod>(), options, &self.stop);
        let mut changes = pods.subscribe();
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = self.stop.cancelled() => return,
            };
            let Some(pod) = change.new.filter(|pod| self.is_due(pod)) else {
                continue;
            };
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if !self.busy.lock().insert(uid.clone()) {
                continue;
            }
            let (shared, pods) = (self.clone(), pods.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = shared.stop.cancelled() => {}
                    () = shared.settle(&pods, pod) => {}
                }
            });
        }
    }

    /// The pod is on one of the nodes, and something is to be done about it.
    fn is_due(&self, pod: &Pod) -> bool {
        let on_node = pod
            .spec
            .as_ref()
            .and_then(|s| s.node_name.as_ref())
            .is_some_and(|name| self.names.contains(name));
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.as_deref())
            .unwrap_or("Pending");
        on_node && (pod.metadata.deletion_timestamp.is_some() || phase == "Pending")
    }

    /// Acts on the pod until nothing is to be done any more.
    async fn settle(&self, pods: &Cache<Pod>, pod: Arc<Pod>) {
        let meta = pod.metadata.clone();
        let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
        let uid = meta.uid.unwrap_or_default();
        let mut pod = pod;
        loop {
            let permit = self.permits.acquire().await;
            let result = self.act(&namespace, &name, &pod).await;
            drop(permit);
            let failed = match result {
                Ok(Some(revision)) => {
                    pods.wait_for(revision).await;
                    false
                }
                Ok(None) => false,
                Err(error) if error.is_not_found() || error.is_conflict() => false,
                Err(error) => {
                    tracing::warn!(error = %error.report(), name, "cannot act on a pod of a hollow node; will retry");
                    tokio::time::sleep(RETRY).await;
                    true
                }
            };
            // Under the lock: a change that comes now finds the pod busy, or is seen here.
            let mut busy = self.busy.lock();
            match pods
                .get(&namespace, &name)
                .filter(|p| p.metadata.uid.as_deref() == Some(&uid) && self.is_due(p))
            {
                Some(newer) if failed || newer.metadata.resource_version != pod.metadata.resource_version => {
                    pod = newer;
                }
                _ => {
                    busy.remove(&uid);
                    return;
                }
            }
        }
    }

    async fn act(&self, namespace: &str, name: &str, pod: &Pod) -> Result<Option<u64>, ClientError> {
        let handle = self.client.of::<Pod>();
        if pod.metadata.deletion_timestamp.is_some() {
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: pod.metadata.uid.clone(),
                    ..Preconditions::default()
                }),
                ..DeleteParams::default()
            };
            handle.delete(namespace, name, &params).await?;
            return Ok(None);
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": self.running(pod)});
        let params = WriteParams::default();
        let written = handle
            .patch_sub(namespace, name, "status", PatchKind::Strategic, &patch, &params)
            .await?;
        Ok(written
            .metadata
            .resource_version
            .and_then(|revision| revision.parse().ok()))
    }

    /// The status of a pod all of whose containers run and are ready.
    fn running(&self, pod: &Pod) -> Value {
        let now = self.clock.now();
        let pod_spec = pod.spec.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut probes = ProbeResults::default();
        let containers = spec::containers(&pod_spec).into_iter().rev().map(|(role, container)| {
            let id = format!("{uid}-{}", container.name);
            probes.startup.insert(id.clone(), ProbeResult::Success);
            probes.readiness.insert(id.clone(), ProbeResult::Success);
            simulated(role, &container, id, now)
        });
        let containers = containers.collect();
        // 100.64.0.0/10 is nobody's.
        let offset = self.next_ip.fetch_add(1, Ordering::Relaxed) % (1 << 22);
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + offset);
        let sandbox = Sandbox {
            id: uid,
            attempt: 0,
            ready: true,
            created_at: now,
            ips: vec![IpAddr::V4(ip)],
            host_network: spec::host_network(&pod_spec),
        };
        let status = podlife::status(&StatusInputs {
            pod,
            spec: &pod_spec,
            previous: &pod.status.clone().unwrap_or_default(),
            runtime: &RuntimeStatus {
                sandboxes: vec![sandbox],
                containers,
            },
            probes: &probes,
            waiting: &BTreeMap::new(),
            lifecycle: Lifecycle::Syncing,
            cause: None,
            host_ips: &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
            runtime_name: "hollow",
            now,
        });
        serde_json::to_value(status).unwrap_or_default()
    }
}

fn simulated(
    role: podlife::Role,
    container: &k8s_openapi::api::core::v1::Container,
    id: String,
    now: Timestamp,
) -> Container {
    let ended = role == podlife::Role::Init;
    Container {
        sandbox_id: String::new(),
        name: container.name.clone(),
        state: if ended {
            ContainerState::Exited
        } else {
            ContainerState::Running
        },
        created_at: now,
        started_at: Some(now),
        finished_at: ended.then_some(now),
        exit_code: 0,
        reason: if ended { "Completed".into() } else { String::new() },
        message: String::new(),
        image: container.image.clone().unwrap_or_default(),
        image_id: container.image.clone().unwrap_or_default(),
        restart_count: 0,
        hash: spec::hash(container),
        user: None,
        id,
    }
}

fn status(name: &str, now: Timestamp) -> Value {
    let conditions = [
        (
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            false,
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ];
    let conditions: Vec<_> = conditions
        .map(|(kind, is, reason, message)| crate::node_status::condition(kind, is, reason, message, None, now))
        .into();
    let resources = json!({"cpu": "32", "memory": "128Gi", "ephemeral-storage": "1Ti", "pods": "110"});
    json!({
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions,
        "nodeInfo": {
            "machineID": name, "systemUUID": name, "bootID": name, "kernelVersion": "hollow", "osImage": "hollow",
            "containerRuntimeVersion": "hollow://1", "kubeletVersion": "v1.37.0", "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": "amd64",
        },
    })
}
