//! Amounts of resources, and what a pod asks for.

use std::collections::BTreeMap;

use api::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

/// Assumed for containers that ask for no CPU, when nodes are scored (upstream
/// pkg/scheduler/util/pod_resources.go `DefaultMilliCPURequest`).
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// Assumed for containers that ask for no memory, in bytes.
pub const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of each resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, in their own units.
    pub scalar: BTreeMap<String, i64>,
}

type List = BTreeMap<String, WireQuantity>;

fn parse(quantity: &WireQuantity) -> Quantity {
    quantity.0.parse().unwrap_or_default()
}

impl Resources {
    /// Reads a resource list; a quantity that does not parse counts as zero (the API server lets
    /// none in).
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
                _ => {
                    resources.scalar.insert(name.clone(), quantity.value());
                }
            }
        }
        resources
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

    fn combine(&mut self, other: &Resources, op: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = op(self.milli_cpu, other.milli_cpu);
        self.memory = op(self.memory, other.memory);
        self.ephemeral_storage = op(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            let mine = self.scalar.entry(name.clone()).or_insert(0);
            *mine = op(*mine, *amount);
        }
    }
}

fn container_requests(container: &Container) -> Option<&List> {
    container.resources.as_ref()?.requests.as_ref()
}

fn exact(container: &Container) -> Resources {
    container_requests(container)
        .map(Resources::from_list)
        .unwrap_or_default()
}

fn with_defaults(container: &Container) -> Resources {
    let mut resources = exact(container);
    let asks_for = |name: &str| container_requests(container).is_some_and(|list| list.contains_key(name));
    if !asks_for("cpu") {
        resources.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if !asks_for("memory") {
        resources.memory = DEFAULT_MEMORY_BYTES;
    }
    resources
}

/// What the pod needs at its peak: containers and sidecars together, or the hungriest init container
/// beside the sidecars started before it, plus overhead; pod-level requests win where they are set
/// (upstream component-helpers/resource `PodRequests`).
fn pod_requests(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of(container));
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut need = of(container);
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
    if let Some(list) = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
    {
        let pod_level = Resources::from_list(list);
        if list.contains_key("cpu") {
            total.milli_cpu = pod_level.milli_cpu;
        }
        if list.contains_key("memory") {
            total.memory = pod_level.memory;
        }
        total.scalar.extend(pod_level.scalar);
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::from_list(overhead));
    }
    total
}

/// What the pod asks for.
#[must_use]
pub fn requests(spec: &PodSpec) -> Resources {
    pod_requests(spec, exact)
}

/// What the pod is assumed to use when nodes are scored.
#[must_use]
pub fn nonzero_requests(spec: &PodSpec) -> Resources {
    pod_requests(spec, with_defaults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, pod};

    #[test]
    fn sidecars_add_up_and_init_containers_peak() {
        let mut pod = pod("p").requests("500m", "1Gi").build();
        let spec = pod.spec.as_mut().unwrap();
        let mut sidecar = container("s", "100m", "1Gi");
        sidecar.restart_policy = Some("Always".into());
        spec.init_containers = Some(vec![sidecar, container("i", "2", "10Mi")]);
        let need = requests(spec);
        assert_eq!(need.milli_cpu, 2100);
        assert_eq!(need.memory, 2 << 30);
    }

    #[test]
    fn containers_without_requests_count_in_scores_only() {
        let pod = pod("p").build();
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(requests(spec), Resources::default());
        assert_eq!(nonzero_requests(spec).milli_cpu, DEFAULT_MILLI_CPU);
        assert_eq!(nonzero_requests(spec).memory, DEFAULT_MEMORY_BYTES);
    }
}
