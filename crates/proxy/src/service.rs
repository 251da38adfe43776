//! What the rules need to know of a service port, in one address family.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort, ServiceSpec};

use crate::config::ProxyConfig;
use crate::endpoint::{LABEL_HEADLESS, LABEL_PROXY_NAME, Uses};
use crate::ruleset::{Family, Protocol};

/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// A service's traffic policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

impl Policy {
    fn from_api(policy: Option<&String>) -> Self {
        if policy.is_some_and(|policy| policy == "Local") {
            Policy::Local
        } else {
            Policy::Cluster
        }
    }
}

/// One port of one service in one family.
#[derive(Debug, Clone)]
pub(crate) struct ServicePort {
    /// `namespace/name/protocol/port`: unique, and part of chain and map names.
    pub id: String,
    pub port_name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub cluster_ip: IpAddr,
    /// External IPs and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    pub node_port: Option<u16>,
    pub internal: Policy,
    pub external: Policy,
    pub affinity: Option<Duration>,
    /// Sources that may use the load balancer addresses; empty: all.
    pub source_ranges: Vec<IpNet>,
}

impl ServicePort {
    pub fn externally_accessible(&self) -> bool {
        self.node_port.is_some() || !self.external_addresses().is_empty()
    }

    /// External IPs, then load balancer addresses.
    pub fn external_addresses(&self) -> Vec<IpAddr> {
        self.external_ips
            .iter()
            .chain(&self.load_balancer_ips)
            .copied()
            .collect()
    }

    /// Upstream's UsesClusterEndpoints and UsesLocalEndpoints: external traffic needs cluster
    /// endpoints even under policy Local, because pods short-circuit to them.
    pub fn uses(&self) -> Uses {
        let external = self.externally_accessible();
        Uses {
            cluster: self.internal == Policy::Cluster || external,
            local: self.internal == Policy::Local || (external && self.external == Policy::Local),
        }
    }
}

/// The (namespace, name) of a service.
pub(crate) fn key(service: &Service) -> (&str, &str) {
    (
        service.metadata.namespace.as_deref().unwrap_or_default(),
        service.metadata.name.as_deref().unwrap_or_default(),
    )
}

/// The ports of a service that get rules in this family: none for headless and ExternalName
/// services, for those labelled as headless, and for those that another proxy claims.
pub(crate) fn ports(service: &Service, family: Family, cfg: &ProxyConfig) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let claimed = service
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(LABEL_PROXY_NAME) || labels.contains_key(LABEL_HEADLESS));
    if claimed || spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let Some(cluster_ip) = cluster_ip(spec, family) else {
        return Vec::new();
    };
    if cfg.local_addresses.contains(&cluster_ip) {
        return Vec::new();
    }
    spec.ports
        .iter()
        .flatten()
        .filter_map(|port| service_port(service, spec, port, cluster_ip, cfg))
        .collect()
}

fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    let listed = spec.cluster_ips.iter().flatten();
    listed
        .chain(&spec.cluster_ip)
        .filter_map(|ip| ip.parse().ok())
        .find(|ip: &IpAddr| Family::of(*ip) == family)
}

fn service_port(
    service: &Service,
    spec: &ServiceSpec,
    port: &ApiPort,
    cluster_ip: IpAddr,
    cfg: &ProxyConfig,
) -> Option<ServicePort> {
    let family = Family::of(cluster_ip);
    let protocol = Protocol::from_api(port.protocol.as_deref())?;
    let number = u16::try_from(port.port).ok().filter(|number| *number != 0)?;
    let (namespace, name) = key(service);
    Some(ServicePort {
        id: format!("{namespace}/{name}/{}/{number}", protocol.name()),
        port_name: port.name.clone().unwrap_or_default(),
        protocol,
        port: number,
        cluster_ip,
        external_ips: usable_ips(spec.external_ips.iter().flatten(), family, cfg),
        load_balancer_ips: usable_ips(load_balancer_ips(service), family, cfg),
        node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
        internal: Policy::from_api(spec.internal_traffic_policy.as_ref()),
        external: Policy::from_api(spec.external_traffic_policy.as_ref()),
        affinity: affinity(spec),
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|range| range.trim().parse::<IpNet>().ok())
            .filter(|range| Family::of_net(*range) == family)
            .map(|range| range.trunc())
            .collect(),
    })
}

/// Addresses of ingress points whose traffic arrives with the address still on it.
fn load_balancer_ips(service: &Service) -> impl Iterator<Item = &String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref())
}

fn usable_ips<'a>(ips: impl Iterator<Item = &'a String>, family: Family, cfg: &ProxyConfig) -> Vec<IpAddr> {
    ips.filter_map(|ip| ip.parse::<IpAddr>().ok())
        .filter(|ip| Family::of(*ip) == family && !ip.is_loopback() && !ip.is_unspecified())
        .filter(|ip| !cfg.local_addresses.contains(ip))
        .collect()
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds)
        .unwrap_or(DEFAULT_AFFINITY_SECONDS);
    Some(Duration::from_secs(u64::try_from(seconds.max(1)).unwrap_or(1)))
}
