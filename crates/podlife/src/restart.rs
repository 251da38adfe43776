//! Whether a container that does not run is to be started (pkg/kubelet/container/helpers.go, KEP-5307).

use k8s_openapi::api::core::v1::{Container as Spec, PodSpec};

use crate::observed::{Container, ContainerState};
use crate::spec::Role;

/// A policy in force for a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Whatever the exit code.
    Always,
    /// After a failure.
    OnFailure,
    /// Not.
    Never,
}

impl Policy {
    fn parse(text: Option<&str>) -> Option<Policy> {
        match text? {
            "Always" => Some(Policy::Always),
            "OnFailure" => Some(Policy::OnFailure),
            "Never" => Some(Policy::Never),
            _ => None,
        }
    }
}

/// The pod's policy; absent is `Always`.
pub fn pod_policy(spec: &PodSpec) -> Policy {
    Policy::parse(spec.restart_policy.as_deref()).unwrap_or(Policy::Always)
}

/// The container's own policy, else the pod's. A plain init container treats `Always` as `OnFailure`.
pub fn policy(spec: &PodSpec, container: &Spec, role: Role) -> Policy {
    let own = Policy::parse(container.restart_policy.as_deref()).unwrap_or_else(|| pod_policy(spec));
    match (role, own) {
        (Role::Sidecar, _) => Policy::Always,
        (Role::Ephemeral, _) => Policy::Never,
        (Role::Init, Policy::Always) => Policy::OnFailure,
        (_, own) => own,
    }
}

/// Whether an exit with this code is followed by a start.
pub fn restarts_after(spec: &PodSpec, container: &Spec, role: Role, exit_code: i32) -> bool {
    if role != Role::Ephemeral && rules_restart(container, exit_code) {
        return true;
    }
    match policy(spec, container, role) {
        Policy::Always => true,
        Policy::OnFailure => exit_code != 0,
        Policy::Never => false,
    }
}

/// Whether a failure is followed by a start, whatever the code.
pub fn restarts_on_failure(spec: &PodSpec, container: &Spec, role: Role) -> bool {
    policy(spec, container, role) != Policy::Never
}

/// Whether the container is to be started, given its newest predecessor.
pub fn should_start(spec: &PodSpec, container: &Spec, role: Role, latest: Option<&Container>) -> bool {
    let Some(latest) = latest else { return true };
    match latest.state {
        ContainerState::Running => false,
        ContainerState::Unknown | ContainerState::Created => role != Role::Ephemeral,
        ContainerState::Exited => restarts_after(spec, container, role, latest.exit_code),
    }
}

fn rules_restart(container: &Spec, exit_code: i32) -> bool {
    container.restart_policy_rules.iter().flatten().any(|rule| {
        rule.action == "Restart"
            && rule.exit_codes.as_ref().is_some_and(|on| {
                let listed = on.values.iter().flatten().any(|code| *code == exit_code);
                match on.operator.as_str() {
                    "In" => listed,
                    "NotIn" => !listed,
                    _ => false,
                }
            })
    })
}
