//! Names of the pools from which the API server hands out values. Whoever configures the server
//! gives a pool of each name that the cluster has.

/// Addresses of services, IPv4.
pub const SERVICE_IPV4: &str = "services-ipv4";
/// Addresses of services, IPv6.
pub const SERVICE_IPV6: &str = "services-ipv6";
/// Ports of services on every node.
pub const NODE_PORTS: &str = "node-ports";
