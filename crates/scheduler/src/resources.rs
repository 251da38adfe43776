//! Amounts of resources, and what a pod asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Quantity;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

/// Assumed for containers that ask for no CPU, when nodes are scored (upstream
/// pkg/scheduler/util/pod_resources.go `DefaultMilliCPURequest`).
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// Assumed for containers that ask for no memory, in bytes.
pub const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of each resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, in their own units, in order of their names.
    pub scalar: Vec<(Arc<str>, i64)>,
}

/// A resource list as the API has it.
pub type List = BTreeMap<String, WireQuantity>;

/// A quantity; one that does not parse counts as zero (the API server lets none in).
#[must_use]
pub fn parse(quantity: &WireQuantity) -> Quantity {
    quantity.0.parse().unwrap_or_default()
}

impl Resources {
    /// Reads a resource list. Pods are counted elsewhere.
    #[must_use]
    pub fn from_list(list: &List) -> Resources {
        let mut resources = Resources::default();
        for (name, quantity) in list {
            let quantity = parse(quantity);
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => resources.scalar.push((name.as_str().into(), quantity.value())),
            }
        }
        resources
    }

    /// The amount of an extended resource or of huge pages.
    #[must_use]
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalar
            .iter()
            .find(|(known, _)| &**known == name)
            .map_or(0, |(_, amount)| *amount)
    }

    /// The amount of any resource; CPU in thousandths.
    #[must_use]
    pub fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.scalar(name),
        }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalar.iter().all(|(_, amount)| *amount == 0)
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger of both, resource by resource.
    pub fn raise_to(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn set_scalar(&mut self, name: &Arc<str>, op: impl Fn(i64) -> i64) {
        match self.scalar.binary_search_by(|(known, _)| known.cmp(name)) {
            Ok(at) => self.scalar[at].1 = op(self.scalar[at].1),
            Err(at) => self.scalar.insert(at, (name.clone(), op(0))),
        }
    }

    fn combine(&mut self, other: &Resources, op: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = op(self.milli_cpu, other.milli_cpu);
        self.memory = op(self.memory, other.memory);
        self.ephemeral_storage = op(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            self.set_scalar(name, |mine| op(mine, *amount));
        }
    }
}

/// How the requests of one container are read.
type Reading = fn(&Container, Option<&PodStatus>) -> Resources;

fn exact(container: &Container, status: Option<&PodStatus>) -> Resources {
    let mut resources = spec_requests(container).map(Resources::from_list).unwrap_or_default();
    if let Some(status) = status {
        resources.raise_to_status(container, status);
    }
    resources
}

fn spec_requests(container: &Container) -> Option<&List> {
    container.resources.as_ref()?.requests.as_ref()
}

fn with_defaults(container: &Container, status: Option<&PodStatus>) -> Resources {
    let mut resources = exact(container, status);
    let asks_for = |name: &str| spec_requests(container).is_some_and(|list| list.contains_key(name));
    if !asks_for("cpu") {
        resources.milli_cpu = resources.milli_cpu.max(DEFAULT_MILLI_CPU);
    }
    if !asks_for("memory") {
        resources.memory = resources.memory.max(DEFAULT_MEMORY_BYTES);
    }
    resources
}

impl Resources {
    /// A container that is being resized holds the most of what it asks for, was given and has
    /// (component-helpers/resource `determineContainerReqs`); what cannot be given is not held.
    fn raise_to_status(&mut self, container: &Container, status: &PodStatus) {
        let regular = status.container_statuses.iter().flatten();
        let init = status.init_container_statuses.iter().flatten();
        let Some(known) = regular.chain(init).find(|known| known.name == container.name) else {
            return;
        };
        let Some(held) = held(known) else { return };
        let infeasible = status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
        });
        if infeasible {
            *self = held;
        } else {
            self.raise_to(&held);
        }
    }
}

fn held(status: &ContainerStatus) -> Option<Resources> {
    let actual = status
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let mut held = actual.map(Resources::from_list);
    if let Some(allocated) = &status.allocated_resources {
        held.get_or_insert_default().raise_to(&Resources::from_list(allocated));
    }
    held
}

/// What the pod needs at its peak: containers and sidecars together, or the hungriest init container
/// beside the sidecars started before it, plus overhead; pod-level requests win where they are set
/// (upstream component-helpers/resource `PodRequests`).
fn pod_requests(pod: &Pod, of: Reading) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let status = pod.status.as_ref();
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of(container, status));
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut need = of(container, status);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&need);
            sidecars.add(&need);
            need = sidecars.clone();
        } else {
            need.add(&sidecars);
        }
        peak.raise_to(&need);
    }
    total.raise_to(&peak);
    let pod_level = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if let Some(list) = pod_level {
        let pod_level = Resources::from_list(list);
        if list.contains_key("cpu") {
            total.milli_cpu = pod_level.milli_cpu;
        }
        if list.contains_key("memory") {
            total.memory = pod_level.memory;
        }
        for (name, amount) in &pod_level.scalar {
            total.set_scalar(name, |_| *amount);
        }
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_list(overhead));
    }
    total
}

/// What the pod asks for.
#[must_use]
pub fn requests(pod: &Pod) -> Resources {
    pod_requests(pod, exact)
}

/// What the pod is assumed to use when nodes are scored.
#[must_use]
pub fn nonzero_requests(pod: &Pod) -> Resources {
    pod_requests(pod, with_defaults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, pod};

    #[test]
    fn sidecars_add_up_and_init_containers_peak() {
        let mut pod = pod("p").requests("500m", "1Gi").object();
        let spec = pod.spec.as_mut().unwrap();
        let mut sidecar = container("s", "100m", "1Gi");
        sidecar.restart_policy = Some("Always".into());
        spec.init_containers = Some(vec![sidecar, container("i", "2", "10Mi")]);
        let need = requests(&pod);
        assert_eq!(need.milli_cpu, 2100);
        assert_eq!(need.memory, 2 << 30);
    }

    #[test]
    fn containers_without_requests_count_in_scores_only() {
        let pod = pod("p").object();
        assert_eq!(requests(&pod), Resources::default());
        assert_eq!(nonzero_requests(&pod).milli_cpu, DEFAULT_MILLI_CPU);
        assert_eq!(nonzero_requests(&pod).memory, DEFAULT_MEMORY_BYTES);
    }

    #[test]
    fn a_pod_that_is_being_resized_holds_the_most() {
        let mut pod = pod("p").requests("500m", "1Gi").object();
        let allocated = List::from([("cpu".to_owned(), WireQuantity("2".into()))]);
        let status = ContainerStatus {
            name: "c".into(),
            allocated_resources: Some(allocated),
            ..ContainerStatus::default()
        };
        pod.status.get_or_insert_default().container_statuses = Some(vec![status]);
        assert_eq!(requests(&pod).milli_cpu, 2000);
        assert_eq!(requests(&pod).memory, 1 << 30);
    }
}
