//! What a pool holds: which values there are, and which of them are given to those who ask for any.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::kind::PickError;

/// The values a pool holds.
#[derive(Clone, Debug)]
pub enum Values {
    /// The usable addresses of a network.
    Addresses(IpNet),
    /// Ports.
    Ports(RangeInclusive<u16>),
}

impl Values {
    /// How many values there are. Networks lose their first address, IPv4 also the last.
    pub(super) fn size(&self) -> u128 {
        match self {
            Values::Ports(ports) => ports.len() as u128,
            Values::Addresses(IpNet::V4(net)) => (1u128 << (32 - net.prefix_len())).saturating_sub(2),
            Values::Addresses(IpNet::V6(net)) => {
                // More than 2^64 values are never needed.
                (1u128 << (128 - net.prefix_len()).min(64)) - 1
            }
        }
    }

    /// The lower part that is kept for values that clients ask for by name (upstream's static
    /// band: `ipallocator` and `portallocator`).
    pub(super) fn static_band(&self) -> u128 {
        let size = self.size();
        let (least, step, most) = match self {
            Values::Addresses(_) => (16, 16, 256),
            Values::Ports(_) => (16, 32, 128),
        };
        if size <= least {
            0
        } else {
            (size / step).clamp(least, most)
        }
    }

    pub(super) fn value(&self, at: u128) -> String {
        match self {
            Values::Ports(ports) => (u128::from(*ports.start()) + at).to_string(),
            Values::Addresses(IpNet::V4(net)) => {
                let first = u128::from(u32::from(net.network())) + 1;
                std::net::Ipv4Addr::from((first + at) as u32).to_string()
            }
            Values::Addresses(IpNet::V6(net)) => {
                std::net::Ipv6Addr::from(u128::from(net.network()) + 1 + at).to_string()
            }
        }
    }

    pub(super) fn check(&self, value: &str) -> Result<String, PickError> {
        match self {
            Values::Addresses(net) => {
                let address: Option<IpAddr> = value.parse().ok();
                let usable = address
                    .filter(|a| net.contains(a) && *a != net.network() && (*a != net.broadcast() || a.is_ipv6()));
                usable.map(|a| a.to_string()).ok_or_else(|| {
                    PickError::OutOfRange(format!(
                        "the provided IP ({value}) is not in the valid range. The range of valid IPs is {}",
                        net.trunc()
                    ))
                })
            }
            Values::Ports(ports) => {
                let port: Option<u16> = value.parse().ok();
                port.filter(|p| ports.contains(p))
                    .map(|p| p.to_string())
                    .ok_or_else(|| {
                        PickError::OutOfRange(format!(
                            "provided port is not in the valid range. The range of valid ports is {}-{}",
                            ports.start(),
                            ports.end()
                        ))
                    })
            }
        }
    }

    pub(super) fn noun(&self) -> &'static str {
        match self {
            Values::Addresses(_) => "IP",
            Values::Ports(_) => "port",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_network() {
        let values = Values::Addresses("10.96.0.0/12".parse().unwrap());
        assert_eq!(values.size(), (1 << 20) - 2);
        assert_eq!(values.static_band(), 256);
        assert_eq!(values.value(0), "10.96.0.1");
        assert_eq!(values.check("10.96.0.10"), Ok("10.96.0.10".into()));
        assert!(values.check("10.96.0.0").is_err());
        assert!(values.check("10.111.255.255").is_err());
        assert_eq!(
            values.check("10.0.0.1").unwrap_err().to_string(),
            "the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/12"
        );
    }

    #[test]
    fn ports_of_a_range() {
        let values = Values::Ports(30000..=32767);
        assert_eq!((values.size(), values.static_band()), (2768, 86));
        assert_eq!(values.value(0), "30000");
        assert_eq!(
            values.check("80").unwrap_err().to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
    }
}
