//! `endpointslices`.

use std::net::IpAddr;

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

const MAX_ADDRESSES: usize = 100;
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20000;
const MAX_TOPOLOGY_LABELS: usize = 16;
const MAX_HINTS: usize = 8;
const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];

pub(crate) fn kind() -> Kind {
    Kind::namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        // Labels count too, but for the one that marks a headless service.
        .generation_when(|new, old| {
            let fields = ["addressType", "endpoints", "ports"];
            fields.iter().any(|field| !tree::same(new.get(*field), old.get(*field)))
                || labels_that_count(new) != labels_that_count(old)
        })
        .default(|slice| {
            for port in tree::items_mut(slice, "ports") {
                if port.get("name").is_none_or(Value::is_null) {
                    tree::set(port, "name", "");
                }
                tree::fill_absent(port, "protocol", "TCP");
            }
        })
        .prepare_create(|_, slice| drop_topology(slice, &Value::Null))
        .prepare_update(|_, new, old| {
            if !tree::same(new.get("endpoints"), old.get("endpoints")) {
                drop_topology(new, old);
            }
        })
        .warnings(|new, old| {
            if old.is_none() && tree::text(new, "addressType") == "FQDN" {
                return vec!["spec.addressType: FQDN endpoints are deprecated".to_owned()];
            }
            Vec::new()
        })
        .validate(slice)
        .validate_update(|new, old| {
            let mut errors = slice(new);
            errors.extend(checks::immutable(new, old, "addressType", &Path::new("addressType")));
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("AddressType", "What the addresses are."),
                Column::string("Ports", "Ports of the endpoints."),
                Column::string("Endpoints", "Addresses of the endpoints."),
                Column::age(),
            ],
            |slice, now| {
                let ports = tree::list(slice, "ports")
                    .iter()
                    .map(|port| match tree::int(port, "port") {
                        Some(number) => number.to_string(),
                        None if tree::at(port, "name").is_some() => tree::text(port, "name").to_owned(),
                        None => "*".to_owned(),
                    });
                let endpoints = tree::list(slice, "endpoints").iter();
                let addresses = endpoints
                    .flat_map(|endpoint| tree::strings(endpoint, "addresses"))
                    .map(str::to_owned);
                vec![
                    cells::name(slice),
                    tree::text(slice, "addressType").into(),
                    cells::clipped(ports, 3, "<unset>").into(),
                    cells::clipped(addresses, 3, "<unset>").into(),
                    cells::age(slice, now),
                ]
            },
        )
}

fn labels_that_count(slice: &Value) -> std::collections::BTreeMap<String, String> {
    let mut labels = meta::labels(slice);
    labels.remove("service.kubernetes.io/headless");
    labels
}

/// `v1` does not write `deprecatedTopology`; a node's name that stood there before stays (`dropTopologyOnV1`).
fn drop_topology(slice: &mut Value, old: &Value) {
    const HOST: &str = "kubernetes.io/hostname";
    let host = |endpoint: &Value| -> Option<String> {
        let name = endpoint.get("deprecatedTopology")?.get(HOST)?.as_str()?;
        Some(name.to_owned())
    };
    let known: Vec<String> = tree::list(old, "endpoints").iter().filter_map(host).collect();
    for endpoint in tree::items_mut(slice, "endpoints") {
        let name = host(endpoint).filter(|name| known.contains(name) && validate::dns1123_subdomain(name).is_empty());
        if let Some(name) = name
            && tree::at(endpoint, "nodeName").is_none()
        {
            tree::set(endpoint, "nodeName", name);
        }
        tree::unset(endpoint, "deprecatedTopology");
    }
}

fn slice(slice: &Value) -> Vec<Error> {
    let kind = tree::text(slice, "addressType");
    let mut errors = checks::one_of(kind, ADDRESS_TYPES, &Path::new("addressType"));
    errors.extend(endpoints(slice, kind, &Path::new("endpoints")));
    errors.extend(ports(slice, &Path::new("ports")));
    errors
}

