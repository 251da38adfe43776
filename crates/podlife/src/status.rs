//! The pod's status (`generateAPIPodStatus`, pkg/kubelet/kubelet_pods.go).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState as ApiState, ContainerStatus, HostIP, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::condition::{self, OWNED, Verdict, stamped};
use crate::container_status::{lost, statuses};
use crate::decide::{Lifecycle, replacement};
use crate::observed::{ProbeResults, RuntimeStatus};
use crate::phase::{any_regular_started, phase};
use crate::shutdown::Cause;
use crate::spec::{self, Role};
use crate::{qos, whole_seconds};

/// Why a container that is to run does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// `CrashLoopBackOff`, `ErrImagePull`, `ImagePullBackOff`, `CreateContainerConfigError`, …
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What [`status`] looks at.
#[derive(Clone, Copy)]
pub struct StatusInputs<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// Its spec.
    pub spec: &'a PodSpec,
    /// What was reported last: the API's, or newer.
    pub previous: &'a PodStatus,
    /// The pod as the runtime has it.
    pub runtime: &'a RuntimeStatus,
    /// Verdicts of the probes.
    pub probes: &'a ProbeResults,
    /// Why containers wait, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Where the pod is in its life.
    pub lifecycle: Lifecycle,
    /// What began its end.
    pub cause: Option<&'a Cause>,
    /// The node's addresses, primary first.
    pub host_ips: &'a [IpAddr],
    /// Scheme of container ids, such as `skiff`.
    pub runtime_name: &'a str,
    /// The time.
    pub now: Timestamp,
}

impl StatusInputs<'_> {
    /// Nothing of the pod will be started any more, and nothing runs.
    pub fn ended(&self) -> bool {
        self.lifecycle == Lifecycle::Terminated
    }

    pub(crate) fn container_id(&self, id: &str) -> String {
        format!("{}://{id}", self.runtime_name)
    }
}

/// The status to report.
pub fn status(inputs: &StatusInputs) -> PodStatus {
    let previous = inputs.previous;
    let sidecar_or_init = |c: &_| if spec::is_sidecar(c) { Role::Sidecar } else { Role::Init };
    let list = |statuses: &Option<Vec<ContainerStatus>>| statuses.clone().unwrap_or_default();
    let inits = spec::init_containers(inputs.spec);
    let ephemeral = spec::ephemeral_containers(inputs.spec);
    let mut init = statuses(inputs, sidecar_or_init, inits, &list(&previous.init_container_statuses));
    let mut regular = statuses(
        inputs,
        |_| Role::Regular,
        &inputs.spec.containers,
        &list(&previous.container_statuses),
    );
    let extra = statuses(
        inputs,
        |_| Role::Ephemeral,
        &ephemeral,
        &list(&previous.ephemeral_container_statuses),
    );
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    if inputs.ended() {
        close(inputs, &mut init, &mut regular);
    }
    let all: Vec<_> = init.iter().chain(&regular).cloned().collect();
    let phase = final_phase(inputs, phase(inputs.spec, &all, inputs.ended()));
    let mut status = PodStatus {
        phase: Some(phase.clone()),
        qos_class: Some(qos::class(inputs.spec).as_str().to_string()),
        start_time: previous
            .start_time
            .clone()
            .or_else(|| Some(Time(whole_seconds(inputs.now)))),
        nominated_node_name: previous.nominated_node_name.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        observed_generation: inputs.pod.metadata.generation,
        ..PodStatus::default()
    };
    add_reason(inputs, &phase, &mut status);
    add_addresses(inputs, &mut status);
    status.conditions = Some(conditions(inputs, &all, &phase));
    status.container_statuses = Some(regular);
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.ephemeral_container_statuses = (!extra.is_empty()).then_some(extra);
    status
}

/// An ended pod has ended containers only: of one without a trace, failure is assumed (`TerminatePod`,
/// pkg/kubelet/status/status_manager.go).
fn close(inputs: &StatusInputs, init: &mut [ContainerStatus], regular: &mut [ContainerStatus]) {
    let started = any_regular_started(inputs.spec, regular);
    let open = |status: &ContainerStatus| status.state.as_ref().is_none_or(|s| s.terminated.is_none());
    let mark = |status: &mut ContainerStatus| {
        let exit = lost("The container could not be located when the pod was terminated");
        status.state = Some(ApiState {
            terminated: Some(exit),
            ..ApiState::default()
        });
        status.ready = false;
        status.started = Some(false);
    };
    regular.iter_mut().filter(|s| open(s)).for_each(mark);
    let ran = |s: &ContainerStatus| s.last_state.as_ref().is_some_and(|l| l.terminated.is_some());
    init.iter_mut()
        .filter(|s| open(s) && (started || ran(s)))
        .for_each(mark);
}

