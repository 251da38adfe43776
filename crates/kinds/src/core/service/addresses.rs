//! The addresses of services as objects of their own: an IPAddress each, from the networks of the
//! server and of ServiceCIDRs (`pkg/registry/core/service/ipallocator`).

use std::sync::Arc;

use api::{Value, meta};
use apiserver::kind::{Claim, ClaimObjects};
use ipnet::IpNet;
use serde_json::json;

use crate::{pools, tree};

const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// Claims of addresses are `ipaddresses`.
pub(super) fn claims() -> ClaimObjects {
    ClaimObjects {
        pools: &[pools::SERVICE_IPV4, pools::SERVICE_IPV6],
        group: "networking.k8s.io",
        plural: "ipaddresses",
        managed_by: format!("{MANAGED_BY}={ALLOCATOR}"),
        object: Arc::new(address),
        networks: Some(("networking.k8s.io", "servicecidrs", networks)),
    }
}

fn address(claim: &Claim, service: &Value) -> Value {
    let family = if claim.value.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": claim.value, "labels": {FAMILY: family, MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": {
            "resource": "services",
            "namespace": meta::namespace(service),
            "name": meta::name(service),
        }},
    })
}

/// The networks of a ServiceCIDR, once it is ready.
fn networks(cidr: &Value) -> Vec<IpNet> {
    let is_ready = tree::list(cidr, "status.conditions")
        .iter()
        .any(|condition| tree::text(condition, "type") == "Ready" && tree::text(condition, "status") == "True");
    let texts = tree::strings(cidr, "spec.cidrs").into_iter().filter(|_| is_ready);
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_service() {
        let claim = Claim {
            pool: pools::SERVICE_IPV6.to_owned(),
            value: "fd00::5".to_owned(),
        };
        let service = json!({"metadata": {"namespace": "ns", "name": "web"}});
        let object = address(&claim, &service);
        assert_eq!(meta::name(&object), "fd00::5");
        assert_eq!(meta::label(&object, FAMILY), Some("IPv6"));
        assert_eq!(
            object["spec"]["parentRef"],
            json!({"resource": "services", "namespace": "ns", "name": "web"})
        );
    }

    #[test]
    fn only_ready_networks_are_used() {
        let mut cidr = json!({"spec": {"cidrs": ["10.0.0.0/16", "fd00::/108"]}});
        assert_eq!(networks(&cidr), []);
        cidr["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(networks(&cidr).len(), 2);
    }
}
