//! Statements as nf_tables expressions over registers.
//!
//! Register use within a rule: keys are loaded from the first 32-bit register up, chosen endpoints
//! from the ninth up (address, then port), scratch values in the last four.

use std::net::IpAddr;
use std::time::Duration;

use proxy::{Direction, Dnat, Family, Match, Presence, Protocol, Reject, Rule, Selector, Side, Statement, Sticky};

use super::attribute::Attributes;
use super::key::{address_bytes, address_value, number_value, value_attributes, verdict_attributes};

/// NFT_REG32_00.
const KEY: u32 = 8;
/// A number takes two registers.
const AFTER_NUMBER: u32 = KEY + 2;
const ENDPOINT: u32 = KEY + 8;
const BEFORE_ENDPOINT: u32 = ENDPOINT - 2;
/// Of IPv4, where an endpoint is before it is copied.
const FOUND: u32 = KEY + 4;
const SCRATCH: u32 = KEY + 12;
const VERDICT: u32 = 0;

const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const DEST_PORT_OFFSET: u32 = 2;

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_STATE_NEW: u32 = 8;
const CT_STATUS_DNAT: u32 = 1 << 5;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;
const LOOKUP_INVERT: u32 = 1;
const NUMGEN_RANDOM: u32 = 1;
const DYNSET_UPDATE: u32 = 1;
const NAT_DNAT: u32 = 1;
const MASQUERADE_FULLY_RANDOM: u32 = 0x10;
const REJECT_ICMP: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
const ICMP_PORT_UNREACHABLE: u8 = 3;
const ICMP6_PORT_UNREACHABLE: u8 = 4;
const INTERFACE_NAME_BYTES: usize = 16;

const LIST_ELEMENT: u16 = 1;

/// The expression list of a rule.
pub(crate) fn rule(rule: &Rule, family: Family) -> Attributes {
    let mut writer = Writer {
        family,
        list: Attributes::new(),
    };
    for statement in &rule.statements {
        writer.statement(statement);
    }
    writer.list
}

struct Writer {
    family: Family,
    list: Attributes,
}

