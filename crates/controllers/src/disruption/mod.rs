//! How many pods may be evicted (upstream `pkg/controller/disruption`).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Rounding;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::diff::merge_patch;
use crate::object::{Object, controller_of, is_deleting, name, namespace, seconds, selects, uid};
use crate::plan::{Action, Plan, Reference};
use crate::pod::is_ready;
use crate::portion::portion;
use crate::{Key, Scaled, Turn, World};

/// An evicted pod that is still there after this is not going (upstream `DeletionTimeout`).
const DELETION: SignedDuration = SignedDuration::from_secs(120);
const CONDITION: &str = "DisruptionAllowed";

/// After a scale could not be read.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

pub(crate) const CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    account: "disruption-controller",
    triggers: &[
        Trigger::PodDisruptionBudget(own_key),
        Trigger::Pod(keys_of_pod),
        Trigger::Deployment(in_namespace),
        Trigger::ReplicaSet(in_namespace),
        Trigger::StatefulSet(in_namespace),
        Trigger::ReplicationController(in_namespace),
    ],
    reconcile,
};

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new.or(old) else { return Vec::new() };
    let budgets = world.pod_disruption_budgets().list(namespace(pod)).into_iter();
    let concerned = budgets.filter(|budget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            [old, new]
                .into_iter()
                .flatten()
                .any(|pod| selects(selector, pod.metadata.labels.as_ref()))
        })
    });
    concerned.map(|budget| Key::of(&*budget)).collect()
}

/// A controller's scale may have changed: its budgets are those that select its pods; to look at all of the namespace
/// is cheap, for there are few.
fn in_namespace<K: Object>(world: &dyn World, old: Option<&K>, new: Option<&K>) -> Vec<Key> {
    let Some(object) = new.or(old) else { return Vec::new() };
    if old.is_some_and(|old| new.is_some_and(|new| old.metadata().generation == new.metadata().generation)) {
        return Vec::new();
    }
    world
        .pod_disruption_budgets()
        .list(namespace(object))
        .iter()
        .map(|budget| Key::of(&**budget))
        .collect()
}

/// Why numbers are not known.
#[derive(Debug)]
enum Unknown {
    /// They will be.
    Asked,
    Failed(String),
}

/// What a budget's numbers come from.
struct Expected {
    pods: i32,
    healthy: i32,
    unmanaged: bool,
}

/// Counts, and writes the status; when it cannot count, nothing may be evicted.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(budget) = world.pod_disruption_budgets().get(&key.namespace, &key.name) else {
        return plan;
    };
    let old = budget.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let pods = selected(world, &budget);
    if pods.is_empty() {
        tell_once(&budget, "NoPods", "No matching pods found", false, turn, &mut plan);
    }
    match expected(world, &budget, &pods) {
        Ok(expected) => {
            if expected.unmanaged {
                let message = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the \
                    status of the PDB cannot be calculated correctly, which may result in undefined behavior. To \
                    account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
                tell_once(&budget, "UnmanagedPods", message, true, turn, &mut plan);
            }
            count(&budget, &pods, &expected, turn, &mut status, &mut plan);
        }
        Err(Unknown::Asked) => return Plan::nothing(),
        Err(Unknown::Failed(message)) => {
            plan.look_again(AGAIN);
            let text = format!("Failed to calculate the number of expected pods: {message}");
            tell_once(&budget, "CalculateExpectedPodCountFailed", &text, true, turn, &mut plan);
            status.disruptions_allowed = Some(0);
            set_condition(&mut status, "SyncFailed", &message, old.observed_generation, turn);
        }
    }
    if let Some(patch) = merge_patch(&old, &status) {
        plan.finally(Action::patch_status_version(&*budget, json!({"status": patch})));
    }
    plan
}

fn tell_once(
    budget: &PodDisruptionBudget,
    reason: &'static str,
    message: &str,
    warning: bool,
    turn: &Turn,
    plan: &mut Plan,
) {
    if !turn.notes.contains_key(reason) {
        let action = Action::event(Reference::to(budget), reason, message);
        plan.act(if warning { action.warning() } else { action });
    }
    plan.notes.insert(reason.to_owned(), turn.now);
}

fn selected(world: &dyn World, budget: &PodDisruptionBudget) -> Vec<Arc<Pod>> {
    let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return Vec::new();
    };
    let pods = world.pods().list(namespace(budget)).into_iter();
    pods.filter(|pod| selects(selector, pod.metadata.labels.as_ref()))
        .collect()
}

fn expected(world: &dyn World, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<Expected, Unknown> {
    let spec = budget.spec.clone().unwrap_or_default();
    let number = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(limit), _) => {
            let (pods, unmanaged) = scale(world, budget, pods)?;
            let healthy = (pods - portion(Some(limit), pods, Rounding::Up)).max(0);
            Ok(Expected {
                pods,
                healthy,
                unmanaged,
            })
        }
        (None, Some(IntOrString::Int(healthy))) => Ok(Expected {
            pods: number,
            healthy: *healthy,
            unmanaged: false,
        }),
        (None, Some(limit)) => {
            let (pods, unmanaged) = scale(world, budget, pods)?;
            Ok(Expected {
                pods,
                healthy: portion(Some(limit), pods, Rounding::Up),
                unmanaged,
            })
        }
        (None, None) => Ok(Expected {
            pods: 0,
            healthy: 0,
            unmanaged: false,
        }),
    }
}

