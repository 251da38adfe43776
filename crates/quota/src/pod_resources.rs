//! What a pod requests and is limited to as a whole (upstream
//! `component-helpers/resource/helpers.go`).

use api::Value;

use crate::amounts::{self, Amounts};
use crate::{at, list, text};

/// The two lists of resource requirements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `requests`.
    Requests,
    /// `limits`.
    Limits,
}

impl Side {
    /// The name of the list.
    pub fn field(self) -> &'static str {
        match self {
            Side::Requests => "requests",
            Side::Limits => "limits",
        }
    }
}

/// What a container (or a pod-level block) has under `resources`.
pub fn resources(container: &Value, side: Side) -> Amounts {
    amounts::read(container.get("resources").and_then(|r| r.get(side.field())))
}

/// Whether pod-level resources are set for a resource that they may be set for.
pub fn has_pod_level(pod: &Value) -> bool {
    [Side::Requests, Side::Limits]
        .into_iter()
        .any(|side| pod_level(pod, side).next().is_some())
}

/// Resources that can be set for a pod as a whole.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn pod_level(pod: &Value, side: Side) -> impl Iterator<Item = (String, api::Quantity)> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    resources(spec, side).into_iter().filter(|(name, _)| is_pod_level(name))
}

/// All of a pod: containers at once, init containers one after the other beside the sidecars that
/// started before them, what is set for the pod as a whole instead, and its overhead. While it is
/// resized, the most of what is wanted, allocated and in force.
pub fn total(pod: &Value, side: Side) -> Amounts {
    let mut sum = Amounts::new();
    if !is_resize_infeasible(pod) {
        sum = containers(pod, side, View::Spec);
    }
    amounts::raise(&mut sum, &containers(pod, side, View::InForce));
    if side == Side::Requests {
        amounts::raise(&mut sum, &containers(pod, side, View::Allocated));
    }
    sum.extend(pod_level(pod, side));
    let overhead = amounts::read(at(pod, "spec.overhead"));
    match side {
        Side::Requests => amounts::add(&mut sum, &overhead),
        // What has no limit gets none by an overhead.
        Side::Limits => {
            for (name, amount) in overhead {
                if let Some(known) = sum.get_mut(&name).filter(|known| !known.is_zero()) {
                    *known = known.add(&amount);
                }
            }
        }
    }
    sum
}

/// The same by what the spec says alone, without the overhead.
pub fn total_of_spec(pod: &Value, side: Side) -> Amounts {
    let mut sum = containers(pod, side, View::Spec);
    sum.extend(pod_level(pod, side));
    sum
}

/// Whose word is taken for a container's resources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// The spec's.
    Spec,
    /// What the node has set aside (requests only).
    Allocated,
    /// What the container runs with.
    InForce,
}

fn containers(pod: &Value, side: Side, view: View) -> Amounts {
    let mut sum = Amounts::new();
    for container in list(pod, "spec.containers") {
        amounts::add(&mut sum, &effective(pod, container, side, view));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in list(pod, "spec.initContainers") {
        let own = effective(pod, container, side, view);
        let mut beside = own.clone();
        if text(container, "restartPolicy") == "Always" {
            amounts::add(&mut sum, &own);
            amounts::add(&mut sidecars, &own);
            beside.clone_from(&sidecars);
        } else {
            amounts::add(&mut beside, &sidecars);
        }
        amounts::raise(&mut starting, &beside);
    }
    amounts::raise(&mut sum, &starting);
    sum
}

fn effective(pod: &Value, container: &Value, side: Side, view: View) -> Amounts {
    if view != View::Spec {
        let name = text(container, "name");
        let status = ["status.containerStatuses", "status.initContainerStatuses"]
            .into_iter()
            .find_map(|statuses| list(pod, statuses).iter().find(|status| text(status, "name") == name));
        let in_force = at_map(status, &["resources", side.field()]).filter(|_| view == View::InForce);
        let allocated = at_map(status, &["allocatedResources"]).filter(|_| side == Side::Requests);
        if let Some(known) = in_force.or(allocated) {
            return amounts::read(Some(known));
        }
        if is_resize_infeasible(pod) {
            return Amounts::new();
        }
    }
    resources(container, side)
}

fn at_map<'v>(value: Option<&'v Value>, path: &[&str]) -> Option<&'v Value> {
    path.iter()
        .try_fold(value?, |value, field| value.get(field))
        .filter(|found| found.is_object())
}

fn is_resize_infeasible(pod: &Value) -> bool {
    list(pod, "status.conditions")
        .iter()
        .any(|condition| text(condition, "type") == "PodResizePending" && text(condition, "reason") == "Infeasible")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(requests: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": requests}})
    }

    fn sidecar(requests: Value) -> Value {
        let mut container = container(requests);
        container["restartPolicy"] = json!("Always");
        container
    }

    #[test]
    fn init_containers_run_beside_sidecars() {
        let pod = json!({"spec": {
            "initContainers": [
                container(json!({"cpu": "1"})),
                sidecar(json!({"cpu": "2"})),
                container(json!({"cpu": "5", "memory": "1Gi"})),
            ],
            "containers": [container(json!({"cpu": "1"})), container(json!({"cpu": "500m"}))]}});
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=7,memory=1Gi");
        let pod = json!({"spec": {
            "initContainers": [sidecar(json!({"cpu": "2"})), container(json!({"cpu": "1"}))],
            "containers": [container(json!({"cpu": "4"}))]}});
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=6");
    }

    #[test]
    fn overhead_raises_limits_that_exist() {
        let pod = json!({"spec": {"overhead": {"cpu": "1", "memory": "1Mi"},
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}]}});
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=2,memory=1Mi");
        assert_eq!(amounts::pretty(&total(&pod, Side::Limits)), "cpu=3");
    }

    #[test]
    fn the_pods_own_resources_come_first() {
        let pod = json!({"spec": {"resources": {"requests": {"cpu": "3", "ephemeral-storage": "9"}},
            "containers": [container(json!({"cpu": "1", "memory": "1Mi"}))]}});
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=3,memory=1Mi");
        assert!(has_pod_level(&pod));
    }

    #[test]
    fn a_resize_counts_at_its_most() {
        let mut pod = json!({"spec": {"containers": [container(json!({"cpu": "1"}))]},
            "status": {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "2"},
                "resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "3"}}}]}});
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=2");
        assert_eq!(amounts::pretty(&total(&pod, Side::Limits)), "cpu=3");
        pod["spec"]["containers"][0] = container(json!({"cpu": "9"}));
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=9");
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(amounts::pretty(&total(&pod, Side::Requests)), "cpu=2");
    }
}
