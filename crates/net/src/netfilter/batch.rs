//! `proxy::Changes` as one nf_tables transaction.
//!
//! Only the last operation asks for an acknowledgement; failures are always reported. A batch with
//! tens of thousands of operations therefore needs no larger receive buffer than a small one.

use proxy::{Change, Changes, Data, DataType, Family, Hook, Key, SetMode, TableId};

use super::attribute::Attributes;
use super::key::{Layout, data_attributes, data_layout, key_layout, key_value, value_attributes};
use super::socket::{ACK, APPEND, CREATE, REQUEST, Received, Refusal, Socket, messages, write_message};
use super::{NetfilterError, expression};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DEL_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const DEL_SET: u16 = SUBSYSTEM | 11;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DEL_ELEMENT: u16 = SUBSYSTEM | 14;

const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const SET_CONCAT: u32 = 0x80;
/// Clients an affinity map remembers; later ones are balanced without memory.
const DYNAMIC_SET_SIZE: u32 = 32_768;

/// A balancing chain's number in a key.
const NUMBER_BYTES: usize = 8;

/// Keeps an element list far below the 64 KiB of a netlink attribute.
const ELEMENTS_A_MESSAGE: usize = 200;

/// An element that packets had put into a map, to be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Learned {
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    pub timeout: u64,
    pub expires: u64,
}

impl Learned {
    /// The member that must exist for the choice to be followed: the number that the client's key
    /// starts with, then the endpoint.
    pub fn member(&self) -> Vec<u8> {
        let mut bytes = self.key.get(..NUMBER_BYTES).unwrap_or_default().to_vec();
        bytes.extend_from_slice(&self.data);
        bytes
    }
}

