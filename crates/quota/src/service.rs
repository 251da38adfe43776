//! What services use (upstream `pkg/quota/v1/evaluator/core/services.go`).

use api::Value;

use crate::amounts::{self, Amounts};
use crate::{at, list, text};

pub(crate) const RESOURCES: [&str; 4] = [
    "count/services",
    "services",
    "services.nodeports",
    "services.loadbalancers",
];

pub(crate) fn usage(service: &Value) -> Amounts {
    let ports = list(service, "spec.ports");
    let kind = text(service, "spec.type");
    let allocates = at(service, "spec.allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
    let node_ports = match kind {
        "NodePort" => ports.len(),
        // Ports are not allocated yet when this is asked: it is the intent that counts.
        "LoadBalancer" if allocates => ports.len(),
        "LoadBalancer" => ports
            .iter()
            .filter(|port| port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0)
            .count(),
        _ => 0,
    };
    let counts = [1, 1, node_ports, usize::from(kind == "LoadBalancer")];
    RESOURCES
        .into_iter()
        .zip(counts)
        .map(|(name, count)| {
            (
                name.to_owned(),
                amounts::number(i64::try_from(count).unwrap_or(i64::MAX)),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_and_load_balancers() {
        let ports = json!([{"port": 1, "nodePort": 30001}, {"port": 2}]);
        let cases = [
            (json!({"type": "ClusterIP", "ports": ports}), (0, 0)),
            (json!({"type": "NodePort", "ports": ports}), (2, 0)),
            (json!({"type": "LoadBalancer", "ports": ports}), (2, 1)),
            (
                json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}),
                (1, 1),
            ),
            (json!({"type": "ExternalName"}), (0, 0)),
        ];
        for (spec, (node_ports, balancers)) in cases {
            let usage = usage(&json!({"spec": spec}));
            assert_eq!(usage["services.nodeports"].value(), node_ports, "{spec}");
            assert_eq!(usage["services.loadbalancers"].value(), balancers, "{spec}");
            assert_eq!((usage["services"].value(), usage["count/services"].value()), (1, 1));
        }
    }
}
