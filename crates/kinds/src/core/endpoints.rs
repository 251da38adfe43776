//! `endpoints`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::Column;
use jiff::Timestamp;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "Endpoints", "endpoints")
        .short_names(&["ep"])
        .warnings(|new, _| warnings(new))
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .allow_create_on_update()
        .default(|endpoints| {
            for subset in tree::items_mut(endpoints, "subsets") {
                for port in tree::items_mut(subset, "ports") {
                    tree::fill(port, "protocol", "TCP");
                }
            }
        })
        .validate(subsets)
        .validate_update(|new, old| match tree::same(new.get("subsets"), old.get("subsets")) {
            // What older versions took for valid may stay.
            true => Vec::new(),
            false => subsets(new),
        })
        .table(
            vec![
                Column::name(),
                Column::string("Endpoints", "Addresses and ports."),
                Column::age(),
            ],
            |endpoints, now: Timestamp| {
                vec![
                    cells::name(endpoints),
                    addresses(endpoints).into(),
                    cells::age(endpoints, now),
                ]
            },
        )
}

/// The first three `ip:port` pairs, and how many more there are.
fn addresses(endpoints: &Value) -> String {
    let subsets = tree::list(endpoints, "subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = tree::list(subset, "addresses")
            .iter()
            .map(|address| tree::text(address, "ip"));
        let ports = tree::list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
            continue;
        }
        let addresses: Vec<&str> = addresses.collect();
        for port in ports {
            let port = tree::count(port, "port");
            all.extend(addresses.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    cells::clipped(all, 3, "")
}

fn subsets(endpoints: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, subset) in tree::list(endpoints, "subsets").iter().enumerate() {
        let path = Path::new("subsets").index(index);
        let (ready, waiting) = (tree::list(subset, "addresses"), tree::list(subset, "notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            errors.push(Error::required(
                &path,
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        for (name, list) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (index, item) in list.iter().enumerate() {
                errors.extend(address(item, &path.child(name).index(index)));
            }
        }
        let ports = tree::list(subset, "ports");
        for (index, item) in ports.iter().enumerate() {
            errors.extend(port(item, ports.len() > 1, &path.child("ports").index(index)));
        }
    }
    errors
}

fn address(address: &Value, path: &Path) -> Vec<Error> {
    let ip = tree::text(address, "ip");
    let mut errors = validate::ip_for_legacy_field(&path.child("ip"), ip);
    let hostname = tree::text(address, "hostname");
    if !hostname.is_empty() {
        errors.extend(checks::dns_label(hostname, &path.child("hostname")));
    }
    if let Some(node) = tree::text_opt(address, "nodeName") {
        errors.extend(checks::dns_subdomain(node, &path.child("nodeName")));
    }
    errors.extend(checks::non_special_ip(ip, &path.child("ip")));
    errors
}

fn port(port: &Value, name_required: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match tree::text(port, "name") {
        "" if name_required => errors.push(Error::required(&path.child("name"), "")),
        "" => {}
        name => errors.extend(checks::dns_label(name, &path.child("name"))),
    }
    errors.extend(checks::port_number(tree::count(port, "port"), &path.child("port")));
    errors.extend(checks::one_of(
        tree::text(port, "protocol"),
        checks::PROTOCOLS,
        &path.child("protocol"),
    ));
    if let Some(name) = tree::text_opt(port, "appProtocol") {
        errors.extend(checks::qualified_name(name, &path.child("appProtocol")));
    }
    errors
}

/// Addresses of odd forms, unless they come from the controller, which mends what it reads.
fn warnings(endpoints: &Value) -> Vec<String> {
    let labels = meta::labels(endpoints);
    if labels.get("endpoints.kubernetes.io/managed-by").map(String::as_str) == Some("endpoint-controller") {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    for (index, subset) in tree::list(endpoints, "subsets").iter().enumerate() {
        let path = Path::new("subsets").index(index);
        for list in ["addresses", "notReadyAddresses"] {
            for (index, address) in tree::list(subset, list).iter().enumerate() {
                let path = path.child(list).index(index).child("ip");
                warnings.extend(validate::ip_warning(&path, tree::text(address, "ip")));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_are_listed_and_clipped() {
        let object = |n: usize| {
            let list: Vec<Value> = (1..=n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect();
            json!({"subsets": [{"addresses": list, "ports": [{"port": 80}]}]})
        };
        assert_eq!(addresses(&json!({})), "<none>");
        assert_eq!(addresses(&object(1)), "10.0.0.1:80");
        assert_eq!(addresses(&object(5)), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
        assert_eq!(
            addresses(&json!({"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 1}]}]})),
            "[fd00::1]:1"
        );
    }

    #[test]
    fn subsets_are_checked() {
        let object = json!({"subsets": [
            {},
            {"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}], "ports": [{"port": 0, "protocol": "X"}, {"name": "a", "port": 1, "protocol": "TCP"}]},
        ]});
        let errors = subsets(&object);
        let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            found,
            [
                "subsets[0]",
                "subsets[1].addresses[0].ip",
                "subsets[1].addresses[1].ip",
                "subsets[1].addresses[1].ip",
                "subsets[1].ports[0].name",
                "subsets[1].ports[0].port",
                "subsets[1].ports[0].protocol",
            ]
        );
    }
}
