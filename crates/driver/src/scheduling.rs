//! Runs the scheduler: one decision at a time, bindings in the background.

use std::sync::Arc;

use client::{Caches, Change, Changes, Client, ClientError, EventRecorder, EventSpec, PatchKind, WriteParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::{Cluster, ClusterEvent, PodInfo, Profile, Queue, Verdict, plugins, schedule};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A decision whose binding has ended.
struct Bound {
    pod: Arc<PodInfo>,
    node: String,
    result: Result<(), ClientError>,
}

struct Runner {
    client: Client,
    recorder: EventRecorder,
    profile: Profile,
    cluster: Cluster,
    queue: Queue,
    start: usize,
    bindings: JoinSet<Bound>,
    reports: JoinSet<()>,
}

/// Schedules pods until `stop`; bindings under way are awaited.
pub(crate) async fn run(client: Client, caches: Caches, stop: CancellationToken) {
    let profile = plugins::default_profile();
    let recorder = EventRecorder::start(client.clone(), &profile.scheduler_name, "", stop.clone());
    let (pods, nodes) = (caches.get::<Pod>(), caches.get::<Node>());
    let synced = async {
        nodes.synced().await;
        pods.synced().await;
    };
    if stop.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let mut runner = Runner {
        client,
        recorder,
        profile,
        cluster: Cluster::default(),
        queue: Queue::default(),
        start: 0,
        bindings: JoinSet::new(),
        reports: JoinSet::new(),
    };
    runner.run(nodes.subscribe(), pods.subscribe(), stop).await;
}

impl Runner {
    async fn run(&mut self, mut nodes: Changes<Node>, mut pods: Changes<Pod>, stop: CancellationToken) {
        loop {
            // Everything that is known goes in before the next decision, nodes first.
            while let Some(change) = nodes.try_next() {
                self.on_node(&change);
            }
            while let Some(change) = pods.try_next() {
                self.on_pod(change);
            }
            while let Some(Ok(bound)) = self.bindings.try_join_next() {
                self.on_bound(bound);
            }
            while self.reports.try_join_next().is_some() {}
            if let Some(pod) = self.queue.pop(Timestamp::now()) {
                self.decide(pod);
                tokio::task::yield_now().await;
                if stop.is_cancelled() {
                    break;
                }
                continue;
            }
            let wake = self.queue.next_wake().map(|at| {
                let left = at.duration_since(Timestamp::now());
                std::time::Duration::try_from(left).unwrap_or_default()
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                change = nodes.next() => self.on_node(&change),
                change = pods.next() => self.on_pod(change),
                Some(Ok(bound)) = self.bindings.join_next(), if !self.bindings.is_empty() => self.on_bound(bound),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
        while self.bindings.join_next().await.is_some() {}
        while self.reports.join_next().await.is_some() {}
    }

    fn on_node(&mut self, change: &Change<Node>) {
        match (&change.old, &change.new) {
            (old, Some(node)) => {
                self.cluster.set_node(node.clone());
                let event = match old {
                    None => ClusterEvent::NodeAdded,
                    Some(old) if matters(old, node) => ClusterEvent::NodeUpdated,
                    Some(_) => return,
                };
                self.queue.wake(event, &self.profile, Timestamp::now());
            }
            (Some(gone), None) => self.cluster.remove_node(gone.metadata.name.as_deref().unwrap_or("")),
            (None, None) => {}
        }
    }

    fn on_pod(&mut self, change: Change<Pod>) {
        let now = Timestamp::now();
        let Some(new) = change.new else {
            let Some(old) = change.old else { return };
            let gone = PodInfo::new(old);
            self.queue.remove(&gone.key);
            if self.cluster.remove_pod(&gone.key) {
                self.queue.wake(ClusterEvent::PodRemoved, &self.profile, now);
            }
            return;
        };
        let pod = Arc::new(PodInfo::new(new));
        if pod.node_name().is_some() || pod.is_finished() {
            self.queue.remove(&pod.key);
            let held = self.cluster.holds(&pod.key);
            self.cluster.set_pod(pod.clone());
            match (held, pod.is_finished()) {
                (true, true) => self.queue.wake(ClusterEvent::PodRemoved, &self.profile, now),
                (false, false) => self.queue.wake(ClusterEvent::PodAdded, &self.profile, now),
                _ => {}
            }
        } else if self.is_ours(&pod) && !self.cluster.holds(&pod.key) {
            let known = self.queue.verdict(&pod.key).is_some();
            self.queue.set(pod.clone(), &self.profile, now);
            if !known && let Some(gate) = self.profile.gate(&pod) {
                self.report(&pod, "SchedulingGated", &gate);
            }
        } else if pod.pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(&pod.key);
        }
    }

    fn is_ours(&self, pod: &PodInfo) -> bool {
        let name = pod.spec().scheduler_name.as_deref().unwrap_or("default-scheduler");
        name == self.profile.scheduler_name && pod.pod.metadata.deletion_timestamp.is_none()
    }

    fn decide(&mut self, pod: Arc<PodInfo>) {
        match schedule(&self.cluster, &pod, &self.profile, self.start, rand::random()) {
            Ok(placement) => {
                self.start = placement.next_start;
                self.cluster.assume(pod.clone(), &placement.node);
                let (client, node) = (self.client.clone(), placement.node);
                self.bindings.spawn(async move {
                    let result = bind(&client, &pod, &node).await;
                    Bound { pod, node, result }
                });
            }
            Err(verdict) => self.on_unschedulable(&pod, verdict),
        }
    }

    fn on_unschedulable(&mut self, pod: &PodInfo, verdict: Verdict) {
        let message = verdict.to_string();
        let told = self.queue.verdict(&pod.key).map(ToString::to_string);
        self.recorder
            .record(event(pod, true, "FailedScheduling", message.clone()));
        if told.as_deref() != Some(&message) {
            self.report(pod, "Unschedulable", &message);
        }
        self.queue.failed(&pod.key, verdict, &self.profile, Timestamp::now());
    }

    fn on_bound(&mut self, bound: Bound) {
        let Bound { pod, node, result } = bound;
        let key = &pod.key;
        match result {
            Ok(()) => {
                self.queue.done(key);
                let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
                self.recorder.record(event(&pod, false, "Scheduled", message));
            }
            Err(error) => {
                self.cluster.forget(key);
                // A pod that is gone leaves the queue when the cache says so.
                if !error.is_not_found() {
                    let message = format!("binding rejected: {}", error.report());
                    self.recorder.record(event(&pod, true, "FailedScheduling", message));
                }
                self.queue.retry(key, Timestamp::now());
                self.queue
                    .wake(ClusterEvent::PodRemoved, &self.profile, Timestamp::now());
            }
        }
    }

    /// Writes the PodScheduled condition, in the background.
    fn report(&mut self, pod: &PodInfo, reason: &str, message: &str) {
        let (client, key) = (self.client.clone(), pod.key.clone());
        let patch = condition_patch(pod, reason, message);
        self.reports.spawn(async move {
            let params = WriteParams::manager("kube-scheduler");
            let kind = PatchKind::Strategic;
            let patched = client
                .patch_status::<Pod>(&key.namespace, &key.name, kind, &patch, &params)
                .await;
            if let Err(error) = patched
                && !error.is_not_found()
            {
                tracing::debug!(
                    pod = key.name,
                    error = error.report(),
                    "the PodScheduled condition was not written"
                );
            }
        });
    }
}

/// Whether a node's change may let a pod on it that it refused before.
fn matters(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let labels = |node: &Node| node.metadata.labels.clone();
    old.spec != new.spec || labels(old) != labels(new) || allocatable(old) != allocatable(new)
}

async fn bind(client: &Client, pod: &PodInfo, node: &str) -> Result<(), ClientError> {
    let key = &pod.key;
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": key.namespace, "name": key.name, "uid": key.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let params = WriteParams::default();
    let bound = client
        .of::<Pod>()
        .create_sub::<_, Value>(&key.namespace, &key.name, "binding", &binding, &params)
        .await;
    bound.map(drop)
}

fn condition_patch(pod: &PodInfo, reason: &str, message: &str) -> Value {
    let known = pod
        .pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let since = known
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .find_map(|condition| condition.last_transition_time.as_ref())
        .map_or_else(Timestamp::now, |time| time.0);
    json!({
        "metadata": {"uid": pod.key.uid},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": api::time::format(since),
        }]},
    })
}

fn event(pod: &PodInfo, warning: bool, reason: &str, message: String) -> EventSpec {
    EventSpec {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.key.namespace.clone(),
        name: pod.key.name.clone(),
        uid: pod.key.uid.clone(),
        resource_version: pod.pod.metadata.resource_version.clone().unwrap_or_default(),
        field_path: String::new(),
        warning,
        reason: reason.to_owned(),
        message,
    }
}
