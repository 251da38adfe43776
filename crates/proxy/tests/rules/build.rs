//! Builders of services, slices and packets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy::{Origin, Outcome, Packet, Protocol, ProxyConfig, Reject, Ruleset, trace};

pub const POD: &str = "10.244.0.99";
pub const OTHER_NODES_POD: &str = "10.244.7.7";
pub const NODE: &str = "192.0.2.1";
pub const CLIENT: &str = "198.51.100.1";

pub fn config() -> ProxyConfig {
    let mut cfg = ProxyConfig::new("n1");
    cfg.zone = Some("z1".into());
    cfg.node_ips = vec![NODE.parse().unwrap()];
    cfg.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd10::/16".parse().unwrap()];
    cfg.service_cidrs = vec!["10.96.0.0/12".parse().unwrap(), "fd96::/112".parse().unwrap()];
    cfg.local_addresses = vec!["10.96.0.10".parse().unwrap()];
    cfg
}

#[derive(Clone)]
pub struct Svc(Service);

/// A service with TCP port 80 named `p`.
pub fn svc(name: &str, cluster_ip: &str) -> Svc {
    let port = ServicePort {
        name: Some("p".into()),
        port: 80,
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some(cluster_ip.into()),
        cluster_ips: Some(vec![cluster_ip.into()]),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ns".into()),
        ..ObjectMeta::default()
    };
    Svc(Service {
        metadata,
        spec: Some(spec),
        status: None,
    })
}

impl Svc {
    pub fn spec(mut self, edit: impl FnOnce(&mut ServiceSpec)) -> Self {
        edit(self.0.spec.as_mut().unwrap());
        self
    }

    pub fn protocol(self, protocol: &str) -> Self {
        self.spec(|spec| spec.ports.as_mut().unwrap()[0].protocol = Some(protocol.into()))
    }

    pub fn node_port(self, number: i32) -> Self {
        self.spec(|spec| spec.ports.as_mut().unwrap()[0].node_port = Some(number))
    }

    pub fn external_ip(self, ip: &str) -> Self {
        self.spec(|spec| spec.external_ips.get_or_insert_default().push(ip.into()))
    }

    pub fn balancer(mut self, ip: &str, mode: Option<&str>) -> Self {
        let status = self.0.status.get_or_insert_with(ServiceStatus::default);
        let balancer = status.load_balancer.get_or_insert_with(LoadBalancerStatus::default);
        balancer.ingress.get_or_insert_default().push(LoadBalancerIngress {
            ip: Some(ip.into()),
            ip_mode: mode.map(str::to_owned),
            ..LoadBalancerIngress::default()
        });
        self
    }

    pub fn sources(self, ranges: &[&str]) -> Self {
        let ranges = ranges.iter().map(|range| (*range).to_owned()).collect();
        self.spec(|spec| spec.load_balancer_source_ranges = Some(ranges))
    }

    pub fn external_local(self) -> Self {
        self.spec(|spec| spec.external_traffic_policy = Some("Local".into()))
    }

    pub fn internal_local(self) -> Self {
        self.spec(|spec| spec.internal_traffic_policy = Some("Local".into()))
    }

    pub fn sticky(self, seconds: Option<i32>) -> Self {
        self.spec(|spec| {
            spec.session_affinity = Some("ClientIP".into());
            spec.session_affinity_config = seconds.map(|seconds| SessionAffinityConfig {
                client_ip: Some(ClientIPConfig {
                    timeout_seconds: Some(seconds),
                }),
            });
        })
    }

    pub fn label(mut self, key: &str) -> Self {
        self.0
            .metadata
            .labels
            .get_or_insert_default()
            .insert(key.into(), "x".into());
        self
    }

    pub fn done(self) -> Arc<Service> {
        Arc::new(self.0)
    }
}

#[derive(Clone)]
pub struct Ep(Endpoint);

/// A ready endpoint on this node (`n1`).
pub fn ep(ip: &str) -> Ep {
    Ep(Endpoint {
        addresses: vec![ip.into()],
        node_name: Some("n1".into()),
        ..Endpoint::default()
    })
}

