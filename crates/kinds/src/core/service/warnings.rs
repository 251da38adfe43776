//! Services that are accepted but hardly meant (`pkg/api/service/warnings.go`).

use api::field::Path;
use api::{Value, meta, validate};

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
    let addresses = |field: &str| -> Vec<String> {
        let path = path.child(field);
        let values = tree::strings(service, &format!("spec.{field}")).into_iter();
        let warnings = values.enumerate();
        warnings
            .filter_map(|(index, value)| validate::ip_warning(&path.index(index), value))
            .collect()
    };
    warnings.extend(addresses("clusterIPs"));
    if is_headless(service) && tree::text(service, "spec.type") == "ClusterIP" {
        let ignored = |what: &str| format!("spec.{what} is ignored for headless services");
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
    warnings.extend(addresses("externalIPs"));
    let address = tree::text(service, "spec.loadBalancerIP");
    warnings.extend(validate::ip_warning(&path.child("loadBalancerIP"), address));
    let ranges = tree::strings(service, "spec.loadBalancerSourceRanges").into_iter();
    for (index, range) in ranges.enumerate() {
        let path = path.child("loadBalancerSourceRanges").index(index);
        warnings.extend(validate::cidr_warning(&path, range));
    }
    let is_external = tree::text(service, "spec.type") == "ExternalName";
    if is_external && !tree::list(service, "spec.externalIPs").is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_external && !tree::text(service, "spec.externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if tree::text(service, "spec.trafficDistribution") == "PreferClose" {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    warnings
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
                "spec.externalIPs[0]: IPv6 address \"2001:db8:0::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
                "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
            ]
        );
        let object = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"],
            "sessionAffinity": "ClientIP", "externalName": "x", "trafficDistribution": "PreferClose",
            "loadBalancerSourceRanges": ["2001:db8:0::/64"]}});
        assert_eq!(
            service(&object),
            [
                "spec.SessionAffinity is ignored for headless services",
                "spec.loadBalancerSourceRanges[0]: IPv6 CIDR value \"2001:db8:0::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ]
        );
    }
}
