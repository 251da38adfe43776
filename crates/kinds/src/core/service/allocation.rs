//! Addresses and ports of services (`pkg/registry/core/service/storage/alloc.go`).

use api::Value;
use api::field::{Error, Path};
use apiserver::kind::{Pick, PickError};

use super::validation;
use super::{is_headless, needs_cluster_ip, needs_health_check_port, needs_node_port, node_ports};
use crate::{pools, tree};

/// Completes a service: address families, addresses, node ports. Values of the old object that
/// the client left out are kept, so that applying the same manifest again changes nothing.
pub fn fill(new: &mut Value, old: Option<&Value>, pick: &mut dyn Pick) -> Vec<Error> {
    if let Some(old) = old {
        keep_allocated(new, old);
    }
    sync_cluster_ips(new, old);
    let mut errors = families(new, old, pick);
    if errors.is_empty() {
        errors.extend(addresses(new, old, pick));
    }
    if errors.is_empty() {
        errors.extend(ports(new, old, pick));
    }
    errors
}

/// `patchAllocatedValues`.
fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs"] {
            if tree::is_set(old["spec"].get(field)) && !tree::is_set(new["spec"].get(field)) {
                let value = old["spec"][field].clone();
                tree::set(tree::child(new, "spec"), field, value);
            }
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let after = node_ports(new);
        for port in tree::items_mut(new, "spec.ports") {
            let name = tree::text(port, "name").to_owned();
            // The last port of that name, as in upstream's map.
            let before = tree::list(old, "spec.ports")
                .iter()
                .rev()
                .find(|port| tree::text(port, "name") == name);
            let before = before.map_or(0, |port| tree::count(port, "nodePort"));
            if tree::is_zero(port, "nodePort") && before != 0 && !after.contains(&before) {
                tree::set(port, "nodePort", before);
            }
        }
    }
    if needs_health_check_port(old) && needs_health_check_port(new) {
        let before = tree::count(old, "spec.healthCheckNodePort");
        if before != 0 {
            tree::fill_zero(tree::child(new, "spec"), "healthCheckNodePort", before);
        }
    }
}

/// Old clients write `clusterIP`, new ones both (`normalizeClusterIPs`).
fn sync_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let single = tree::text(new, "spec.clusterIP").to_owned();
    let plural: Vec<String> = owned(tree::strings(new, "spec.clusterIPs"));
    let spec = tree::child(new, "spec");
    let Some(old) = old else {
        if !single.is_empty() && plural.is_empty() {
            tree::set(spec, "clusterIPs", vec![single]);
        }
        return;
    };
    let old_single = tree::text(old, "spec.clusterIP");
    let old_plural = owned(tree::strings(old, "spec.clusterIPs"));
    if !old_plural.is_empty() && plural.is_empty() && old_single == single {
        tree::set(spec, "clusterIPs", old_plural);
        return;
    }
    if old_single != single && plural == old_plural {
        if single.is_empty() {
            tree::unset(spec, "clusterIPs");
        } else {
            tree::set(spec, "clusterIPs", vec![single]);
        }
    }
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_owned).collect()
}

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

fn pool_of(family: &str) -> &'static str {
    if family == "IPv6" {
        pools::SERVICE_IPV6
    } else {
        pools::SERVICE_IPV4
    }
}

