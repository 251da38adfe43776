//! `networkpolicies`.

use api::field::{Error, Path};
use api::{IntOrString, Value, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
        .short_names(&["netpol"])
        .with_generation()
        .default(|policy| {
            let egress = !tree::list(policy, "spec.egress").is_empty();
            let spec = tree::child(policy, "spec");
            if tree::list(spec, "policyTypes").is_empty() {
                let types: &[&str] = if egress { &["Ingress", "Egress"] } else { &["Ingress"] };
                tree::set(spec, "policyTypes", types.to_vec());
            }
            for list in ["ingress", "egress"] {
                for rule in tree::items_mut(spec, list) {
                    for port in tree::items_mut(rule, "ports") {
                        tree::fill_absent(port, "protocol", "TCP");
                    }
                }
            }
        })
        .validate(policy)
        .table(
            vec![
                Column::name(),
                Column::string("Pod-Selector", "The pods it is about."),
                Column::age(),
            ],
            |policy, now| {
                vec![
                    cells::name(policy),
                    cells::selector(policy, "spec.podSelector"),
                    cells::age(policy, now),
                ]
            },
        )
}

fn policy(policy: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(selector) = tree::at(policy, "spec.podSelector") {
        errors.extend(validate::label_selector(selector, &path.child("podSelector")));
    }
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in tree::list(policy, &format!("spec.{list}")).iter().enumerate() {
            let path = path.child(list).index(index);
            for (index, port) in tree::list(rule, "ports").iter().enumerate() {
                errors.extend(self::port(port, &path.child("ports").index(index)));
            }
            for (index, peer) in tree::list(rule, peers).iter().enumerate() {
                errors.extend(self::peer(peer, &path.child(peers).index(index)));
            }
        }
    }
    let types = tree::strings(policy, "spec.policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.push(Error::invalid(&path.child("policyTypes"), types, detail));
        return errors;
    }
    for (index, kind) in types.into_iter().enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            let path = path.child("policyTypes").index(index);
            errors.push(Error::not_supported(&path, kind, &["Ingress", "Egress"]));
        }
    }
    errors
}

fn port(port: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let protocol = tree::text_opt(port, "protocol");
    errors.extend(checks::optional_one_of(
        protocol,
        &["TCP", "UDP", "SCTP"],
        &path.child("protocol"),
    ));
    let (start, end) = (
        port.get("port").and_then(IntOrString::from_json),
        tree::int(port, "endPort"),
    );
    let (start_path, end_path) = (path.child("port"), path.child("endPort"));
    match (start, end) {
        (Some(IntOrString::Int(start)), end) => {
            errors.extend(checks::port_number(i64::from(start), &start_path));
            if let Some(end) = end {
                if end < i64::from(start) {
                    // Upstream shows the start here.
                    let detail = "must be greater than or equal to `port`";
                    errors.push(Error::invalid(&end_path, start, detail));
                }
                errors.extend(checks::port_number(end, &end_path));
            }
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(Error::invalid(&end_path, end, detail));
            }
            errors.extend(checks::invalid_each(&start_path, &name, validate::port_name(&name)));
        }
        (None, Some(end)) => {
            let detail = "may not be specified when `port` is not specified";
            errors.push(Error::invalid(&end_path, end, detail));
        }
        (None, None) => {}
    }
    errors
}

fn peer(peer: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut kinds = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = tree::at(peer, field) {
            kinds += 1;
            errors.extend(validate::label_selector(selector, &path.child(field)));
        }
    }
    if let Some(block) = tree::at(peer, "ipBlock") {
        kinds += 1;
        errors.extend(ip_block(block, &path.child("ipBlock")));
        if kinds > 1 {
            errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
        }
    }
    if kinds == 0 {
        errors.push(Error::required(path, "must specify a peer"));
    }
    errors
}

fn ip_block(block: &Value, path: &Path) -> Vec<Error> {
    let cidr = tree::text(block, "cidr");
    if cidr.is_empty() {
        return vec![Error::required(&path.child("cidr"), "")];
    }
    let mut errors = validate::legacy_cidr(&path.child("cidr"), cidr);
    if !errors.is_empty() {
        return errors;
    }
    for (index, except) in tree::strings(block, "except").into_iter().enumerate() {
        let path = path.child("except").index(index);
        let bad = validate::legacy_cidr(&path, except);
        if bad.is_empty() && !contains(cidr, except) {
            errors.push(Error::invalid(&path, except, "must be a strict subset of `cidr`"));
        }
        errors.extend(bad);
    }
    errors
}

/// Whether the outer prefix holds the inner one and more.
fn contains(outer: &str, inner: &str) -> bool {
    let parse = |text: &str| {
        let (address, bits) = text.split_once('/')?;
        let bits: u32 = bits.parse().ok()?;
        match address.parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V4(v4) => Some((u128::from(u32::from(v4)) << 96, bits, false)),
            std::net::IpAddr::V6(v6) => Some((u128::from(v6), bits, true)),
        }
    };
    let (Some((outer, outer_bits, outer_v6)), Some((inner, inner_bits, inner_v6))) = (parse(outer), parse(inner))
    else {
        return false;
    };
    let mask = if outer_bits == 0 {
        0
    } else {
        u128::MAX << (128 - outer_bits)
    };
    outer_v6 == inner_v6 && inner_bits > outer_bits && inner & mask == outer & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn peers_and_blocks_are_checked() {
        let object = json!({"spec": {"ingress": [{"from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}}],
            "ports": [{"endPort": 5}, {"port": "a_b"}]}], "policyTypes": ["Odd"]}});
        let fields: Vec<String> = policy(&object).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.ingress[0].ports[0].endPort",
                "spec.ingress[0].ports[1].port",
                "spec.ingress[0].from[0]",
                "spec.ingress[0].from[1].ipBlock.except[1]",
                "spec.policyTypes[0]",
            ]
        );
    }
}
