//! The network of a node: service rules in nftables and the pods' interfaces.
//!
//! - [`ServiceProxy`] keeps `proxy::Ruleset`s in the kernel: it writes differences in atomic
//!   batches, notices when somebody else touches its table, and repairs it. It also removes
//!   conntrack entries of UDP connections whose endpoint is gone.
//! - [`PodNetwork`] owns a bridge with the node's pod range: addresses (one lease file each), a
//!   veth pair a pod, routes, host ports, and masquerading of what leaves the cluster.
//! - [`cleanup`] removes all of it.
//!
//! Everything happens in the network namespace of the thread that opens an object, over netlink;
//! no program is executed. The kernel side of service rules is the table named in
//! `proxy::ProxyConfig`, that of pods the table `<name>-pods`.
//!
//! It does not know of Kubernetes objects, nor which pods should exist: callers say so.
#![warn(missing_docs)]

mod netfilter;
mod pod;

pub use netfilter::{Applier, NetfilterError, ServiceProxy, UdpCleanup};
pub use pod::{HostPort, NetConfig, PodNetError, PodNetwork, cleanup};
