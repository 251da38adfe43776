//! Init containers and sidecars (`computeInitContainerActions`, pkg/kubelet/kuberuntime/kuberuntime_container.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec};

use crate::decide::{Inputs, KillReason, PodActions, kill, start};
use crate::observed::{Container, ContainerState, ProbeResult, Sandbox};
use crate::restart;
use crate::spec::{self, Role};

/// How far initialization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Regular containers may run.
    Done,
    /// Not yet.
    Pending,
    /// An init container failed for good: the pod is to end.
    Failed,
}

/// What one init container's state means for those around it.
enum Step {
    /// Wait for it.
    Wait,
    /// Start it.
    Start,
    /// It is done, or up: the next one may start.
    Next,
    /// The pod ends.
    Fail,
}

/// Plans starts and kills of init containers.
///
/// Goes through them backwards to find the newest one with a trace, since traces of earlier ones may have been
/// removed; only sidecars before it are looked at again.
pub(crate) fn plan(inputs: &Inputs, pod_spec: &PodSpec, sandbox: &Sandbox, actions: &mut PodActions) -> Progress {
    let inits = spec::init_containers(pod_spec);
    if inits.is_empty() {
        return Progress::Done;
    }
    let mut done = regular_created(inputs, pod_spec, sandbox);
    let mut passed = done;
    let mut wanted: Vec<usize> = Vec::new();
    for (index, container) in inits.iter().enumerate().rev() {
        let sidecar = spec::is_sidecar(container);
        let Some(latest) = inputs.runtime.latest_in(&sandbox.id, &container.name) else {
            if passed && sidecar {
                wanted.push(index);
            }
            continue;
        };
        if passed && !sidecar {
            continue;
        }
        let step = if sidecar {
            sidecar_step(inputs, container, latest, actions)
        } else {
            init_step(inputs, pod_spec, container, latest, actions)
        };
        match step {
            Step::Wait => {}
            Step::Start => wanted.push(index),
            Step::Next if index == inits.len() - 1 => done = true,
            Step::Next if !passed => wanted.push(index + 1),
            Step::Next => {}
            Step::Fail => return Progress::Failed,
        }
        passed = true;
    }
    if !passed {
        wanted.push(0);
    }
    wanted.sort_unstable();
    wanted.dedup();
    for index in wanted {
        let container = &inits[index];
        let role = if spec::is_sidecar(container) {
            Role::Sidecar
        } else {
            Role::Init
        };
        start(inputs, actions, container, role);
    }
    if done { Progress::Done } else { Progress::Pending }
}

fn regular_created(inputs: &Inputs, pod_spec: &PodSpec, sandbox: &Sandbox) -> bool {
    pod_spec
        .containers
        .iter()
        .any(|c| inputs.runtime.latest_in(&sandbox.id, &c.name).is_some())
}

fn sidecar_step(inputs: &Inputs, container: &Spec, latest: &Container, actions: &mut PodActions) -> Step {
    match latest.state {
        ContainerState::Created | ContainerState::Exited => Step::Start,
        ContainerState::Unknown => {
            kill_lost(inputs, latest, actions);
            Step::Wait
        }
        ContainerState::Running => {
            let verdict = |results: &BTreeMap<String, ProbeResult>| results.get(&latest.id).copied();
            let name = &container.name;
            if container.startup_probe.is_some() {
                match verdict(&inputs.probes.startup) {
                    Some(ProbeResult::Success) => {}
                    Some(ProbeResult::Failure) => {
                        let message = format!("Init container {name} failed startup probe");
                        kill(inputs, actions, latest, KillReason::StartupProbe, message, true);
                        return Step::Wait;
                    }
                    _ => return Step::Wait,
                }
            }
            if verdict(&inputs.probes.liveness) == Some(ProbeResult::Failure) {
                let message = format!("Init container {name} failed liveness probe");
                kill(inputs, actions, latest, KillReason::LivenessProbe, message, true);
            }
            Step::Next
        }
    }
}

fn init_step(
    inputs: &Inputs,
    pod_spec: &PodSpec,
    container: &Spec,
    latest: &Container,
    actions: &mut PodActions,
) -> Step {
    match latest.state {
        ContainerState::Running => Step::Wait,
        ContainerState::Created => Step::Start,
        ContainerState::Exited if latest.exit_code == 0 => Step::Next,
        ContainerState::Exited if restart::restarts_after(pod_spec, container, Role::Init, latest.exit_code) => {
            Step::Start
        }
        ContainerState::Exited => Step::Fail,
        ContainerState::Unknown if restart::restarts_on_failure(pod_spec, container, Role::Init) => {
            kill_lost(inputs, latest, actions);
            Step::Wait
        }
        ContainerState::Unknown => Step::Fail,
    }
}

fn kill_lost(inputs: &Inputs, latest: &Container, actions: &mut PodActions) {
    let message = format!(
        "Init container is in {:?} state, try killing it before restart",
        latest.state.as_str()
    );
    kill(inputs, actions, latest, KillReason::Unknown, message, true);
}
