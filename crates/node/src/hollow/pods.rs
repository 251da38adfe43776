//! Pods go from stage to stage.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::Gvr;
use client::{ClientError, DeleteParams, PatchKind, Preconditions, WriteParams};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stages::Next;
use super::watch::{self, Seen, text, uid};
use super::{CONCURRENCY, Shared, status};

/// Before a request that failed is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// Pods that have been heard of and not yet been looked at.
const WAITING: usize = 1024;

/// Runs the pods of the simulated nodes, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let (sender, mut seen) = mpsc::channel(WAITING);
    let following = watch::follow(shared.clone(), sender);
    let turning = async {
        let mut pods = Pods::new(shared);
        loop {
            let wake = pods.start_due();
            tokio::select! {
                biased;
                Some(done) = pods.requests.join_next(), if !pods.requests.is_empty() => {
                    if let Ok(done) = done {
                        pods.on_done(done);
                    }
                }
                seen = seen.recv() => match seen {
                    Some(seen) => pods.on_seen(seen),
                    None => return,
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    };
    tokio::join!(following, turning);
}

struct Pods {
    shared: Arc<Shared>,
    planned: HashMap<String, Planned>,
    /// When a plan is due, its number, and the pod's UID; those whose number is not the pod's any more are void.
    timers: BinaryHeap<Reverse<(Instant, u64, String)>>,
    plans: u64,
    /// Pods that a request is about, with what was heard of them meanwhile.
    busy: HashMap<String, Option<Value>>,
    requests: JoinSet<Done>,
    /// No transition begins before.
    not_before: Instant,
}

struct Planned {
    number: u64,
    pod: Value,
    next: Next,
}

/// A transition that has ended.
struct Done {
    planned: Planned,
    /// The revision that came of it; none for what is gone.
    result: Result<Option<u64>, ClientError>,
}

impl Pods {
    fn new(shared: Arc<Shared>) -> Pods {
        Pods {
            shared,
            planned: HashMap::new(),
            timers: BinaryHeap::new(),
            plans: 0,
            busy: HashMap::new(),
            requests: JoinSet::new(),
            not_before: Instant::now(),
        }
    }

    fn on_seen(&mut self, seen: Seen) {
        match seen {
            Seen::Is(pod) => {
                let uid = uid(&pod);
                match self.busy.get_mut(&uid) {
                    Some(newer) => *newer = Some(pod),
                    None => self.plan(pod, Duration::ZERO),
                }
            }
            Seen::Gone(uid) => {
                self.planned.remove(&uid);
                if let Some(newer) = self.busy.get_mut(&uid) {
                    *newer = None;
                }
            }
            Seen::Only(uids) => self.planned.retain(|uid, _| uids.contains(uid)),
        }
    }

    /// Plans what is due for the pod, not before `least`; whatever was planned is void.
    fn plan(&mut self, pod: Value, least: Duration) {
        let uid = uid(&pod);
        let now = self.shared.clock.now();
        let Some((stage, wait)) = self.shared.config.stages.due(&pod, now, rand::random()) else {
            self.planned.remove(&uid);
            return;
        };
        tracing::trace!(stage = stage.name, pod = uid, "planned");
        self.plans += 1;
        let (number, next) = (self.plans, stage.next.clone());
        self.timers
            .push(Reverse((Instant::now() + wait.max(least), number, uid.clone())));
        self.planned.insert(uid, Planned { number, pod, next });
    }

    /// Begins what is due; answers when to look again, unless something else happens before.
    fn start_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let Reverse((due, number, uid)) = self.timers.peek()?;
            if self.planned.get(uid).is_none_or(|planned| planned.number != *number) {
                self.timers.pop();
                continue;
            }
            if self.requests.len() >= CONCURRENCY {
                return None;
            }
            let due = (*due).max(self.not_before);
            if due > now {
                return Some(due);
            }
            if let Some(rate) = self.shared.config.rate {
                // What was missed while nothing was due is not caught up.
                let begun = self
                    .not_before
                    .max(now.checked_sub(Duration::from_millis(20)).unwrap_or(now));
                self.not_before = begun + Duration::from_secs_f64(1.0 / rate.max(1e-6));
            }
            let planned = self.planned.remove(uid).expect("it was looked up above");
            self.busy.insert(uid.clone(), None);
            self.timers.pop();
            let shared = self.shared.clone();
            self.requests.spawn(async move {
                let result = shared.bring(&planned.pod, &planned.next).await;
                Done { planned, result }
            });
        }
    }

    fn on_done(&mut self, done: Done) {
        let pod = done.planned.pod;
        let newer = self.busy.remove(&uid(&pod)).flatten();
        match done.result {
            Ok(revision) => {
                self.shared.transitions.fetch_add(1, Ordering::Relaxed);
                // What was heard before the request took effect says nothing about what comes next.
                let heard = newer.filter(|newer| {
                    revision.is_none_or(|revision| text(newer, "resourceVersion").parse().unwrap_or(0) >= revision)
                });
                if let Some(newer) = heard {
                    self.plan(newer, Duration::ZERO);
                }
            }
            Err(error) if error.is_not_found() || error.is_conflict() => {
                if let Some(newer) = newer {
                    self.plan(newer, Duration::ZERO);
                }
            }
            Err(error) => {
                let name = text(&pod, "name");
                tracing::warn!(
                    error = error.report(),
                    name,
                    "cannot act on a pod of a hollow node; will retry"
                );
                self.plan(newer.unwrap_or(pod), RETRY);
            }
        }
    }
}

