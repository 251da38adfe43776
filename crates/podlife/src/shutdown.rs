//! The end of a pod: when it begins, how long it may take, in which order containers go.
//!
//! Sidecars end last, in reverse order (pkg/kubelet/kuberuntime/kuberuntime_termination_order.go, KEP-753).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod, Probe};

use crate::decide::{Inputs, Kill, KillReason, Lifecycle, PodActions, SANDBOX, SandboxAction, kill_by};
use crate::spec;

/// Every container is given at least this long, to spare it a needless SIGKILL.
pub const MINIMUM_GRACE: SignedDuration = SignedDuration::from_secs(2);

/// A pod that has begun to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// When all containers are to be dead. Only ever moves closer.
    pub deadline: Timestamp,
    /// What began it.
    pub cause: Cause,
}

/// Why a pod ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its containers are done, or its phase says so already.
    Finished,
    /// It was deleted.
    Deleted,
    /// It is to fail: its deadline passed, or it was evicted.
    Failed {
        /// `status.reason`.
        reason: String,
        /// `status.message`.
        message: String,
    },
}

/// The pod's ending as of now, if it has one: what is remembered, a deletion, a final phase, a passed deadline.
pub fn ending(inputs: &Inputs) -> Option<Ending> {
    let Inputs { pod, memory, now, .. } = *inputs;
    let begun = match &memory.ending {
        Some(ending) => Some(ending.clone()),
        None => begins(pod, now),
    };
    if pod.metadata.deletion_timestamp.is_none() {
        return begun;
    }
    let deadline = now
        .saturating_add(grace(pod, None, KillReason::PodEnds))
        .unwrap_or(Timestamp::MAX);
    Some(match begun {
        Some(ending) => Ending {
            deadline: ending.deadline.min(deadline),
            cause: ending.cause,
        },
        None => Ending {
            deadline,
            cause: Cause::Deleted,
        },
    })
}

fn begins(pod: &Pod, now: Timestamp) -> Option<Ending> {
    let deadline = now
        .saturating_add(grace(pod, None, KillReason::PodEnds))
        .unwrap_or(Timestamp::MAX);
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Some(Ending {
            deadline,
            cause: Cause::Finished,
        });
    }
    if active_deadline(pod).is_some_and(|end| end <= now) {
        let cause = Cause::Failed {
            reason: "DeadlineExceeded".into(),
            message: "Pod was active on the node longer than the specified deadline".into(),
        };
        return Some(Ending { deadline, cause });
    }
    None
}

/// When `activeDeadlineSeconds` is over.
pub fn active_deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?.0;
    Some(
        start
            .saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX),
    )
}

/// How long a container (or the pod) may take to end (`setTerminationGracePeriod`).
pub fn grace(pod: &Pod, container: Option<&Spec>, reason: KillReason) -> SignedDuration {
    let pod_spec = pod.spec.as_ref();
    let general = pod_spec.and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    let of_probe = |probe: Option<&Probe>| {
        probe
            .and_then(|p| p.termination_grace_period_seconds)
            .unwrap_or(general)
    };
    let seconds = match (pod.metadata.deletion_timestamp.as_ref(), reason) {
        (Some(_), _) => pod.metadata.deletion_grace_period_seconds.unwrap_or(general),
        (None, KillReason::LivenessProbe) => of_probe(container.and_then(|c| c.liveness_probe.as_ref())),
        (None, KillReason::StartupProbe) => of_probe(container.and_then(|c| c.startup_probe.as_ref())),
        (None, _) => general,
    };
    SignedDuration::from_secs(seconds.max(1))
}

/// Ends the pod: containers, then sandboxes.
pub(crate) fn plan(inputs: &Inputs, ending: Ending) -> PodActions {
    let Inputs {
        runtime, memory, now, ..
    } = *inputs;
    let mut actions = PodActions::new(Lifecycle::Terminating);
    let live: Vec<_> = runtime.live().collect();
    let ranks: Vec<usize> = live.iter().map(|c| rank(inputs.pod, &c.name)).collect();
    let turn = ranks.iter().copied().max().unwrap_or(0);
    for (container, rank) in live.iter().zip(&ranks) {
        if *rank < turn {
            continue;
        }
        kill_by(
            inputs,
            &mut actions,
            container,
            Kill {
                id: container.id.clone(),
                name: container.name.clone(),
                reason: KillReason::PodEnds,
                message: format!("Stopping container {}", container.name),
                deadline: ending.deadline,
                restart: false,
                hurry: false,
            },
        );
    }
    actions.ending = Some(ending);
    if !live.is_empty() || memory.sandbox_busy || !memory.starting.is_empty() || !memory.killing.is_empty() {
        return actions;
    }
    let ready: Vec<String> = runtime
        .sandboxes
        .iter()
        .filter(|s| s.ready)
        .map(|s| s.id.clone())
        .collect();
    if ready.is_empty() {
        actions.lifecycle = Lifecycle::Terminated;
    } else if let Some(time) = memory.not_before.get(SANDBOX).filter(|time| **time > now) {
        actions.wake(*time);
    } else {
        actions.sandbox = SandboxAction::Stop { ids: ready };
    }
    actions
}

/// Containers of a higher rank end first: all but sidecars, then sidecars from the last to the first.
fn rank(pod: &Pod, name: &str) -> usize {
    let inits = pod.spec.as_ref().map(spec::init_containers).unwrap_or_default();
    let sidecar = inits
        .iter()
        .position(|c| c.name == name)
        .filter(|index| spec::is_sidecar(&inits[*index]));
    sidecar.unwrap_or(usize::MAX)
}

/// What is left of the grace period at `now`, never less than [`MINIMUM_GRACE`].
pub fn remaining(deadline: Timestamp, now: Timestamp) -> SignedDuration {
    deadline.duration_since(now).max(MINIMUM_GRACE)
}
