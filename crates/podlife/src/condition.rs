//! The pod's conditions (pkg/kubelet/status/generate.go).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::phase::{any_regular_started, find};
use crate::{spec, whole_seconds};

/// Types that the node owns; others are left as they are.
pub const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// A verdict without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// True, or false with a reason.
    pub holds: bool,
    /// Empty where upstream has none.
    pub reason: &'static str,
    /// Empty where upstream has none.
    pub message: String,
}

impl Verdict {
    fn yes() -> Verdict {
        Verdict {
            holds: true,
            reason: "",
            message: String::new(),
        }
    }

    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict {
            holds: false,
            reason,
            message,
        }
    }
}

/// `ContainersReady`.
pub fn containers_ready(pod_spec: &PodSpec, statuses: &[ContainerStatus], phase: &str) -> Verdict {
    if statuses.is_empty() {
        return Verdict::no("UnknownContainerStatuses", String::new());
    }
    let sidecars = spec::init_containers(pod_spec).iter().filter(|c| spec::is_sidecar(c));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in sidecars.chain(&pod_spec.containers) {
        match find(statuses, container) {
            Some(status) if status.ready => {}
            Some(_) => unready.push(container.name.as_str()),
            None => unknown.push(container.name.as_str()),
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    let message = complaints(&[("unknown", &unknown), ("unready", &unready)]);
    if message.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ContainersNotReady", message)
    }
}

/// `Ready`; `conditions` are those that readiness gates look at.
pub fn ready(pod_spec: &PodSpec, conditions: &[PodCondition], statuses: &[ContainerStatus], phase: &str) -> Verdict {
    let containers = containers_ready(pod_spec, statuses, phase);
    if !containers.holds {
        return containers;
    }
    let mut messages = Vec::new();
    for gate in pod_spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match conditions.iter().find(|c| c.type_ == *kind) {
            None => messages.push(format!(
                "corresponding condition of pod readiness gate {kind:?} does not exist."
            )),
            Some(c) if c.status != "True" => {
                messages.push(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                ));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", messages.join(", "))
    }
}

/// `Initialized`.
pub fn initialized(pod_spec: &PodSpec, statuses: &[ContainerStatus], phase: &str) -> Verdict {
    let inits = spec::init_containers(pod_spec);
    if statuses.is_empty() && !inits.is_empty() {
        return Verdict::no("UnknownContainerStatuses", String::new());
    }
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in inits {
        let Some(status) = find(statuses, container) else {
            unknown.push(container.name.as_str());
            continue;
        };
        let done = if spec::is_sidecar(container) {
            status.started == Some(true)
        } else {
            status.ready
        };
        if !done {
            incomplete.push(container.name.as_str());
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict {
            holds: true,
            reason: "PodCompleted",
            message: String::new(),
        };
    }
    if any_regular_started(pod_spec, statuses) {
        return Verdict::yes();
    }
    let message = complaints(&[("unknown", &unknown), ("incomplete", &incomplete)]);
    if message.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ContainersNotInitialized", message)
    }
}

fn complaints(lists: &[(&str, &[&str])]) -> String {
    let some = lists.iter().filter(|(_, names)| !names.is_empty());
    let texts: Vec<_> = some
        .map(|(what, names)| format!("containers with {what} status: [{}]", names.join(" ")))
        .collect();
    texts.join(", ")
}

/// The condition; its time is the previous one's unless the status changed.
pub fn stamped(
    kind: &str,
    verdict: Verdict,
    previous: &[PodCondition],
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let old = previous.iter().find(|c| c.type_ == kind);
    let kept = old
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: (!verdict.reason.is_empty()).then(|| verdict.reason.to_string()),
        message: (!verdict.message.is_empty()).then_some(verdict.message),
        last_transition_time: kept.or(Some(Time(whole_seconds(now)))),
        last_probe_time: None,
        observed_generation: generation,
    }
}
