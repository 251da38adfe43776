//! Which zone's or node's traffic an endpoint is meant for (upstream `staging/src/k8s.io/endpointslice`:
//! `trafficdist`, `topologycache`).

use std::collections::BTreeMap;

use api::Quantity;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use super::Group;
use crate::World;
use crate::endpoints::zone;
use crate::object::annotation;

/// By how much more than its part of the load a zone's endpoints may get.
const OVERLOAD: f64 = 0.2;
/// Nodes with these labels take no part in the zones' weights.
const EXCLUDED: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Whether endpoints are shared out among zones by the zones' CPUs.
pub(super) fn is_shared_out(service: &Service) -> bool {
    let mode = annotation(service, "service.kubernetes.io/topology-aware-hints")
        .or_else(|| annotation(service, "service.kubernetes.io/topology-mode"));
    matches!(mode, Some("Auto" | "auto"))
}

/// Gives all endpoints of one family their hints, or none.
pub(super) fn assign(world: &dyn World, service: &Service, groups: &mut [Group]) {
    let distribution = service
        .spec
        .as_ref()
        .and_then(|spec| spec.traffic_distribution.as_deref());
    if is_shared_out(service) {
        share_out(world, groups);
        return;
    }
    let to_nodes = distribution == Some("PreferSameNode");
    if !to_nodes && !matches!(distribution, Some("PreferClose" | "PreferSameZone")) {
        return;
    }
    for endpoint in groups.iter_mut().flat_map(|group| &mut group.endpoints) {
        let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let node = endpoint.node_name.clone().filter(|_| to_nodes);
        let for_nodes = node.map(|name| vec![ForNode { name }]);
        if for_zones.is_some() || for_nodes.is_some() {
            endpoint.hints = Some(EndpointHints { for_nodes, for_zones });
        }
    }
}

/// What a node adds to its zone.
pub(super) fn weight(node: &Node) -> Option<(String, i64)> {
    Some((zone(node)?.clone(), cpu(node)?)).filter(|(zone, _)| !zone.is_empty())
}

fn cpu(node: &Node) -> Option<i64> {
    let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
    let milli = allocatable.get("cpu")?.0.parse::<Quantity>().ok()?.milli_value();
    Some(milli).filter(|milli| *milli > 0)
}

