//! Validation of services (`pkg/apis/core/validation`, from `ValidateService`).

use api::field::{Error, Path};
use api::{Value, meta, validate};

use super::{is_headless, is_reached_from_outside, needs_health_check_port};
use crate::{checks, tree};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn service(service: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let kind = tree::text(service, "spec.type");
    let ports = tree::list(service, "spec.ports");
    let mut errors = topology_mode(service);
    if ports.is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    errors.extend(of_type(service, &path));
    errors.extend(port_list(ports, &path.child("ports")));
    errors.extend(validate::labels(
        tree::at(service, "spec.selector"),
        &path.child("selector"),
    ));
    errors.extend(session_affinity(service, &path));
    errors.extend(cluster_ips(service));
    for (index, ip) in tree::strings(service, "spec.externalIPs").into_iter().enumerate() {
        let path = path.child("externalIPs").index(index);
        let bad = validate::ip_for_legacy_field(&path, ip);
        errors.extend(if bad.is_empty() {
            checks::non_special_ip(ip, &path)
        } else {
            bad
        });
    }
    errors.extend(checks::one_of(kind, TYPES, &path.child("type")));
    errors.extend(unique_ports(service, &path.child("ports")));
    errors.extend(load_balancer(service, &path));
    errors.extend(traffic_policies(service, &path));
    errors
}

fn topology_mode(service: &Value) -> Vec<Error> {
    const OLD: &str = "service.kubernetes.io/topology-aware-hints";
    const NEW: &str = "service.kubernetes.io/topology-mode";
    match (meta::annotation(service, OLD), meta::annotation(service, NEW)) {
        (Some(old), Some(new)) if old != new => {
            let path = Path::new("metadata").child("annotations").key(NEW);
            let detail = format!("must match annotations[{OLD}] when both are specified");
            vec![Error::invalid(&path, new, detail)]
        }
        _ => Vec::new(),
    }
}

fn of_type(service: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let kind = tree::text(service, "spec.type");
    if matches!(kind, "LoadBalancer" | "NodePort") && is_headless(service) {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(Error::invalid(&path.child("clusterIPs").index(0), "None", detail));
    }
    if kind == "ExternalName" {
        for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let given = service["spec"].get(field);
            if tree::is_set(given) || given.is_some_and(Value::is_string) {
                let detail = "may not be set for ExternalName services";
                errors.push(Error::forbidden(&path.child(field), detail));
            }
        }
        let name = tree::text(service, "spec.externalName");
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            errors.push(Error::required(&path.child("externalName"), ""));
        } else {
            errors.extend(checks::dns_subdomain(name, &path.child("externalName")));
        }
    }
    errors
}

fn port_list(ports: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        match tree::text(port, "name") {
            "" if ports.len() > 1 => errors.push(Error::required(&path.child("name"), "")),
            "" => {}
            name => {
                errors.extend(checks::dns_label(name, &path.child("name")));
                if ports[..index].iter().any(|other| tree::text(other, "name") == name) {
                    errors.push(Error::duplicate(&path.child("name"), name));
                }
            }
        }
        errors.extend(checks::port_number(tree::count(port, "port"), &path.child("port")));
        errors.extend(checks::one_of(
            tree::text(port, "protocol"),
            checks::PROTOCOLS,
            &path.child("protocol"),
        ));
        errors.extend(checks::port_number_or_name(
            port.get("targetPort"),
            &path.child("targetPort"),
        ));
        if let Some(name) = tree::text_opt(port, "appProtocol") {
            errors.extend(checks::qualified_name(name, &path.child("appProtocol")));
        }
    }
    errors
}

fn unique_ports(service: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let ports = tree::list(service, "spec.ports");
    let same = |a: &Value, b: &Value, field: &str| {
        tree::count(a, field) == tree::count(b, field) && tree::text(a, "protocol") == tree::text(b, "protocol")
    };
    let node_port = |port: &Value| tree::count(port, "nodePort");
    let on_nodes = || ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0);
    let path_of = |index| path.index(index).child("nodePort");
    if tree::text(service, "spec.type") == "ClusterIP" {
        let detail = "may not be used when `type` is 'ClusterIP'";
        errors.extend(on_nodes().map(|(index, _)| Error::forbidden(&path_of(index), detail)));
    }
    for (index, port) in on_nodes() {
        if ports[..index].iter().any(|other| same(other, port, "nodePort")) {
            errors.push(Error::duplicate(&path_of(index), node_port(port)));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| same(other, port, "port")) {
            let (protocol, number) = (tree::text(port, "protocol"), tree::count(port, "port"));
            let shown = format!(
                r#"{{"Name":"","Protocol":"{protocol}","AppProtocol":null,"Port":{number},"TargetPort":0,"NodePort":0}}"#
            );
            errors.push(Error::duplicate(&path.index(index), number).showing(shown));
        }
    }
    errors
}

