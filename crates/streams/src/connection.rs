//! What SPDY and WebSocket connections have in common: numbered byte streams over one socket.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bytes_channel::{ByteReceiver, ByteSender};

/// How long a closed connection waits for the peer to close its side, so that unread input does not
/// turn the close into a reset that destroys output in flight.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// An upgraded connection.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// A message for the task that writes the socket.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Bytes of a stream; `last` closes its direction.
    Data { stream: u32, data: Bytes, last: bool },
    /// SPDY: opens a stream with headers.
    Open { stream: u32, headers: Headers },
    /// SPDY: accepts a stream.
    Accept { stream: u32 },
    /// SPDY: answers a ping. WebSocket: a pong's payload.
    Pong(Bytes),
    /// Closes the connection after everything sent before.
    Close,
}

/// Stream headers, names in lower case.
pub(crate) type Headers = Vec<(String, String)>;

/// The first value of a header.
pub(crate) fn header<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// A byte stream of a connection, opened by either side.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the opener said of it; empty over WebSocket.
    pub headers: Headers,
    /// From the peer.
    pub receiver: ByteReceiver,
    /// To the peer.
    pub sender: ByteSender,
}

/// A running connection: two tasks that end when it is closed or dropped.
#[derive(Debug)]
pub struct Connection {
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    pub(crate) reader: JoinHandle<()>,
    pub(crate) writer: JoinHandle<()>,
}

impl Connection {
    /// Closes the connection after all that was written before has reached the socket, then waits a
    /// little for the peer's close.
    pub async fn close(mut self) {
        let _ = self.outgoing.send(Outgoing::Close).await;
        let _ = (&mut self.writer).await;
        let _ = tokio::time::timeout(LINGER, &mut self.reader).await;
    }

    /// Resolves when the peer has closed the connection.
    pub async fn closed(&mut self) {
        let _ = (&mut self.reader).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}
