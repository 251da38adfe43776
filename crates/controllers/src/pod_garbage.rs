//! Pods that nobody else removes: of nodes that are gone, of out-of-service nodes, never scheduled
//! and deleted, and too many that have ended (upstream `pkg/controller/podgc`).

use std::sync::Arc;

use api::Gvr;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::object::{created, is_deleting, name, namespace, seconds, to_value};
use crate::plan::{Action, Confirm, Plan, Target, Verb};
use crate::pod::{is_terminal, node_name};
use crate::world::BY_NODE;
use crate::{Key, Turn, World};

/// A node that is not there may be about to come back.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// Ended pods that are kept, for their logs.
const TERMINATED_KEPT: usize = 12_500;
/// The key of what is about all ended pods; no pod or node can have this name.
const TERMINATED: &str = "#terminated";
/// The namespace of keys that name a node; no namespace can have this name.
const NODE: &str = "#node";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector",
    account: "pod-garbage-collector",
    triggers: &[Trigger::Pod(keys_of_pod), Trigger::Node(keys_of_node)],
    reconcile,
};

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    if is_deleting(pod) {
        keys.push(Key::of(pod));
    }
    if is_terminal(pod) && old.is_none_or(|old| !is_terminal(old)) {
        keys.push(Key::new("", TERMINATED));
    }
    let node = node_name(pod);
    if !node.is_empty() && world.nodes().get("", node).is_none() {
        keys.push(Key::new(NODE, node));
    }
    keys
}

fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let Some(node) = new.or(old) else {
        return Vec::new();
    };
    let mut keys = vec![Key::new(NODE, name(node))];
    if new.is_some_and(is_out_of_service) {
        let pods = world.pods().by_index(BY_NODE, name(node));
        keys.extend(
            pods.iter()
                .filter(|pod| is_deleting(&***pod))
                .map(|pod| Key::of(&**pod)),
        );
    }
    keys
}

/// Not ready, and a person has said that it is shut down.
fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    taints
        .into_iter()
        .any(|taint| taint.key == "node.kubernetes.io/out-of-service")
        && !conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Deletes pods at once, without waiting for a node.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    if key.namespace == NODE {
        return collect_orphans(world, &key.name, turn);
    }
    let mut plan = Plan::nothing();
    if key.name == TERMINATED {
        collect_terminated(world, turn, &mut plan);
    } else if let Some(pod) = world
        .pods()
        .get(&key.namespace, &key.name)
        .filter(|pod| is_deleting(&**pod))
    {
        let node = world.nodes().get("", node_name(&pod));
        if node_name(&pod).is_empty() || node.is_some_and(|node| is_out_of_service(&node)) {
            delete_now(&pod, None, None, turn.now, &mut plan);
        }
    }
    plan
}

fn collect_orphans(world: &dyn World, node: &str, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let pods = world.pods().by_index(BY_NODE, node);
    if pods.is_empty() || world.nodes().get("", node).is_some() {
        return plan;
    }
    let missing_since = turn.memo.unwrap_or(turn.now);
    plan.memo = Some(missing_since);
    let left = QUARANTINE - turn.now.duration_since(missing_since);
    if left > SignedDuration::ZERO {
        plan.look_again(left);
        return plan;
    }
    let target = Target {
        resource: Gvr::new("", "v1", "nodes"),
        namespace: String::new(),
        name: node.to_owned(),
        uid: None,
        resource_version: None,
    };
    for pod in pods {
        let why = ("DeletionByPodGC", "PodGC: node no longer exists");
        delete_now(
            &pod,
            Some(why),
            Some(Confirm::Absent(target.clone())),
            turn.now,
            &mut plan,
        );
    }
    plan
}

fn collect_terminated(world: &dyn World, turn: &Turn, plan: &mut Plan) {
    let mut ended: Vec<Arc<Pod>> = world
        .pods()
        .list("")
        .into_iter()
        .filter(|pod| is_terminal(pod))
        .collect();
    let surplus = ended.len().saturating_sub(TERMINATED_KEPT);
    if surplus == 0 {
        return;
    }
    let evicted = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
    ended.sort_by_key(|pod| {
        (
            !evicted(pod),
            created(&**pod),
            name(&**pod).to_owned(),
            namespace(&**pod).to_owned(),
        )
    });
    for pod in &ended[..surplus] {
        delete_now(pod, None, None, turn.now, plan);
    }
}

/// Marks a pod failed, unless it has ended, and removes it without grace.
fn delete_now(pod: &Pod, disrupted: Option<(&str, &str)>, confirm: Option<Confirm>, now: Timestamp, plan: &mut Plan) {
    let guarded = |mut action: Action| {
        action.confirm.extend(confirm.clone());
        action
    };
    if !is_terminal(pod) {
        let mut status = json!({"phase": "Failed"});
        if let Some((reason, message)) = disrupted {
            status["conditions"] = to_value(&with_disruption(pod, reason, message, now));
        }
        plan.act(guarded(Action::patch_status_version(pod, json!({"status": status}))));
    }
    plan.act(guarded(Action::new(Verb::Delete {
        target: Target::of(pod),
        grace_period_seconds: Some(0),
        propagation: None,
    })));
}

/// A pod's conditions with a DisruptionTarget.
pub(crate) fn with_disruption(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Vec<PodCondition> {
    let all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut conditions: Vec<PodCondition> = all
        .filter(|condition| condition.type_ != "DisruptionTarget")
        .cloned()
        .collect();
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(seconds(now)),
        ..PodCondition::default()
    });
    conditions
}

#[cfg(test)]
mod tests;
