//! Records and answers.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Record types a zone knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Service location.
    Srv,
    /// Name of an address.
    Ptr,
    /// Text.
    Txt,
    /// Alias.
    Cname,
    /// Start of authority.
    Soa,
    /// Name server.
    Ns,
    /// Anything else: never there.
    Other,
}

/// A resource record. Names are lower case, without the final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Owner name.
    pub name: String,
    /// Seconds it may be cached.
    pub ttl: u32,
    /// Content.
    pub data: RecordData,
}

/// A record's content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordData {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Service location.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Port.
        port: u16,
        /// Host name.
        target: String,
    },
    /// Name of an address.
    Ptr(String),
    /// Text.
    Txt(String),
    /// Alias.
    Cname(String),
    /// Start of authority.
    Soa {
        /// Primary name server.
        primary: String,
        /// Mailbox of the person in charge, as a name.
        mailbox: String,
        /// Version of the zone.
        serial: u32,
        /// Seconds a negative answer may be cached.
        minimum: u32,
    },
    /// Name server.
    Ns(String),
}

impl RecordData {
    /// The type of this content.
    pub fn record_type(&self) -> RecordType {
        match self {
            RecordData::A(_) => RecordType::A,
            RecordData::Aaaa(_) => RecordType::Aaaa,
            RecordData::Srv { .. } => RecordType::Srv,
            RecordData::Ptr(_) => RecordType::Ptr,
            RecordData::Txt(_) => RecordType::Txt,
            RecordData::Cname(_) => RecordType::Cname,
            RecordData::Soa { .. } => RecordType::Soa,
            RecordData::Ns(_) => RecordType::Ns,
        }
    }
}

/// What a zone says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is not the zone's to answer: ask another server.
    NotAuthoritative,
    /// There is no such name. Holds the SOA record.
    NxDomain(Record),
    /// The name exists without records of this type. Holds the SOA record.
    NoData(Record),
    /// Records.
    Records {
        /// Answer section.
        answers: Vec<Record>,
        /// Additional section: addresses of SRV targets.
        additional: Vec<Record>,
        /// The last alias points out of the zone: its records of the asked type belong to the
        /// answer too.
        chase: Option<String>,
    },
}
