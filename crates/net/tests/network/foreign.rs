//! What another program could do to the packet filter.

use rtnetlink::sys::{Socket, protocols::NETLINK_NETFILTER};

pub enum Change {
    DeleteTable,
    FlushChain(&'static str),
    FlushSet(&'static str),
    AddTable,
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len() + 5).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value.bytes().chain([0]));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(20 + attributes.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend([1u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

pub fn make(table: &str, change: Change) {
    const SUBSYSTEM: u16 = 10 << 8;
    let (kind, flags, object) = match change {
        Change::AddTable => (SUBSYSTEM, 0x400, Vec::new()),
        Change::DeleteTable => (SUBSYSTEM | 2, 0, Vec::new()),
        Change::FlushChain(name) => (SUBSYSTEM | 8, 0, text(2, name)),
        Change::FlushSet(name) => (SUBSYSTEM | 14, 0, text(2, name)),
    };
    let attributes = [text(1, table), object].concat();
    let mut batch = message(0x10, 1, 0, 10, &[]);
    batch.extend(message(kind, 1 | 4 | flags, 2, 0, &attributes));
    batch.extend(message(0x11, 1, 0, 10, &[]));
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.send(&batch, 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    assert_eq!(&answer[16..20], &[0; 4], "the kernel refused the foreign change");
}
