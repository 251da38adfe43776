//! What the rules depend on besides API objects.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ruleset::Family;

/// Which of the node's addresses accept node-port traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every local address, 127.0.0.1 included (needs `route_localnet` on the pod bridge).
    AnyLocal,
    /// Every local address except loopback ones.
    AnyLocalButLoopback,
    /// Only these.
    Only(Vec<IpAddr>),
}

/// The node's side of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Name of the nftables table, the same in every family.
    pub table: String,
    /// This node's name: endpoints with it are local.
    pub node_name: String,
    /// This node's `topology.kubernetes.io/zone`, for topology hints.
    pub zone: Option<String>,
    /// This node's addresses. A table is made for each address family found here; without any,
    /// for IPv4.
    pub node_ips: Vec<IpAddr>,
    /// Sources inside these ranges are pods: their traffic to cluster IPs keeps its source.
    /// Empty: nothing is masqueraded because of its source.
    pub cluster_cidrs: Vec<IpNet>,
    /// The ranges cluster IPs come from: traffic to an unallocated one is dropped, not routed away.
    pub service_cidrs: Vec<IpNet>,
    /// Service addresses that a process of this node answers itself (cluster DNS): no rule of a
    /// service touches them.
    pub local_addresses: Vec<IpAddr>,
    /// Where node ports are open.
    pub node_port_addresses: NodePortAddresses,
    /// Bit(s) of the packet mark that request masquerading (upstream's default: 0x4000).
    pub masquerade_mark: u32,
}

impl ProxyConfig {
    /// Defaults of a node called `node_name`, in table `skiff`.
    pub fn new(node_name: impl Into<String>) -> Self {
        ProxyConfig {
            table: "skiff".to_owned(),
            node_name: node_name.into(),
            zone: None,
            node_ips: Vec::new(),
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            local_addresses: Vec::new(),
            node_port_addresses: NodePortAddresses::AnyLocal,
            masquerade_mark: 0x4000,
        }
    }

    /// The address families to make tables for.
    pub fn families(&self) -> Vec<Family> {
        let mut families: Vec<Family> = self.node_ips.iter().map(|ip| Family::of(*ip)).collect();
        families.sort();
        families.dedup();
        if families.is_empty() {
            families.push(Family::Ip4);
        }
        families
    }
}
