//! What to do about a pod now (`computePodActions`, pkg/kubelet/kuberuntime/kuberuntime_manager.go).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};

use crate::backoff::{Backoffs, go_duration};
use crate::init;
use crate::observed::{Container, ContainerState, ProbeResult, ProbeResults, RuntimeStatus, Sandbox};
use crate::restart;
use crate::shutdown::{self, Cause, Ending};
use crate::spec::{self, Role};
use crate::status::Waiting;

/// Key in [`Memory::not_before`] of what is done to sandboxes; no container can have this name.
pub const SANDBOX: &str = "/sandbox";

/// What [`decide`] looks at.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub runtime: &'a RuntimeStatus,
    /// Verdicts of the probes.
    pub probes: &'a ProbeResults,
    /// What was asked for before.
    pub memory: &'a Memory,
    /// The time.
    pub now: Timestamp,
}

/// What the one who carries out plans remembers between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Of restarts, by [`backoff_key`].
    pub backoffs: Backoffs,
    /// Do not try before: a start by container name, a kill by container id, [`SANDBOX`].
    pub not_before: BTreeMap<String, Timestamp>,
    /// Names of containers being started.
    pub starting: BTreeSet<String>,
    /// Ids of containers being killed, and until when they may take.
    pub killing: BTreeMap<String, Timestamp>,
    /// A sandbox is being made or stopped.
    pub sandbox_busy: bool,
    /// Ids of containers that are to be followed by another whatever the policy says ([`Kill::restart`]).
    pub restart: BTreeSet<String>,
    /// The pod has begun to end.
    pub ending: Option<Ending>,
}

/// What to do. Everything listed may be done at once; starts one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct PodActions {
    /// Where the pod is in its life.
    pub lifecycle: Lifecycle,
    /// About sandboxes.
    pub sandbox: SandboxAction,
    /// In this order.
    pub start: Vec<Start>,
    /// To be killed.
    pub kill: Vec<Kill>,
    /// Containers that wait for their back-off.
    pub waiting: BTreeMap<String, Waiting>,
    /// To be remembered in [`Memory::ending`].
    pub ending: Option<Ending>,
    /// Decide again then, if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// To be kept as its spec says.
    Syncing,
    /// To be stopped.
    Terminating,
    /// Nothing of it runs, and nothing will again.
    Terminated,
}

/// About a pod's sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxAction {
    /// Nothing.
    Keep,
    /// Make one.
    Create {
        /// Counts the pod's sandboxes.
        attempt: u32,
    },
    /// Stop these.
    Stop {
        /// Their ids.
        ids: Vec<String>,
    },
}

/// Start a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What its restart count is to be, if a predecessor is known.
    pub restart_count: Option<i32>,
    /// When its predecessor ended; to be noted in [`Memory::backoffs`].
    pub after: Option<Timestamp>,
    /// A leftover that never ran, to be removed first.
    pub leftover: Option<String>,
}

/// Why a container is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The pod ends.
    PodEnds,
    /// Its liveness probe failed.
    LivenessProbe,
    /// Its startup probe failed.
    StartupProbe,
    /// Its spec changed.
    Changed,
    /// Its state is not known.
    Unknown,
    /// It belongs to a sandbox that is gone, or to no container of the spec.
    Stray,
}

/// Kill a container: its preStop hook, its stop signal, and SIGKILL at the deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: KillReason,
    /// The event's message.
    pub message: String,
    /// When it is to be dead.
    pub deadline: Timestamp,
    /// Another is to follow it, whatever the policy; to be remembered in [`Memory::restart`].
    pub restart: bool,
    /// It is being killed already, with a later deadline: no hook, no event.
    pub hurry: bool,
}

impl PodActions {
    pub(crate) fn new(lifecycle: Lifecycle) -> PodActions {
        PodActions {
            lifecycle,
            sandbox: SandboxAction::Keep,
            start: Vec::new(),
            kill: Vec::new(),
            waiting: BTreeMap::new(),
            ending: None,
            wake_at: None,
        }
    }

    /// Asks to look again at `time` or earlier.
    pub fn wake(&mut self, time: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }

    /// Nothing to do.
    pub fn is_idle(&self) -> bool {
        self.sandbox == SandboxAction::Keep && self.start.is_empty() && self.kill.is_empty()
    }
}

/// The key of a container's restarts in [`Memory::backoffs`]: a changed container starts afresh.
pub fn backoff_key(container: &Spec) -> String {
    format!("{}_{:x}", container.name, spec::hash(container))
}