fn final_phase(inputs: &StatusInputs, computed: &str) -> String {
    let of_api = inputs.pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let of_previous = inputs.previous.phase.as_deref();
    let ends = |phase: Option<&str>| phase.filter(|p| matches!(*p, "Succeeded" | "Failed")).map(String::from);
    if let Some(phase) = ends(of_api).or_else(|| ends(of_previous)) {
        return phase;
    }
    if matches!(inputs.cause, Some(Cause::Failed { .. })) {
        return "Failed".into();
    }
    match (inputs.lifecycle, computed) {
        (Lifecycle::Terminated, "Pending" | "Running" | "Unknown") => "Failed".into(),
        _ => computed.into(),
    }
}

fn add_reason(inputs: &StatusInputs, phase: &str, status: &mut PodStatus) {
    let api = inputs.pod.status.as_ref();
    if inputs.previous.phase.as_deref() == Some(phase) {
        status.reason = inputs
            .previous
            .reason
            .clone()
            .or_else(|| api.and_then(|s| s.reason.clone()));
        status.message = inputs
            .previous
            .message
            .clone()
            .or_else(|| api.and_then(|s| s.message.clone()));
    }
    if let Some(Cause::Failed { reason, message }) = inputs.cause {
        status.reason = Some(reason.clone());
        status.message = Some(message.clone());
    }
}

fn add_addresses(inputs: &StatusInputs, status: &mut PodStatus) {
    let hosts: Vec<String> = inputs.host_ips.iter().map(IpAddr::to_string).collect();
    status.host_ip = hosts.first().cloned();
    status.host_ips = (!hosts.is_empty()).then(|| hosts.iter().take(2).map(|ip| HostIP { ip: ip.clone() }).collect());
    let kept = || {
        inputs
            .previous
            .pod_ips
            .iter()
            .flatten()
            .map(|p| p.ip.clone())
            .collect::<Vec<_>>()
    };
    let ips = if spec::host_network(inputs.spec) {
        let kept = kept();
        if kept.is_empty() { hosts } else { kept }
    } else {
        let active = inputs
            .runtime
            .active_sandbox()
            .map(|s| s.ips.iter().map(IpAddr::to_string).collect::<Vec<_>>());
        active.filter(|ips| !ips.is_empty()).unwrap_or_else(kept)
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().take(2).map(|ip| PodIP { ip }).collect());
}

fn conditions(
    inputs: &StatusInputs,
    all: &[ContainerStatus],
    phase: &str,
) -> Vec<k8s_openapi::api::core::v1::PodCondition> {
    let api = inputs
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let previous = inputs.previous.conditions.as_deref().unwrap_or_default();
    let mut conditions: Vec<_> = api
        .iter()
        .filter(|c| !OWNED.contains(&c.type_.as_str()))
        .cloned()
        .collect();
    if let Some(disrupted) = previous.iter().find(|c| c.type_ == "DisruptionTarget")
        && !conditions.iter().any(|c| c.type_ == "DisruptionTarget")
    {
        conditions.push(disrupted.clone());
    }
    let sandbox = replacement(inputs.spec, inputs.runtime).is_none();
    let plain = |holds| Verdict {
        holds,
        reason: "",
        message: String::new(),
    };
    let verdicts = [
        ("PodReadyToStartContainers", plain(sandbox)),
        ("Initialized", condition::initialized(inputs.spec, all, phase)),
        ("Ready", condition::ready(inputs.spec, &conditions, all, phase)),
        ("ContainersReady", condition::containers_ready(inputs.spec, all, phase)),
        ("PodScheduled", plain(true)),
    ];
    for (kind, verdict) in verdicts {
        let old = if previous.is_empty() { api } else { previous };
        conditions.push(stamped(kind, verdict, old, inputs.pod.metadata.generation, inputs.now));
    }
    conditions
}
