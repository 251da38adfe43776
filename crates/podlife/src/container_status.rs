//! `containerStatuses` (`convertToAPIContainerStatuses`, pkg/kubelet/kubelet_pods.go; readiness as
//! pkg/kubelet/prober/prober_manager.go).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::observed::{Container, ContainerState, ProbeResult};
use crate::restart;
use crate::spec::Role;
use crate::status::StatusInputs;
use crate::whole_seconds;

/// Statuses of these containers, in the order given.
pub(crate) fn statuses(
    inputs: &StatusInputs,
    role_of: impl Fn(&Spec) -> Role,
    containers: &[Spec],
    previous: &[ContainerStatus],
) -> Vec<ContainerStatus> {
    let one = |spec: &Spec| {
        let old = previous.iter().find(|status| status.name == spec.name);
        let role = role_of(spec);
        let mut status = one_status(inputs, spec, old);
        add_waiting(inputs, spec, role, &mut status);
        let container = inputs.runtime.latest(&spec.name);
        add_readiness(inputs, spec, role, container, &mut status);
        status
    };
    containers.iter().map(one).collect()
}

fn one_status(inputs: &StatusInputs, spec: &Spec, old: Option<&ContainerStatus>) -> ContainerStatus {
    let mut found = inputs.runtime.containers.iter().filter(|c| c.name == spec.name);
    let Some(newest) = found.next() else {
        return without_container(inputs, spec, old);
    };
    let mut status = converted(inputs, spec, newest, old);
    status.last_state = match found.find(|c| c.state == ContainerState::Exited) {
        Some(before) => Some(ApiState {
            terminated: Some(terminated(inputs, before)),
            ..ApiState::default()
        }),
        // The runtime may have dropped the predecessor; what was reported stays true.
        None if old.is_some_and(|o| o.container_id == status.container_id) => old.and_then(|o| o.last_state.clone()),
        None => old.and_then(exit_of).map(|exit| ApiState {
            terminated: Some(exit),
            ..ApiState::default()
        }),
    };
    status.last_state.get_or_insert_default();
    status
}

fn exit_of(old: &ContainerStatus) -> Option<ContainerStateTerminated> {
    let now = old.state.as_ref().and_then(|s| s.terminated.clone());
    now.or_else(|| old.last_state.as_ref().and_then(|s| s.terminated.clone()))
}

fn without_container(inputs: &StatusInputs, spec: &Spec, old: Option<&ContainerStatus>) -> ContainerStatus {
    let initializing = inputs
        .spec
        .init_containers
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    let reason = if initializing {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, "")),
        last_state: old
            .and_then(|o| o.last_state.clone())
            .or_else(|| Some(ApiState::default())),
        restart_count: old.map_or(0, |o| o.restart_count),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    let Some(state) = &old.state else { return status };
    if state.terminated.is_some() {
        return old.clone();
    }
    if state.running.is_some() && exit_of(old).is_none() {
        status.last_state = Some(ApiState {
            terminated: Some(lost(
                "The container could not be located when the pod was deleted.  The container used to be Running",
            )),
            ..ApiState::default()
        });
        if inputs.pod.metadata.deletion_timestamp.is_none() {
            status.restart_count += 1;
        }
    }
    status
}

/// The exit of a container that nothing is known of any more.
pub(crate) fn lost(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        ..ContainerStateTerminated::default()
    }
}

fn waiting(reason: &str, message: &str) -> ApiState {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: some(reason),
            message: some(message),
        }),
        ..ApiState::default()
    }
}

fn converted(inputs: &StatusInputs, spec: &Spec, found: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: found.name.clone(),
        image: found.image.clone(),
        image_id: found.image_id.clone(),
        container_id: Some(inputs.container_id(&found.id)),
        restart_count: found.restart_count,
        ..ContainerStatus::default()
    };
    let was_running = old.and_then(|o| o.state.as_ref()).is_some_and(|s| s.running.is_some());
    status.state = Some(match found.state {
        ContainerState::Running => ApiState {
            running: Some(ContainerStateRunning {
                started_at: time(found.started_at),
            }),
            ..Default::default()
        },
        ContainerState::Exited => ApiState {
            terminated: Some(terminated(inputs, found)),
            ..ApiState::default()
        },
        ContainerState::Unknown if was_running => {
            status.restart_count = old.map_or(0, |o| o.restart_count) + 1;
            let message = "The container could not be located when the pod was terminated";
            ApiState {
                terminated: Some(lost(message)),
                ..ApiState::default()
            }
        }
        ContainerState::Created | ContainerState::Unknown => waiting("", ""),
    });
    if found.state == ContainerState::Running {
        add_running_details(spec, found, &mut status);
    }
    add_volume_mounts(spec, &mut status);
    status
}

fn add_running_details(spec: &Spec, found: &Container, status: &mut ContainerStatus) {
    status.user = found.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: *uid,
            gid: *gid,
            supplemental_groups: Some(groups.clone()),
        }),
    });
    status.resources = Some(spec.resources.clone().unwrap_or_default());
    status.allocated_resources = spec.resources.as_ref().and_then(|r| r.requests.clone());
}

fn add_volume_mounts(spec: &Spec, status: &mut ContainerStatus) {
    let mounts = spec.volume_mounts.iter().flatten().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: (mount.read_only == Some(true)).then(|| "Disabled".to_string()),
        ..VolumeMountStatus::default()
    });
    let mounts: Vec<_> = mounts.collect();
    status.volume_mounts = (!mounts.is_empty()).then_some(mounts);
}

fn terminated(inputs: &StatusInputs, found: &Container) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(inputs.container_id(&found.id)),
        exit_code: found.exit_code,
        finished_at: time(found.finished_at),
        message: (!found.message.is_empty()).then(|| found.message.clone()),
        reason: (!found.reason.is_empty()).then(|| found.reason.clone()),
        signal: None,
        started_at: time(found.started_at),
    }
}

fn time(at: Option<Timestamp>) -> Option<Time> {
    at.map(|at| Time(whole_seconds(at)))
}

/// A container that is to be started is waiting for whatever keeps it.
fn add_waiting(inputs: &StatusInputs, spec: &Spec, role: Role, status: &mut ContainerStatus) {
    let Some(why) = inputs.waiting.get(&spec.name) else {
        return;
    };
    let latest = inputs.runtime.latest(&spec.name);
    let stays = inputs.pod.metadata.deletion_timestamp.is_some()
        || inputs.ended()
        || !restart::should_start(inputs.spec, spec, role, latest);
    if stays {
        return;
    }
    if let Some(state) = status.state.take().filter(|state| state.terminated.is_some()) {
        status.last_state = Some(state);
    }
    status.state = Some(waiting(&why.reason, &why.message));
}

fn add_readiness(
    inputs: &StatusInputs,
    spec: &Spec,
    role: Role,
    container: Option<&Container>,
    status: &mut ContainerStatus,
) {
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let verdict = |results: &std::collections::BTreeMap<String, ProbeResult>| {
        container
            .and_then(|c| results.get(&c.id).copied())
            .unwrap_or(ProbeResult::Unknown)
    };
    let started = running && (spec.startup_probe.is_none() || verdict(&inputs.probes.startup) == ProbeResult::Success);
    status.started = Some(started);
    status.ready = match role {
        Role::Init => status
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .is_some_and(|exit| exit.exit_code == 0),
        Role::Ephemeral => {
            status.started = None;
            false
        }
        Role::Sidecar | Role::Regular => {
            started && (spec.readiness_probe.is_none() || verdict(&inputs.probes.readiness) == ProbeResult::Success)
        }
    };
}
