//! One task a pod: brings what runs to what the API says, and tells the API what runs.
//!
//! Each turn looks at everything ([`observe`]), decides ([`podlife::decide`]) and carries out what was decided in
//! tasks of their own; their ends, changes of the pod, events of the runtime, verdicts of probes and timers lead to the
//! next turn. So losing any of them but the last one costs nothing, and a new worker for a pod that runs already simply
//! goes on.

mod admission;
mod cleanup;
mod container_config;
mod image;
mod kill;
mod observe;
mod publish;
mod sandbox;
mod sandbox_config;
mod start;
mod volume_care;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use podlife::decide::SANDBOX;
use podlife::{
    Backoffs, Cause, Ending, Inputs, Lifecycle, Memory, PodActions, RuntimeStatus, SandboxAction, Waiting, decide,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Signal};
use crate::probes::ProbeSet;
use crate::recorder::Type;

pub(crate) use observe::{containers, sandboxes};

/// How long tasks may take to come to a safe point when the node stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a container could not be started: its `waiting` state, and when to try again.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: &'static str,
    message: String,
    until: Option<Timestamp>,
    pull: bool,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            reason,
            message: message.into(),
            until: None,
            pull: false,
        }
    }
}

/// What a task of the worker reports.
enum Done {
    Sandbox(Result<(), String>),
    Started {
        name: String,
        result: Result<(), Failure>,
    },
    Starts,
    Killed {
        id: String,
        result: Result<(), String>,
    },
    Volumes(Result<Option<Timestamp>, String>),
    Published {
        status: Box<PodStatus>,
        result: Result<(), String>,
    },
    Cleaned {
        level: cleanup::Level,
        result: Result<(), String>,
    },
    Deleted(Result<(), String>),
}

/// Something that failed and is tried again, later each time.
#[derive(Default)]
struct Retry {
    failures: u32,
    not_before: Option<Timestamp>,
}

impl Retry {
    fn failed(&mut self, now: Timestamp) -> Timestamp {
        let seconds = 1i64 << self.failures.min(5);
        self.failures += 1;
        let time = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
        self.not_before = Some(time);
        time
    }

    fn waits(&self, now: Timestamp) -> bool {
        self.not_before.is_some_and(|time| time > now)
    }
}

/// A pod's worker.
pub(crate) struct Worker {
    ctx: Arc<Context>,
    uid: String,
    signal: watch::Receiver<Signal>,
    pod: Arc<Pod>,
    present: bool,
    sources: u64,
    memory: Memory,
    runtime: RuntimeStatus,
    messages: observe::Messages,
    waiting: BTreeMap<String, Waiting>,
    /// Restart counts that the back-off was told of.
    noted: HashMap<String, i32>,
    image_backoffs: Backoffs,
    image_errors: HashMap<String, (Timestamp, String)>,
    probes: ProbeSet,
    previous: PodStatus,
    publishing: publish::Publishing,
    volumes: volume_care::Volumes,
    sandbox: Retry,
    end: cleanup::End,
    starting: Option<CancellationToken>,
    tasks: JoinSet<()>,
    report: mpsc::UnboundedSender<Done>,
    reports: mpsc::UnboundedReceiver<Done>,
}

impl Worker {
    /// A worker for the pod of the signal.
    pub fn new(ctx: Arc<Context>, signal: watch::Receiver<Signal>) -> Worker {
        let now = signal.borrow().clone();
        let pod = now.pod;
        let (report, reports) = mpsc::unbounded_channel();
        let previous = pod.status.clone().unwrap_or_default();
        Worker {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            probes: ProbeSet::new(ctx.clone()),
            publishing: publish::Publishing::new(&previous),
            ctx,
            signal,
            pod,
            present: true,
            sources: now.sources,
            memory: Memory::default(),
            runtime: RuntimeStatus::default(),
            messages: HashMap::new(),
            waiting: BTreeMap::new(),
            noted: HashMap::new(),
            image_backoffs: Backoffs::default(),
            image_errors: HashMap::new(),
            previous,
            volumes: volume_care::Volumes::default(),
            sandbox: Retry::default(),
            end: cleanup::End::default(),
            starting: None,
            tasks: JoinSet::new(),
            report,
            reports,
        }
    }

