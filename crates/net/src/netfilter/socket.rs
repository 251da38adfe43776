//! A NETLINK_NETFILTER socket and the framing of its messages.
//!
//! netlink requests are carried out within `send`: when it returns, every answer is already in the
//! receive buffer. So nothing here waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::sys::{Socket as RawSocket, protocols::NETLINK_NETFILTER};

use super::NetfilterError;
use super::attribute::Reader;

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// Multicast group that reports every change of nf_tables.
const GROUP_NFTABLES: u32 = 7;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// nfgenmsg, which starts every netfilter message's payload.
const FAMILY_HEADER: usize = 4;
const RECEIVE_BYTES: usize = 256 << 10;
const SOCKET_BYTES: usize = 8 << 20;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One received message.
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    /// Netlink port of who caused it.
    pub port: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Attributes after the netfilter header.
    pub fn attributes(&self) -> Reader<'a> {
        Reader(self.payload.get(FAMILY_HEADER..).unwrap_or_default())
    }

    pub fn done(&self) -> bool {
        self.kind == NLMSG_DONE
    }

    /// The answer to a request: `Ok` is an acknowledgement.
    pub fn answer(&self) -> Option<Result<(), Refusal>> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        if code == 0 {
            return Some(Ok(()));
        }
        // With CAP_ACK the failed request's header alone follows, then the attributes.
        let said = Reader(self.payload.get(4 + HEADER..).unwrap_or_default());
        Some(Err(Refusal {
            source: io::Error::from_raw_os_error(code.saturating_neg()),
            detail: said.text(NLMSGERR_ATTR_MSG).map(str::to_owned),
        }))
    }
}

/// The kernel's "no".
#[derive(Debug)]
pub(crate) struct Refusal {
    pub source: io::Error,
    pub detail: Option<String>,
}

/// Splits a datagram into messages, ending at the first that does not fit.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<HEADER>()?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = usize::try_from(word(0)).ok()?;
        let payload = rest.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind,
            sequence: word(8),
            port: word(12),
            payload,
        })
    })
}

/// Appends one message.
pub(crate) fn write_message(
    buffer: &mut Vec<u8>,
    (kind, flags): (u16, u16),
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &[u8],
) {
    let length =
        u32::try_from(HEADER + FAMILY_HEADER + attributes.len()).expect("attributes are bounded by 16-bit lengths");
    buffer.extend_from_slice(&length.to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&0u32.to_ne_bytes());
    buffer.extend_from_slice(&[family, 0]);
    buffer.extend_from_slice(&resource.to_be_bytes());
    buffer.extend_from_slice(attributes);
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// What a read gave.
pub(crate) enum Received {
    Datagram,
    /// Nothing more.
    Empty,
    /// The kernel dropped messages because the buffer was full.
    Lost,
}

pub(crate) struct Socket {
    raw: RawSocket,
    port: u32,
    sequence: u32,
    send_bytes: usize,
    /// The datagram of the last [`Received::Datagram`].
    pub buffer: Vec<u8>,
}

impl Socket {
    /// A socket for requests.
    pub fn open() -> Result<Self, NetfilterError> {
        let mut raw = RawSocket::new(NETLINK_NETFILTER).map_err(NetfilterError::Open)?;
        let address = raw.bind_auto().map_err(NetfilterError::Open)?;
        raw.set_non_blocking(true).map_err(NetfilterError::Open)?;
        raw.set_cap_ack(true).map_err(NetfilterError::Open)?;
        raw.set_ext_ack(true).map_err(NetfilterError::Open)?;
        // Without CAP_NET_ADMIN over the initial namespace the default buffer has to do.
        let _ = setsockopt(&raw, sockopt::RcvBufForce, &SOCKET_BYTES);
        Ok(Socket {
            raw,
            port: address.port_number(),
            sequence: 0,
            send_bytes: 0,
            buffer: Vec::with_capacity(RECEIVE_BYTES),
        })
    }

    /// A socket that hears of every change of nf_tables.
    pub fn listen() -> Result<Self, NetfilterError> {
        let socket = Socket::open()?;
        socket
            .raw
            .add_membership(GROUP_NFTABLES)
            .map_err(NetfilterError::Open)?;
        Ok(socket)
    }

    /// The netlink port: changes made through this socket carry it.
    pub fn port(&self) -> u32 {
        self.port
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }

    /// The first of `count` fresh sequence numbers.
    pub fn sequences(&mut self, count: u32) -> u32 {
        // 0 is skipped: the kernel uses it for its own messages.
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    pub fn send(&mut self, request: &[u8]) -> Result<(), NetfilterError> {
        let needed = request.len().saturating_mul(2);
        if needed > self.send_bytes.max(64 << 10) {
            let _ = setsockopt(&self.raw, sockopt::SndBufForce, &needed);
            self.send_bytes = needed;
        }
        loop {
            match self.raw.send(request, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetfilterError::Send(error)),
            }
        }
    }

    /// Reads the next datagram into `buffer`, if there is one.
    pub fn receive(&mut self) -> Result<Received, NetfilterError> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(RECEIVE_BYTES);
            match self.raw.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(Received::Datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Empty);
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    return Ok(Received::Lost);
                }
                Err(error) => return Err(NetfilterError::Receive(error)),
            }
        }
    }

    /// Sends a dump request and hands every listed message's attributes to `each`.
    ///
    /// A dump that a concurrent change interrupted is what it is: callers compare and look again.
    pub fn dump(
        &mut self,
        what: &'static str,
        kind: u16,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(Reader<'_>),
    ) -> Result<(), NetfilterError> {
        let sequence = self.sequences(1);
        let mut request = Vec::new();
        write_message(&mut request, (kind, REQUEST | DUMP), sequence, (family, 0), attributes);
        self.send(&request)?;
        loop {
            match self.receive()? {
                Received::Datagram => {}
                Received::Empty => return Ok(()),
                Received::Lost => {
                    let source = io::Error::from_raw_os_error(nix::libc::ENOBUFS);
                    return Err(NetfilterError::Receive(source));
                }
            }
            for message in messages(&self.buffer).filter(|m| m.sequence == sequence) {
                if message.done() {
                    return Ok(());
                }
                match message.answer() {
                    Some(Ok(())) => return Ok(()),
                    Some(Err(no)) => {
                        return Err(NetfilterError::Dump {
                            what,
                            source: no.source,
                        });
                    }
                    None => each(message.attributes()),
                }
            }
        }
    }
}
