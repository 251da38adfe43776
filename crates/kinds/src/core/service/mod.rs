//! `services`.

mod addresses;
mod allocation;
mod validation;
mod warnings;

use std::collections::BTreeSet;

use api::{IntOrString, Value};
use apiserver::Kind;
use apiserver::kind::{Claim, Column, Connect, NameRule, SelectableField, Subresource};
use jiff::Timestamp;
use serde_json::json;

use crate::{cells, pools, tree};

pub use allocation::fill as allocate;

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "Service", "services")
        .short_names(&["svc"])
        .categories(&["all"])
        .name_rule(NameRule::Dns1123Label)
        .allow_create_on_update()
        .returns_deleted_object()
        .default(defaults)
        .prepare_update(|_, new, old| {
            drop_what_the_type_has_not(new, old);
        })
        .validate(validation::service)
        .canonicalize(|service| {
            // Nobody reads one of these (`defaultOnReadInternalTrafficPolicy`).
            if tree::text(service, "spec.type") == "ExternalName" {
                tree::unset(tree::child(service, "spec"), "internalTrafficPolicy");
            }
        })
        .validate_update(|new, old| {
            let mut errors = validation::changes(new, old);
            errors.extend(validation::service(new));
            errors
        })
        .warnings(|new, _| warnings::service(new))
        .allocates(held, allocation::fill)
        .claims_objects(addresses::claims())
        .subresource(Subresource::status().validate(|new, _| validation::load_balancer_status(new)))
        .subresource(Subresource::connect(Connect::ServiceProxy))
        .selectable(SelectableField::path("spec.clusterIP"))
        .selectable(SelectableField::path("spec.type"))
        .table(columns(), row)
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Type", "How the service is exposed."),
        Column::string("Cluster-IP", "Its address in the cluster."),
        Column::string("External-IP", "Its addresses outside the cluster."),
        Column::string("Port(s)", "Its ports."),
        Column::age(),
        Column::string("Selector", "Labels of the pods behind it.").wide(),
    ]
}

fn row(service: &Value, now: Timestamp) -> Vec<Value> {
    let address = tree::strings(service, "spec.clusterIPs").first().copied().unwrap_or("");
    let ports: Vec<String> = tree::list(service, "spec.ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (tree::count(port, "port"), tree::text(port, "protocol"));
            match tree::count(port, "nodePort") {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        })
        .collect();
    vec![
        cells::name(service),
        tree::text(service, "spec.type").into(),
        cells::or(address, "<none>"),
        external_address(service).into(),
        cells::or(&ports.join(","), "<none>"),
        cells::age(service, now),
        cells::label_map(service, "spec.selector"),
    ]
}

