//! What `skiff controller-manager` is told of the cluster's network. The flags are upstream's.

use anyhow::{Context, Result, bail};
use controllers::{Network, Range};

/// Flags about ranges of addresses.
#[derive(Debug, Clone, clap::Args)]
pub struct NetworkOptions {
    /// Nodes get parts of the pods' ranges
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    allocate_node_cidrs: bool,
    /// Ranges of the pods' addresses, one a family; needs --allocate-node-cidrs
    #[arg(long, value_delimiter = ',')]
    cluster_cidr: Vec<Range>,
    /// Ranges of the services' addresses
    #[arg(long, value_delimiter = ',')]
    service_cluster_ip_range: Vec<Range>,
    /// Leading bits of a node's part, if there is one range; else 24 for IPv4 and 64 for IPv6
    #[arg(long)]
    node_cidr_mask_size: Option<u8>,
    /// Leading bits of a node's part of the IPv4 range
    #[arg(long)]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// Leading bits of a node's part of the IPv6 range
    #[arg(long)]
    node_cidr_mask_size_ipv6: Option<u8>,
}

impl NetworkOptions {
    /// What the flags say.
    pub fn read(&self) -> Result<Network> {
        let mut network = Network {
            services: self.service_cluster_ip_range.clone(),
            ..Network::default()
        };
        if !self.allocate_node_cidrs {
            return Ok(network);
        }
        let ranges = &self.cluster_cidr;
        if ranges.is_empty() {
            bail!("--allocate-node-cidrs needs the pods' range (--cluster-cidr)");
        }
        if ranges.len() > 2 || ranges.len() == 2 && ranges[0].is_ipv6() == ranges[1].is_ipv6() {
            bail!("--cluster-cidr takes one range, or one of each address family");
        }
        let single = self.node_cidr_mask_size.filter(|_| ranges.len() == 1);
        if self.node_cidr_mask_size.is_some() && ranges.len() == 2 {
            bail!(
                "--node-cidr-mask-size is for one range; use --node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6"
            );
        }
        for range in ranges {
            let own = match range.is_ipv6() {
                false => self.node_cidr_mask_size_ipv4.or(single).unwrap_or(24),
                true => self.node_cidr_mask_size_ipv6.or(single).unwrap_or(64),
            };
            if own < range.length() || own - range.length() > 16 {
                let why = "a node's part must be within the range, and at most 16 bits longer";
                return Err(anyhow::anyhow!(why)).with_context(|| format!("--cluster-cidr {range}, node mask {own}"));
            }
            network.pods.push((*range, own));
        }
        Ok(network)
    }
}
