//! Whether a node takes a pod that was bound to it (`AdmissionCheck`, pkg/scheduler/eventhandlers.go, as
//! pkg/kubelet/lifecycle/predicate.go uses it). Schedulers have looked before; but two may have bound pods at a time, and
//! some pods are bound by nobody who looks.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerPort, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{amount, resources, spec};

/// Why the node does not take a pod, which fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `OutOfcpu`, `NodePorts`, …
    pub reason: String,
    /// For people.
    pub message: String,
}

type Measure = fn(&PodSpec) -> i64;

/// What pods share, and how much of it they ask for: CPU in thousandths, the rest in units.
const SHARED: [(&str, Measure, fn(&Quantity) -> i64); 3] = [
    ("cpu", resources::pod_cpu_request, amount::milli),
    ("memory", resources::pod_memory_request, amount::value),
    ("ephemeral-storage", resources::pod_storage_request, amount::value),
];

/// Why the pod does not fit beside the others on a node that can give so much; `None` if it does.
pub fn refuse<'a>(
    pod: &PodSpec,
    others: impl Iterator<Item = &'a PodSpec> + Clone,
    allocatable: &BTreeMap<String, Quantity>,
) -> Option<Refusal> {
    let there = |name: &str, read: fn(&Quantity) -> i64| allocatable.get(name).map(read);
    let count = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    if let Some(most) = there("pods", amount::value).filter(|most| count >= *most) {
        return Some(short("pods", 1, count, most));
    }
    for (name, measure, read) in SHARED {
        let asked = measure(pod);
        let Some(capacity) = there(name, read).filter(|_| asked > 0) else {
            continue;
        };
        let used: i64 = others.clone().map(measure).fold(0, i64::saturating_add);
        if asked > capacity.saturating_sub(used) {
            return Some(short(name, asked, used, capacity));
        }
    }
    let taken: Vec<HostPort> = others.flat_map(host_ports).collect();
    host_ports(pod)
        .iter()
        .any(|port| taken.iter().any(|other| port.collides(other)))
        .then(|| Refusal {
            reason: "NodePorts".into(),
            message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".into(),
        })
}

fn short(resource: &str, asked: i64, used: i64, capacity: i64) -> Refusal {
    Refusal {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {asked}, used: {used}, capacity: {capacity}"
        ),
    }
}

struct HostPort {
    ip: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    fn of(port: &ContainerPort) -> Option<HostPort> {
        let or = |text: &Option<String>, default: &str| match text.as_deref() {
            None | Some("") => default.to_owned(),
            Some(text) => text.to_owned(),
        };
        Some(HostPort {
            ip: or(&port.host_ip, "0.0.0.0"),
            protocol: or(&port.protocol, "TCP"),
            port: port.host_port.filter(|port| *port > 0)?,
        })
    }

    fn collides(&self, other: &HostPort) -> bool {
        let everywhere = |ip: &str| matches!(ip, "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || everywhere(&self.ip) || everywhere(&other.ip))
    }
}

fn host_ports(pod: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_sidecar(c));
    let ports = sidecars.chain(&pod.containers).flat_map(|c| c.ports.iter().flatten());
    ports.filter_map(HostPort::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str, port: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": [port]},
        ]}))
        .unwrap()
    }

    #[test]
    fn what_does_not_fit() {
        let node: BTreeMap<String, Quantity> = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")]
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .into();
        let told = |pod: &PodSpec, others: &[PodSpec]| {
            refuse(pod, others.iter(), &node).map(|refusal| (refusal.reason, refusal.message))
        };
        let port = |ip: &str, number: i32| json!({"containerPort": 1, "hostIP": ip, "hostPort": number});
        let plain = pod("500m", json!({"containerPort": 1}));
        assert_eq!(told(&plain, &[plain.clone(), plain.clone()]), None);
        let full = told(&plain, &[plain.clone(), plain.clone(), plain.clone()]).unwrap();
        assert_eq!(
            (full.0.as_str(), full.1.as_str()),
            (
                "OutOfpods",
                "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
            )
        );
        let large = pod("1600m", json!({"containerPort": 1}));
        let short = told(&large, std::slice::from_ref(&plain)).unwrap();
        assert_eq!(
            (short.0.as_str(), short.1.as_str()),
            (
                "OutOfcpu",
                "Node didn't have enough resource: cpu, requested: 1600, used: 500, capacity: 2000"
            )
        );
        let everywhere = pod("1m", port("", 80));
        let local = pod("1m", port("127.0.0.1", 80));
        assert_eq!(told(&everywhere, std::slice::from_ref(&local)).unwrap().0, "NodePorts");
        assert_eq!(told(&local, &[everywhere]).unwrap().0, "NodePorts");
        assert_eq!(
            told(&local, &[pod("1m", port("127.0.0.2", 80)), pod("1m", port("", 81))]),
            None
        );
    }
}
