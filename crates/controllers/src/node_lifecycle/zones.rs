//! How much of a zone is unhealthy, and how fast its nodes may be tainted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;

use super::{GRACE, condition, readiness};
use crate::World;
use crate::object::name;

/// One node in ten seconds (`node-eviction-rate` 0.1).
const PACE: SignedDuration = SignedDuration::from_secs(10);
/// One in a hundred, in a large zone of which much is unhealthy (`secondary-node-eviction-rate`).
const SLOW_PACE: SignedDuration = SignedDuration::from_secs(100);
/// `large-cluster-size-threshold`.
const LARGE_ZONE: usize = 50;
/// `unhealthy-zone-threshold`.
const UNHEALTHY_SHARE: f64 = 0.55;

#[derive(Default)]
struct Zone {
    ready: usize,
    unready: usize,
}

/// Whether a node may get an evicting taint now.
#[derive(Debug, PartialEq)]
pub(super) enum Leave {
    /// Now.
    Now,
    /// After this time, if nothing changes.
    After(SignedDuration),
    /// Not while its zone is as it is.
    No,
    /// No node may have one: all look dead.
    NoneAtAll,
}

fn zone_of(node: &Node) -> (String, String) {
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .cloned()
            .unwrap_or_default()
    };
    (
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone"),
    )
}

fn counts(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.is_none_or(|labels| !labels.contains_key("node.kubernetes.io/exclude-disruption"))
}

/// Whether an unhealthy node may be emptied.
pub(super) fn leave(world: &dyn World, node: &Node, now: Timestamp) -> Leave {
    let nodes = world.nodes().list("");
    let mut zones: BTreeMap<(String, String), Zone> = BTreeMap::new();
    for other in nodes.iter().filter(|node| counts(node)) {
        let zone = zones.entry(zone_of(other)).or_default();
        if readiness(other) == "True" {
            zone.ready += 1
        } else {
            zone.unready += 1
        }
    }
    if zones.values().all(|zone| zone.ready == 0) {
        return Leave::NoneAtAll;
    }
    // Not yet right after a time when all looked dead: the others may only be slower to come back.
    if let Some(left) = since_first_ready(&nodes)
        .map(|first| GRACE - now.duration_since(first))
        .filter(|left| *left > SignedDuration::ZERO)
    {
        return Leave::After(left);
    }
    let zone = zones.remove(&zone_of(node)).unwrap_or_default();
    let size = zone.ready + zone.unready;
    let partly = zone.ready > 0 && zone.unready > 2 && zone.unready as f64 / size as f64 >= UNHEALTHY_SHARE;
    let pace = match partly {
        false => PACE,
        true if size > LARGE_ZONE => SLOW_PACE,
        true => return Leave::No,
    };
    let latest = nodes
        .iter()
        .filter(|other| name(&***other) != name(node) && zone_of(other) == zone_of(node))
        .filter_map(|other| super::taints::evicting_since(other))
        .max();
    match latest
        .map(|latest| pace - now.duration_since(latest))
        .filter(|left| *left > SignedDuration::ZERO)
    {
        Some(left) => Leave::After(left),
        None => Leave::Now,
    }
}

fn since_first_ready(nodes: &[Arc<Node>]) -> Option<Timestamp> {
    let ready = nodes
        .iter()
        .filter_map(|node| condition(node, "Ready"))
        .filter(|ready| ready.status == "True");
    ready
        .filter_map(|ready| ready.last_transition_time.as_ref())
        .map(|time| time.0)
        .min()
}