/// `initIPFamilyFields`: decides `ipFamilyPolicy` and `ipFamilies`.
fn families(new: &mut Value, old: Option<&Value>, pick: &mut dyn Pick) -> Vec<Error> {
    if !needs_cluster_ip(new) || keeps_prefer_dual_stack(new, old) {
        return Vec::new();
    }
    let selectorless = is_selectorless_headless(new);
    let old_policy = old.map_or("", |old| tree::text(old, "spec.ipFamilyPolicy")).to_owned();
    let policy = match (old_policy.as_str(), selectorless) {
        ("", true) => "RequireDualStack",
        ("", false) => "SingleStack",
        (old, _) => old,
    };
    tree::fill_absent(tree::child(new, "spec"), "ipFamilyPolicy", policy);
    let errors = validation::cluster_ips(new);
    if !errors.is_empty() {
        return errors;
    }
    let policy = tree::text(new, "spec.ipFamilyPolicy").to_owned();
    if let Some(old) = old {
        let errors = released(new, old, &policy);
        if !errors.is_empty() {
            return errors;
        }
    }
    let configured: Vec<&str> = ["IPv4", "IPv6"]
        .into_iter()
        .filter(|family| pick.has_pool(pool_of(family)))
        .collect();
    let errors = infer_families(new, &policy, &configured);
    if !errors.is_empty() {
        return errors;
    }
    complete_families(new, &policy, &configured, selectorless)
}

fn is_selectorless_headless(service: &Value) -> bool {
    tree::text(service, "spec.clusterIP") == "None"
        && tree::map(service, "spec.selector").is_none_or(|selector| selector.is_empty())
}

/// Whether an update leaves a PreferDualStack service as it was, which must not upgrade it.
fn keeps_prefer_dual_stack(new: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else { return false };
    let prefers = |service: &Value| tree::text(service, "spec.ipFamilyPolicy") == "PreferDualStack";
    let same = |field: &str| tree::same(new["spec"].get(field), old["spec"].get(field));
    prefers(new) && prefers(old) && same("clusterIP") && same("clusterIPs") && same("ipFamilies")
}

/// A service that goes back to one family releases the second, but only if it says so.
fn released(new: &mut Value, old: &Value, policy: &str) -> Vec<Error> {
    let path = Path::new("spec").child("ipFamilyPolicy");
    let mut errors = Vec::new();
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let path_of = format!("spec.{field}");
        let (after, before) = (owned(tree::strings(new, &path_of)), owned(tree::strings(old, &path_of)));
        if policy == "SingleStack" {
            if after == before && after.len() > 1 {
                tree::set(tree::child(new, "spec"), field, vec![after[0].clone()]);
            }
        } else if !after.is_empty() && after.len() < before.len() && before.first() == after.first() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(Error::invalid(&path, policy, detail));
        }
    }
    errors
}

fn infer_families(new: &mut Value, policy: &str, configured: &[&str]) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let addresses = owned(tree::strings(new, "spec.clusterIPs"));
    let mut families = owned(tree::strings(new, "spec.ipFamilies"));
    if policy == "SingleStack" {
        for (count, what) in [(addresses.len(), "cluster IPs"), (families.len(), "IP families")] {
            if count == 2 {
                let detail =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy, detail));
            }
        }
    }
    for (index, address) in addresses.iter().enumerate() {
        if address == "None" {
            break;
        }
        let family = family_of(address);
        if index >= families.len() {
            if configured.contains(&family) {
                families.push(family.to_owned());
            } else {
                let detail = format!("{family} is not configured on this cluster");
                errors.push(Error::invalid(
                    &path.child("clusterIPs").index(index),
                    addresses.clone(),
                    detail,
                ));
            }
        }
    }
    if !families.is_empty() {
        tree::set(tree::child(new, "spec"), "ipFamilies", families);
    }
    errors
}