fn session_affinity(service: &Value, path: &Path) -> Vec<Error> {
    let affinity = tree::text(service, "spec.sessionAffinity");
    let mut errors = checks::one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity"));
    let path = path.child("sessionAffinityConfig");
    let config = tree::at(service, "spec.sessionAffinityConfig");
    match affinity {
        "ClientIP" => {
            let why = "when session affinity type is ClientIP";
            let client = config.and_then(|config| tree::at(config, "clientIP"));
            let timeout = client.and_then(|client| tree::int(client, "timeoutSeconds"));
            let client_path = path.child("clientIP");
            match (config, client, timeout) {
                (None, _, _) => errors.push(Error::required(&path, why)),
                (_, None, _) => errors.push(Error::required(&client_path, why)),
                (_, _, None) => errors.push(Error::required(&client_path.child("timeoutSeconds"), why)),
                (_, _, Some(1..=86400)) => {}
                (_, _, Some(seconds)) => {
                    let detail = "must be greater than 0 and less than 86400";
                    errors.push(Error::invalid(&client_path.child("timeoutSeconds"), seconds, detail));
                }
            }
        }
        "None" if config.is_some() => {
            errors.push(Error::forbidden(&path, "must not be set when session affinity is None"));
        }
        _ => {}
    }
    errors
}

/// Addresses and families, which must agree (`ValidateServiceClusterIPsRelatedFields`).
pub(super) fn cluster_ips(service: &Value) -> Vec<Error> {
    if tree::text(service, "spec.type") == "ExternalName" {
        return Vec::new();
    }
    let path = Path::new("spec");
    let (ips_path, families_path) = (path.child("clusterIPs"), path.child("ipFamilies"));
    let single = tree::text(service, "spec.clusterIP");
    let ips = tree::strings(service, "spec.clusterIPs");
    let families = tree::strings(service, "spec.ipFamilies");
    let mut errors = Vec::new();
    if !single.is_empty() {
        match ips.first() {
            None => errors.push(Error::required(&ips_path, "")),
            Some(first) if *first != single => {
                errors.push(Error::invalid(
                    &ips_path,
                    ips.clone(),
                    "first value must match `clusterIP`",
                ));
            }
            Some(_) => {}
        }
    } else if !ips.is_empty() {
        let detail = "must be empty when `clusterIP` is not specified";
        errors.push(Error::invalid(&ips_path, ips.clone(), detail));
    }
    for (index, family) in families.iter().enumerate() {
        let path = families_path.index(index);
        if !FAMILIES.contains(family) {
            errors.push(Error::not_supported(&path, *family, FAMILIES));
        }
        if families[..index].contains(family) {
            errors.push(Error::duplicate(&path, *family));
        }
    }
    let policy = tree::text_opt(service, "spec.ipFamilyPolicy");
    errors.extend(checks::optional_one_of(policy, POLICIES, &path.child("ipFamilyPolicy")));
    let mut malformed = false;
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && *ip == "None" {
            if ips.len() > 1 {
                malformed = true;
                errors.push(Error::invalid(
                    &ips_path,
                    ips.clone(),
                    "'None' must be the first and only value",
                ));
            }
            continue;
        }
        let bad = validate::ip_for_legacy_field(&ips_path.index(index), ip);
        malformed |= !bad.is_empty();
        errors.extend(bad);
    }
    if ips.len() > 2 {
        errors.push(Error::invalid(&ips_path, ips.clone(), "may only hold up to 2 values"));
    }
    if malformed {
        return errors;
    }
    if ips.len() > 1 && !checks::is_dual_stack(&ips) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(&ips_path, ips.clone(), detail));
    }
    if !is_headless(service) {
        for (index, (ip, family)) in ips.iter().zip(&families).enumerate() {
            let expected = if ip.contains(':') { "IPv6" } else { "IPv4" };
            if FAMILIES.contains(family) && *family != expected {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
                errors.push(Error::invalid(&ips_path.index(index), *ip, detail));
            }
        }
    }
    errors
}

