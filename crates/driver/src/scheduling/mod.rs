//! Runs the scheduler: one decision at a time, bindings and evictions in the background.

mod feeds;
mod handle;
mod webhooks;
mod writes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use client::{Caches, Change, Changes, Client, ClientError, EventRecorder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::config::extender::Extenders;
use scheduler::cycle::{Judge, NoJudge};
use scheduler::framework::{PreBind, Resource, Write};
use scheduler::metrics::Result as Attempted;
use scheduler::scheduler::{Placed, Unschedulable};
use scheduler::{Outcome, PodInfo, PodKey};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use feeds::{Feeds, Told};
pub use handle::SchedulerHandle;
use writes::Writer;

/// Decisions in a row before others get the thread.
const IN_A_ROW: usize = 16;

/// Background work that has ended.
enum Done {
    Bound(Placed, Result<(), String>),
    /// Writes that PreBind wanted.
    Prepared(Placed, Result<(), ClientError>),
    Preempted(PodKey, bool),
    Reported,
}

struct Runner {
    handle: SchedulerHandle,
    writer: Writer,
    feeds: Feeds,
    /// Pods that wait for a feed to be complete.
    held: HashMap<PodKey, Arc<PodInfo>>,
    /// Pods that PreBind lets wait for changes, and until when.
    preparing: HashMap<PodKey, (Placed, Option<Timestamp>)>,
    work: JoinSet<Done>,
}

/// Schedules pods until `stop`; bindings under way are awaited.
pub(crate) async fn run(client: Client, caches: Caches, handle: SchedulerHandle, stop: CancellationToken) {
    let reporter = handle.with(|scheduler| scheduler.profiles()[0].scheduler_name.clone());
    let recorder = EventRecorder::start(client.clone(), &reporter, "", stop.clone());
    let (pods, nodes) = (caches.get::<Pod>(), caches.get::<Node>());
    let synced = async {
        nodes.synced().await;
        pods.synced().await;
    };
    if stop.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let (tell, told) = mpsc::channel(1024);
    let (node_changes, pod_changes) = (nodes.subscribe(), pods.subscribe());
    let mut runner = Runner {
        handle,
        writer: Writer { client, recorder, pods },
        feeds: Feeds::new(caches, tell, stop.clone()),
        held: HashMap::new(),
        preparing: HashMap::new(),
        work: JoinSet::new(),
    };
    runner.run(node_changes, pod_changes, told, stop).await;
}

impl Runner {
    async fn run(
        &mut self,
        mut nodes: Changes<Node>,
        mut pods: Changes<Pod>,
        mut told: mpsc::Receiver<Told>,
        stop: CancellationToken,
    ) {
        loop {
            // Everything that is known goes in before the next decision, nodes first.
            while let Some(change) = nodes.try_next() {
                self.on_node(&change);
            }
            while let Some(change) = pods.try_next() {
                self.on_pod(&change);
            }
            while let Ok(told) = told.try_recv() {
                self.on_told(told);
            }
            while let Some(Ok(done)) = self.work.try_join_next() {
                self.on_done(done);
            }
            self.on_time();
            if self.decide() {
                tokio::task::yield_now().await;
                if stop.is_cancelled() {
                    break;
                }
                continue;
            }
            let wake = self.next_wake().map(|at| {
                let left = at.duration_since(Timestamp::now());
                std::time::Duration::try_from(left).unwrap_or_default()
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                change = nodes.next() => self.on_node(&change),
                change = pods.next() => self.on_pod(&change),
                Some(told) = told.recv() => self.on_told(told),
                Some(Ok(done)) = self.work.join_next(), if !self.work.is_empty() => self.on_done(done),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
        while let Some(done) = self.work.join_next().await {
            if let Ok(done) = done {
                self.on_done(done);
            }
        }
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let patience = self.preparing.values().filter_map(|(_, until)| *until);
        self.handle
            .with(|scheduler| scheduler.next_wake())
            .into_iter()
            .chain(patience)
            .min()
    }

    fn on_node(&mut self, change: &Change<Node>) {
        let now = Timestamp::now();
        let name = change.object().metadata.name.clone().unwrap_or_default();
        self.handle.with(|scheduler| match &change.new {
            Some(node) => scheduler.set_node(node, now),
            None => scheduler.remove_node(&name, now),
        });
    }

    fn on_pod(&mut self, change: &Change<Pod>) {
        let now = Timestamp::now();
        let pod = self.handle.with(|scheduler| scheduler.read(change.object()));
        self.held.remove(&pod.key);
        if change.new.is_none() {
            self.handle.with(|scheduler| scheduler.remove_pod(&pod, now));
            if let Some((placed, _)) = self.preparing.remove(&pod.key) {
                self.give_up(&placed, "pod does not exist any more");
            }
            return;
        }
        let needs = self.handle.with(|scheduler| scheduler.needs(&pod));
        let waits = !needs.is_empty() && !self.feeds.complete(&needs);
        if waits && pod.node_name.is_none() && !pod.finished && !pod.terminating {
            self.held.insert(pod.key.clone(), pod);
        } else {
            self.handle.with(|scheduler| scheduler.set_pod(pod, now));
        }
    }

    fn on_told(&mut self, told: Told) {
        let now = Timestamp::now();
        match told {
            Told::Change(resource, old, new) => {
                self.handle
                    .with(|scheduler| scheduler.observe(resource, old.as_ref(), new.as_ref(), now));
                for (placed, _) in std::mem::take(&mut self.preparing).into_values() {
                    self.prepare(placed);
                }
            }
            Told::Complete(resource) => {
                self.feeds.is_complete(resource);
                self.release(now);
            }
        }
    }

    /// Queues held pods whose feeds are complete.
    fn release(&mut self, now: Timestamp) {
        for (key, pod) in std::mem::take(&mut self.held) {
            let needs: Vec<Resource> = self.handle.with(|scheduler| scheduler.needs(&pod));
            if self.feeds.complete(&needs) {
                self.handle.with(|scheduler| scheduler.set_pod(pod, now));
            } else {
                self.held.insert(key, pod);
            }
        }
    }

    /// What has waited too long is given up.
    fn on_time(&mut self) {
        let now = Timestamp::now();
        for outcome in self.handle.with(|scheduler| scheduler.permitted(now)) {
            self.on_outcome(outcome);
        }
        if self.preparing.is_empty() {
            return;
        }
        let late = |until: &Option<Timestamp>| until.is_some_and(|until| until <= now);
        let keys: HashSet<PodKey> = self
            .preparing
            .iter()
            .filter(|(_, (_, until))| late(until))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some((placed, _)) = self.preparing.remove(&key) else {
                continue;
            };
            // The plugin that waits says so in its own words.
            self.prepare(placed.clone());
            if let Some((_, Some(until))) = self.preparing.get(&key)
                && *until <= now
            {
                self.preparing.remove(&key);
                self.give_up(&placed, "timed out waiting for what has to be done before the binding");
            }
        }
    }

    /// Decides on some pods; whether there was one.
    fn decide(&mut self) -> bool {
        for turn in 0..IN_A_ROW {
            let now = Timestamp::now();
            let outcome = match self.handle.webhooks().is_empty() {
                true => self.decide_one(now, &mut NoJudge),
                false => self.decide_with_extenders(now),
            };
            match outcome {
                Some(outcome) => self.on_outcome(outcome),
                None => return turn > 0,
            }
        }
        true
    }

    fn decide_one(&self, now: Timestamp, judge: &mut dyn Judge) -> Option<Outcome> {
        let begun = std::time::Instant::now();
        self.handle.with(|scheduler| {
            let popped = scheduler.pop(now)?;
            let outcome = scheduler.decide(popped, now, judge);
            let took = begun.elapsed().as_secs_f64();
            scheduler.metrics.algorithm.observe(took);
            if let Outcome::Unschedulable(report) = &outcome {
                let result = match report.reason {
                    "Unschedulable" => Attempted::Unschedulable,
                    _ => Attempted::Error,
                };
                scheduler.metrics.took(&report.pod.shape.scheduler_name, result, took);
            }
            Some(outcome)
        })
    }

    /// Extenders are waited for: nothing else can be decided before they have answered.
    fn decide_with_extenders(&self, now: Timestamp) -> Option<Outcome> {
        let (webhooks, runtime) = (self.handle.webhooks(), tokio::runtime::Handle::current());
        let send = |number: usize, verb: &str, arguments: &Value| {
            tokio::task::block_in_place(|| runtime.block_on(webhooks.send(number, verb, arguments)))
        };
        let object = |key: &PodKey| {
            let known = self.writer.pods.get(&key.namespace, &key.name);
            known.map_or(Value::Null, |pod| controllers::to_value(&*pod))
        };
        let mut judge = Extenders {
            extenders: &webhooks.extenders,
            send: &send,
            object: &object,
        };
        self.decide_one(now, &mut judge)
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bind(placed) => self.prepare(placed),
            Outcome::Unschedulable(report) => self.on_unschedulable(*report),
            Outcome::Parked | Outcome::Nothing => {}
        }
    }

    /// Asks PreBind, and binds when it is done.
    fn prepare(&mut self, placed: Placed) {
        let now = Timestamp::now();
        if self
            .handle
            .with(|scheduler| scheduler.queue().pod(&placed.pod.key).is_none())
        {
            return self.give_up(&placed, "pod does not exist any more");
        }
        match self.handle.with(|scheduler| scheduler.pre_bind(&placed, now)) {
            PreBind::Done => {
                let (writer, webhooks) = (self.writer.clone(), self.handle.webhooks().clone());
                self.work.spawn(async move {
                    let (pod, node) = (&placed.pod, &placed.node);
                    let result = match webhooks.binder(pod) {
                        Some(extender) => webhooks.bind(extender, pod, node).await,
                        None => {
                            let bound = writer.bind(pod, node).await;
                            bound.map_err(|error| error.report())
                        }
                    };
                    Done::Bound(placed, result)
                });
            }
            PreBind::Reject(rejection) => {
                let message = rejection.texts(&placed.pod).join(", ");
                self.give_up(&placed, &message);
            }
            PreBind::Wait { writes, until } if writes.is_empty() => {
                self.preparing.insert(placed.pod.key.clone(), (placed, until));
            }
            PreBind::Wait { writes, .. } => {
                let writer = self.writer.clone();
                self.work.spawn(async move {
                    let result = writer.write_all(&writes).await;
                    Done::Prepared(placed, result)
                });
            }
        }
    }

    fn give_up(&mut self, placed: &Placed, message: &str) {
        let now = Timestamp::now();
        let outcome = self.handle.with(|scheduler| scheduler.give_up(placed, message, now));
        self.on_outcome(outcome);
    }

    fn on_unschedulable(&mut self, report: Unschedulable) {
        let Unschedulable {
            pod,
            victims,
            displaced,
            writes,
            ..
        } = &report;
        self.writer.failed_scheduling(pod, &report.message);
        if !report.known || report.nominate.is_some() {
            let writer = self.writer.clone();
            let (pod, reason) = (pod.clone(), report.reason);
            let (message, nominate) = (report.message.clone(), report.nominate.clone());
            self.work.spawn(async move {
                writer
                    .report(&pod, reason, &message, nominate.as_ref().map(Option::as_deref))
                    .await;
                Done::Reported
            });
        }
        for other in displaced.iter() {
            let (writer, other) = (self.writer.clone(), other.clone());
            self.work.spawn(async move {
                writer.clear_nomination(&other).await;
                Done::Reported
            });
        }
        if !writes.is_empty() {
            self.write(writes.clone());
        }
        if let (false, Some(Some(node))) = (victims.is_empty(), &report.nominate) {
            let writer = self.writer.clone();
            let (pod, node, victims) = (pod.clone(), node.clone(), victims.clone());
            self.work.spawn(async move {
                let succeeded = writer.evict(&pod, &node, &victims).await;
                Done::Preempted(pod.key.clone(), succeeded)
            });
        }
    }

    fn write(&mut self, writes: Vec<Write>) {
        let writer = self.writer.clone();
        self.work.spawn(async move {
            if let Err(error) = writer.write_all(&writes).await {
                tracing::warn!(error = error.report(), "what a plugin wanted was not written");
            }
            Done::Reported
        });
    }

    fn on_done(&mut self, done: Done) {
        let now = Timestamp::now();
        match done {
            Done::Bound(placed, Ok(())) => {
                self.writer.scheduled(&placed.pod, &placed.node);
                self.handle.with(|scheduler| scheduler.bound(&placed, now));
            }
            Done::Bound(placed, Err(error)) => self.give_up(&placed, &format!("binding rejected: {error}")),
            Done::Prepared(placed, Ok(())) => self.prepare(placed),
            Done::Prepared(placed, Err(error)) => {
                let message = format!("preparing the binding failed: {}", error.report());
                self.give_up(&placed, &message);
            }
            Done::Preempted(key, succeeded) => self.handle.with(|scheduler| scheduler.preempted(&key, succeeded, now)),
            Done::Reported => {}
        }
    }
}