/// Whether a node counts.
pub(super) fn counts(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let excluded = EXCLUDED
        .iter()
        .any(|key| labels.is_some_and(|labels| labels.contains_key(*key)));
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    !excluded && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Each zone's part of all CPUs; nothing if a node does not tell its own.
fn shares(world: &dyn World) -> Option<BTreeMap<String, f64>> {
    let mut by_zone: BTreeMap<String, i64> = BTreeMap::new();
    for node in world.nodes().list("").iter().filter(|node| counts(node)) {
        let (zone, cpu) = weight(node)?;
        *by_zone.entry(zone).or_default() += cpu;
    }
    let total: i64 = by_zone.values().sum();
    let share = |cpu: i64| cpu as f64 / total as f64;
    (by_zone.len() > 1).then(|| by_zone.into_iter().map(|(zone, cpu)| (zone, share(cpu))).collect())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .is_some_and(|conditions| conditions.ready == Some(true))
}

fn share_out(world: &dyn World, groups: &mut [Group]) {
    let Some(shares) = shares(world) else { return };
    let mut ready: Vec<&mut Endpoint> = groups
        .iter_mut()
        .flat_map(|group| &mut group.endpoints)
        .filter(|endpoint| is_ready(endpoint))
        .collect();
    let total = ready.len();
    let Some(targets) = targets(&shares, total) else { return };
    let zones: Option<Vec<String>> = ready.iter().map(|endpoint| endpoint.zone.clone()).collect();
    let Some(mut zones) = zones else { return };
    let mut allocated: BTreeMap<&str, f64> = BTreeMap::new();
    for zone in &zones {
        *allocated.entry(zone).or_default() += 1.0;
    }
    let mut moves = moves(&targets, &allocated);
    for zone in &mut zones {
        if let Some(index) = moves.iter().position(|(from, _)| from == zone) {
            *zone = moves.remove(index).1;
        }
    }
    for (endpoint, name) in ready.iter_mut().zip(zones) {
        endpoint.hints = Some(EndpointHints {
            for_zones: Some(vec![ForZone { name }]),
            ..EndpointHints::default()
        });
    }
}

/// How many endpoints each zone should have; nothing if no way of sharing out spares every zone too much load.
fn targets(shares: &BTreeMap<String, f64>, total: usize) -> Option<BTreeMap<String, f64>> {
    if shares.len() > total {
        return None;
    }
    let mut left = total as f64;
    let mut targets = BTreeMap::new();
    for (zone, share) in shares {
        let desired = share * total as f64;
        let least = (desired / (1.0 + OVERLOAD)).ceil();
        left -= least;
        if left < 0.0 {
            return None;
        }
        targets.insert(zone.clone(), desired.max(least));
    }
    Some(targets)
}

/// Endpoints that one zone gives to another (`getGivingAndReceivingZones`).
fn moves(targets: &BTreeMap<String, f64>, allocated: &BTreeMap<&str, f64>) -> Vec<(String, String)> {
    let surplus = |zone: &String, target: &f64| allocated.get(zone.as_str()).copied().unwrap_or(0.0) - target;
    let mut diffs: BTreeMap<&String, f64> = targets
        .iter()
        .map(|(zone, target)| (zone, surplus(zone, target)))
        .collect();
    let mut moves = Vec::new();
    loop {
        let most = diffs
            .iter()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(zone, diff)| (*zone, *diff));
        let least = diffs
            .iter()
            .min_by(|a, b| a.1.total_cmp(b.1))
            .map(|(zone, diff)| (*zone, *diff));
        let (Some((from, give)), Some((to, lack))) = (most, least) else {
            return moves;
        };
        let take = -lack;
        if (give < 1.0 && take < 1.0) || give < 0.5 || take < 0.5 {
            return moves;
        }
        moves.push((from.clone(), to.clone()));
        diffs.entry(from).and_modify(|diff| *diff -= 1.0);
        diffs.entry(to).and_modify(|diff| *diff += 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(parts: &[(&str, f64)]) -> BTreeMap<String, f64> {
        parts.iter().map(|(zone, part)| ((*zone).to_owned(), *part)).collect()
    }

    #[test]
    fn zones_get_their_part_within_the_tolerance() {
        let cases = [
            (map(&[("a", 0.5), ("b", 0.5)]), 4, Some(map(&[("a", 2.0), ("b", 2.0)]))),
            (map(&[("a", 0.5), ("b", 0.5)]), 1, None),
            // One of three zones would be overloaded by more than a fifth.
            (
                map(&[("a", 0.35), ("b", 0.3), ("c", 0.35)]),
                3,
                Some(map(&[("a", 1.05), ("b", 1.0), ("c", 1.05)])),
            ),
            (map(&[("a", 0.5), ("b", 0.25), ("c", 0.25)]), 3, None),
        ];
        for (shares, total, expected) in cases {
            let found = targets(&shares, total);
            let rounded = |map: BTreeMap<String, f64>| {
                map.into_iter()
                    .map(|(z, v)| (z, (v * 1000.0).round()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(found.map(rounded), expected.map(rounded), "{shares:?} {total}");
        }
    }

    #[test]
    fn zones_with_too_many_give_to_those_with_too_few() {
        let targets = map(&[("a", 3.0), ("b", 3.0)]);
        let cases = [
            (vec![("a", 3.0), ("b", 3.0)], 0),
            (vec![("a", 6.0)], 3),
            (vec![("a", 4.0), ("b", 2.0)], 1),
        ];
        for (allocated, count) in cases {
            let allocated: BTreeMap<&str, f64> = allocated.into_iter().collect();
            let moves = moves(&targets, &allocated);
            assert!(
                moves.len() == count && moves.iter().all(|(from, to)| from == "a" && to == "b"),
                "{moves:?}"
            );
        }
    }
}