/// What to do now.
pub fn decide(inputs: &Inputs) -> PodActions {
    let Some(pod_spec) = inputs.pod.spec.as_ref() else {
        return shutdown::plan(
            inputs,
            Ending {
                deadline: inputs.now,
                cause: Cause::Finished,
            },
        );
    };
    if let Some(ending) = shutdown::ending(inputs) {
        return shutdown::plan(inputs, ending);
    }
    let mut actions = PodActions::new(Lifecycle::Syncing);
    if let Some(deadline) = shutdown::active_deadline(inputs.pod) {
        actions.wake(deadline);
    }
    let goes_on = match replacement(pod_spec, inputs.runtime) {
        Some(attempt) => renew_sandbox(inputs, pod_spec, attempt, &mut actions),
        None => {
            let sandbox = inputs
                .runtime
                .active_sandbox()
                .expect("a sandbox that need not be replaced is active");
            sync(inputs, pod_spec, sandbox, &mut actions)
        }
    };
    if goes_on {
        return actions;
    }
    let grace = shutdown::grace(inputs.pod, None, KillReason::PodEnds);
    let deadline = inputs.now.saturating_add(grace).unwrap_or(Timestamp::MAX);
    shutdown::plan(
        inputs,
        Ending {
            deadline,
            cause: Cause::Finished,
        },
    )
}

/// The attempt of the sandbox to be made, if the pod's is missing or unfit (`PodSandboxChanged`).
pub fn replacement(pod_spec: &PodSpec, runtime: &RuntimeStatus) -> Option<u32> {
    let Some(newest) = runtime.sandboxes.first() else {
        return Some(0);
    };
    let one_ready = newest.ready && runtime.sandboxes.iter().filter(|s| s.ready).count() == 1;
    let fit = one_ready && newest.host_network == spec::host_network(pod_spec);
    (!fit).then_some(newest.attempt.saturating_add(1))
}

/// False when there is nothing left that a new sandbox would be for.
fn renew_sandbox(inputs: &Inputs, pod_spec: &PodSpec, attempt: u32, actions: &mut PodActions) -> bool {
    let runtime = inputs.runtime;
    let never = restart::pod_policy(pod_spec) == restart::Policy::Never;
    if never && attempt != 0 && !runtime.containers.is_empty() {
        return false;
    }
    let initialized = pod_spec.containers.iter().any(|c| runtime.latest(&c.name).is_some());
    let wanted = pod_spec.containers.iter().any(|c| match runtime.latest(&c.name) {
        Some(last) if last.state == ContainerState::Exited => {
            restart::restarts_after(pod_spec, c, Role::Regular, last.exit_code)
        }
        _ => true,
    });
    if initialized && !wanted {
        return false;
    }
    for container in runtime.live() {
        let message = format!("Stopping container {}", container.name);
        kill(inputs, actions, container, KillReason::Stray, message, false);
    }
    let live = runtime.live().next().is_some();
    let ready: Vec<String> = runtime
        .sandboxes
        .iter()
        .filter(|s| s.ready)
        .map(|s| s.id.clone())
        .collect();
    if live || inputs.memory.sandbox_busy || !inputs.memory.starting.is_empty() {
        return true;
    }
    if let Some(time) = inputs.memory.not_before.get(SANDBOX).filter(|time| **time > inputs.now) {
        actions.wake(*time);
        return true;
    }
    actions.sandbox = if ready.is_empty() {
        SandboxAction::Create { attempt }
    } else {
        SandboxAction::Stop { ids: ready }
    };
    true
}

/// False when the pod has finished.
fn sync(inputs: &Inputs, pod_spec: &PodSpec, sandbox: &Sandbox, actions: &mut PodActions) -> bool {
    kill_strays(inputs, pod_spec, sandbox, actions);
    for container in spec::ephemeral_containers(pod_spec) {
        if inputs.runtime.latest(&container.name).is_none() {
            start(inputs, actions, &container, Role::Ephemeral);
        }
    }
    match init::plan(inputs, pod_spec, sandbox, actions) {
        init::Progress::Failed => return false,
        init::Progress::Pending => return true,
        init::Progress::Done => {}
    }
    let mut alive = false;
    for container in &pod_spec.containers {
        alive |= sync_regular(inputs, pod_spec, sandbox, container, actions);
    }
    alive || !inputs.memory.starting.is_empty()
}

/// Whether the container runs, or will.
fn sync_regular(
    inputs: &Inputs,
    pod_spec: &PodSpec,
    sandbox: &Sandbox,
    container: &Spec,
    actions: &mut PodActions,
) -> bool {
    let latest = inputs.runtime.latest(&container.name);
    let Some(running) = latest.filter(|c| c.state == ContainerState::Running && c.sandbox_id == sandbox.id) else {
        if latest.is_some_and(|c| c.state == ContainerState::Running) {
            return true; // in an old sandbox: a stray that is being killed
        }
        let forced = latest.is_some_and(|c| inputs.memory.restart.contains(&c.id));
        if !forced && !restart::should_start(pod_spec, container, Role::Regular, latest) {
            return false;
        }
        if let Some(lost) = latest.filter(|c| c.state == ContainerState::Unknown) {
            let message = format!(
                "Container is in {:?} state, try killing it before restart",
                lost.state.as_str()
            );
            kill(inputs, actions, lost, KillReason::Unknown, message, true);
            return true;
        }
        start(inputs, actions, container, Role::Regular);
        return true;
    };
    let restarts = restart::restarts_on_failure(pod_spec, container, Role::Regular);
    if let Some((reason, message, restarts)) = complaint(inputs.probes, container, running, restarts) {
        let message = if restarts {
            format!("{message}, will be restarted")
        } else {
            message
        };
        kill(inputs, actions, running, reason, message, restarts);
    }
    true
}

