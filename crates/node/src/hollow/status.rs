//! What a kubelet would say of a simulated pod or node.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::stages::Phase;

/// The status of a pod that has come into a phase, as a strategic merge patch of it.
pub(super) fn of_pod(pod: &Value, phase: Phase, host: Ipv4Addr, ip: Ipv4Addr, now: Timestamp) -> Value {
    let now = api::time::format(now);
    let (ready, reason) = match phase {
        Phase::Running => ("True", None),
        Phase::Succeeded => ("False", Some("PodCompleted")),
        Phase::Failed => ("False", Some("PodFailed")),
    };
    let condition = |kind: &str, status: &str, reason: Option<&str>| {
        let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": now});
        if let Some(reason) = reason {
            condition["reason"] = json!(reason);
        }
        condition
    };
    let initialized = Some("PodCompleted").filter(|_| phase == Phase::Succeeded);
    let sandbox = if phase == Phase::Running { "True" } else { "False" };
    let mut status = json!({
        "phase": phase_name(phase),
        "conditions": [
            condition("PodReadyToStartContainers", sandbox, None),
            condition("Initialized", "True", initialized),
            condition("Ready", ready, reason),
            condition("ContainersReady", ready, reason),
        ],
        "containerStatuses": containers(&pod["spec"]["containers"], phase, &pod["status"]["startTime"], &now),
    });
    if pod["status"]["startTime"].is_null() {
        status["startTime"] = json!(now);
        let address = match pod["spec"]["hostNetwork"].as_bool() {
            Some(true) => host,
            _ => ip,
        }
        .to_string();
        let host = host.to_string();
        status["hostIP"] = json!(host);
        status["hostIPs"] = json!([{"ip": host}]);
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    let inits = init_containers(&pod["spec"]["initContainers"], phase, &now);
    if !inits.is_empty() {
        status["initContainerStatuses"] = Value::from(inits);
    }
    status
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    }
}

fn containers(containers: &Value, phase: Phase, started: &Value, now: &str) -> Vec<Value> {
    let each = containers.as_array().into_iter().flatten();
    each.map(|container| container_status(container, phase, started, now))
        .collect()
}

/// Those that run beside the others are as they are; the rest has ended well.
fn init_containers(containers: &Value, phase: Phase, now: &str) -> Vec<Value> {
    let each = containers.as_array().into_iter().flatten();
    each.map(|container| {
        let phase = match container["restartPolicy"].as_str() {
            Some("Always") => phase,
            _ => Phase::Succeeded,
        };
        let mut status = container_status(container, phase, &Value::Null, now);
        status["ready"] = json!(true);
        status
    })
    .collect()
}

fn container_status(container: &Value, phase: Phase, started: &Value, now: &str) -> Value {
    let ended = |code: u8, reason: &str| {
        let started = started.as_str().unwrap_or(now);
        json!({"terminated": {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now}})
    };
    let state = match phase {
        Phase::Running => json!({"running": {"startedAt": now}}),
        Phase::Succeeded => ended(0, "Completed"),
        Phase::Failed => ended(143, "Error"),
    };
    let running = phase == Phase::Running;
    json!({
        "name": container["name"], "image": container["image"], "imageID": container["image"],
        "ready": running, "started": running, "restartCount": 0, "state": state,
    })
}

/// The conditions of a node that is well.
pub(super) fn node_conditions(now: Timestamp) -> Vec<Value> {
    let well = [
        (
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            false,
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ];
    let now = api::time::format(now);
    well.into_iter()
        .map(|(kind, is, reason, message)| {
            json!({
                "type": kind, "status": if is { "True" } else { "False" }, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            })
        })
        .collect()
}