fn complete_families(new: &mut Value, policy: &str, configured: &[&str], selectorless: bool) -> Vec<Error> {
    let path = Path::new("spec");
    let mut families = owned(tree::strings(new, "spec.ipFamilies"));
    let default = configured.first().copied().unwrap_or("IPv4");
    let mut errors = Vec::new();
    if !selectorless {
        if policy == "RequireDualStack" && configured.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy, detail));
        }
        for (index, family) in families.iter().enumerate() {
            if !configured.contains(&family.as_str()) {
                let path = path.child("ipFamilies").index(index);
                errors.push(Error::invalid(&path, family.as_str(), "not configured on this cluster"));
            }
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if policy != "SingleStack" && families.len() == 1 && (selectorless || configured.len() == 2) {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    tree::set(tree::child(new, "spec"), "ipFamilies", families);
    errors
}

fn addresses(new: &mut Value, old: Option<&Value>, pick: &mut dyn Pick) -> Vec<Error> {
    if !needs_cluster_ip(new) || is_headless(new) || keeps_prefer_dual_stack(new, old) {
        return Vec::new();
    }
    // What the service has is not asked for again: validation says whether it may change (`updateClusterIPs`).
    let before = old.filter(|old| needs_cluster_ip(old));
    if before.is_some_and(is_headless) {
        return Vec::new();
    }
    let held = before.map_or(0, |old| tree::strings(old, "spec.clusterIPs").len());
    let families = owned(tree::strings(new, "spec.ipFamilies"));
    let mut addresses = owned(tree::strings(new, "spec.clusterIPs"));
    let asked = addresses.clone();
    let path = Path::new("spec").child("clusterIPs");
    for (index, family) in families.iter().enumerate().skip(held) {
        while addresses.len() <= index {
            addresses.push(String::new());
        }
        let pool = pool_of(family);
        if addresses[index].is_empty() {
            match pick.any(pool) {
                Ok(address) => addresses[index] = address,
                Err(error) => {
                    return vec![Error::internal(
                        &path,
                        format!("failed to allocate a serviceIP: {error}"),
                    )];
                }
            }
        } else if let Err(error) = pick.exact(pool, &addresses[index]) {
            let detail = format!("failed to allocate IP {}: {error}", addresses[index]);
            return vec![refusal(error, &path, asked, detail)];
        }
    }
    if let Some(first) = addresses.first().cloned() {
        let spec = tree::child(new, "spec");
        tree::set(spec, "clusterIP", first);
        tree::set(spec, "clusterIPs", addresses);
    }
    Vec::new()
}

/// A taken or impossible value is the client's fault; anything else is not.
fn refusal(error: PickError, path: &Path, value: impl Into<Value>, detail: String) -> Error {
    match error {
        PickError::Allocated(_) | PickError::OutOfRange(_) => Error::invalid(path, value, detail),
        PickError::Full | PickError::NoPool(_) | PickError::Store(_) => Error::internal(path, detail),
    }
}

fn ports(new: &mut Value, old: Option<&Value>, pick: &mut dyn Pick) -> Vec<Error> {
    let mut errors = Vec::new();
    if needs_node_port(new) {
        errors.extend(node_port_of_each(new, pick));
    }
    if needs_health_check_port(new) {
        let had = old.filter(|old| needs_health_check_port(old));
        errors.extend(health_check_port(new, had.is_some(), pick));
    }
    errors
}

/// Ports with the same number but another protocol share one node port.
fn node_port_of_each(new: &mut Value, pick: &mut dyn Pick) -> Vec<Error> {
    let spec_path = Path::new("spec").child("ports");
    let allocates = tree::text(new, "spec.type") == "NodePort"
        || tree::flag_opt(new, "spec.allocateLoadBalancerNodePorts") != Some(false);
    let asked: Vec<(i64, i64)> = tree::list(new, "spec.ports")
        .iter()
        .map(|port| (tree::count(port, "port"), tree::count(port, "nodePort")))
        .collect();
    let mut taken: Vec<i64> = Vec::new();
    let mut chosen: Vec<(i64, i64)> = Vec::new();
    let mut errors = Vec::new();
    for (index, port) in tree::items_mut(new, "spec.ports").enumerate() {
        let (number, mut wanted) = asked[index];
        if wanted == 0 {
            if !allocates {
                continue;
            }
            let known = chosen
                .iter()
                .chain(&asked)
                .find(|(port, node)| *port == number && *node != 0);
            wanted = known.map_or(0, |(_, node)| *node);
        }
        let path = spec_path.index(index).child("nodePort");
        if wanted == 0 {
            match pick.any(pools::NODE_PORTS).map(|text| text.parse::<i64>()) {
                Ok(Ok(free)) => {
                    wanted = free;
                    taken.push(free);
                }
                Ok(Err(_)) => errors.push(Error::internal(&path, "failed to allocate a nodePort: not a number")),
                Err(error) => {
                    errors.push(Error::internal(
                        &path,
                        format!("failed to allocate a nodePort: {error}"),
                    ));
                }
            }
        } else if !taken.contains(&wanted) {
            match pick.exact(pools::NODE_PORTS, &wanted.to_string()) {
                Ok(()) => taken.push(wanted),
                Err(error) => {
                    let detail = error.to_string();
                    errors.push(refusal(error, &path, wanted, detail));
                }
            }
        }
        if wanted != 0 {
            chosen.push((number, wanted));
            tree::set(port, "nodePort", wanted);
        }
    }
    errors
}

fn health_check_port(new: &mut Value, had: bool, pick: &mut dyn Pick) -> Vec<Error> {
    let path = Path::new("spec").child("healthCheckNodePort");
    let wanted = tree::count(new, "spec.healthCheckNodePort");
    if wanted != 0 {
        return match pick.exact(pools::NODE_PORTS, &wanted.to_string()) {
            Ok(()) => Vec::new(),
            // A changed port is refused by validation, with the better message.
            Err(_) if had => Vec::new(),
            Err(error) => {
                let detail = format!("failed to allocate requested HealthCheck NodePort {wanted}: {error}");
                vec![Error::internal(&path, detail)]
            }
        };
    }
    match pick.any(pools::NODE_PORTS).map(|text| text.parse::<i64>()) {
        Ok(Ok(free)) => {
            tree::set(tree::child(new, "spec"), "healthCheckNodePort", free);
            Vec::new()
        }
        Ok(Err(_)) => vec![Error::internal(
            &path,
            "failed to allocate a HealthCheck NodePort: not a number",
        )],
        Err(error) => vec![Error::internal(
            &path,
            format!("failed to allocate a HealthCheck NodePort: {error}"),
        )],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::json;

    #[derive(Default)]
    struct Pools {
        taken: BTreeSet<String>,
        mine: BTreeSet<String>,
        next: u32,
        v6: bool,
    }

    impl Pick for Pools {
        fn any(&mut self, pool: &str) -> Result<String, PickError> {
            self.next += 1;
            Ok(match pool {
                pools::NODE_PORTS => (30000 + self.next).to_string(),
                pools::SERVICE_IPV6 => format!("fd00::{}", self.next),
                _ => format!("10.96.0.{}", self.next),
            })
        }

        fn exact(&mut self, _: &str, value: &str) -> Result<(), PickError> {
            if self.mine.contains(value) || self.taken.insert(value.to_owned()) {
                Ok(())
            } else {
                Err(PickError::Allocated(value.to_owned()))
            }
        }

        fn has_pool(&self, pool: &str) -> bool {
            pool != pools::SERVICE_IPV6 || self.v6
        }
    }

    #[test]
    fn a_new_service_gets_one_of_each() {
        let mut service = json!({"spec": {"type": "NodePort", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "nodePort": 31000}]}});
        assert_eq!(fill(&mut service, None, &mut Pools::default()), []);
        let spec = &service["spec"];
        assert_eq!(
            (&spec["clusterIP"], &spec["clusterIPs"]),
            (&json!("10.96.0.1"), &json!(["10.96.0.1"]))
        );
        assert_eq!(
            (&spec["ipFamilies"], &spec["ipFamilyPolicy"]),
            (&json!(["IPv4"]), &json!("SingleStack"))
        );
        let ports: Vec<i64> = spec["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| tree::count(p, "nodePort"))
            .collect();
        assert_eq!(ports, [30002, 30002, 31000]);
    }

    #[test]
    fn applying_again_changes_nothing() {
        let manifest =
            json!({"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
        let mut old = manifest.clone();
        fill(&mut old, None, &mut Pools::default());
        let mut new = manifest;
        let mine = ["10.96.0.1", "30002", "30003"].map(str::to_owned).into();
        let mut pools = Pools {
            mine,
            next: 50,
            ..Pools::default()
        };
        assert_eq!(fill(&mut new, Some(&old), &mut pools), []);
        assert_eq!(new, old);
    }

    #[test]
    fn an_address_that_may_not_change_is_left_to_validation() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}});
        let mut pools = Pools {
            taken: ["10.96.0.9".to_owned()].into(),
            ..Pools::default()
        };
        for wanted in ["10.96.0.9", "None"] {
            let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": wanted}});
            assert_eq!(fill(&mut new, Some(&old), &mut pools), []);
            assert_eq!(new["spec"]["clusterIPs"], json!([wanted]));
        }
        let mut headless = old.clone();
        headless["spec"]["clusterIP"] = json!("None");
        headless["spec"]["clusterIPs"] = json!(["None"]);
        let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9"}});
        assert_eq!(fill(&mut new, Some(&headless), &mut pools), []);
        // One that had no address gets what it asks for, if that is free.
        let external = json!({"spec": {"type": "ExternalName", "externalName": "a.b"}});
        assert_eq!(fill(&mut new, Some(&external), &mut pools).len(), 1);
    }

    #[test]
    fn taken_values_are_the_clients_fault() {
        let mut pools = Pools {
            taken: ["10.96.0.9".to_owned(), "30009".to_owned()].into(),
            ..Pools::default()
        };
        let mut service = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9"}});
        let errors = fill(&mut service, None, &mut pools);
        assert_eq!(
            errors[0].to_string(),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: failed to allocate IP 10.96.0.9: provided 10.96.0.9 is already allocated"
        );
        let mut service = json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30009}]}});
        let errors = fill(&mut service, None, &mut pools);
        assert_eq!(
            errors[0].to_string(),
            "spec.ports[0].nodePort: Invalid value: 30009: provided 30009 is already allocated"
        );
    }

    #[test]
    fn families_follow_the_policy() {
        let cases = [
            (
                json!({"type": "ClusterIP", "clusterIP": "None"}),
                false,
                json!(["IPv4", "IPv6"]),
                json!("RequireDualStack"),
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "None", "selector": {"a": "b"}}),
                false,
                json!(["IPv4"]),
                json!("SingleStack"),
            ),
            (
                json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack"}),
                false,
                json!(["IPv4"]),
                json!("PreferDualStack"),
            ),
            (
                json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack"}),
                true,
                json!(["IPv4", "IPv6"]),
                json!("PreferDualStack"),
            ),
            (
                json!({"type": "ClusterIP", "ipFamilies": ["IPv6"]}),
                true,
                json!(["IPv6"]),
                json!("SingleStack"),
            ),
        ];
        for (spec, v6, families, policy) in cases {
            let mut service = json!({"spec": spec});
            assert_eq!(fill(&mut service, None, &mut Pools { v6, ..Pools::default() }), []);
            assert_eq!(
                (&service["spec"]["ipFamilies"], &service["spec"]["ipFamilyPolicy"]),
                (&families, &policy),
                "{service}"
            );
        }
        let mut service = json!({"spec": {"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}});
        let errors = fill(&mut service, None, &mut Pools::default());
        assert_eq!(
            errors[0].detail,
            "this cluster is not configured for dual-stack services"
        );
        let mut service = json!({"spec": {"type": "ExternalName", "externalName": "a.b"}});
        assert_eq!(fill(&mut service, None, &mut Pools::default()), []);
        assert_eq!(
            service,
            json!({"spec": {"type": "ExternalName", "externalName": "a.b"}})
        );
    }
}
