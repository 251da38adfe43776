//! Taints that follow from conditions.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::json;

use super::zones::{Leave, leave};
use super::{condition, readiness};
use crate::object::{seconds, to_value};
use crate::plan::{Action, Plan};
use crate::{Turn, World};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that they mean.
const OF_CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

fn taints(node: &Node) -> Vec<Taint> {
    node.spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default()
}

fn is_evicting(taint: &Taint) -> bool {
    taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE)
}

/// Whether pods are being evicted from it because of its health.
pub(super) fn has_evicting(node: &Node) -> bool {
    taints(node).iter().any(is_evicting)
}

/// Since when.
pub(super) fn evicting_since(node: &Node) -> Option<Timestamp> {
    taints(node)
        .iter()
        .filter(|taint| is_evicting(taint))
        .filter_map(|taint| taint.time_added.as_ref())
        .map(|time| time.0)
        .max()
}

/// Patches the taints if they are not what the conditions ask for.
pub(super) fn reconcile(world: &dyn World, node: &Node, turn: &Turn, plan: &mut Plan) {
    let old = taints(node);
    let mut new = old.clone();
    sync_unschedulable(node, &mut new, turn);
    sync_evicting(world, node, &mut new, turn, plan);
    if new == old {
        return;
    }
    let taints = if new.is_empty() {
        api::Value::Null
    } else {
        to_value(&new)
    };
    plan.act(Action::patch_version(node, json!({"spec": {"taints": taints}})));
}

fn taint(key: &str, effect: &str, turn: &Turn) -> Taint {
    Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        value: None,
        time_added: Some(seconds(turn.now)),
    }
}

/// NoSchedule taints, one for each bad condition and one for a cordon.
fn sync_unschedulable(node: &Node, taints: &mut Vec<Taint>, turn: &Turn) {
    let mut wanted: Vec<&str> = OF_CONDITIONS
        .iter()
        .filter(|(kind, status, _)| condition(node, kind).is_some_and(|condition| condition.status == *status))
        .map(|(_, _, key)| *key)
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    let ours = |key: &str| key == UNSCHEDULABLE || OF_CONDITIONS.iter().any(|(_, _, known)| *known == key);
    taints.retain(|taint| taint.effect != "NoSchedule" || !ours(&taint.key) || wanted.contains(&taint.key.as_str()));
    for key in wanted {
        if !taints
            .iter()
            .any(|taint| taint.effect == "NoSchedule" && taint.key == key)
        {
            taints.push(taint(key, "NoSchedule", turn));
        }
    }
}

/// The NoExecute taint of an unhealthy node.
fn sync_evicting(world: &dyn World, node: &Node, taints: &mut Vec<Taint>, turn: &Turn, plan: &mut Plan) {
    let key = match readiness(node) {
        "False" => NOT_READY,
        "Unknown" => UNREACHABLE,
        "True" => {
            taints.retain(|taint| !is_evicting(taint));
            return;
        }
        _ => return,
    };
    let has_any = taints.iter().any(is_evicting);
    let has_right = taints.iter().any(|taint| is_evicting(taint) && taint.key == key);
    match leave(world, node, turn.now) {
        Leave::NoneAtAll => taints.retain(|taint| !is_evicting(taint)),
        _ if has_right => taints.retain(|taint| !is_evicting(taint) || taint.key == key),
        _ if has_any => {
            taints.retain(|taint| !is_evicting(taint));
            taints.push(self::taint(key, "NoExecute", turn));
        }
        Leave::Now => taints.push(taint(key, "NoExecute", turn)),
        Leave::After(left) => plan.look_again(left),
        Leave::No => {}
    }
}