/// How many pods the controllers of these pods want, together.
fn scale(world: &dyn World, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<(i32, bool), Unknown> {
    let (mut scales, mut unmanaged): (BTreeMap<String, i32>, bool) = (BTreeMap::new(), false);
    for pod in pods {
        let Some(owner) = controller_of(&**pod) else {
            unmanaged = true;
            continue;
        };
        let nobody = || Unknown::Failed(format!("found no controllers for pod {:?}", name(&**pod)));
        let (uid, scale) = scale_of(world, namespace(budget), owner)?.ok_or_else(nobody)?;
        scales.insert(uid, scale);
    }
    Ok((scales.values().sum(), unmanaged))
}

/// The controller that decides over an owner's scale, and what it says.
fn scale_of(world: &dyn World, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, Unknown> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    if BUILT_IN.contains(&(group, owner.kind.as_str())) {
        return Ok(built_in_scale(world, namespace, owner));
    }
    match world.scale(namespace, &owner.api_version, &owner.kind, &owner.name) {
        Scaled::Known { uid, replicas } => Ok((uid == owner.uid).then_some((uid, replicas))),
        Scaled::Absent => Ok(None),
        Scaled::Refused(message) => Err(Unknown::Failed(message)),
        Scaled::Asked => Err(Unknown::Asked),
    }
}

/// Kinds whose scale is seen without asking.
const BUILT_IN: [(&str, &str); 3] = [
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("", "ReplicationController"),
];

fn built_in_scale(world: &dyn World, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, owner.kind.as_str()) {
        ("apps", "ReplicaSet") => {
            let set = world
                .replica_sets()
                .get(namespace, &owner.name)
                .filter(|set| uid(&**set) == owner.uid)?;
            let deployment = controller_of(&*set)
                .filter(|owner| owner.kind == "Deployment")
                .and_then(|owner| {
                    world
                        .deployments()
                        .get(namespace, &owner.name)
                        .filter(|deployment| uid(&**deployment) == owner.uid)
                });
            Some(match deployment {
                Some(it) => (uid(&*it).to_owned(), it.spec.replicas.unwrap_or(1)),
                None => (uid(&*set).to_owned(), set.spec.replicas.unwrap_or(1)),
            })
        }
        ("apps", "StatefulSet") => {
            let set = world
                .stateful_sets()
                .get(namespace, &owner.name)
                .filter(|set| uid(&**set) == owner.uid)?;
            Some((uid(&*set).to_owned(), set.spec.replicas.unwrap_or(1)))
        }
        ("", "ReplicationController") => {
            let found = world.replication_controllers().get(namespace, &owner.name);
            let controller = found.filter(|controller| uid(&**controller) == owner.uid)?;
            Some((
                owner.uid.clone(),
                controller.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            ))
        }
        _ => None,
    }
}

fn count(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &Expected,
    turn: &Turn,
    status: &mut PodDisruptionBudgetStatus,
    plan: &mut Plan,
) {
    let mut disrupted: BTreeMap<String, Time> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !is_deleting(&***pod)) {
        let Some(since) = status.disrupted_pods.as_ref().and_then(|all| all.get(name(&**pod))) else {
            continue;
        };
        let left = DELETION - turn.now.duration_since(since.0);
        if left.is_negative() {
            let (ns, pdb) = (namespace(budget), name(budget));
            let message = format!("Pod was expected by PDB {ns}/{pdb} to be deleted but it wasn't");
            plan.act(Action::event(Reference::to(&**pod), "NotDeleted", message).warning());
        } else {
            plan.look_again(left + SignedDuration::from_millis(1));
            disrupted.insert(name(&**pod).to_owned(), since.clone());
        }
    }
    let healthy = pods
        .iter()
        .filter(|pod| !is_deleting(&***pod) && is_ready(pod) && !disrupted.contains_key(name(&***pod)));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected.pods <= 0 {
        0
    } else {
        (healthy - expected.healthy).max(0)
    };
    status.current_healthy = Some(healthy);
    status.desired_healthy = Some(expected.healthy);
    status.expected_pods = Some(expected.pods);
    status.disruptions_allowed = Some(allowed);
    status.disrupted_pods = Some(disrupted).filter(|disrupted| !disrupted.is_empty());
    status.observed_generation = budget.metadata.generation;
    let reason = if allowed > 0 {
        "SufficientPods"
    } else {
        "InsufficientPods"
    };
    set_condition(status, reason, "", budget.metadata.generation, turn);
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    turn: &Turn,
) {
    let value = if reason == "SufficientPods" { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|condition| condition.type_ == CONDITION);
    let since = known
        .as_ref()
        .filter(|known| known.status == value)
        .map(|known| known.last_transition_time.clone());
    let new = Condition {
        type_: CONDITION.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| seconds(turn.now)),
    };
    match known {
        Some(known) => *known = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests;