fn external_address(service: &Value) -> String {
    let external = tree::strings(service, "spec.externalIPs").join(",");
    match tree::text(service, "spec.type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external,
        "LoadBalancer" => {
            let mut all = load_balancer_addresses(service);
            if !external.is_empty() {
                all.push(external);
            }
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => tree::text(service, "spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The distinct addresses of a load balancer, in order.
pub(crate) fn load_balancer_addresses(object: &Value) -> Vec<String> {
    let ingress = tree::list(object, "status.loadBalancer.ingress").iter();
    let addresses: BTreeSet<&str> = ingress
        .map(|item| match tree::text(item, "ip") {
            "" => tree::text(item, "hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().map(str::to_owned).collect()
}

fn defaults(service: &mut Value) {
    let spec = tree::child(service, "spec");
    tree::fill(spec, "sessionAffinity", "None");
    match tree::text(spec, "sessionAffinity") {
        "None" => tree::unset(spec, "sessionAffinityConfig"),
        "ClientIP" if tree::int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds").is_none() => {
            tree::set(
                spec,
                "sessionAffinityConfig",
                json!({"clientIP": {"timeoutSeconds": 10800}}),
            );
        }
        _ => {}
    }
    tree::fill(spec, "type", "ClusterIP");
    for port in tree::items_mut(spec, "ports") {
        tree::fill(port, "protocol", "TCP");
        let target = port.get("targetPort").and_then(IntOrString::from_json);
        let unset = match target {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            let number = tree::count(port, "port");
            tree::set(port, "targetPort", number);
        }
    }
    let kind = tree::text(spec, "type").to_owned();
    let has_addresses = !tree::list(spec, "externalIPs").is_empty();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && has_addresses) {
        tree::fill(spec, "externalTrafficPolicy", "Cluster");
    }
    match kind.as_str() {
        "NodePort" | "LoadBalancer" | "ClusterIP" => tree::fill_absent(spec, "internalTrafficPolicy", "Cluster"),
        _ => {}
    }
    if kind == "LoadBalancer" {
        tree::fill(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in tree::items_mut(service, "status.loadBalancer.ingress") {
            if !tree::is_unset(ingress, "ip") {
                tree::fill_absent(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// Whether the type has an address in the cluster.
fn needs_cluster_ip(service: &Value) -> bool {
    tree::text(service, "spec.type") != "ExternalName"
}

/// Whether the type has ports on every node.
fn needs_node_port(service: &Value) -> bool {
    matches!(tree::text(service, "spec.type"), "NodePort" | "LoadBalancer")
}

/// Whether traffic may come from outside the cluster (`ExternallyAccessible`).
fn is_reached_from_outside(service: &Value) -> bool {
    let has_addresses = !tree::list(service, "spec.externalIPs").is_empty();
    needs_node_port(service) || (tree::text(service, "spec.type") == "ClusterIP" && has_addresses)
}

/// Whether the load balancer asks nodes for their health.
fn needs_health_check_port(service: &Value) -> bool {
    tree::text(service, "spec.type") == "LoadBalancer" && tree::text(service, "spec.externalTrafficPolicy") == "Local"
}

/// Whether the service has no address of its own.
fn is_headless(service: &Value) -> bool {
    tree::strings(service, "spec.clusterIPs") == ["None"]
}

/// A change of type clears what the new type has not, unless the client changed it too
/// (`dropTypeDependentFields`).
fn drop_what_the_type_has_not(new: &mut Value, old: &Value) {
    let same = |new: &Value, fields: &[&str]| {
        fields.iter().all(|field| {
            let path = format!("spec.{field}");
            tree::same(tree::at(new, &path), tree::at(old, &path))
        })
    };
    let clear = |new: &mut Value, fields: &[&str]| {
        for field in fields {
            tree::unset(tree::child(new, "spec"), field);
        }
    };
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        for fields in [&["clusterIP", "clusterIPs"][..], &["ipFamilies"], &["ipFamilyPolicy"]] {
            if same(new, fields) {
                clear(new, fields);
            }
        }
    }
    if needs_node_port(old) && !needs_node_port(new) {
        let before = node_ports(old);
        if node_ports(new).iter().all(|port| before.contains(port)) {
            for port in tree::items_mut(new, "spec.ports") {
                tree::unset(port, "nodePort");
            }
        }
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) && same(new, &["healthCheckNodePort"]) {
        clear(new, &["healthCheckNodePort"]);
    }
    let was_balanced = tree::text(old, "spec.type") == "LoadBalancer";
    let is_balanced = tree::text(new, "spec.type") == "LoadBalancer";
    if was_balanced && !is_balanced {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(new, &[field]) {
                clear(new, &[field]);
            }
        }
    }
    let was_reached = is_reached_from_outside(old) && !is_reached_from_outside(new);
    if was_reached && same(new, &["externalTrafficPolicy"]) {
        clear(new, &["externalTrafficPolicy"]);
    }
    if !is_balanced && tree::at(new, "status.loadBalancer").is_some() {
        tree::set(tree::child(new, "status"), "loadBalancer", json!({}));
    }
}

/// Ports on nodes that the service has, without its health check's.
fn node_ports(service: &Value) -> Vec<i64> {
    let ports = tree::list(service, "spec.ports")
        .iter()
        .map(|port| tree::count(port, "nodePort"));
    ports.filter(|port| *port != 0).collect()
}

/// The addresses and ports that a service holds.
fn held(service: &Value) -> BTreeSet<Claim> {
    let mut claims = BTreeSet::new();
    if needs_cluster_ip(service) {
        for address in tree::strings(service, "spec.clusterIPs") {
            if address != "None" && !address.is_empty() {
                let pool = if address.contains(':') {
                    pools::SERVICE_IPV6
                } else {
                    pools::SERVICE_IPV4
                };
                claims.insert(Claim {
                    pool: pool.to_owned(),
                    value: address.to_owned(),
                });
            }
        }
    }
    let mut ports = node_ports(service);
    ports.extend(tree::int(service, "spec.healthCheckNodePort").filter(|port| *port != 0));
    for port in ports {
        claims.insert(Claim {
            pool: pools::NODE_PORTS.to_owned(),
            value: port.to_string(),
        });
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_depend_on_the_type() {
        let mut service = json!({"spec": {"ports": [{"port": 80}, {"port": 443, "targetPort": "https"}]}});
        defaults(&mut service);
        let once = service.clone();
        defaults(&mut service);
        assert_eq!(service, once);
        assert_eq!(
            service["spec"],
            json!({
                "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 443, "protocol": "TCP", "targetPort": "https"}],
            })
        );
        let mut service = json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}});
        defaults(&mut service);
        assert_eq!(
            service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
            10800
        );
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], true);
    }

    #[test]
    fn a_change_of_type_clears_what_was_allocated() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "nodePort": 30000}]}});
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        drop_what_the_type_has_not(&mut new, &old);
        assert_eq!(new["spec"]["ports"], json!([{"port": 80}]));
        assert_eq!(new["spec"].get("externalTrafficPolicy"), None);
        assert_eq!(new["spec"]["clusterIP"], "10.96.0.1");
        new["spec"]["type"] = "ExternalName".into();
        let old = new.clone();
        let mut old = old;
        old["spec"]["type"] = "ClusterIP".into();
        drop_what_the_type_has_not(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ExternalName", "ports": [{"port": 80}]}));
    }

    #[test]
    fn rows_show_addresses_and_ports() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"],
            "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}});
        let cells = row(&service, Timestamp::UNIX_EPOCH);
        assert_eq!(
            cells[1..5],
            [
                json!("LoadBalancer"),
                json!("10.96.0.1"),
                json!("<pending>"),
                json!("80:30000/TCP,53/UDP")
            ]
        );
        assert_eq!(cells[6], "a=b");
        let claims: Vec<String> = held(&service)
            .into_iter()
            .map(|claim| format!("{}={}", claim.pool, claim.value))
            .collect();
        assert_eq!(
            claims,
            [
                format!("{}=30000", pools::NODE_PORTS),
                format!("{}=10.96.0.1", pools::SERVICE_IPV4)
            ]
        );
    }
}