fn complaint(
    probes: &ProbeResults,
    container: &Spec,
    running: &Container,
    restarts: bool,
) -> Option<(KillReason, String, bool)> {
    let failed = |results: &BTreeMap<String, ProbeResult>| results.get(&running.id) == Some(&ProbeResult::Failure);
    let name = &container.name;
    if changed(container, running) {
        return Some((
            KillReason::Changed,
            format!("Container {name} definition changed"),
            true,
        ));
    }
    if failed(&probes.liveness) {
        return Some((
            KillReason::LivenessProbe,
            format!("Container {name} failed liveness probe"),
            restarts,
        ));
    }
    if failed(&probes.startup) {
        return Some((
            KillReason::StartupProbe,
            format!("Container {name} failed startup probe"),
            restarts,
        ));
    }
    None
}

fn changed(container: &Spec, running: &Container) -> bool {
    running.hash != 0 && running.hash != spec::hash(container)
}

/// Live containers of other sandboxes, of names that the spec does not have, and doubles.
fn kill_strays(inputs: &Inputs, pod_spec: &PodSpec, sandbox: &Sandbox, actions: &mut PodActions) {
    for container in inputs.runtime.live() {
        let newest = inputs
            .runtime
            .latest(&container.name)
            .is_some_and(|latest| latest.id == container.id);
        if newest && container.sandbox_id == sandbox.id && spec::find(pod_spec, &container.name).is_some() {
            continue;
        }
        let message = format!("Stopping container {}", container.name);
        kill(inputs, actions, container, KillReason::Stray, message, false);
    }
}

/// Plans a start, unless it is under way or has to wait.
pub(crate) fn start(inputs: &Inputs, actions: &mut PodActions, container: &Spec, role: Role) {
    let Inputs {
        pod,
        runtime,
        memory,
        now,
        ..
    } = *inputs;
    if memory.starting.contains(&container.name) || actions.start.iter().any(|s| s.name == container.name) {
        return;
    }
    let ended = runtime
        .containers
        .iter()
        .find(|c| c.name == container.name && c.state == ContainerState::Exited);
    let after = ended.map(|c| c.finished_at.unwrap_or(c.created_at));
    if let Some((delay, until)) = after.and_then(|at| memory.backoffs.in_force(&backoff_key(container), at, now)) {
        actions
            .waiting
            .insert(container.name.clone(), crash_loop(pod, container, delay));
        actions.wake(until);
        return;
    }
    if let Some(time) = memory.not_before.get(&container.name).filter(|time| **time > now) {
        actions.wake(*time);
        return;
    }
    let latest = runtime.latest(&container.name);
    actions.start.push(Start {
        name: container.name.clone(),
        role,
        restart_count: latest.map(|c| match c.state {
            ContainerState::Created => c.restart_count,
            _ => c.restart_count.saturating_add(1),
        }),
        after,
        leftover: latest
            .filter(|c| c.state == ContainerState::Created)
            .map(|c| c.id.clone()),
    });
}

fn crash_loop(pod: &Pod, container: &Spec, delay: SignedDuration) -> Waiting {
    Waiting {
        reason: "CrashLoopBackOff".into(),
        message: format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(delay),
            container.name,
            spec::display(pod)
        ),
    }
}

/// Plans a kill, unless it is under way or has to wait.
pub(crate) fn kill(
    inputs: &Inputs,
    actions: &mut PodActions,
    container: &Container,
    reason: KillReason,
    message: String,
    restart: bool,
) {
    let pod_spec = inputs.pod.spec.as_ref();
    let found = pod_spec.and_then(|s| spec::find(s, &container.name)).map(|(_, c)| c);
    let grace = shutdown::grace(inputs.pod, found.as_ref(), reason);
    let deadline = inputs.now.saturating_add(grace).unwrap_or(Timestamp::MAX);
    kill_by(
        inputs,
        actions,
        container,
        Kill {
            id: container.id.clone(),
            name: container.name.clone(),
            reason,
            message,
            deadline,
            restart,
            hurry: false,
        },
    );
}

/// As [`kill`], the deadline being known. A kill under way is repeated only to hurry it.
pub(crate) fn kill_by(inputs: &Inputs, actions: &mut PodActions, container: &Container, mut kill: Kill) {
    if actions.kill.iter().any(|k| k.id == container.id) {
        return;
    }
    if let Some(deadline) = inputs.memory.killing.get(&container.id) {
        if kill.reason != KillReason::PodEnds || kill.deadline >= *deadline {
            return;
        }
        kill.hurry = true;
    } else if let Some(time) = inputs
        .memory
        .not_before
        .get(&container.id)
        .filter(|time| **time > inputs.now)
    {
        actions.wake(*time);
        return;
    }
    actions.kill.push(kill);
}