fn load_balancer(service: &Value, path: &Path) -> Vec<Error> {
    const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let is_balanced = tree::text(service, "spec.type") == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    let mut errors = Vec::new();
    let ranges = tree::strings(service, "spec.loadBalancerSourceRanges");
    // Upstream capitalizes the field here.
    let ranges_path = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() {
        if !is_balanced {
            errors.push(Error::forbidden(&ranges_path, only));
        }
        for (index, range) in ranges.iter().enumerate() {
            errors.extend(validate::legacy_cidr(&ranges_path.index(index), range.trim()));
        }
    } else if let Some(text) = meta::annotation(service, RANGES) {
        let path = Path::new("metadata").child("annotations").key(RANGES);
        if !is_balanced {
            errors.push(Error::forbidden(&path, only));
        }
        let text = text.trim();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            errors.extend(validate::legacy_cidr(&path, range.trim()));
        }
    }
    let allocate = tree::flag_opt(service, "spec.allocateLoadBalancerNodePorts");
    if allocate.is_some() && !is_balanced {
        errors.push(Error::forbidden(&path.child("allocateLoadBalancerNodePorts"), only));
    }
    if allocate.is_none() && is_balanced {
        errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    if let Some(class) = tree::text_opt(service, "spec.loadBalancerClass") {
        let path = path.child("loadBalancerClass");
        if is_balanced {
            errors.extend(checks::qualified_name(class, &path));
        } else {
            errors.push(Error::forbidden(&path, only));
        }
    }
    errors
}

fn traffic_policies(service: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let external = tree::text(service, "spec.externalTrafficPolicy");
    let external_path = path.child("externalTrafficPolicy");
    if is_reached_from_outside(service) {
        errors.extend(checks::one_of(external, &["Cluster", "Local"], &external_path));
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(Error::invalid(&external_path, external, detail));
    }
    let port = tree::count(service, "spec.healthCheckNodePort");
    let port_path = path.child("healthCheckNodePort");
    match (needs_health_check_port(service), port) {
        (true, 0) => errors.push(Error::required(&port_path, "")),
        (true, port) => errors.extend(checks::port_number(port, &port_path)),
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&port_path, port, detail));
        }
    }
    let internal = tree::text_opt(service, "spec.internalTrafficPolicy");
    let internal_path = path.child("internalTrafficPolicy");
    if internal.is_none()
        && matches!(
            tree::text(service, "spec.type"),
            "NodePort" | "LoadBalancer" | "ClusterIP"
        )
    {
        errors.push(Error::required(&internal_path, ""));
    }
    errors.extend(checks::optional_one_of(internal, &["Cluster", "Local"], &internal_path));
    if let Some(distribution) = tree::text_opt(service, "spec.trafficDistribution") {
        let known = &["PreferClose", "PreferSameZone", "PreferSameNode"];
        errors.extend(checks::optional_one_of(
            Some(distribution),
            known,
            &path.child("trafficDistribution"),
        ));
    }
    errors
}

/// What an update may not change (`ValidateServiceUpdate`).
pub(super) fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let external = |service: &Value| tree::text(service, "spec.type") == "ExternalName";
    if !external(new) && !external(old) {
        let (now_headless, was_headless) = (is_headless(new), is_headless(old));
        if !(now_headless && was_headless) {
            errors.extend(released_or_changed(new, old, "clusterIPs", &path));
        }
        if !now_headless && !was_headless {
            errors.extend(released_or_changed(new, old, "ipFamilies", &path));
        }
    }
    let balanced = |service: &Value| tree::text(service, "spec.type") == "LoadBalancer";
    let class = |service| tree::at(service, "spec.loadBalancerClass").cloned();
    if balanced(new) && balanced(old) && class(new) != class(old) {
        let detail = "may not change once set";
        errors.push(Error::invalid(
            &path.child("loadBalancerClass"),
            class(new).unwrap_or_default(),
            detail,
        ));
    }
    if needs_health_check_port(new)
        && needs_health_check_port(old)
        && tree::count(new, "spec.healthCheckNodePort") != tree::count(old, "spec.healthCheckNodePort")
    {
        errors.push(Error::forbidden(
            &path.child("healthCheckNodePort"),
            "field is immutable",
        ));
    }
    errors
}

