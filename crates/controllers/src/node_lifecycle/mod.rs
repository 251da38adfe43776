//! Nodes that stopped giving signs of life (upstream `pkg/controller/nodelifecycle`).
//!
//! Bounded harm: taints that evict pods come at a limited rate, and not at all while every node
//! looks dead, since then it is more likely that we are the ones cut off.

mod health;
mod taints;
mod zones;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::object::{created, name, seconds, to_value};
use crate::plan::{Action, Plan, Reference};
use crate::pod::{is_ready, node_name};
use crate::world::BY_NODE;
use crate::{Key, Turn, World};

/// Of a node that has been ready or not ready before (`node-monitor-grace-period`).
const GRACE: SignedDuration = SignedDuration::from_secs(50);
/// Of a node that has never said anything (`node-startup-grace-period`).
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(60);

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-controller",
    account: "node-controller",
    triggers: &[Trigger::Node(keys_of_node), Trigger::Pod(keys_of_pod)],
    reconcile,
};

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == kind)
}

/// The Ready condition's status, or empty.
fn readiness(node: &Node) -> &str {
    condition(node, "Ready").map_or("", |ready| ready.status.as_str())
}

/// A node whose readiness changed may change what is done about the other unhealthy ones.
fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let mut keys: Vec<Key> = new.or(old).map(Key::of).into_iter().collect();
    if old.map(readiness) != new.map(readiness) {
        let all = world.nodes().list("");
        let others = all
            .iter()
            .filter(|node| readiness(node) != "True" || taints::has_evicting(node));
        keys.extend(others.map(|node| Key::of(&**node)));
        keys.sort();
        keys.dedup();
    }
    keys
}

/// A pod may be late in saying that it is ready, on a node that is no longer heard of.
fn keys_of_pod(world: &dyn World, _: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new.filter(|pod| is_ready(pod)) else {
        return Vec::new();
    };
    let node = world.nodes().get("", node_name(pod));
    node.filter(|node| readiness(node) == "Unknown")
        .map(|node| Key::of(&*node))
        .into_iter()
        .collect()
}

/// Marks a silent node's conditions Unknown and its pods not ready, and keeps its taints in step
/// with its conditions.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(node) = world.nodes().get("", &key.name) else {
        if turn.memo.is_some() {
            plan.act(Action::event(
                by_name(&key.name),
                "RemovingNode",
                format!("Removing Node {} from Controller", key.name),
            ));
        }
        return plan;
    };
    plan.memo = turn.memo.or(Some(turn.now));
    if turn.memo.is_none() {
        let message = format!("Registered Node {} in Controller", key.name);
        plan.act(Action::event(Reference::to(&*node), "RegisteredNode", message));
    }
    let silent_for = turn.now.duration_since(last_sign(world, &node));
    let grace = if condition(&node, "Ready").is_some() {
        GRACE
    } else {
        STARTUP_GRACE
    };
    if silent_for < grace {
        plan.look_again(grace - silent_for);
    } else if let Some(conditions) = health::unknown_conditions(&node, turn.now) {
        let patch = json!({"status": {"conditions": to_value(&conditions)}});
        let mut action = Action::patch_status_version(&*node, patch);
        if readiness(&node) == "True" {
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            action = action.telling(Reference::to(&*node), "NodeNotReady", message);
        }
        plan.act(action);
        // The taints follow from the conditions when they are seen.
        return plan;
    }
    if readiness(&node) == "Unknown" {
        mark_pods_not_ready(world, &node, turn, &mut plan);
    }
    taints::reconcile(world, &node, turn, &mut plan);
    plan
}

fn by_name(name: &str) -> Reference {
    Reference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
        uid: name.to_owned(),
        resource_version: String::new(),
    }
}

fn last_sign(world: &dyn World, node: &Node) -> jiff::Timestamp {
    let heard = world.last_heartbeat(name(node));
    match condition(node, "Ready") {
        Some(_) => heard,
        None => created(node).map_or(heard, |created| created.max(heard)),
    }
}

fn mark_pods_not_ready(world: &dyn World, node: &Node, turn: &Turn, plan: &mut Plan) {
    for pod in world
        .pods()
        .by_index(BY_NODE, name(node))
        .iter()
        .filter(|pod| is_ready(pod))
    {
        let mut conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.last_transition_time = Some(seconds(turn.now));
        }
        let patch = json!({"status": {"conditions": to_value(&conditions)}});
        let action = Action::patch_status_version(&**pod, patch);
        plan.act(
            action
                .telling(Reference::to(&**pod), "NodeNotReady", "Node is not ready")
                .warning(),
        );
    }
}

#[cfg(test)]
mod tests;