    /// Runs until the pod is gone, or the node stops.
    pub async fn run(mut self) {
        self.ctx.sources.follow(&self.pod);
        self.admit();
        loop {
            self.take_signal();
            let wake = self.turn().await;
            if self.is_over() {
                break;
            }
            let stop = self.ctx.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return self.drain().await,
                changed = self.signal.changed() => if changed.is_err() { break },
                Some(done) = self.reports.recv() => self.take(done),
                Some(joined) = self.tasks.join_next() => self.joined(joined),
                () = self.probes.changed() => {}
                () = self.ctx.clock.sleep_until(wake) => {}
            }
            while let Ok(done) = self.reports.try_recv() {
                self.take(done);
            }
        }
        self.ctx.sources.forget(&self.uid);
        self.ctx.tokens.forget(&self.uid);
        self.ctx.workers.remove(&self.uid);
    }

    fn now(&self) -> Timestamp {
        self.ctx.clock.now()
    }

    fn spec(&self) -> PodSpec {
        self.pod.spec.clone().unwrap_or_default()
    }

    fn take_signal(&mut self) {
        let signal = self.signal.borrow_and_update().clone();
        if signal.sources != self.sources {
            self.sources = signal.sources;
            self.volumes.dirty = true;
            // Whatever could not be started may be possible now. Ids of containers (of kills) have 64 digits, names less.
            self.memory.not_before.retain(|key, _| key.len() >= 64);
            self.sandbox.not_before = None;
        }
        let (old, new) = (&self.pod.metadata, &signal.pod.metadata);
        if old.labels != new.labels || old.annotations != new.annotations {
            self.volumes.dirty = true;
        }
        if signal.pod.spec != self.pod.spec {
            self.ctx.sources.follow(&signal.pod);
        }
        if let (Some(message), None) = (&signal.evict, &self.memory.ending) {
            self.evict(message);
        }
        self.present = signal.present;
        self.pod = signal.pod;
        if !self.present && self.pod.metadata.deletion_timestamp.is_none() {
            // Deleted at once: it still ends with the grace it asks for, as if it had been told in time.
            let mut pod = (*self.pod).clone();
            let grace = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.termination_grace_period_seconds)
                .unwrap_or(30);
            pod.metadata.deletion_timestamp = Some(Time(self.now()));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            self.pod = Arc::new(pod);
        }
    }

    /// The pod ends at once and fails.
    fn evict(&mut self, message: &str) {
        let now = self.now();
        self.ctx.recorder.pod(&self.pod, Type::Warning, "Evicted", message);
        self.memory.ending = Some(Ending {
            deadline: now,
            cause: Cause::Failed {
                reason: "Evicted".into(),
                message: message.into(),
            },
        });
        let generation = self.pod.metadata.generation;
        self.previous.conditions.get_or_insert_default().push(PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some("TerminationByKubelet".into()),
            message: Some(message.into()),
            last_transition_time: Some(Time(podlife::whole_seconds(now))),
            observed_generation: generation,
            ..PodCondition::default()
        });
        if let Some(starting) = &self.starting {
            starting.cancel();
        }
    }

    /// Looks, decides, acts; answers when to do it again at the latest.
    async fn turn(&mut self) -> Option<Timestamp> {
        match observe::observe(&self.ctx, &self.uid, &mut self.messages).await {
            Ok(runtime) => self.runtime = runtime,
            Err(error) => {
                tracing::warn!(%error, uid = self.uid, "cannot see the pod's containers; will retry");
                return self.now().saturating_add(SignedDuration::from_secs(1)).ok();
            }
        }
        let now = self.now();
        self.probes.sync(&self.pod, &self.runtime, &self.previous);
        let probes = self.probes.results();
        let inputs = Inputs {
            pod: &self.pod,
            runtime: &self.runtime,
            probes: &probes,
            memory: &self.memory,
            now,
        };
        let actions = decide(&inputs);
        self.carry_out(&actions, now);
        if actions.lifecycle == Lifecycle::Terminated {
            self.clean_up();
        } else {
            self.care_for_volumes(actions.lifecycle, now);
        }
        self.publish(actions.lifecycle, &probes, now);
        let times = [
            actions.wake_at,
            self.volumes.wake_at(),
            self.publishing.retry.not_before,
            self.end.wake_at(),
        ];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }

    fn carry_out(&mut self, actions: &PodActions, now: Timestamp) {
        if actions.ending.is_some() && self.memory.ending.is_none() {
            if let Some(starting) = &self.starting {
                starting.cancel();
            }
            if let Some(podlife::Cause::Failed { reason, message }) = actions.ending.as_ref().map(|e| &e.cause) {
                self.ctx.recorder.pod(&self.pod, Type::Normal, reason, message.clone());
            }
        }
        self.memory.ending.clone_from(&actions.ending);
        match &actions.sandbox {
            SandboxAction::Keep => {}
            SandboxAction::Create { attempt } => self.make_sandbox(*attempt),
            SandboxAction::Stop { ids } => self.stop_sandboxes(ids.clone()),
        }
        for kill in &actions.kill {
            self.kill(kill.clone());
        }
        for (name, why) in &actions.waiting {
            if self.waiting.get(name) != Some(why) {
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    podlife::spec::display(&self.pod)
                );
                self.ctx
                    .recorder
                    .container(&self.pod, name, Type::Warning, "BackOff", message);
                self.waiting.insert(name.clone(), why.clone());
            }
        }
        if !actions.start.is_empty() && self.starting.is_none() {
            self.start(&actions.start, now);
        }
    }

    fn spawn(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        let report = self.report.clone();
        self.tasks.spawn(async move {
            // The receiver lives as long as the task set.
            let _ = report.send(work.await);
        });
    }

    fn joined(&mut self, joined: Result<(), tokio::task::JoinError>) {
        let Err(error) = joined else { return };
        tracing::error!(%error, uid = self.uid, "a task of the pod broke off");
        self.memory.starting.clear();
        self.memory.killing.clear();
        self.memory.sandbox_busy = false;
        self.starting = None;
        self.publishing.busy = false;
        self.volumes.busy = false;
        self.end.busy = false;
        let now = self.now();
        self.memory.not_before.insert(SANDBOX.into(), self.sandbox.failed(now));
    }

    fn take(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Sandbox(result) => self.sandbox_done(result, now),
            Done::Started { name, result } => self.started(&name, result, now),
            Done::Starts => {
                self.memory.starting.clear();
                self.starting = None;
            }
            Done::Killed { id, result } => self.killed(&id, result, now),
            Done::Volumes(result) => self.volumes_done(result, now),
            Done::Published { status, result } => self.publishing.done(*status, result, now),
            Done::Cleaned { level, result } => self.end.cleaned(level, result, now),
            Done::Deleted(result) => self.end.deleted(result, now),
        }
    }

    /// Lets tasks that change the runtime come to a safe point. What runs goes on running.
    async fn drain(mut self) {
        if let Some(starting) = &self.starting {
            starting.cancel();
        }
        let busy = self.starting.is_some() || self.memory.sandbox_busy;
        if busy {
            let wait = async {
                while let Some(done) = self.reports.recv().await {
                    match done {
                        Done::Starts => self.starting = None,
                        Done::Sandbox(_) => self.memory.sandbox_busy = false,
                        _ => {}
                    }
                    if self.starting.is_none() && !self.memory.sandbox_busy {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(DRAIN, wait).await;
        }
        self.tasks.abort_all();
    }
}