/// The first address and family are for ever; the second may come, or go when the policy says so.
fn released_or_changed(new: &Value, old: &Value, field: &str, path: &Path) -> Vec<Error> {
    let at = format!("spec.{field}");
    let (after, before) = (tree::strings(new, &at), tree::strings(old, &at));
    let field_path = path.child(field);
    let kind = if field == "clusterIPs" { "clusterIP" } else { "ipFamily" };
    let mut errors = Vec::new();
    let changed = "may not change once set";
    if before.len() == after.len() {
        for (index, (a, b)) in after.iter().zip(&before).enumerate() {
            if a != b {
                let index = if kind == "clusterIP" { index } else { 0 };
                errors.push(Error::invalid(&field_path.index(index), after.clone(), changed));
            }
        }
        return errors;
    }
    if before.len() > after.len() && after.is_empty() {
        let detail = format!("primary {kind} can not be unset");
        errors.push(Error::invalid(&field_path.index(0), after.clone(), detail));
    }
    if let (Some(a), Some(b)) = (after.first(), before.first())
        && a != b
    {
        errors.push(Error::invalid(&field_path.index(0), after.clone(), changed));
    }
    let policy = tree::text(new, "spec.ipFamilyPolicy");
    if before.len() > after.len() && after.len() == 1 && policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {kind}");
        errors.push(Error::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
    errors
}

/// The state of a service's load balancer.
pub(super) fn load_balancer_status(service: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let is_balanced = tree::text(service, "spec.type") == "LoadBalancer";
    if !is_balanced && !tree::list(service, "status.loadBalancer.ingress").is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![Error::forbidden(&path, detail)];
    }
    for (index, ingress) in tree::list(service, "status.loadBalancer.ingress").iter().enumerate() {
        let path = path.index(index);
        let ip = tree::text(ingress, "ip");
        if !ip.is_empty() {
            errors.extend(validate::ip_for_legacy_field(&path.child("ip"), ip));
        }
        let mode = tree::text_opt(ingress, "ipMode");
        match (mode, ip.is_empty()) {
            (None, false) => {
                errors.push(Error::required(
                    &path.child("ipMode"),
                    "must be specified when `ip` is set",
                ));
            }
            (Some(_), true) => {
                let detail = "may not be specified when `ip` is not set";
                errors.push(Error::forbidden(&path.child("ipMode"), detail));
            }
            (mode, _) => {
                errors.extend(checks::optional_one_of(mode, &["Proxy", "VIP"], &path.child("ipMode")));
            }
        }
        let hostname = tree::text(ingress, "hostname");
        if !hostname.is_empty() {
            errors.extend(checks::dns_subdomain(hostname, &path.child("hostname")));
            if hostname.parse::<std::net::IpAddr>().is_ok() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&path.child("hostname"), hostname, detail));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({"spec": {
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        }})
    }

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn each_fault_has_its_path() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (|s| s["ports"] = json!([]), &["spec.ports"]),
            (
                |s| s["ports"] = json!([{"port": 0, "targetPort": "a_b", "protocol": "X", "nodePort": 1}]),
                &[
                    "spec.ports[0].port",
                    "spec.ports[0].protocol",
                    "spec.ports[0].targetPort",
                    "spec.ports[0].nodePort",
                ],
            ),
            (
                |s| s["ports"] = json!([{"port": 1, "targetPort": 1, "protocol": "TCP"}, {"port": 1, "targetPort": 1, "protocol": "TCP", "name": "a"}]),
                &["spec.ports[0].name", "spec.ports[1]"],
            ),
            (|s| s["type"] = json!("Odd"), &["spec.type"]),
            (|s| s["selector"] = json!({"a b": "c"}), &["spec.selector"]),
            (
                |s| s["sessionAffinity"] = json!("ClientIP"),
                &["spec.sessionAffinityConfig"],
            ),
            (
                |s| {
                    s["externalIPs"] = json!(["127.0.0.1", "x"]);
                    s["externalTrafficPolicy"] = json!("Cluster");
                },
                &["spec.externalIPs[0]", "spec.externalIPs[1]"],
            ),
            (|s| s["clusterIP"] = json!("10.96.0.2"), &["spec.clusterIPs"]),
            (|s| s["ipFamilies"] = json!(["IPv6"]), &["spec.clusterIPs[0]"]),
            (|s| s["ipFamilyPolicy"] = json!("Odd"), &["spec.ipFamilyPolicy"]),
            (
                |s| s["externalTrafficPolicy"] = json!("Local"),
                &["spec.externalTrafficPolicy"],
            ),
            (
                |s| s["healthCheckNodePort"] = json!(30000),
                &["spec.healthCheckNodePort"],
            ),
            (|s| s["loadBalancerClass"] = json!("a/b"), &["spec.loadBalancerClass"]),
            (
                |s| s["loadBalancerSourceRanges"] = json!(["x"]),
                &["spec.LoadBalancerSourceRanges", "spec.LoadBalancerSourceRanges[0]"],
            ),
            (
                |s| {
                    s["type"] = json!("NodePort");
                    s["clusterIPs"] = json!(["None"]);
                    s["clusterIP"] = json!("None");
                    s["externalTrafficPolicy"] = json!("Cluster")
                },
                &["spec.clusterIPs[0]"],
            ),
            (
                |s| *s = json!({"type": "ExternalName", "sessionAffinity": "None", "clusterIPs": ["10.96.0.1"]}),
                &["spec.clusterIPs", "spec.externalName"],
            ),
        ];
        for (change, want) in cases {
            let mut object = good();
            change(&mut object["spec"]);
            assert_eq!(fields(service(&object)), *want, "{object}");
        }
    }

    #[test]
    fn addresses_are_for_ever() {
        let mut new = good();
        new["spec"]["clusterIP"] = "10.96.0.2".into();
        new["spec"]["clusterIPs"] = json!(["10.96.0.2"]);
        assert_eq!(
            changes(&new, &good())[0].to_string(),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.0.2\"]: may not change once set"
        );
        assert!(changes(&good(), &good()).is_empty());
    }
}
