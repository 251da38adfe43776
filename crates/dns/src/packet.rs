//! Requests read, responses written.

use dnszone::{Record as ZoneRecord, RecordData, RecordType as ZoneType};
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// What we accept over UDP and say so in EDNS: no fragments on any path.
pub(crate) const OWN_PAYLOAD: u16 = 1232;
/// What a client may ask for at most; pods are one hop away.
const MAX_PAYLOAD: u16 = 4096;
const MIN_PAYLOAD: u16 = 512;
const HEADER_BYTES: usize = 12;
const RESPONSE_BIT: u8 = 0x80;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A well-formed query with one question.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub metadata: Metadata,
    pub query: Query,
    pub edns: Option<ClientEdns>,
    /// Largest response in bytes.
    pub limit: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientEdns {
    pub dnssec_ok: bool,
}

/// What a packet is.
#[derive(Debug)]
pub(crate) enum Parsed {
    Request(Box<Request>),
    /// Answer this and do no more.
    Reply(Vec<u8>),
    /// Not even a query.
    Garbage,
}

pub(crate) fn parse(packet: &[u8], transport: Transport) -> Parsed {
    let Some(header) = packet.first_chunk::<HEADER_BYTES>() else { return Parsed::Garbage };
    // Answering responses would let two servers talk to each other for ever.
    if header[2] & RESPONSE_BIT != 0 {
        return Parsed::Garbage;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let op_code = OpCode::from_u8((header[2] >> 3) & 0xf);
    if op_code != OpCode::Query {
        return error(id, op_code, ResponseCode::NotImp);
    }
    let Ok(message) = Message::from_vec(packet) else {
        return error(id, OpCode::Query, ResponseCode::FormErr);
    };
    let [query] = &message.queries[..] else {
        return error(id, OpCode::Query, ResponseCode::FormErr);
    };
    let limit = match (transport, &message.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => usize::from(MIN_PAYLOAD),
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.max_payload().clamp(MIN_PAYLOAD, MAX_PAYLOAD))
        }
    };
    let request = Request {
        metadata: message.metadata,
        query: query.clone(),
        edns: message.edns.as_ref().map(|edns| ClientEdns { dnssec_ok: edns.flags().dnssec_ok }),
        limit,
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Parsed::Reply(encode(&request, Response::of(ResponseCode::BADVERS)));
    }
    if query.query_class() != DNSClass::IN {
        return Parsed::Reply(encode(&request, Response::of(ResponseCode::Refused)));
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR | RecordType::OPT) {
        return Parsed::Reply(encode(&request, Response::of(ResponseCode::Refused)));
    }
    // RFC 8482: nobody needs all of it.
    if query.query_type() == RecordType::ANY {
        return Parsed::Reply(encode(&request, Response::of(ResponseCode::NotImp)));
    }
    Parsed::Request(Box::new(request))
}

fn error(id: u16, op_code: OpCode, code: ResponseCode) -> Parsed {
    match Message::error_msg(id, op_code, code).to_vec() {
        Ok(bytes) => Parsed::Reply(bytes),
        Err(_) => Parsed::Garbage,
    }
}

/// The content of a response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub authentic: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Response {
    pub fn of(code: ResponseCode) -> Self {
        Response {
            code,
            authoritative: false,
            authentic: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// Writes a response within the request's limit: extras are left out first, then answers, with the
/// truncation bit.
pub(crate) fn encode(request: &Request, response: Response) -> Vec<u8> {
    let mut message = Message::response(request.metadata.id, OpCode::Query);
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.checking_disabled = request.metadata.checking_disabled;
    message.metadata.recursion_available = true;
    message.metadata.authoritative = response.authoritative;
    message.metadata.authentic_data = response.authentic;
    message.metadata.response_code = response.code;
    message.add_query(request.query.clone());
    message.answers = response.answers;
    message.authorities = response.authorities;
    message.additionals = response.additionals;
    if let Some(client) = request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_PAYLOAD).set_version(0).set_dnssec_ok(client.dnssec_ok);
        message.set_edns(edns);
    }
    loop {
        let bytes = match message.to_vec() {
            Ok(bytes) if bytes.len() <= request.limit => return bytes,
            Ok(bytes) => bytes.len(),
            Err(_) if message.answers.is_empty() => return Vec::new(),
            Err(_) => usize::MAX,
        };
        if !message.additionals.is_empty() {
            message.additionals.clear();
        } else if !message.answers.is_empty() && !message.authorities.is_empty() {
            message.authorities.clear();
        } else if !message.answers.is_empty() {
            message.metadata.truncation = true;
            let have = message.answers.len();
            let fitting = have * request.limit / bytes.max(1);
            message.answers.truncate(fitting.min(have - 1));
        } else if !message.authorities.is_empty() {
            message.authorities.clear();
        } else {
            // A question alone is at most 271 bytes; with EDNS still below every limit.
            return Vec::new();
        }
    }
}

/// A name as the zone spells it. Bytes that no cluster name has become a character that no cluster
/// name has.
pub(crate) fn zone_name(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(*byte),
            b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
            _ => '?',
        }));
    }
    text
}

pub(crate) fn zone_type(kind: RecordType) -> ZoneType {
    match kind {
        RecordType::A => ZoneType::A,
        RecordType::AAAA => ZoneType::Aaaa,
        RecordType::SRV => ZoneType::Srv,
        RecordType::PTR => ZoneType::Ptr,
        RecordType::TXT => ZoneType::Txt,
        RecordType::CNAME => ZoneType::Cname,
        RecordType::SOA => ZoneType::Soa,
        RecordType::NS => ZoneType::Ns,
        _ => ZoneType::Other,
    }
}

/// Zone records for the wire. Records of the name that was asked are given it in the asker's
/// spelling. `None` if a name (of an ExternalName service, say) is none.
pub(crate) fn wire_records(
    records: &[ZoneRecord],
    asked: &Name,
    asked_text: &str,
) -> Option<Vec<Record>> {
    records.iter().map(|record| wire_record(record, asked, asked_text)).collect()
}

fn wire_record(record: &ZoneRecord, asked: &Name, asked_text: &str) -> Option<Record> {
    let owner = if record.name == asked_text { asked.clone() } else { wire_name(&record.name)? };
    let data = match &record.data {
        RecordData::A(ip) => RData::A(A(*ip)),
        RecordData::Aaaa(ip) => RData::AAAA(AAAA(*ip)),
        RecordData::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, wire_name(target)?))
        }
        RecordData::Ptr(name) => RData::PTR(PTR(wire_name(name)?)),
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        RecordData::Cname(name) => RData::CNAME(CNAME(wire_name(name)?)),
        RecordData::Ns(name) => RData::NS(NS(wire_name(name)?)),
        RecordData::Soa { primary, mailbox, serial, minimum } => RData::SOA(SOA::new(
            wire_name(primary)?,
            wire_name(mailbox)?,
            *serial,
            7_200,
            1_800,
            86_400,
            *minimum,
        )),
    };
    Some(Record::from_rdata(owner, record.ttl, data))
}

/// A fully qualified name.
pub(crate) fn wire_name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}
