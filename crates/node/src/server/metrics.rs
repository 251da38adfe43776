//! `/metrics` and `/metrics/resource` (pkg/kubelet/metrics/collectors/resource_metrics.go), in Prometheus' text form.

use std::fmt::Write;

use http::StatusCode;
use runtime::{ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState};

use super::{Answer, Refusal};
use crate::context::Context;
use crate::labels;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A family of samples, written when it has any.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    samples: String,
}

impl Family {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Family {
        Family {
            name,
            help,
            kind,
            samples: String::new(),
        }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: f64, millis: Option<i64>) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let time = millis.map(|millis| format!(" {millis}")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(self.samples, "{}{labels} {value}{time}", self.name);
    }

    fn text(&self) -> String {
        if self.samples.is_empty() {
            return String::new();
        }
        format!(
            "# HELP {0} [STABLE] {1}\n# TYPE {0} {2}\n{3}",
            self.name, self.help, self.kind, self.samples
        )
    }
}

fn answer(families: &[Family]) -> Answer {
    let text: String = families.iter().map(Family::text).collect();
    Ok(super::answer(StatusCode::OK, CONTENT_TYPE, super::full(text)))
}

/// What metrics-server reads.
pub(super) async fn resource(ctx: &Context) -> Answer {
    let mut cpu = Family::new(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    let mut memory = Family::new(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    );
    let mut start = Family::new(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    let mut pod_cpu = Family::new(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    let mut pod_memory = Family::new(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
    );
    let filter = PodSandboxFilter {
        state: Some(PodSandboxState::Ready),
        ..PodSandboxFilter::default()
    };
    for sandbox in ctx
        .runtime()
        .list_pod_sandboxes(filter)
        .await
        .map_err(Refusal::internal)?
    {
        let Ok(stats) = ctx.runtime().pod_sandbox_stats(&sandbox.id).await else {
            continue;
        };
        let (namespace, pod) = (sandbox.metadata.namespace.as_str(), sandbox.metadata.name.as_str());
        let of_pod = [("namespace", namespace), ("pod", pod)];
        let millis = Some(stats.timestamp.as_millisecond());
        pod_cpu.add(&of_pod, stats.cpu.usage_core_nano_seconds as f64 / 1e9, millis);
        pod_memory.add(&of_pod, stats.memory.working_set_bytes as f64, millis);
        for one in &stats.containers {
            let of_container = [("container", one.name.as_str()), ("namespace", namespace), ("pod", pod)];
            let millis = Some(one.timestamp.as_millisecond());
            cpu.add(&of_container, one.cpu.usage_core_nano_seconds as f64 / 1e9, millis);
            memory.add(&of_container, one.memory.working_set_bytes as f64, millis);
            if let Ok(status) = ctx.runtime().container_status(&one.id).await
                && let Some(started) = status.started_at
            {
                start.add(&of_container, started.as_millisecond() as f64 / 1e3, None);
            }
        }
    }
    let load = ctx.config.machine.load();
    let millis = Some(ctx.clock.now().as_millisecond());
    let mut node_cpu = Family::new(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    node_cpu.add(&[], load.cpu_nanos as f64 / 1e9, millis);
    let mut node_memory = Family::new(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
    );
    node_memory.add(&[], load.memory_working_set as f64, millis);
    let mut errors = Family::new(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    errors.add(&[], 0.0, None);
    answer(&[cpu, memory, start, node_cpu, node_memory, pod_cpu, pod_memory, errors])
}

/// The node's own.
pub(super) async fn own(ctx: &Context) -> Answer {
    let containers = ctx
        .runtime()
        .list_containers(ContainerFilter::default())
        .await
        .map_err(Refusal::internal)?;
    let mut running = Family::new(
        "kubelet_running_containers",
        "gauge",
        "Number of containers currently running",
    );
    for (state, name) in [
        (ContainerState::Created, "created"),
        (ContainerState::Running, "running"),
        (ContainerState::Exited, "exited"),
    ] {
        let count = containers.iter().filter(|c| c.state == state).count();
        running.add(&[("container_state", name)], count as f64, None);
    }
    let with_running: std::collections::BTreeSet<_> = containers
        .iter()
        .filter(|c| c.state == ContainerState::Running)
        .filter_map(|c| c.labels.get(labels::POD_UID))
        .collect();
    let mut pods = Family::new(
        "kubelet_running_pods",
        "gauge",
        "Number of pods that have a running pod sandbox",
    );
    pods.add(&[], with_running.len() as f64, None);
    let mut name = Family::new("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    name.add(&[("node", &ctx.config.name)], 1.0, None);
    let mut start = Family::new(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
    );
    start.add(&[], ctx.started_at.as_millisecond() as f64 / 1e3, None);
    answer(&[running, pods, name, start])
}
