//! Frames on the wire (SPDY/3.1, section 2.2).

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::StreamError;

pub(super) const SYN_STREAM: u16 = 1;
pub(super) const SYN_REPLY: u16 = 2;
pub(super) const RST_STREAM: u16 = 3;
pub(super) const PING: u16 = 6;
pub(super) const GOAWAY: u16 = 7;

/// Flag of data, SYN_STREAM and SYN_REPLY frames: the sender's half of the stream is closed.
pub(super) const FIN: u8 = 1;

/// Data frames are split to this; larger ones from a peer are taken up to [`MAX_FRAME_BYTES`].
const MAX_DATA_BYTES: usize = 64 * 1024;
const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// A frame as read.
#[derive(Debug)]
pub(super) enum Frame {
    Control { kind: u16, flags: u8, body: Bytes },
    Data { stream: u32, flags: u8, body: Bytes },
}

/// Reads one frame; `None` at a clean end.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, StreamError> {
    let mut head = [0_u8; 8];
    match io.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(StreamError::Protocol(format!("frame of {length} bytes")));
    }
    let mut body = vec![0; length];
    io.read_exact(&mut body).await?;
    let body = Bytes::from(body);
    if word & 0x8000_0000 == 0 {
        return Ok(Some(Frame::Data {
            stream: word,
            flags,
            body,
        }));
    }
    let version = (word >> 16) & 0x7fff;
    if version != 3 {
        return Err(StreamError::Protocol(format!("SPDY version {version}")));
    }
    let kind = u16::try_from(word & 0xffff).expect("sixteen bits");
    Ok(Some(Frame::Control { kind, flags, body }))
}

/// The stream number at the head of a control frame's body, and the rest.
pub(super) fn stream_number(body: &Bytes) -> Result<(u32, Bytes), StreamError> {
    let head = body
        .first_chunk::<4>()
        .ok_or_else(|| StreamError::Protocol("control frame ends early".into()))?;
    Ok((u32::from_be_bytes(*head) & 0x7fff_ffff, body.slice(4..)))
}

pub(super) fn control(out: &mut BytesMut, kind: u16, flags: u8, body: &[&[u8]]) {
    let length: usize = body.iter().map(|part| part.len()).sum();
    out.put_u16(0x8003);
    out.put_u16(kind);
    out.put_u8(flags);
    out.put_uint(length as u64, 3);
    for part in body {
        out.put_slice(part);
    }
}

pub(super) fn data(out: &mut BytesMut, stream: u32, body: &[u8], last: bool) {
    let mut chunks = body.chunks(MAX_DATA_BYTES).peekable();
    if chunks.peek().is_none() {
        put_data(out, stream, &[], last);
    }
    while let Some(chunk) = chunks.next() {
        put_data(out, stream, chunk, last && chunks.peek().is_none());
    }
}

fn put_data(out: &mut BytesMut, stream: u32, body: &[u8], last: bool) {
    out.put_u32(stream & 0x7fff_ffff);
    out.put_u8(if last { FIN } else { 0 });
    out.put_uint(body.len() as u64, 3);
    out.put_slice(body);
}
