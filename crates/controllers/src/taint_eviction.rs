//! Pods leave nodes whose NoExecute taints they do not tolerate (upstream
//! `pkg/controller/tainteviction`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use placement::tolerates;
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::object::{is_deleting, name, to_value};
use crate::plan::{Action, Plan, Reference};
use crate::pod::node_name;
use crate::pod_garbage::with_disruption;
use crate::world::BY_NODE;
use crate::{Key, Turn, World};

const REASON: &str = "TaintManagerEviction";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    account: "node-controller",
    triggers: &[Trigger::Pod(keys_of_pod), Trigger::Node(keys_of_node)],
    reconcile,
};

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new else {
        return Vec::new();
    };
    let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
    let unchanged = old.is_some_and(|old| node_name(old) == node_name(pod) && tolerations(old) == tolerations(pod));
    let tainted = world
        .nodes()
        .get("", node_name(pod))
        .is_some_and(|node| !no_execute(&node).is_empty());
    if unchanged || !tainted {
        Vec::new()
    } else {
        vec![Key::of(pod)]
    }
}

fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let before = old.map(no_execute).unwrap_or_default();
    let Some(node) = new.filter(|node| no_execute(node) != before) else {
        return Vec::new();
    };
    world
        .pods()
        .by_index(BY_NODE, name(node))
        .iter()
        .map(|pod| Key::of(&**pod))
        .collect()
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// How long a pod may stay.
#[derive(Debug, PartialEq)]
enum Stay {
    Forever,
    For(SignedDuration),
}

fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let mut used = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .peekable();
        if used.peek().is_none() {
            return Stay::For(SignedDuration::ZERO);
        }
        for seconds in used.filter_map(|toleration| toleration.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |known| known.min(seconds)).max(0));
        }
    }
    shortest.map_or(Stay::Forever, |seconds| Stay::For(SignedDuration::from_secs(seconds)))
}

/// Deletes the pod when its time on the tainted node is over.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(pod) = world
        .pods()
        .get(&key.namespace, &key.name)
        .filter(|pod| !is_deleting(&**pod))
    else {
        return plan;
    };
    let Some(node) = world.nodes().get("", node_name(&pod)) else {
        return plan;
    };
    let taints = no_execute(&node);
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let Stay::For(allowed) = stay(&taints, tolerations) else {
        if turn.memo.is_some() {
            plan.act(Action::event(
                Reference::to(&*pod),
                REASON,
                format!("Cancelling deletion of Pod {key}"),
            ));
        }
        return plan;
    };
    let since = tainted_since(&taints).or(turn.memo).unwrap_or(turn.now);
    plan.memo = Some(since);
    let left = allowed - turn.now.duration_since(since);
    if left > SignedDuration::ZERO {
        plan.look_again(left);
        return plan;
    }
    let conditions = with_disruption(
        &pod,
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
        turn.now,
    );
    plan.act(Action::event(
        Reference::to(&*pod),
        REASON,
        format!("Marking for deletion Pod {key}"),
    ));
    let patch = json!({"status": {"conditions": to_value(&conditions)}});
    plan.act(Action::patch_status_version(&*pod, patch));
    plan.act(Action::delete(&*pod));
    plan
}

/// Since when all of the taints are there: the node controller writes it down, so that a restart
/// does not begin the count anew. People's taints have no time; then it is when we first looked.
fn tainted_since(taints: &[Taint]) -> Option<Timestamp> {
    let times: Option<Vec<Timestamp>> = taints
        .iter()
        .map(|taint| taint.time_added.as_ref().map(|time| time.0))
        .collect();
    times?.into_iter().max()
}

#[cfg(test)]
mod tests;
