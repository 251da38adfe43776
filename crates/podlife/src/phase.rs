//! The pod's phase (`getPhase`, pkg/kubelet/kubelet_pods.go).

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, PodSpec};

use crate::restart::{self, Policy};
use crate::spec;

#[derive(Default)]
struct Count {
    pending_init: usize,
    failed_init: usize,
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    succeeded: usize,
}

/// The phase that container statuses amount to. `ended`: nothing will be started any more.
pub fn phase(pod_spec: &PodSpec, statuses: &[ContainerStatus], ended: bool) -> &'static str {
    let mut count = Count::default();
    for container in spec::init_containers(pod_spec) {
        if spec::is_sidecar(container) {
            count.sidecar(find(statuses, container));
        } else {
            count.init(find(statuses, container));
        }
    }
    for container in &pod_spec.containers {
        count.regular(find(statuses, container));
    }
    let policy = restart::pod_policy(pod_spec);
    if count.failed_init > 0 && policy == Policy::Never {
        return "Failed";
    }
    if count.pending_init > 0 && !any_regular_started(pod_spec, statuses) || count.waiting > 0 {
        return "Pending";
    }
    if count.running > 0 && count.unknown == 0 {
        return "Running";
    }
    if count.running > 0 || count.stopped == 0 || count.unknown > 0 {
        return "Pending";
    }
    let succeeded = count.stopped == count.succeeded;
    match policy {
        _ if ended => {
            if succeeded {
                "Succeeded"
            } else {
                "Failed"
            }
        }
        _ if restarting(pod_spec, statuses) => "Running",
        _ => {
            if succeeded {
                "Succeeded"
            } else {
                "Failed"
            }
        }
    }
}

/// Some container that stopped is going to be started again.
fn restarting(pod_spec: &PodSpec, statuses: &[ContainerStatus]) -> bool {
    pod_spec.containers.iter().any(|container| {
        find(statuses, container)
            .and_then(last_exit)
            .is_some_and(|exit| restart::restarts_after(pod_spec, container, spec::Role::Regular, exit.exit_code))
    })
}

fn last_exit(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = status.state.as_ref().and_then(|s| s.terminated.as_ref());
    now.or_else(|| status.last_state.as_ref().and_then(|s| s.terminated.as_ref()))
}

/// The status of the container.
pub fn find<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == container.name)
}

/// Some regular container runs or ended: all init containers were done.
pub fn any_regular_started(pod_spec: &PodSpec, statuses: &[ContainerStatus]) -> bool {
    pod_spec
        .containers
        .iter()
        .filter_map(|c| find(statuses, c))
        .any(|status| {
            status
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        })
}

impl Count {
    fn init(&mut self, status: Option<&ContainerStatus>) {
        let Some(state) = status.and_then(|s| s.state.as_ref()) else {
            self.pending_init += 1;
            return;
        };
        let last = status
            .and_then(|s| s.last_state.as_ref())
            .and_then(|s| s.terminated.as_ref());
        match (&state.running, &state.terminated, &state.waiting, last) {
            (Some(_), ..) => self.pending_init += 1,
            (_, Some(exit), ..) => self.failed_init += usize::from(exit.exit_code != 0),
            (_, _, Some(_), Some(exit)) => self.failed_init += usize::from(exit.exit_code != 0),
            _ => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: Option<&ContainerStatus>) {
        let Some(status) = status else {
            self.unknown += 1;
            return;
        };
        let Some(state) = &status.state else {
            self.pending_init += 1;
            self.unknown += 1;
            return;
        };
        if state.running.is_some() {
            self.pending_init += usize::from(status.started != Some(true));
            self.running += 1;
        } else if state.waiting.is_some() {
            let ended = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
            self.pending_init += usize::from(!ended);
            self.waiting += usize::from(!ended);
        }
    }

    fn regular(&mut self, status: Option<&ContainerStatus>) {
        let Some((status, state)) = status.and_then(|s| Some((s, s.state.as_ref()?))) else {
            self.unknown += 1;
            return;
        };
        if state.running.is_some() {
            self.running += 1;
        } else if let Some(exit) = &state.terminated {
            self.stopped += 1;
            self.succeeded += usize::from(exit.exit_code == 0);
        } else if state.waiting.is_some() {
            if status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
                self.stopped += 1;
            } else {
                self.waiting += 1;
            }
        } else {
            self.unknown += 1;
        }
    }
}
