//! Each node's part of the pods' addresses (upstream `pkg/controller/nodeipam`, `range_allocator.go`).
//!
//! All nodes are one key: two turns at once could give two nodes the same part.

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::network::Range;
use crate::object::{is_deleting, name};
use crate::plan::{Action, Plan, Reference};
use crate::{Key, Turn, World};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-ipam-controller",
    account: "node-controller",
    triggers: &[Trigger::Node(keys_of_node)],
    reconcile,
};

fn ranges(node: &Node) -> Vec<Range> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    listed.filter_map(|text| text.parse().ok()).collect()
}

fn has_none(node: &Node) -> bool {
    node.spec.as_ref().is_none_or(|spec| {
        spec.pod_cidr.as_ref().is_none_or(String::is_empty) && spec.pod_cidrs.as_ref().is_none_or(Vec::is_empty)
    })
}

/// A node without a part, or one that gives its part back.
fn keys_of_node(world: &dyn World, _: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    if world.network().pods.is_empty() || new.is_some_and(|node| !has_none(node)) {
        return Vec::new();
    }
    vec![Key::new("", "nodes")]
}

/// Gives every node that has none its part of each range.
pub fn reconcile(world: &dyn World, _: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let network = world.network();
    let nodes = world.nodes().list("");
    let mut taken: Vec<Range> = nodes.iter().flat_map(|node| ranges(node)).collect();
    taken.extend(&network.services);
    let waiting = nodes.iter().filter(|node| has_none(node) && !is_deleting(&***node));
    for node in waiting {
        let parts: Option<Vec<Range>> = network
            .pods
            .iter()
            .map(|(range, length)| range.first_free(*length, &taken))
            .collect();
        let Some(parts) = parts else {
            // Told once: the rest is for people to read.
            if !turn.notes.contains_key(name(&**node)) {
                let message = format!("Node {} status is now: CIDRNotAvailable", name(&**node));
                plan.act(Action::event(Reference::to(&**node), "CIDRNotAvailable", message));
            }
            plan.notes.insert(name(&**node).to_owned(), turn.now);
            continue;
        };
        taken.extend(&parts);
        let texts: Vec<String> = parts.iter().map(ToString::to_string).collect();
        plan.act(Action::patch(
            &**node,
            json!({"spec": {"podCIDR": texts.first(), "podCIDRs": texts}}),
        ));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, node};
    use crate::network::Network;

    fn cluster(ranges: &[(&str, u8)], services: &[&str]) -> Fake {
        let mut fake = Fake::new();
        fake.network = Network {
            pods: ranges
                .iter()
                .map(|(range, length)| (range.parse().unwrap(), *length))
                .collect(),
            services: services.iter().map(|range| range.parse().unwrap()).collect(),
            ..Network::default()
        };
        fake
    }

    fn parts(fake: &Fake, name: &str) -> String {
        let spec = fake.json::<Node>("", name)["spec"].clone();
        let listed = spec["podCIDRs"].as_array().cloned().unwrap_or_default();
        assert_eq!(spec["podCIDR"], listed.first().cloned().unwrap_or_default());
        let texts: Vec<&str> = listed.iter().filter_map(|text| text.as_str()).collect();
        texts.join(" ")
    }

    fn key() -> Key {
        Key::new("", "nodes")
    }

    #[test]
    fn parts_are_given_and_used_again() {
        let mut fake = cluster(&[("10.244.0.0/16", 24), ("fd00::/56", 64)], &[]);
        fake.put("nodes", node("a")).put("nodes", node("b"));
        fake.settle(reconcile, &key());
        assert_eq!(parts(&fake, "a"), "10.244.0.0/24 fd00::/64");
        assert_eq!(parts(&fake, "b"), "10.244.1.0/24 fd00:0:0:1::/64");
        fake.remove::<Node>("", "a");
        fake.put("nodes", node("c"));
        fake.settle(reconcile, &key());
        assert_eq!(parts(&fake, "c"), "10.244.0.0/24 fd00::/64");
    }

    #[test]
    fn what_nodes_have_and_services_need_is_not_given() {
        let mut fake = cluster(&[("10.0.0.0/16", 24)], &["10.0.1.0/24"]);
        let mut own = node("own");
        own["spec"] = json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]});
        fake.put("nodes", own).put("nodes", node("a"));
        fake.settle(reconcile, &key());
        assert_eq!(
            (parts(&fake, "own").as_str(), parts(&fake, "a").as_str()),
            ("10.0.0.0/24", "10.0.2.0/24")
        );
    }

    #[test]
    fn a_range_that_is_used_up_is_told_once() {
        let mut fake = cluster(&[("10.0.0.0/24", 24)], &[]);
        fake.put("nodes", node("a")).put("nodes", node("b"));
        fake.settle(reconcile, &key());
        assert_eq!(parts(&fake, "b"), "");
        assert_eq!(
            fake.events,
            ["CIDRNotAvailable: Node b status is now: CIDRNotAvailable"]
        );
    }

    #[test]
    fn nothing_is_given_if_nothing_was_told() {
        let mut fake = cluster(&[], &[]);
        fake.put("nodes", node("a"));
        let new: Node = serde_json::from_value(node("a")).unwrap();
        assert!(keys_of_node(&fake, None, Some(&new)).is_empty());
        assert_eq!(parts(&fake, "a"), "");
    }
}
