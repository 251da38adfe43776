//! Set keys and map values as the kernel stores them: each field padded to four bytes.

use std::net::IpAddr;

use proxy::{Data, DataType, Family, Key, KeyType, Protocol, Verdict};

use super::attribute::Attributes;

// nft's type numbers; the kernel only stores them, `nft list` shows elements by them.
// Not the type `integer` (4), 4 bytes long just so: nft 1.0 aborts when it lists sets that are keyed by it.
const TYPE_MARK: u32 = 19;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTO: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_BITS: u32 = 6;
pub(crate) const TYPE_VERDICT: u32 = 0xffff_ff00;

const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// A type number and the byte length of each field.
pub(crate) struct Layout {
    pub kind: u32,
    pub fields: Vec<u32>,
}

impl Layout {
    pub fn length(&self) -> u32 {
        self.fields.iter().sum()
    }
}

pub(crate) fn address_bytes(family: Family) -> u32 {
    match family {
        Family::Ip4 => 4,
        Family::Ip6 => 16,
    }
}

pub(crate) fn key_layout(key: KeyType, family: Family) -> Layout {
    let address = match family {
        Family::Ip4 => (TYPE_IPV4, 4),
        Family::Ip6 => (TYPE_IPV6, 16),
    };
    let (proto, port, number) = ((TYPE_PROTO, 4), (TYPE_PORT, 4), (TYPE_MARK, 4));
    let fields = match key {
        KeyType::Addr => vec![address],
        KeyType::AddrPair => vec![address, address],
        KeyType::AddrProtoPort => vec![address, proto, port],
        KeyType::ProtoPort => vec![proto, port],
        KeyType::Slot => vec![number, number, number],
        KeyType::Member => vec![number, number, address, port],
        KeyType::Client => vec![number, number, address],
    };
    layout(&fields)
}

fn layout(fields: &[(u32, u32)]) -> Layout {
    Layout {
        kind: fields.iter().fold(0, |kind, (field, _)| (kind << TYPE_BITS) | field),
        fields: fields.iter().map(|(_, length)| *length).collect(),
    }
}

/// Type and length of the values; `None` for plain sets.
pub(crate) fn data_layout(data: DataType, family: Family) -> Option<Layout> {
    match data {
        DataType::None => None,
        DataType::Verdict => Some(Layout {
            kind: TYPE_VERDICT,
            fields: vec![16],
        }),
        DataType::Endpoint => Some(match family {
            Family::Ip4 => layout(&[(TYPE_IPV4, 4), (TYPE_PORT, 4)]),
            Family::Ip6 => layout(&[(TYPE_IPV6, 16), (TYPE_PORT, 4)]),
        }),
    }
}

fn push_address(bytes: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
    }
}

fn push_proto(bytes: &mut Vec<u8>, protocol: Protocol) {
    bytes.extend_from_slice(&[protocol.number(), 0, 0, 0]);
}

fn push_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
}

pub(crate) fn address_value(ip: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_address(&mut bytes, ip);
    bytes
}

/// A balancing chain's number, which takes two registers.
pub(crate) fn number_value(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn endpoint_value(ip: IpAddr, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    push_address(&mut bytes, ip);
    push_port(&mut bytes, port);
    bytes
}

pub(crate) fn key_value(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    match key {
        Key::Addr(ip) => push_address(&mut bytes, *ip),
        Key::AddrPair(first, second) => {
            push_address(&mut bytes, *first);
            push_address(&mut bytes, *second);
        }
        Key::AddrProtoPort(ip, protocol, port) => {
            push_address(&mut bytes, *ip);
            push_proto(&mut bytes, *protocol);
            push_port(&mut bytes, *port);
        }
        Key::ProtoPort(protocol, port) => {
            push_proto(&mut bytes, *protocol);
            push_port(&mut bytes, *port);
        }
        Key::Slot(number, index) => {
            bytes.extend_from_slice(&number_value(*number));
            // `numgen` leaves its number in host byte order.
            bytes.extend_from_slice(&index.to_ne_bytes());
        }
        Key::Member(number, ip, port) => {
            bytes.extend_from_slice(&number_value(*number));
            bytes.extend_from_slice(&endpoint_value(*ip, *port));
        }
        Key::Client(number, ip) => {
            bytes.extend_from_slice(&number_value(*number));
            push_address(&mut bytes, *ip);
        }
    }
    bytes
}

/// The data attribute's content; `None` for plain sets.
pub(crate) fn data_attributes(data: &Data) -> Option<Attributes> {
    match data {
        Data::None => None,
        Data::Verdict(verdict) => Some(verdict_attributes(verdict)),
        Data::Endpoint(ip, port) => Some(value_attributes(&endpoint_value(*ip, *port))),
    }
}

pub(crate) fn value_attributes(bytes: &[u8]) -> Attributes {
    Attributes::new().raw(NFTA_DATA_VALUE, bytes)
}

pub(crate) fn verdict_attributes(verdict: &Verdict) -> Attributes {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    let mut inner = Attributes::new().raw(NFTA_VERDICT_CODE, &i32::to_be_bytes(code));
    if let Some(chain) = chain {
        inner = inner.text(NFTA_VERDICT_CHAIN, chain);
    }
    Attributes::new().nested(NFTA_DATA_VERDICT, &inner)
}