fn endpoints(slice: &Value, kind: &str, path: &Path) -> Vec<Error> {
    let list = tree::list(slice, "endpoints");
    if list.len() > MAX_ENDPOINTS {
        return vec![Error::too_many(path, list.len(), MAX_ENDPOINTS)];
    }
    let mut errors = Vec::new();
    for (index, endpoint) in list.iter().enumerate() {
        let path = path.index(index);
        let addresses = tree::strings(endpoint, "addresses");
        let addresses_path = path.child("addresses");
        if addresses.is_empty() {
            errors.push(Error::required(&addresses_path, "must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(Error::too_many(&addresses_path, addresses.len(), MAX_ADDRESSES));
        }
        for (index, value) in addresses.into_iter().enumerate() {
            errors.extend(address(value, kind, &addresses_path.index(index)));
        }
        if let Some(node) = tree::text_opt(endpoint, "nodeName") {
            errors.extend(checks::dns_subdomain(node, &path.child("nodeName")));
        }
        let topology = tree::at(endpoint, "deprecatedTopology");
        let topology_path = path.child("deprecatedTopology");
        let labels = topology.and_then(Value::as_object).map_or(0, |map| map.len());
        if labels > MAX_TOPOLOGY_LABELS {
            errors.push(Error::too_many(&topology_path, labels, MAX_TOPOLOGY_LABELS));
        }
        errors.extend(validate::labels(topology, &topology_path));
        if let Some(name) = tree::text_opt(endpoint, "hostname") {
            errors.extend(checks::dns_label(name, &path.child("hostname")));
        }
        errors.extend(hints(endpoint, &path.child("hints")));
    }
    errors
}

fn address(value: &str, kind: &str, path: &Path) -> Vec<Error> {
    let refuse = |detail: &str| vec![Error::invalid(path, value, detail)];
    let parsed = value.parse::<IpAddr>();
    match kind {
        "IPv4" | "IPv6" => {
            let fits = parsed.is_ok_and(|address| address.is_ipv4() == (kind == "IPv4"));
            let mut errors = match (fits, kind) {
                (true, _) => validate::ip_for_legacy_field(path, value),
                (false, "IPv4") => refuse("must be a valid IPv4 address"),
                (false, _) => refuse("must be a valid IPv6 address"),
            };
            errors.extend(checks::non_special_ip(value, path));
            errors
        }
        "FQDN" => {
            let name = value.strip_suffix('.').unwrap_or(value);
            if value.is_empty() {
                return vec![Error::required(path, "")];
            }
            let messages = validate::dns1123_subdomain(name);
            if !messages.is_empty() {
                return refuse(&messages.join(","));
            }
            if name.split('.').count() < 2 {
                return refuse("should be a domain with at least two segments separated by dots");
            }
            name.split('.')
                .flat_map(|label| checks::dns_label(label, path))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn hints(endpoint: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in ["forZones", "forNodes"] {
        let list = tree::list(endpoint, &format!("hints.{field}"));
        let path = path.child(field);
        if list.len() > MAX_HINTS {
            errors.push(Error::too_many(&path, list.len(), MAX_HINTS));
            continue;
        }
        for (index, hint) in list.iter().enumerate() {
            let (path, name) = (path.index(index).child("name"), tree::text(hint, "name"));
            if list[..index].iter().any(|other| tree::text(other, "name") == name) {
                errors.push(Error::duplicate(&path, name));
            }
            let messages = match field {
                "forZones" => validate::label_value(name),
                _ => validate::dns1123_subdomain(name),
            };
            errors.extend(checks::invalid_each(&path, name, messages));
        }
    }
    errors
}

fn ports(slice: &Value, path: &Path) -> Vec<Error> {
    let list = tree::list(slice, "ports");
    if list.len() > MAX_PORTS {
        return vec![Error::too_many(path, list.len(), MAX_PORTS)];
    }
    let mut errors = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, port) in list.iter().enumerate() {
        let (path, name) = (path.index(index), tree::text(port, "name"));
        if !name.is_empty() {
            errors.extend(checks::dns_label(name, &path.child("name")));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        let protocol_path = path.child("protocol");
        match tree::text_opt(port, "protocol") {
            None => errors.push(Error::required(&protocol_path, "")),
            known => errors.extend(checks::optional_one_of(known, checks::PROTOCOLS, &protocol_path)),
        }
        if let Some(number) = tree::int(port, "port")
            && number != 0
        {
            errors.extend(checks::port_number(number, &path.child("port")));
        }
        if let Some(name) = tree::text_opt(port, "appProtocol") {
            errors.extend(checks::qualified_name(name, &path.child("appProtocol")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_fault_has_its_path() {
        let cases: Vec<(Value, Vec<&str>)> = vec![
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "protocol": "TCP", "port": 80}]}),
                vec![],
            ),
            (json!({}), vec!["addressType"]),
            (json!({"addressType": "x"}), vec!["addressType"]),
            (
                json!({"addressType": "IPv4", "endpoints": [{}, {"addresses": ["fd00::1"]}, {"addresses": ["127.0.0.1"]}]}),
                vec![
                    "endpoints[0].addresses",
                    "endpoints[1].addresses[0]",
                    "endpoints[2].addresses[0]",
                ],
            ),
            (
                json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a", "a.b."], "nodeName": "A", "hostname": "a.b"}]}),
                vec![
                    "endpoints[0].addresses[0]",
                    "endpoints[0].nodeName",
                    "endpoints[0].hostname",
                ],
            ),
            (
                json!({"addressType": "IPv4", "ports": [{"name": "a", "protocol": "TCP"}, {"name": "a", "protocol": "X"}]}),
                vec!["ports[1].name", "ports[1].protocol"],
            ),
            (
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}]}),
                vec!["endpoints[0].hints.forZones[1].name"],
            ),
        ];
        for (object, want) in cases {
            let errors = slice(&object);
            assert_eq!(
                errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(),
                want,
                "{object}"
            );
        }
    }
}
