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
    let Some(header) = packet.first_chunk::<HEADER_BYTES>() else {
        return Parsed::Garbage;
    };
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
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().clamp(MIN_PAYLOAD, MAX_PAYLOAD)),
    };
    let request = Request {
        metadata: message.metadata,
        query: query.clone(),
        edns: message.edns.as_ref().map(|edns| ClientEdns {
            dnssec_ok: edns.flags().dnssec_ok,
        }),
        limit,
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Parsed::Reply(encode(&request, Response::of(ResponseCode::BADVERS)));
    }
    if query.query_class() != DNSClass::IN {
        return Parsed::Reply(encode(&request, Response::of(ResponseCode::Refused)));
    }
    if matches!(
        query.query_type(),
        RecordType::AXFR | RecordType::IXFR | RecordType::OPT
    ) {
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

/// Writes a response within the request's limit: extras are left out first, then the last answers,
/// with the truncation bit.
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
        edns.set_max_payload(OWN_PAYLOAD)
            .set_version(0)
            .set_dnssec_ok(client.dnssec_ok);
        message.set_edns(edns);
    }
    fit(message, request.limit)
}

/// The bytes of a message if they are few enough. The coder cuts what would pass 64 KiB itself.
fn within(message: &Message, limit: usize) -> Option<Vec<u8>> {
    message.to_vec().ok().filter(|bytes| bytes.len() <= limit)
}

fn fit(mut message: Message, limit: usize) -> Vec<u8> {
    if let Some(bytes) = within(&message, limit) {
        return bytes;
    }
    message.additionals.clear();
    if let Some(bytes) = within(&message, limit) {
        return bytes;
    }
    message.authorities.clear();
    if let Some(bytes) = within(&message, limit) {
        return bytes;
    }
    message.metadata.truncation = true;
    let answers = std::mem::take(&mut message.answers);
    // A question alone has at most 271 bytes, with EDNS below every limit.
    let mut best = within(&message, limit).unwrap_or_default();
    let (mut fitting, mut too_many) = (0, answers.len());
    while too_many - fitting > 1 {
        let middle = fitting.midpoint(too_many);
        message.answers = answers[..middle].to_vec();
        match within(&message, limit) {
            Some(bytes) => (best, fitting) = (bytes, middle),
            None => too_many = middle,
        }
    }
    best
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
pub(crate) fn wire_records(records: &[ZoneRecord], asked: &Name, asked_text: &str) -> Option<Vec<Record>> {
    records
        .iter()
        .map(|record| wire_record(record, asked, asked_text))
        .collect()
}

fn wire_record(record: &ZoneRecord, asked: &Name, asked_text: &str) -> Option<Record> {
    let owner = if record.name == asked_text {
        asked.clone()
    } else {
        wire_name(&record.name)?
    };
    let data = match &record.data {
        RecordData::A(ip) => RData::A(A(*ip)),
        RecordData::Aaaa(ip) => RData::AAAA(AAAA(*ip)),
        RecordData::Srv {
            priority,
            weight,
            port,
            target,
        } => RData::SRV(SRV::new(*priority, *weight, *port, wire_name(target)?)),
        RecordData::Ptr(name) => RData::PTR(PTR(wire_name(name)?)),
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        RecordData::Cname(name) => RData::CNAME(CNAME(wire_name(name)?)),
        RecordData::Ns(name) => RData::NS(NS(wire_name(name)?)),
        RecordData::Soa {
            primary,
            mailbox,
            serial,
            minimum,
        } => RData::SOA(SOA::new(
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query() -> Vec<u8> {
        let name = Name::from_ascii("a.ns.svc.cluster.local.").expect("name");
        let mut message = Message::query();
        message.add_query(Query::query(name, RecordType::A));
        message.set_edns(Edns::new());
        message.to_vec().expect("encodes")
    }

    fn reply(packet: &[u8]) -> Message {
        match parse(packet, Transport::Udp) {
            Parsed::Reply(bytes) => Message::from_vec(&bytes).expect("a reply is a message"),
            other => panic!("not a reply: {other:?}"),
        }
    }

    #[test]
    fn odd_requests_are_refused_politely() {
        let code = |packet: &[u8]| reply(packet).metadata.response_code;
        let mut update = query();
        update[2] |= 5 << 3;
        assert_eq!(code(&update), ResponseCode::NotImp);
        let mut two = query();
        two[5] = 2;
        assert_eq!(code(&two), ResponseCode::FormErr);
        let mut none = query();
        none.truncate(12);
        assert_eq!(code(&none), ResponseCode::FormErr);
        let mut response = query();
        response[2] |= RESPONSE_BIT;
        assert!(matches!(parse(&response, Transport::Udp), Parsed::Garbage));
        assert!(matches!(parse(&query()[..11], Transport::Udp), Parsed::Garbage));
        for (kind, expected) in [
            (RecordType::AXFR, ResponseCode::Refused),
            (RecordType::ANY, ResponseCode::NotImp),
        ] {
            let mut message = Message::query();
            message.add_query(Query::query(Name::root(), kind));
            assert_eq!(code(&message.to_vec().expect("encodes")), expected);
        }
    }

    #[test]
    fn strange_bytes_in_names_never_look_like_cluster_names() {
        let labels: [&[u8]; 3] = [b"a.ns.svc", b"\xff\x00", b"Local"];
        let name = Name::from_labels(labels).expect("labels");
        assert_eq!(zone_name(&name), "a?ns?svc.??.local");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes, Transport::Udp);
        }

        #[test]
        fn any_damage_to_a_query_is_survived(damage in proptest::collection::vec((0usize..60, any::<u8>()), 1..8)) {
            let mut packet = query();
            for (at, byte) in damage {
                let length = packet.len();
                packet[at % length] = byte;
            }
            match parse(&packet, Transport::Udp) {
                Parsed::Request(request) => {
                    let bytes = encode(&request, Response::of(ResponseCode::NoError));
                    prop_assert!(bytes.len() <= request.limit);
                    let id = Message::from_vec(&bytes).map(|message| message.metadata.id);
                    prop_assert_eq!(id.ok(), Some(request.metadata.id));
                }
                Parsed::Reply(bytes) => prop_assert!(Message::from_vec(&bytes).is_ok()),
                Parsed::Garbage => {}
            }
        }
    }
}