impl Writer {
    fn push(&mut self, name: &str, data: Attributes) {
        let expression = Attributes::new().text(1, name).nested(2, &data);
        let list = std::mem::take(&mut self.list);
        self.list = list.nested(LIST_ELEMENT, &expression);
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match(condition) => self.condition(condition),
            Statement::VerdictMap { selector, map } => {
                self.load(*selector);
                self.lookup(map, KEY, Some(VERDICT));
            }
            Statement::SetMark(bits) => self.write_mark(*bits, *bits),
            Statement::ClearMark(bits) => self.write_mark(*bits, 0),
            Statement::Masquerade => {
                self.push("masq", Attributes::new().u32(1, MASQUERADE_FULLY_RANDOM));
            }
            Statement::Dnat(dnat) => self.dnat(dnat),
            Statement::Reject(how) => self.reject(*how),
            Statement::Verdict(verdict) => {
                let data = Attributes::new()
                    .u32(1, VERDICT)
                    .nested(2, &verdict_attributes(verdict));
                self.push("immediate", data);
            }
        }
    }

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::CtNew => self.ct_bits(CT_STATE, CT_STATE_NEW),
            Match::CtDnat => self.ct_bits(CT_STATUS, CT_STATUS_DNAT),
            Match::Mark(bits, presence) => {
                self.meta(META_MARK, SCRATCH);
                self.mask(SCRATCH, &bits.to_ne_bytes(), &[0; 4]);
                let operator = if *presence == Presence::In { CMP_NEQ } else { CMP_EQ };
                self.compare(SCRATCH, operator, &[0; 4]);
            }
            Match::InSet(selector, set, presence) => {
                self.load(*selector);
                let mut data = Attributes::new().text(1, set).u32(2, KEY);
                if *presence == Presence::NotIn {
                    data = data.u32(5, LOOKUP_INVERT);
                }
                self.push("lookup", data);
            }
            Match::Cidr(side, net, presence) => self.cidr(*side, *net, *presence),
            Match::Local(side) => {
                let flag = if *side == Side::Source { FIB_SADDR } else { FIB_DADDR };
                let data = Attributes::new()
                    .u32(1, SCRATCH)
                    .u32(2, FIB_RESULT_ADDRTYPE)
                    .u32(3, flag);
                self.push("fib", data);
                self.compare(SCRATCH, CMP_EQ, &RTN_LOCAL.to_ne_bytes());
            }
            Match::Interface(direction, name, presence) => {
                let key = if *direction == Direction::In {
                    META_IIFNAME
                } else {
                    META_OIFNAME
                };
                self.meta(key, KEY);
                let mut padded = name.as_bytes().to_vec();
                padded.resize(INTERFACE_NAME_BYTES, 0);
                self.compare(KEY, equality(*presence), &padded);
            }
            Match::Proto(protocol) => self.protocol(*protocol),
        }
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.meta(META_L4PROTO, SCRATCH);
        self.compare(SCRATCH, CMP_EQ, &[protocol.number()]);
    }

    fn ct_bits(&mut self, key: u32, bits: u32) {
        self.push("ct", Attributes::new().u32(1, SCRATCH).u32(2, key));
        self.mask(SCRATCH, &bits.to_ne_bytes(), &[0; 4]);
        self.compare(SCRATCH, CMP_NEQ, &[0; 4]);
    }

    fn cidr(&mut self, side: Side, net: ipnet::IpNet, presence: Presence) {
        let address = address_value(net.network());
        self.address(side, KEY);
        if net.prefix_len() < net.max_prefix_len() {
            let netmask: IpAddr = net.netmask();
            self.mask(KEY, &address_value(netmask), &vec![0; address.len()]);
        }
        self.compare(KEY, equality(presence), &address);
    }

    /// Loads a key into the registers from [`KEY`] up.
    fn load(&mut self, selector: Selector) {
        let after_address = KEY + address_bytes(self.family) / 4;
        match selector {
            Selector::Source => self.address(Side::Source, KEY),
            Selector::Dest => self.address(Side::Dest, KEY),
            Selector::SourceDest => {
                self.address(Side::Source, KEY);
                self.address(Side::Dest, after_address);
            }
            Selector::DestProtoPort => {
                self.address(Side::Dest, KEY);
                self.proto_port(after_address);
            }
            Selector::ProtoPort => self.proto_port(KEY),
        }
    }

    fn address(&mut self, side: Side, register: u32) {
        let offset = match (self.family, side) {
            (Family::Ip4, Side::Source) => 12,
            (Family::Ip4, Side::Dest) => 16,
            (Family::Ip6, Side::Source) => 8,
            (Family::Ip6, Side::Dest) => 24,
        };
        self.payload(register, BASE_NETWORK, offset, address_bytes(self.family));
    }

    fn proto_port(&mut self, register: u32) {
        self.meta(META_L4PROTO, register);
        self.payload(register + 1, BASE_TRANSPORT, DEST_PORT_OFFSET, 2);
    }

    fn payload(&mut self, register: u32, base: u32, offset: u32, length: u32) {
        let data = Attributes::new()
            .u32(1, register)
            .u32(2, base)
            .u32(3, offset)
            .u32(4, length);
        self.push("payload", data);
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.push("meta", Attributes::new().u32(1, register).u32(2, key));
    }

    fn compare(&mut self, register: u32, operator: u32, value: &[u8]) {
        let data = Attributes::new().u32(1, register).u32(2, operator);
        self.push("cmp", data.nested(3, &value_attributes(value)));
    }

    fn mask(&mut self, register: u32, mask: &[u8], xor: &[u8]) {
        let length = u32::try_from(mask.len()).expect("at most 16 bytes");
        let data = Attributes::new()
            .u32(1, register)
            .u32(2, register)
            .u32(3, length)
            .nested(4, &value_attributes(mask))
            .nested(5, &value_attributes(xor));
        self.push("bitwise", data);
    }

    fn write_mark(&mut self, clear: u32, set: u32) {
        self.meta(META_MARK, SCRATCH);
        self.mask(SCRATCH, &(!clear).to_ne_bytes(), &set.to_ne_bytes());
        self.push("meta", Attributes::new().u32(2, META_MARK).u32(3, SCRATCH));
    }

    fn lookup(&mut self, set: &str, key: u32, result: Option<u32>) {
        let mut data = Attributes::new().text(1, set).u32(2, key);
        if let Some(register) = result {
            data = data.u32(3, register);
        }
        self.push("lookup", data);
    }

    fn dnat(&mut self, dnat: &Dnat) {
        let found = match dnat {
            Dnat::Balanced {
                number,
                map,
                modulus,
                remember,
            } => {
                self.number(*number, KEY);
                let data = Attributes::new()
                    .u32(1, AFTER_NUMBER)
                    .u32(2, *modulus)
                    .u32(3, NUMGEN_RANDOM);
                self.push("numgen", data);
                match remember {
                    Some(sticky) => {
                        let found = self.find_to_keep(map);
                        self.address(Side::Source, AFTER_NUMBER);
                        self.remember(sticky);
                        found
                    }
                    None => self.find(map),
                }
            }
            Dnat::Remembered {
                number,
                sticky,
                members,
            } => {
                self.number(*number, KEY);
                self.address(Side::Source, AFTER_NUMBER);
                let found = self.find_to_keep(&sticky.map);
                // A member is the number followed by the endpoint.
                self.number(*number, BEFORE_ENDPOINT);
                self.lookup(members, BEFORE_ENDPOINT, None);
                self.remember(sticky);
                found
            }
            Dnat::Lookup { selector, map } => {
                self.load(*selector);
                self.find(map)
            }
        };
        let family = match self.family {
            Family::Ip4 => nix::libc::NFPROTO_IPV4,
            Family::Ip6 => nix::libc::NFPROTO_IPV6,
        };
        let port = found + address_bytes(self.family) / 4;
        let data = Attributes::new()
            .u32(1, NAT_DNAT)
            .u32(2, u32::try_from(family).expect("a small constant"))
            .u32(3, found)
            .u32(5, port);
        self.push("nat", data);
    }

    /// A balancing chain's number. A constant has no type, and nft would say so; this is of the type of marks.
    fn number(&mut self, number: u64, register: u32) {
        let bytes = number_value(number);
        for (register, half) in (register..).zip(bytes.chunks(4)) {
            self.meta(META_MARK, register);
            self.mask(register, &[0; 4], half);
        }
    }

    fn find(&mut self, map: &str) -> u32 {
        self.lookup(map, KEY, Some(ENDPOINT));
        ENDPOINT
    }

    /// Finds an endpoint for the key and copies it to where it can be a part of other keys; answers where the original is.
    ///
    /// nft (1.0) ends itself when a part of a key, or of a value to be stored, is what a map gave, which has no length to
    /// it. It takes such a part for whatever was put into the very register before. So those are filled with something
    /// that it can name; the copy begins one register earlier, so that it does not see what is copied. IPv6 addresses are
    /// too wide for that, and for a listing.
    fn find_to_keep(&mut self, map: &str) -> u32 {
        if self.family == Family::Ip6 {
            self.lookup(map, KEY, Some(ENDPOINT));
            return ENDPOINT;
        }
        self.address(Side::Source, FOUND - 1);
        self.address(Side::Dest, ENDPOINT);
        self.payload(ENDPOINT + 1, BASE_TRANSPORT, DEST_PORT_OFFSET, 2);
        self.lookup(map, KEY, Some(FOUND));
        let copy = Attributes::new()
            .u32(1, FOUND - 1)
            .u32(2, ENDPOINT - 1)
            .u32(3, 12)
            .nested(4, &value_attributes(&[0xff; 12]))
            .nested(5, &value_attributes(&[0; 12]));
        self.push("bitwise", copy);
        FOUND
    }

    /// Stores the endpoint for the client in [`KEY`], or renews its timeout.
    fn remember(&mut self, sticky: &Sticky) {
        let data = Attributes::new()
            .text(1, &sticky.map)
            .u32(3, DYNSET_UPDATE)
            .u32(4, KEY)
            .u32(5, ENDPOINT)
            .u64(6, milliseconds(sticky.timeout));
        self.push("dynset", data);
    }

    fn reject(&mut self, how: Reject) {
        let data = match (how, self.family) {
            (Reject::TcpReset, _) => Attributes::new().u32(1, REJECT_TCP_RESET),
            (Reject::PortUnreachable, Family::Ip4) => {
                Attributes::new().u32(1, REJECT_ICMP).u8(2, ICMP_PORT_UNREACHABLE)
            }
            (Reject::PortUnreachable, Family::Ip6) => {
                Attributes::new().u32(1, REJECT_ICMP).u8(2, ICMP6_PORT_UNREACHABLE)
            }
        };
        self.push("reject", data);
    }
}

fn equality(presence: Presence) -> u32 {
    if presence == Presence::In { CMP_EQ } else { CMP_NEQ }
}

fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}
