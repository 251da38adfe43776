//! The pods' side: bridge, addresses, veth pairs, host ports, masquerading.

mod cleanup;
mod lease;
mod link;
mod netns;
mod network;
mod rules;
mod sysctl;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use cleanup::cleanup;
pub use network::PodNetwork;

use crate::netfilter::NetfilterError;

/// What a node's pod network is made of. Instances with different names, ranges and state
/// directories do not disturb each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetConfig {
    /// Bridge name, at most 15 bytes.
    pub bridge_name: String,
    /// Name of the service proxy's nftables table; that of pods is this with `-pods` appended.
    pub table_name: String,
    /// This node's pod range; its first address is the bridge's, the pods' gateway.
    pub pod_cidr: Ipv4Net,
    /// The range of cluster IPs, routed to the bridge so that the host can reach them.
    pub service_cidr: Ipv4Net,
    /// Cluster DNS address, put on the bridge.
    pub dns_ip: Option<Ipv4Addr>,
    /// All nodes' pod ranges: traffic of pods that leaves it is masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// Directory of the leases, made if missing.
    pub state_dir: PathBuf,
}

impl NetConfig {
    /// skiff's defaults for a node with this pod range.
    pub fn new(pod_cidr: Ipv4Net, state_dir: impl Into<PathBuf>) -> Self {
        let net =
            |a, b, prefix| Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), prefix).expect("prefix lengths up to 32 exist");
        NetConfig {
            bridge_name: "skiff0".to_owned(),
            table_name: "skiff".to_owned(),
            pod_cidr,
            service_cidr: net(10, 96, 12),
            dns_ip: Some(Ipv4Addr::new(10, 96, 0, 10)),
            cluster_cidr: net(10, 244, 16),
            state_dir: state_dir.into(),
        }
    }

    /// The bridge's address.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.pod_cidr.network()).wrapping_add(1))
    }

    pub(crate) fn pod_table(&self) -> String {
        format!("{}-pods", self.table_name)
    }
}

/// A port of the node that leads to a pod (`hostPort`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Only this address of the node; `None` (and 0.0.0.0): every one.
    pub host_ip: Option<IpAddr>,
    /// Port of the node.
    pub host_port: u16,
    /// Protocol, as the API spells it (`TCP`, `UDP`, `SCTP`).
    pub protocol: String,
    /// Port of the pod.
    pub pod_port: u16,
}

/// Why the pod network could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum PodNetError {
    /// The configuration cannot work.
    #[error("pod network configuration: {0}")]
    Config(&'static str),
    /// A kernel setting could not be read or written.
    #[error("cannot set the kernel setting {path}; is /proc/sys writable?")]
    Sysctl {
        /// File below /proc/sys.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No rtnetlink socket.
    #[error("cannot open a route netlink socket")]
    Netlink(#[source] io::Error),
    /// A link, address or route operation failed.
    #[error("cannot {operation}")]
    Link {
        /// What was tried.
        operation: String,
        /// The reason.
        #[source]
        source: rtnetlink::Error,
    },
    /// A link is not there.
    #[error("there is no network interface {0}")]
    NoLink(String),
    /// The bridge's name belongs to something else.
    #[error("network interface {0} exists but is not a bridge; remove it or choose another name")]
    NotABridge(String),
    /// The pod's network namespace could not be entered.
    #[error("cannot enter the pod's network namespace {path}")]
    Namespace {
        /// Path given.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A lease or state file could not be read or written.
    #[error("cannot access pod network state {path}")]
    State {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// All addresses are taken.
    #[error("no free address in pod range {range}: {used} pods have one")]
    Exhausted {
        /// The range.
        range: Ipv4Net,
        /// Leases held.
        used: usize,
    },
    /// A host port is in use by another pod.
    #[error("host port {port}/{protocol} is already used by another pod on this node")]
    PortTaken {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: String,
    },
    /// The rules of pods could not be written.
    #[error("cannot write the packet filter rules of pods")]
    Rules(#[from] NetfilterError),
}
