//! Services that are accepted but hardly meant (`pkg/api/service/warnings.go`).

use std::net::{IpAddr, Ipv6Addr};

use api::Value;
use api::field::{Path, go_quote};
use api::meta;

use super::is_headless;
use crate::tree;

pub(super) fn service(service: &Value) -> Vec<String> {
    const OLD: &str = "service.kubernetes.io/topology-aware-hints";
    const NEW: &str = "service.kubernetes.io/topology-mode";
    let mut warnings = Vec::new();
    if meta::annotation(service, OLD).is_some() {
        warnings.push(format!("annotation {OLD} is deprecated, please use {NEW} instead"));
    }
    let path = Path::new("spec");
    for (field, check) in [
        ("clusterIPs", address as fn(&str, &Path) -> Option<String>),
        ("externalIPs", address),
        ("loadBalancerSourceRanges", range),
    ] {
        let values = tree::strings(service, &format!("spec.{field}"));
        for (index, value) in values.into_iter().enumerate() {
            warnings.extend(check(value, &path.child(field).index(index)));
        }
        if field == "externalIPs" {
            let value = tree::text(service, "spec.loadBalancerIP");
            warnings.extend(address(value, &path.child("loadBalancerIP")));
        }
    }
    let is_external = tree::text(service, "spec.type") == "ExternalName";
    if is_external && !tree::list(service, "spec.externalIPs").is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_external && !tree::text(service, "spec.externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if is_headless(service) {
        let ignored = |what: &str| format!("spec.{what} is ignored when spec.clusterIP is \"None\"");
        if !tree::text(service, "spec.loadBalancerIP").is_empty() {
            warnings.push(ignored("loadBalancerIP"));
        }
        if !tree::list(service, "spec.externalIPs").is_empty() {
            warnings.push(ignored("externalIPs"));
        }
        if tree::text(service, "spec.sessionAffinity") != "None" {
            warnings.push(ignored("SessionAffinity"));
        }
    }
    warnings
}

/// IPv6 addresses have one form that others compare with.
fn address(value: &str, path: &Path) -> Option<String> {
    let address: Ipv6Addr = value.parse().ok()?;
    let canonical = address.to_string();
    (canonical != value).then(|| not_canonical("address", value, &canonical, path))
}

fn range(value: &str, path: &Path) -> Option<String> {
    let (address, bits) = value.trim().split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let canonical = format!("{address}/{bits}");
    (address.is_ipv6() && canonical != value).then(|| not_canonical("prefix", value, &canonical, path))
}

fn not_canonical(what: &str, value: &str, canonical: &str, path: &Path) -> String {
    format!(
        "{path}: IPv6 {what} {} is not in RFC 5952 canonical format ({}), which may cause controller apply-loops",
        go_quote(value),
        go_quote(canonical)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_ignored_is_told() {
        let object =
            json!({"spec": {"type": "ExternalName", "externalIPs": ["2001:db8:0::1"], "sessionAffinity": "None"}});
        assert_eq!(
            service(&object),
            [
                "spec.externalIPs[0]: IPv6 address \"2001:db8:0::1\" is not in RFC 5952 canonical format (\"2001:db8::1\"), which may cause controller apply-loops",
                "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
            ]
        );
        let object = json!({"spec": {"clusterIPs": ["None"], "sessionAffinity": "ClientIP", "externalName": "x"}});
        assert_eq!(
            service(&object),
            [
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.SessionAffinity is ignored when spec.clusterIP is \"None\"",
            ]
        );
    }
}
