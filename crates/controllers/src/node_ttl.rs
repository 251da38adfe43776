//! How long nodes may keep what they know of Secrets and ConfigMaps, by the cluster's size (upstream
//! `pkg/controller/ttl`).

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::object::{annotation, is_deleting};
use crate::plan::{Action, Plan};
use crate::{Key, Turn, World};

const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// Nodes at most, nodes at least (so that the value does not swing at a border), and seconds.
const STEPS: [(usize, usize, u32); 5] = [
    (100, 0, 0),
    (500, 90, 15),
    (1000, 450, 30),
    (2000, 900, 60),
    (10_000, 1800, 300),
];

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ttl-controller",
    account: "ttl-controller",
    triggers: &[Trigger::Node(keys_of_node)],
    reconcile,
};

/// All nodes when their number changed.
fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    match (old, new) {
        (Some(old), Some(new)) if annotation(old, TTL) == annotation(new, TTL) => Vec::new(),
        (Some(_), Some(new)) => vec![Key::of(new)],
        _ => world.nodes().list("").iter().map(|node| Key::of(&**node)).collect(),
    }
}

fn seconds(nodes: usize, now: Option<u32>) -> u32 {
    let fits = |(most, least, _): &&(usize, usize, u32)| nodes <= *most && nodes >= *least;
    let stays = STEPS
        .iter()
        .filter(fits)
        .map(|step| step.2)
        .find(|seconds| Some(*seconds) == now);
    let last = STEPS[STEPS.len() - 1].2;
    stays
        .or_else(|| STEPS.iter().find(|step| nodes <= step.0).map(|step| step.2))
        .unwrap_or(last)
}

/// Keeps the annotation.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(node) = world.nodes().get("", &key.name).filter(|node| !is_deleting(&**node)) else {
        return plan;
    };
    let now = annotation(&*node, TTL).and_then(|text| text.parse().ok());
    let wanted = seconds(world.nodes().list("").len(), now);
    if now != Some(wanted) {
        plan.act(Action::patch(
            &*node,
            json!({"metadata": {"annotations": {TTL: wanted.to_string()}}}),
        ));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, node};

    #[test]
    fn the_value_follows_the_number_of_nodes_without_swinging() {
        for (nodes, now, wanted) in [
            (1, None, 0),
            (100, None, 0),
            (101, None, 15),
            (95, Some(15), 15),
            (80, Some(15), 0),
            (20_000, None, 300),
        ] {
            assert_eq!(seconds(nodes, now), wanted, "{nodes} nodes, {now:?}");
        }
        let mut fake = Fake::new();
        fake.put("nodes", node("n1"));
        fake.settle(reconcile, &Key::new("", "n1"));
        assert_eq!(fake.json::<Node>("", "n1")["metadata"]["annotations"][TTL], "0");
    }
}
