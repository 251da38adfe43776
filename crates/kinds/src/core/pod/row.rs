//! The row of a pod, as `kubectl get pods` shows it (`printPod`).

use api::{Value, meta};
use apiserver::kind::{Column, Row};
use jiff::Timestamp;
use serde_json::json;

use crate::{cells, tree};

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Ready", "Ready containers of all that run for good."),
        Column::string("Status", "What the pod is doing, in one word."),
        Column::string("Restarts", "How often containers were restarted, and when last."),
        Column::age(),
        Column::string("IP", "Address of the pod.").wide(),
        Column::string("Node", "Node it runs on.").wide(),
        Column::string("Nominated Node", "Node on which room is being made for it.").wide(),
        Column::string("Readiness Gates", "Fulfilled conditions of those the pod demands.").wide(),
    ]
}

pub(super) fn row(pod: &Value, now: Timestamp) -> Row {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, cells::since(Some(at), now)),
        _ => summary.restarts.to_string(),
    };
    let address = tree::list(pod, "status.podIPs")
        .first()
        .map_or("", |address| tree::text(address, "ip"));
    let cells = vec![
        cells::name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        cells::age(pod, now),
        cells::or(address, "<none>"),
        cells::or(tree::text(pod, "spec.nodeName"), "<none>"),
        cells::or(tree::text(pod, "status.nominatedNodeName"), "<none>"),
        readiness_gates(pod).into(),
    ];
    Row {
        cells,
        conditions: completed(pod),
    }
}

/// Marks rows of pods that have ended, so that clients can grey them out.
fn completed(pod: &Value) -> Vec<Value> {
    let phase = tree::text(pod, "status.phase");
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}