/// A transaction being written.
pub(crate) struct Batch<'a> {
    buffer: Vec<u8>,
    /// The change that each message belongs to, by sequence number from `first`.
    origins: Vec<Origin<'a>>,
    first: u32,
    set_id: u32,
    /// Where the last operation's flags are.
    last_flags: usize,
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    Change(&'a Change<'a>),
    Learned(&'a str),
    Table(&'a TableId),
}

/// nfgenmsg's family number.
pub(crate) fn family_number(family: Family) -> u8 {
    match family {
        Family::Ip4 => 2,
        Family::Ip6 => 10,
    }
}

impl<'a> Batch<'a> {
    pub fn new() -> Self {
        let mut buffer = Vec::new();
        write_message(&mut buffer, (BATCH_BEGIN, REQUEST), 0, (0, 10), &[]);
        Batch {
            buffer,
            origins: Vec::new(),
            first: 1,
            set_id: 0,
            last_flags: 0,
        }
    }

    pub fn of(changes: &'a Changes<'a>) -> Self {
        let mut batch = Batch::new();
        for change in &changes.operations {
            batch.change(change);
        }
        batch
    }

    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    fn operation(&mut self, origin: Origin<'a>, kind: u16, flags: u16, table: &TableId, a: Attributes) {
        // Relative for now: `commit` moves the whole batch to fresh sequence numbers.
        let sequence = u32::try_from(self.origins.len()).expect("fewer operations than 2^32");
        self.origins.push(origin);
        self.last_flags = self.buffer.len() + 6;
        let family = (family_number(table.family), 0);
        write_message(&mut self.buffer, (kind, REQUEST | flags), sequence, family, &a.0);
    }

    /// Removes a table if it is there.
    pub fn remove_table(&mut self, table: &'a TableId) {
        // "Create if missing, then delete" cannot fail, whether it was there or not.
        let origin = Origin::Table(table);
        self.operation(origin, NEW_TABLE, CREATE, table, Attributes::new().text(1, &table.name));
        self.operation(origin, DEL_TABLE, 0, table, Attributes::new().text(1, &table.name));
    }

    fn change(&mut self, change: &'a Change<'a>) {
        let origin = Origin::Change(change);
        let named = |table: &TableId| Attributes::new().text(1, &table.name);
        match change {
            Change::ReplaceTable(table) => {
                self.operation(origin, NEW_TABLE, CREATE, table, named(table));
                self.operation(origin, DEL_TABLE, 0, table, named(table));
                self.operation(origin, NEW_TABLE, CREATE, table, named(table));
            }
            Change::RemoveTable(table) => self.remove_table(table),
            Change::AddSet(table, name, set) => {
                let attributes = self.set(named(table).text(2, name), set, table.family);
                self.operation(origin, NEW_SET, CREATE, table, attributes);
            }
            Change::AddChain(table, name, base) => {
                let mut attributes = named(table).text(3, name);
                if let Some(base) = base {
                    let hook = Attributes::new()
                        .u32(1, hook_number(base.hook))
                        .raw(2, &base.priority.to_be_bytes());
                    let kind = match base.kind {
                        proxy::ChainKind::Filter => "filter",
                        proxy::ChainKind::Nat => "nat",
                    };
                    attributes = attributes.nested(4, &hook).u32(5, 1).text(7, kind);
                }
                self.operation(origin, NEW_CHAIN, CREATE, table, attributes);
            }
            Change::FlushChain(table, name) => {
                self.operation(origin, DEL_RULE, 0, table, named(table).text(2, name));
            }
            Change::AddRules(table, name, rules) => {
                for rule in *rules {
                    let expressions = expression::rule(rule, table.family);
                    let attributes = named(table)
                        .text(2, name)
                        .nested(4, &expressions)
                        .raw(7, &rule_comment(&expressions));
                    self.operation(origin, NEW_RULE, CREATE | APPEND, table, attributes);
                }
            }
            Change::AddElements(table, name, _, elements) => {
                let listed = elements.iter().map(|(key, data)| element(key, Some(*data)));
                self.elements(origin, NEW_ELEMENT, table, name, listed);
            }
            Change::RemoveElements(table, name, _, elements) => {
                let listed = elements.iter().map(|(key, _)| element(key, None));
                self.elements(origin, DEL_ELEMENT, table, name, listed);
            }
            Change::RemoveChain(table, name) => {
                self.operation(origin, DEL_CHAIN, 0, table, named(table).text(3, name));
            }
            Change::RemoveSet(table, name) => {
                self.operation(origin, DEL_SET, 0, table, named(table).text(2, name));
            }
        }
    }

    fn set(&mut self, attributes: Attributes, set: &proxy::Set, family: Family) -> Attributes {
        let key = key_layout(set.key, family);
        let data = data_layout(set.data, family);
        let mut flags = 0;
        if data.is_some() {
            flags |= SET_MAP;
        }
        if key.fields.len() > 1 {
            flags |= SET_CONCAT;
        }
        if set.mode == SetMode::Dynamic {
            flags |= SET_TIMEOUT | SET_EVAL;
        }
        let mut attributes = attributes.u32(3, flags).u32(4, key.kind).u32(5, key.length());
        if let Some(data) = data {
            attributes = attributes.u32(6, data.kind).u32(7, data.length());
        }
        self.set_id += 1;
        attributes.nested(9, &set_description(set, &key)).u32(10, self.set_id)
    }

    fn elements(
        &mut self,
        origin: Origin<'a>,
        kind: u16,
        table: &TableId,
        set: &str,
        elements: impl Iterator<Item = Attributes>,
    ) {
        let flags = if kind == NEW_ELEMENT { CREATE } else { 0 };
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let mut list = Attributes::new();
            for element in elements.by_ref().take(ELEMENTS_A_MESSAGE) {
                list = list.nested(1, &element);
            }
            let attributes = Attributes::new().text(1, &table.name).text(2, set).nested(3, &list);
            self.operation(origin, kind, flags, table, attributes);
        }
    }

    /// Puts back what packets had taught a map.
    pub fn restore(&mut self, table: &TableId, set: &'a str, learned: &[Learned]) {
        let listed = learned.iter().map(|element| {
            Attributes::new()
                .nested(1, &value_attributes(&element.key))
                .nested(2, &value_attributes(&element.data))
                .u64(4, element.timeout)
                .u64(5, element.expires)
        });
        self.elements(Origin::Learned(set), NEW_ELEMENT, table, set, listed);
    }

    /// Removes elements of a map that packets fill.
    pub fn forget(&mut self, table: &TableId, set: &'a str, keys: &[Vec<u8>]) {
        let listed = keys
            .iter()
            .map(|key| Attributes::new().nested(1, &value_attributes(key)));
        self.elements(Origin::Learned(set), DEL_ELEMENT, table, set, listed);
    }

    /// Carries out all operations or, with an error, none.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetfilterError> {
        if self.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(self.origins.len()).expect("fewer operations than 2^32");
        let begin = socket.sequences(count + 2);
        self.first = begin + 1;
        let flags = REQUEST | ACK | {
            let at = self.last_flags;
            u16::from_ne_bytes([self.buffer[at], self.buffer[at + 1]])
        };
        self.buffer[self.last_flags..self.last_flags + 2].copy_from_slice(&flags.to_ne_bytes());
        self.renumber(begin);
        let end = (BATCH_END, REQUEST);
        write_message(&mut self.buffer, end, self.first + count, (0, 10), &[]);
        socket.send(&self.buffer)?;
        self.result(socket, begin)
    }

    /// Message 0 is the batch's begin, operation `i` has sequence number `i` so far.
    fn renumber(&mut self, begin: u32) {
        let (mut at, mut next) = (0, begin);
        while let Some(header) = self.buffer.get(at..at + 4) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            self.buffer[at + 8..at + 12].copy_from_slice(&next.to_ne_bytes());
            next += 1;
            at += usize::try_from(length).expect("we wrote it").next_multiple_of(4);
        }
    }

    fn result(&self, socket: &mut Socket, begin: u32) -> Result<(), NetfilterError> {
        let mut refused: Option<NetfilterError> = None;
        let mut acknowledged = false;
        loop {
            match socket.receive()? {
                Received::Datagram => {}
                Received::Empty => break,
                // Only failures can be so many.
                Received::Lost => continue,
            }
            for message in messages(&socket.buffer).filter(|m| m.sequence >= begin) {
                match message.answer() {
                    Some(Ok(())) => acknowledged = true,
                    Some(Err(no)) if refused.is_none() => {
                        refused = Some(self.refusal(message.sequence, no));
                    }
                    _ => {}
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(NetfilterError::Receive(std::io::Error::from_raw_os_error(
                nix::libc::ENOBUFS,
            ))),
        }
    }

    fn refusal(&self, sequence: u32, no: Refusal) -> NetfilterError {
        let index = sequence.checked_sub(self.first).and_then(|i| usize::try_from(i).ok());
        let origin = index.and_then(|index| self.origins.get(index));
        let (operation, hint) = match origin {
            Some(origin) => describe(*origin),
            None => ("commit the packet filter rules".to_owned(), HINT_TABLES),
        };
        let detail = no.detail.map(|said| format!(" (it says: {said})")).unwrap_or_default();
        NetfilterError::Refused {
            operation,
            detail,
            hint,
            source: no.source,
        }
    }
}

const HINT_TABLES: &str = "it needs root and nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4)";
const HINT_NAT: &str = "NAT chains need CONFIG_NFT_NAT, CONFIG_NF_NAT and CONFIG_NF_CONNTRACK (modprobe nft_chain_nat)";
const HINT_RULE: &str = "rules need the nf_tables expressions nat, masq, ct, fib, numgen and reject \
     (modprobe -a nft_nat nft_masq nft_ct nft_fib_ipv4 nft_numgen nft_reject_ipv4)";

fn describe(origin: Origin<'_>) -> (String, &'static str) {
    let change = match origin {
        Origin::Change(change) => change,
        Origin::Learned(set) => return (format!("write elements of map {set}"), HINT_TABLES),
        Origin::Table(table) => return (format!("remove table {}", table.name), HINT_TABLES),
    };
    match change {
        Change::ReplaceTable(table) => (format!("make table {}", table.name), HINT_TABLES),
        Change::RemoveTable(table) => (format!("remove table {}", table.name), HINT_TABLES),
        Change::AddSet(_, name, _) => (format!("make set {name}"), HINT_TABLES),
        Change::AddChain(_, name, Some(base)) if base.kind == proxy::ChainKind::Nat => {
            (format!("make NAT chain {name}"), HINT_NAT)
        }
        Change::AddChain(_, name, _) => (format!("make chain {name}"), HINT_TABLES),
        Change::FlushChain(_, name) => (format!("empty chain {name}"), HINT_TABLES),
        Change::RemoveElements(_, name, ..) => (format!("remove elements of {name}"), HINT_TABLES),
        Change::AddRules(_, name, _) => (format!("add rules to chain {name}"), HINT_RULE),
        Change::AddElements(_, name, ..) => (format!("add elements to {name}"), HINT_TABLES),
        Change::RemoveChain(_, name) => (format!("remove chain {name}"), HINT_TABLES),
        Change::RemoveSet(_, name) => (format!("remove set {name}"), HINT_TABLES),
    }
}

pub(crate) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn set_description(set: &proxy::Set, key: &Layout) -> Attributes {
    let mut description = Attributes::new();
    if set.mode == SetMode::Dynamic {
        description = description.u32(1, DYNAMIC_SET_SIZE);
    }
    if key.fields.len() > 1 {
        let mut fields = Attributes::new();
        for length in &key.fields {
            fields = fields.nested(1, &Attributes::new().u32(1, *length));
        }
        description = description.nested(2, &fields);
    }
    description
}

fn element(key: &Key, data: Option<&Data>) -> Attributes {
    let element = Attributes::new().nested(1, &value_attributes(&key_value(key)));
    match data.and_then(data_attributes) {
        Some(data) => element.nested(2, &data),
        None => element,
    }
}

/// A rule's user data: an nft comment that tells a rule of ours, unchanged, from any other.
pub(crate) fn rule_comment(expressions: &Attributes) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let text = format!("skiff {:016x}", fingerprint(&expressions.0));
    let mut data = vec![COMMENT, u8::try_from(text.len() + 1).expect("a short text")];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Whether map values of this type come from packets.
pub(crate) fn learns(set: &proxy::Set) -> bool {
    set.mode == SetMode::Dynamic && set.data == DataType::Endpoint
}
