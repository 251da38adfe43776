//! Conntrack entries of UDP services that point nowhere any more.
//!
//! A UDP "connection" lives as long as its client keeps sending, so a removed endpoint, or the
//! absence of one when the first packet came, would stick. As upstream's conntrack reconciler, this
//! compares all UDP entries with what the services now are, and deletes those that cannot be right.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy::{Family, UdpServices};

use super::NetfilterError;
use super::attribute::{Attributes, Reader};
use super::batch::family_number;
use super::socket::{ACK, REQUEST, Received, Socket, messages, write_message};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const STATUS_DNAT: u32 = 1 << 5;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;

/// What a clean-up did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCleanup {
    /// UDP entries looked at.
    pub examined: usize,
    /// Entries deleted.
    pub deleted: usize,
}

struct Entry {
    /// The original tuple as read, to name the entry when deleting it.
    original: Vec<u8>,
    id: Option<u32>,
    dest: (IpAddr, u16),
    replier: (IpAddr, u16),
    dnat: bool,
}

/// Deletes the stale entries.
pub(crate) fn clean(socket: &mut Socket, services: &UdpServices) -> Result<UdpCleanup, NetfilterError> {
    let mut report = UdpCleanup::default();
    let local = local_addresses();
    for family in [Family::Ip4, Family::Ip6] {
        let concerned = services.by_address.keys().any(|(ip, _)| Family::of(*ip) == family)
            || services.by_node_port.keys().any(|(of, _)| *of == family);
        if !concerned {
            continue;
        }
        let mut stale = Vec::new();
        socket.dump("conntrack entries", GET, family_number(family), &[], |entry| {
            if let Some(entry) = read(entry, family) {
                report.examined += 1;
                if is_stale(&entry, family, services, &local) {
                    stale.push(entry);
                }
            }
        })?;
        for entry in stale {
            if delete(socket, family, &entry)? {
                report.deleted += 1;
            }
        }
    }
    Ok(report)
}

fn is_stale(entry: &Entry, family: Family, services: &UdpServices, local: &BTreeSet<IpAddr>) -> bool {
    if let Some(endpoints) = services.by_address.get(&entry.dest) {
        return !endpoints.contains(&entry.replier);
    }
    let Some(endpoints) = services.by_node_port.get(&(family, entry.dest.1)) else {
        return false;
    };
    // A passing connection to the same port elsewhere is none of ours.
    (entry.dnat || local.contains(&entry.dest.0)) && !endpoints.contains(&entry.replier)
}

fn read(entry: Reader<'_>, family: Family) -> Option<Entry> {
    let original = entry.find(TUPLE_ORIG)?;
    let (_, dest) = tuple(Reader(original), family)?;
    let (replier, _) = tuple(entry.nested(TUPLE_REPLY)?, family)?;
    Some(Entry {
        original: original.to_vec(),
        id: entry.u32(ID),
        dest,
        replier,
        dnat: entry.u32(STATUS).unwrap_or(0) & STATUS_DNAT != 0,
    })
}

type Ends = ((IpAddr, u16), (IpAddr, u16));

/// Source and destination of a UDP tuple.
fn tuple(tuple: Reader<'_>, family: Family) -> Option<Ends> {
    let (ip, proto) = (tuple.nested(1)?, tuple.nested(2)?);
    if proto.find(1)? != [UDP] {
        return None;
    }
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        Some(match family {
            Family::Ip4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip.find(v4)?).ok()?).into(),
            Family::Ip6 => Ipv6Addr::from(<[u8; 16]>::try_from(ip.find(v6)?).ok()?).into(),
        })
    };
    let port = |kind| Some(u16::from_be_bytes(proto.find(kind)?.try_into().ok()?));
    Some(((address(1, 3)?, port(2)?), (address(2, 4)?, port(3)?)))
}

/// `false` if it was gone already.
fn delete(socket: &mut Socket, family: Family, entry: &Entry) -> Result<bool, NetfilterError> {
    let sequence = socket.sequences(1);
    let mut attributes = Attributes::new().raw(TUPLE_ORIG | NESTED, &entry.original);
    if let Some(id) = entry.id {
        attributes = attributes.u32(ID, id);
    }
    let mut request = Vec::new();
    let family = (family_number(family), 0);
    write_message(&mut request, (DELETE, REQUEST | ACK), sequence, family, &attributes.0);
    socket.send(&request)?;
    let mut outcome = Ok(false);
    while let Received::Datagram = socket.receive()? {
        for message in messages(&socket.buffer).filter(|m| m.sequence == sequence) {
            outcome = match message.answer() {
                Some(Ok(())) => Ok(true),
                Some(Err(no)) if no.source.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Some(Err(no)) => Err(NetfilterError::Refused {
                    operation: "delete a conntrack entry".to_owned(),
                    detail: String::new(),
                    hint: "it needs CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink)",
                    source: no.source,
                }),
                None => continue,
            };
        }
    }
    outcome
}

fn local_addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return BTreeSet::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .collect()
}
