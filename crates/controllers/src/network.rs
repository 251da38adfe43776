//! What controllers have to know of the cluster's network.

use std::net::IpAddr;

/// A range of addresses: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    address: IpAddr,
    length: u8,
}

/// A text that names no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses such as 10.244.0.0/16")]
pub struct BadRange(String);

impl std::str::FromStr for Range {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = || BadRange(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        if length > width(address) {
            return Err(bad());
        }
        Ok(Self { address, length })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Range {
    /// Whether its addresses are IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// How many leading bits count.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// First and last address, as numbers.
    fn ends(&self) -> (u128, u128) {
        let rest = u32::from(width(self.address) - self.length);
        let ones = if rest >= 128 { u128::MAX } else { (1 << rest) - 1 };
        let first = bits(self.address) & !ones;
        (first, first | ones)
    }

    /// Whether they have addresses in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (own, others) = (self.ends(), other.ends());
        self.is_ipv6() == other.is_ipv6() && own.0 <= others.1 && others.0 <= own.1
    }

    /// The first part with `length` leading bits that overlaps none of `taken`. At most as many parts are looked at as
    /// are taken, and one more.
    pub fn first_free(&self, length: u8, taken: &[Range]) -> Option<Range> {
        let (first, last) = self.ends();
        let length = length.clamp(self.length, width(self.address));
        let rest = u32::from(width(self.address) - length);
        let size = 1u128.checked_shl(rest)?;
        let mut taken: Vec<(u128, u128)> = taken
            .iter()
            .filter(|range| range.overlaps(self))
            .map(Range::ends)
            .collect();
        taken.sort_unstable();
        let mut next = first;
        for (from, to) in taken {
            if next.checked_add(size - 1)? < from {
                break;
            }
            if to >= next {
                // The next part begins behind what is taken.
                next = (to & !(size - 1)).checked_add(size)?;
            }
        }
        if next > last {
            return None;
        }
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(next).ok()?.into()),
            IpAddr::V6(_) => IpAddr::V6(next.into()),
        };
        Some(Range { address, length })
    }
}

/// The cluster's network, as the flags of the controller manager tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Where nodes' pods get their addresses from, and how many leading bits a node's part has
    /// (`--cluster-cidr`, `--node-cidr-mask-size`); empty if nodes have their ranges from elsewhere.
    pub pods: Vec<(Range, u8)>,
    /// Services' addresses, which no node may have (`--service-cluster-ip-range`).
    pub services: Vec<Range>,
    /// Ports of the nodes' addresses that services cannot have: the API server's and the node agents'.
    pub node_ports_in_use: Vec<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_strictly() {
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1", "fd00::/129"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert_eq!(range("fd00::/64").to_string(), "fd00::/64");
    }

    #[test]
    fn the_first_free_part_is_found() {
        let cases = [
            ("10.0.0.0/16", 24, vec![], Some("10.0.0.0/24")),
            (
                "10.0.0.0/16",
                24,
                vec!["10.0.0.0/24", "10.0.1.0/24"],
                Some("10.0.2.0/24"),
            ),
            ("10.0.0.0/16", 24, vec!["10.0.1.0/24"], Some("10.0.0.0/24")),
            (
                "10.0.0.0/16",
                24,
                vec!["10.0.0.0/23", "10.0.2.128/25"],
                Some("10.0.3.0/24"),
            ),
            ("10.0.0.0/16", 24, vec!["10.0.0.0/16"], None),
            ("10.0.0.0/24", 24, vec!["10.0.1.0/24"], Some("10.0.0.0/24")),
            ("10.0.0.0/23", 24, vec!["10.0.0.0/24", "10.0.1.0/24"], None),
            ("255.255.255.0/24", 24, vec!["255.255.255.0/24"], None),
            ("10.0.0.0/8", 24, vec!["fd00::/8"], Some("10.0.0.0/24")),
            ("fd00::/48", 64, vec!["fd00::/64"], Some("fd00:0:0:1::/64")),
            ("10.0.0.0/16", 8, vec![], Some("10.0.0.0/16")),
        ];
        for (whole, length, taken, free) in cases {
            let taken: Vec<Range> = taken.iter().map(|text| range(text)).collect();
            let found = range(whole).first_free(length, &taken).map(|found| found.to_string());
            assert_eq!(found.as_deref(), free, "{whole} {taken:?}");
        }
    }
}