/// As much of an answer as is looked at.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

typed::decoded!(Written);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    #[serde(default)]
    resource_version: String,
}

impl Shared {
    /// Brings a pod into its next state; answers with its revision, or nothing if it is to go.
    async fn bring(&self, pod: &Value, next: &Next) -> Result<Option<u64>, ClientError> {
        let (namespace, name, uid) = (text(pod, "namespace"), text(pod, "name"), uid(pod));
        let gvr = Gvr::new("", "v1", "pods");
        let pods = self.client.resource::<Written>(&gvr);
        let params = WriteParams::default();
        let mut revision = None;
        if let Some(kept) = finalizers(pod, next) {
            let patch = json!({"metadata": {"uid": uid, "finalizers": kept}});
            let written = pods.patch(&namespace, &name, PatchKind::Merge, &patch, &params).await?;
            revision = written.metadata.resource_version.parse().ok();
        }
        if let Some(status) = self.status(pod, next) {
            let patch = json!({"metadata": {"uid": uid}, "status": status});
            let written = pods
                .patch_sub(&namespace, &name, "status", PatchKind::Strategic, &patch, &params)
                .await?;
            revision = written.metadata.resource_version.parse().ok();
        }
        if next.delete {
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: Some(uid),
                    ..Preconditions::default()
                }),
                ..DeleteParams::default()
            };
            self.client.dynamic(&gvr).delete(&namespace, &name, &params).await?;
            return Ok(None);
        }
        Ok(revision)
    }

    fn status(&self, pod: &Value, next: &Next) -> Option<Value> {
        let mut status = next.phase.map(|phase| {
            // 100.64.0.0/10 is nobody's.
            let offset = self.next_ip.fetch_add(1, Ordering::Relaxed) % (1 << 22);
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + offset);
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            let host = self.addresses.get(node).copied().unwrap_or(Ipv4Addr::LOCALHOST);
            status::of_pod(pod, phase, host, ip, self.clock.now())
        });
        if let Some(more) = next.status.as_object() {
            let target = status.get_or_insert_with(|| json!({}));
            for (key, value) in more {
                target[key] = value.clone();
            }
        }
        status
    }
}

/// The finalizers that the pod shall have, if the stage says so.
fn finalizers(pod: &Value, next: &Next) -> Option<Vec<String>> {
    let changes = next.finalizers.as_ref()?;
    let known = pod["metadata"]["finalizers"].as_array().into_iter().flatten();
    let mut kept: Vec<String> = known.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    kept.retain(|name| !changes.empty && !changes.remove.iter().any(|gone| gone.value == *name));
    for added in &changes.add {
        if !kept.contains(&added.value) {
            kept.push(added.value.clone());
        }
    }
    Some(kept)
}
