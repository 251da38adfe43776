//! The typed ruleset: what can be said, and nothing that cannot be encoded.
//!
//! Statements are whole nftables statements (`ip daddr @set`, `dnat to numgen … map @m`), not
//! register programs: the encoder and the tracer both interpret these same few meanings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// nftables family `ip`.
    Ip4,
    /// nftables family `ip6`.
    Ip6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::Ip4 } else { Family::Ip6 }
    }

    /// The family of an address range.
    pub fn of_net(net: IpNet) -> Self {
        Family::of(net.addr())
    }
}

/// Transport protocols that services can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Parses the API's spelling; absent means TCP, unknown gives `None`.
    pub fn from_api(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }
}

/// A table's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// Address family.
    pub family: Family,
    /// Name, unique in the family and network namespace.
    pub name: String,
}

/// Everything one owner has in nftables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Tables by identity.
    pub tables: BTreeMap<TableId, Table>,
    /// UDP services, for the conntrack clean-up that must follow a change of endpoints.
    pub udp: UdpServices,
}

/// UDP service addresses and the endpoints that their connections may still point to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpServices {
    /// By service address (cluster, external, load balancer) and port.
    pub by_address: BTreeMap<(IpAddr, u16), BTreeSet<(IpAddr, u16)>>,
    /// By family and node port.
    pub by_node_port: BTreeMap<(Family, u16), BTreeSet<(IpAddr, u16)>>,
}

/// Sets (and maps) and chains of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Type of the keys.
    pub key: KeyType,
    /// Type of the values.
    pub data: DataType,
    /// Who fills it.
    pub mode: SetMode,
    /// Elements; empty for dynamic sets, whose content belongs to the kernel.
    pub elements: BTreeMap<Key, Data>,
}

impl Set {
    /// An empty set whose elements are written by us.
    pub fn of(key: KeyType, data: DataType) -> Self {
        Set {
            key,
            data,
            mode: SetMode::Static,
            elements: BTreeMap::new(),
        }
    }

    /// An empty set that packets fill.
    pub fn dynamic(key: KeyType, data: DataType) -> Self {
        Set {
            key,
            data,
            mode: SetMode::Dynamic,
            elements: BTreeMap::new(),
        }
    }
}

/// Who fills a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetMode {
    /// The ruleset.
    Static,
    /// Packets, with a timeout an element.
    Dynamic,
}

/// Types of set keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// An address.
    Addr,
    /// Two addresses.
    AddrPair,
    /// Address, transport protocol and port.
    AddrProtoPort,
    /// Transport protocol and port.
    ProtoPort,
    /// A balancing chain's number and an index counted from 0.
    Slot,
    /// A balancing chain's number, address and port.
    Member,
    /// A balancing chain's number and an address.
    Client,
}

/// A set key. Addresses are of the table's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// See [`KeyType::Addr`].
    Addr(IpAddr),
    /// See [`KeyType::AddrPair`].
    AddrPair(IpAddr, IpAddr),
    /// See [`KeyType::AddrProtoPort`].
    AddrProtoPort(IpAddr, Protocol, u16),
    /// See [`KeyType::ProtoPort`].
    ProtoPort(Protocol, u16),
    /// See [`KeyType::Slot`].
    Slot(u64, u32),
    /// See [`KeyType::Member`].
    Member(u64, IpAddr, u16),
    /// See [`KeyType::Client`].
    Client(u64, IpAddr),
}

/// Types of map values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// A plain set.
    None,
    /// A verdict map.
    Verdict,
    /// Address and port.
    Endpoint,
}

/// A map value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A plain set's element.
    None,
    /// What happens to the packet.
    Verdict(Verdict),
    /// Where the packet goes.
    Endpoint(IpAddr, u16),
}

/// A chain: base chains are hooked into the kernel's packet path, others are jumped to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Hook of a base chain. Its policy is always accept.
    pub base: Option<Base>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain is hooked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Chain type.
    pub kind: ChainKind,
    /// Netfilter hook.
    pub hook: Hook,
    /// Priority; lower runs first (-100 is DNAT, 0 filter, 100 SNAT).
    pub priority: i32,
}

