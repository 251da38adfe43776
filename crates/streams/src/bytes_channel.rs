//! The two ends of one byte stream of a session.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use crate::StreamError;
use crate::connection::Outgoing;

/// Chunks a receiver may lag behind before the connection stops reading.
pub(crate) const DEPTH: usize = 32;

/// The reading end: chunks as they came, or an [`AsyncRead`]. Ends when the peer closes the stream.
#[derive(Debug)]
pub struct ByteReceiver {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl ByteReceiver {
    pub(crate) fn new() -> (mpsc::Sender<Bytes>, ByteReceiver) {
        let (sender, chunks) = mpsc::channel(DEPTH);
        (
            sender,
            ByteReceiver {
                chunks,
                current: Bytes::new(),
            },
        )
    }

    /// The next chunk, or `None` at the end. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Bytes> {
        if self.current.is_empty() {
            self.chunks.recv().await
        } else {
            Some(std::mem::take(&mut self.current))
        }
    }
}

impl AsyncRead for ByteReceiver {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match self.chunks.poll_recv(cx) {
                Poll::Ready(Some(chunk)) => self.current = chunk,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let count = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..count]);
        self.current.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// The writing end. Dropping it leaves the stream open: [`ByteSender::finish`] closes it.
#[derive(Debug, Clone)]
pub struct ByteSender {
    stream: u32,
    outgoing: mpsc::Sender<Outgoing>,
}

impl ByteSender {
    pub(crate) fn new(stream: u32, outgoing: mpsc::Sender<Outgoing>) -> ByteSender {
        ByteSender { stream, outgoing }
    }

    /// Writes a chunk; waits while the connection is busy. Cancel-safe: sent whole or not at all.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&self, data: Bytes) -> Result<(), StreamError> {
        self.push(data, false).await
    }

    /// Closes this direction of the stream.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn finish(&self) -> Result<(), StreamError> {
        self.push(Bytes::new(), true).await
    }

    /// Writes all that `source` yields, then closes this direction.
    ///
    /// # Errors
    /// When reading fails or the connection is gone.
    pub async fn send_all(&self, source: &mut (impl AsyncRead + Unpin)) -> Result<(), StreamError> {
        use tokio::io::AsyncReadExt;
        let mut buffer = bytes::BytesMut::with_capacity(32 * 1024);
        loop {
            buffer.reserve(16 * 1024);
            if source.read_buf(&mut buffer).await? == 0 {
                return self.finish().await;
            }
            self.send(buffer.split().freeze()).await?;
        }
    }

    async fn push(&self, data: Bytes, last: bool) -> Result<(), StreamError> {
        let message = Outgoing::Data {
            stream: self.stream,
            data,
            last,
        };
        self.outgoing.send(message).await.map_err(|_| StreamError::Closed)
    }
}