fn condition<'v>(pod: &'v Value, kind: &str) -> Option<&'v Value> {
    tree::list(pod, "status.conditions")
        .iter()
        .find(|condition| tree::text(condition, "type") == kind)
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| tree::text(condition, "status") == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = tree::list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let fulfilled = gates
        .iter()
        .filter(|gate| is_true(pod, tree::text(gate, "conditionType")))
        .count();
    format!("{fulfilled}/{}", gates.len())
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let sidecars = tree::list(pod, "spec.initContainers")
            .iter()
            .filter(|container| is_sidecar(container));
        let mut summary = Summary {
            ready: 0,
            total: tree::list(pod, "spec.containers").len() + sidecars.count(),
            reason: tree::text(pod, "status.phase").to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let reason = tree::text(pod, "status.reason");
        if !reason.is_empty() {
            summary.reason = reason.to_owned();
        }
        let gated = condition(pod, "PodScheduled")
            .is_some_and(|condition| tree::text(condition, "reason") == "SchedulingGated");
        if gated {
            summary.reason = "SchedulingGated".to_owned();
        }
        let sidecar_restarts = summary.count_init(pod);
        if sidecar_restarts.settled || is_true(pod, "Initialized") {
            summary.restarts = sidecar_restarts.count;
            summary.last_restart = sidecar_restarts.last;
            summary.count_regular(pod);
        }
        if meta::is_deleting(pod) {
            let lost = tree::text(pod, "status.reason") == "NodeLost";
            summary.reason = if lost { "Unknown" } else { "Terminating" }.to_owned();
        }
        summary
    }

    /// Counts init containers until the first that is not done; names what that one does.
    fn count_init(&mut self, pod: &Value) -> SidecarRestarts {
        let specs = tree::list(pod, "spec.initContainers");
        let mut sidecars = SidecarRestarts {
            count: 0,
            last: None,
            settled: true,
        };
        for (index, status) in tree::list(pod, "status.initContainerStatuses").iter().enumerate() {
            let name = tree::text(status, "name");
            let sidecar = specs
                .iter()
                .any(|container| tree::text(container, "name") == name && is_sidecar(container));
            let restarted = cells::moment(status, "lastState.terminated.finishedAt");
            self.restarts += tree::count(status, "restartCount");
            self.last_restart = self.last_restart.max(restarted);
            if sidecar {
                sidecars.count += tree::count(status, "restartCount");
                sidecars.last = sidecars.last.max(restarted);
            }
            let terminated = tree::at(status, "state.terminated");
            if terminated.is_some_and(|state| tree::count(state, "exitCode") == 0) {
                continue;
            }
            if sidecar && tree::flag(status, "started") {
                self.ready += usize::from(tree::flag(status, "ready"));
                continue;
            }
            let waiting = tree::text(status, "state.waiting.reason");
            let what = match terminated {
                Some(state) => end_of(state),
                None if !waiting.is_empty() && waiting != "PodInitializing" => waiting.to_owned(),
                None => format!("{index}/{}", specs.len()),
            };
            self.reason = format!("Init:{what}");
            sidecars.settled = false;
            break;
        }
        sidecars
    }

    fn count_regular(&mut self, pod: &Value) {
        let mut running = false;
        for status in tree::list(pod, "status.containerStatuses").iter().rev() {
            self.restarts += tree::count(status, "restartCount");
            self.last_restart = self
                .last_restart
                .max(cells::moment(status, "lastState.terminated.finishedAt"));
            let waiting = tree::text(status, "state.waiting.reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(state) = tree::at(status, "state.terminated") {
                self.reason = end_of(state);
            } else if tree::flag(status, "ready") && tree::at(status, "state.running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if is_true(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

struct SidecarRestarts {
    count: i64,
    last: Option<Timestamp>,
    settled: bool,
}

fn is_sidecar(container: &Value) -> bool {
    tree::text(container, "restartPolicy") == "Always"
}

/// How a container ended: its reason, its signal or its exit code.
fn end_of(state: &Value) -> String {
    let (reason, signal) = (tree::text(state, "reason"), tree::count(state, "signal"));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", tree::count(state, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells_of(spec: Value, status: Value) -> (Value, Value, Value) {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        let row = row(&pod, Timestamp::from_second(100).unwrap());
        assert_eq!(row.cells.len(), columns().len());
        (row.cells[1].clone(), row.cells[2].clone(), row.cells[3].clone())
    }

    #[test]
    fn rows_are_upstreams() {
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let one = json!({"containers": [{"name": "a"}]});
        let ready = json!({"name": "a", "ready": true, "state": {"running": {}}});
        let cases = [
            (one.clone(), json!({"phase": "Pending"}), "0/1", "Pending", "0"),
            (
                one.clone(),
                json!({"phase": "Running", "containerStatuses": [ready]}),
                "1/1",
                "Running",
                "0",
            ),
            (
                one.clone(),
                json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "1970-01-01T00:01:10Z"}}}]}),
                "0/1",
                "CrashLoopBackOff",
                "3 (30s ago)",
            ),
            (
                one.clone(),
                json!({"phase": "Failed", "reason": "Evicted"}),
                "0/1",
                "Evicted",
                "0",
            ),
            (
                one.clone(),
                json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
                "0/1",
                "Completed",
                "0",
            ),
            (
                one.clone(),
                json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
                "0/1",
                "ExitCode:3",
                "0",
            ),
            (
                one,
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                "0/1",
                "SchedulingGated",
                "0",
            ),
            (
                two.clone(),
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                "0/3",
                "Init:0/2",
                "0",
            ),
            (
                two.clone(),
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
                "0/3",
                "Init:ErrImagePull",
                "0",
            ),
            (
                two.clone(),
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 1, "signal": 9}}}]}),
                "0/3",
                "Init:Signal:9",
                "2",
            ),
            (
                two,
                json!({"phase": "Running", "initContainerStatuses": [
                {"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}}],
                "containerStatuses": [ready, {"name": "b", "state": {"running": {}}}]}),
                "2/3",
                "Running",
                "1",
            ),
        ];
        for (spec, status, ready, reason, restarts) in cases {
            assert_eq!(
                cells_of(spec, status.clone()),
                (json!(ready), json!(reason), json!(restarts)),
                "{status}"
            );
        }
    }

    #[test]
    fn a_pod_that_goes_says_so() {
        let pod = json!({"metadata": {"name": "p", "deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
        assert_eq!(row(&pod, Timestamp::UNIX_EPOCH).cells[2], "Terminating");
        let pod = json!({"status": {"phase": "Succeeded"}});
        assert_eq!(row(&pod, Timestamp::UNIX_EPOCH).conditions[0]["type"], "Completed");
    }
}