/// Base chain types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Filtering; sees every packet.
    Filter,
    /// Address translation; sees the first packet of a connection.
    Nat,
}

/// Netfilter hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// Leaving an interface.
    Postrouting,
}

/// A rule: statements in order, stopped by the first match that fails.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
}

impl Rule {
    /// A rule of these statements.
    pub fn of(statements: impl IntoIterator<Item = Statement>) -> Self {
        Rule {
            statements: statements.into_iter().collect(),
        }
    }
}

/// One statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Go on only if this holds.
    Match(Match),
    /// Look the packet up in a verdict map; go on without an entry.
    VerdictMap {
        /// What to look up.
        selector: Selector,
        /// Map name.
        map: String,
    },
    /// Set these bits of the packet mark.
    SetMark(u32),
    /// Clear these bits of the packet mark.
    ClearMark(u32),
    /// Rewrite the source to the outgoing interface's address.
    Masquerade,
    /// Rewrite the destination.
    Dnat(Dnat),
    /// Refuse, telling the sender.
    Reject(Reject),
    /// Unconditional verdict.
    Verdict(Verdict),
}

/// Conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet starts a connection.
    CtNew,
    /// The connection's destination was rewritten.
    CtDnat,
    /// Any (`In`) or none (`NotIn`) of these mark bits are set.
    Mark(u32, Presence),
    /// The selected fields are (not) in a set.
    InSet(Selector, String, Presence),
    /// An address is (not) in a range.
    Cidr(Side, IpNet, Presence),
    /// An address is one of this host's.
    Local(Side),
    /// The packet came in by / goes out by (not) this interface.
    Interface(Direction, String, Presence),
    /// Transport protocol.
    Proto(Protocol),
}

/// Whether a match is inverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Must be there.
    In,
    /// Must not be there.
    NotIn,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Source.
    Source,
    /// Destination.
    Dest,
}

/// Incoming or outgoing interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Incoming.
    In,
    /// Outgoing.
    Out,
}

/// Packet fields that make a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Source address.
    Source,
    /// Destination address.
    Dest,
    /// Source and destination address.
    SourceDest,
    /// Destination address, protocol, destination port.
    DestProtoPort,
    /// Protocol, destination port.
    ProtoPort,
}

impl Selector {
    /// Type of the key it makes.
    pub fn key_type(self) -> KeyType {
        match self {
            Selector::Source | Selector::Dest => KeyType::Addr,
            Selector::SourceDest => KeyType::AddrPair,
            Selector::DestProtoPort => KeyType::AddrProtoPort,
            Selector::ProtoPort => KeyType::ProtoPort,
        }
    }
}

/// Ways to choose a new destination.
///
/// Balancing chains share a few maps of endpoints, told apart by a number: the kernel finds sets by
/// walking a list, so a set for each service would make updates quadratic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dnat {
    /// A random one of `modulus` endpoints: the map's slots (number, 0..modulus).
    Balanced {
        /// The chain's number.
        number: u64,
        /// Map from slot to endpoint.
        map: String,
        /// Number of endpoints, at least 1.
        modulus: u32,
        /// Remember the choice by source address.
        remember: Option<Sticky>,
    },
    /// The endpoint remembered for the source address, if it is still a member, renewing its
    /// timeout; else the rule ends.
    Remembered {
        /// The chain's number.
        number: u64,
        /// Where choices are remembered.
        sticky: Sticky,
        /// Set of usable endpoints, as members.
        members: String,
    },
    /// The endpoint a map has for the packet; without an entry the rule ends.
    Lookup {
        /// What to look up.
        selector: Selector,
        /// Map name.
        map: String,
    },
}

/// A client-address affinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Dynamic map from client to endpoint.
    pub map: String,
    /// Forgotten after this time without a new connection.
    pub timeout: Duration,
}

/// How to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// TCP reset; only after a match on TCP.
    TcpReset,
    /// ICMP port unreachable.
    PortUnreachable,
}

/// Verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let pass (this table and hook; other tables may still drop).
    Accept,
    /// Discard silently.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Call a chain.
    Jump(String),
    /// Go to a chain for good.
    Goto(String),
}
