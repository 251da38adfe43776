//! Health-check node ports of services with `externalTrafficPolicy: Local`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::config::ProxyConfig;
use crate::endpoint::{SliceIndex, Uses, categorize};
use crate::service;

/// What a load balancer's health check of this node is told about one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `namespace/name` of the service.
    pub service: (String, String),
    /// Endpoints on this node: the check passes with at least one.
    pub local_endpoints: usize,
}

/// The health checks to serve, by TCP port (`spec.healthCheckNodePort`).
pub fn health_checks(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    cfg: &ProxyConfig,
) -> BTreeMap<u16, HealthCheck> {
    let index = SliceIndex::new(slices);
    let mut checks = BTreeMap::new();
    for service in services {
        let number = service.spec.as_ref().and_then(|spec| spec.health_check_node_port);
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0) else {
            continue;
        };
        let key = service::key(service);
        let mut local = std::collections::BTreeSet::new();
        for family in cfg.families() {
            for port in service::ports(service, family, cfg) {
                let endpoints = index.endpoints(key, &port.port_name, port.protocol, family, cfg);
                let usable = categorize(
                    &endpoints,
                    Uses {
                        cluster: false,
                        local: true,
                    },
                    cfg,
                );
                local.extend(usable.local.iter().map(|target| target.0));
            }
        }
        let service = (key.0.to_owned(), key.1.to_owned());
        checks.insert(
            number,
            HealthCheck {
                service,
                local_endpoints: local.len(),
            },
        );
    }
    checks
}