impl Ep {
    pub fn on(mut self, node: &str) -> Self {
        self.0.node_name = Some(node.into());
        self
    }

    fn conditions(mut self, ready: bool, serving: bool, terminating: bool) -> Self {
        self.0.conditions = Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        });
        self
    }

    pub fn unready(self) -> Self {
        self.conditions(false, false, false)
    }

    /// Terminating and still serving.
    pub fn leaving(self) -> Self {
        self.conditions(false, true, true)
    }

    pub fn gone(self) -> Self {
        self.conditions(false, false, true)
    }

    pub fn zone(mut self, zone: &str) -> Self {
        let hints = self.0.hints.get_or_insert_with(EndpointHints::default);
        hints
            .for_zones
            .get_or_insert_default()
            .push(ForZone { name: zone.into() });
        self
    }

    pub fn hint_node(mut self, node: &str) -> Self {
        let hints = self.0.hints.get_or_insert_with(EndpointHints::default);
        hints
            .for_nodes
            .get_or_insert_default()
            .push(ForNode { name: node.into() });
        self
    }
}

pub fn slice_of(name: &str, service: &str, protocol: &str, endpoints: Vec<Ep>) -> Arc<EndpointSlice> {
    let v6 = endpoints.iter().any(|ep| ep.0.addresses[0].contains(':'));
    Arc::new(EndpointSlice {
        address_type: if v6 { "IPv6" } else { "IPv4" }.into(),
        endpoints: Some(endpoints.into_iter().map(|ep| ep.0).collect()),
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            labels: Some([("kubernetes.io/service-name".into(), service.into())].into()),
            ..ObjectMeta::default()
        },
        ports: Some(vec![EndpointPort {
            name: Some("p".into()),
            port: Some(8080),
            protocol: Some(protocol.into()),
            ..EndpointPort::default()
        }]),
    })
}

pub fn slice(service: &str, endpoints: Vec<Ep>) -> Arc<EndpointSlice> {
    slice_of(&format!("{service}-1"), service, "TCP", endpoints)
}

/// A TCP packet to port 80 from `source`.
#[derive(Clone)]
pub struct Sent(pub Packet);

pub fn from(source: &str, dest: &str) -> Sent {
    let origin = match source {
        NODE | "127.0.0.1" => Origin::Host,
        _ => Origin::Interface("eth0".into()),
    };
    Sent(Packet {
        origin,
        source: source.parse().unwrap(),
        dest: dest.parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 80,
        host_addresses: vec![NODE.parse().unwrap(), "10.96.0.10".parse().unwrap()],
        out_interface: None,
        roll: 0,
        remembered: None,
    })
}

impl Sent {
    pub fn port(mut self, port: u16) -> Self {
        self.0.port = port;
        self
    }

    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.0.protocol = protocol;
        self
    }

    pub fn remembered(mut self, ip: &str) -> Self {
        self.0.remembered = Some((ip.parse().unwrap(), 8080));
        self
    }

    /// All that can become of it, as one line: every endpoint that a roll can choose, `+m` if the
    /// source is rewritten, `+r` if the choice is remembered.
    pub fn through(&self, ruleset: &Ruleset) -> String {
        let mut seen = Vec::new();
        for roll in 0..12 {
            let packet = Packet { roll, ..self.0.clone() };
            let line = match trace(ruleset, &packet) {
                Outcome::Dropped => "drop".to_owned(),
                Outcome::Rejected(Reject::TcpReset) => "reset".to_owned(),
                Outcome::Rejected(Reject::PortUnreachable) => "unreachable".to_owned(),
                Outcome::Delivered {
                    dest,
                    port,
                    masqueraded,
                    remembered,
                } => {
                    let flags = [(masqueraded, "+m"), (remembered, "+r")];
                    let set: String = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
                    format!("{dest}:{port}{set}")
                }
            };
            if !seen.contains(&line) {
                seen.push(line);
            }
        }
        seen.join(" ")
    }
}
