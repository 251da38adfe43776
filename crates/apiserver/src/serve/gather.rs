//! What a connection has to send goes out together.
//!
//! HTTP/2 flushes after every frame of data. Here a flush waits until the connection has had its turn: then all that
//! its requests have said is encrypted in full records and handed to the kernel at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept back at most.
const MOST_BYTES: usize = 64 * 1024;
/// What is so long is not copied.
const LONG_BYTES: usize = 16 * 1024;
/// Room that is kept while there is nothing to send: most connections are idle.
const KEPT_BYTES: usize = 4 * 1024;

/// A stream whose writes are kept back until [`Gathered::poll_send`]. Its handles share it.
pub(super) struct Gathered<S>(Arc<Mutex<State<S>>>);

struct State<S> {
    stream: S,
    kept: BytesMut,
    /// Until the connection has ended; if it was upgraded, flushes are flushes again.
    gathers: bool,
    failed: Option<io::ErrorKind>,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Gathered(self.0.clone())
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        while !self.kept.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.kept))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.kept.advance(sent),
            }
        }
        self.kept.clear();
        if self.kept.capacity() > KEPT_BYTES {
            self.kept = BytesMut::new();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(super) fn new(stream: S) -> Gathered<S> {
        Gathered(Arc::new(Mutex::new(State {
            stream,
            kept: BytesMut::new(),
            gathers: true,
            failed: None,
        })))
    }

    /// Sends what was kept back, as far as the stream takes it; ready when nothing is left. Whoever writes next hears
    /// of a failure.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.failed.is_some() {
            return Poll::Ready(());
        }
        if let Err(error) = ready!(state.poll_send(context)) {
            state.failed = Some(error.kind());
            context.waker().wake_by_ref();
        }
        Poll::Ready(())
    }

    /// From now on nothing is kept back: what is written next is sent, after what was kept until now.
    pub(super) fn pass_through(&self) {
        self.0.lock().gathers = false;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.lock();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let direct = !state.gathers || length >= LONG_BYTES;
        if state.failed.is_some() || !state.kept.is_empty() && (direct || state.kept.len() + length > MOST_BYTES) {
            ready!(state.poll_send(context))?;
        }
        if direct {
            return Pin::new(&mut state.stream).poll_write_vectored(context, parts);
        }
        parts.iter().for_each(|part| state.kept.extend_from_slice(part));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        match state.gathers {
            true => Poll::Ready(Ok(())),
            false => state.poll_send(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        ready!(state.poll_send(context))?;
        Pin::new(&mut state.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn writes_go_out_together_and_in_order() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let gathered = Gathered::new(near);
        let mut writer = gathered.clone();
        writer.write_all(b"one ").await.unwrap();
        writer.flush().await.unwrap();
        writer.write_all(b"two ").await.unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut buffer = [0; 64];
        let mut unread = ReadBuf::new(&mut buffer);
        assert!(Pin::new(&mut far).poll_read(&mut context, &mut unread).is_pending());
        assert!(gathered.poll_send(&mut context).is_ready());
        assert_eq!(far.read(&mut buffer).await.unwrap(), 8);
        assert_eq!(&buffer[..8], b"one two ");

        let long = vec![b'x'; LONG_BYTES];
        writer.write_all(b"before ").await.unwrap();
        writer.write_all(&long).await.unwrap();
        gathered.pass_through();
        writer.write_all(b" after").await.unwrap();
        writer.flush().await.unwrap();
        let mut all = vec![0; 7 + LONG_BYTES + 6];
        far.read_exact(&mut all).await.unwrap();
        assert!(all.starts_with(b"before x") && all.ends_with(b"x after"));
    }

    #[tokio::test]
    async fn what_the_other_side_does_not_take_holds_up_the_writer() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut writer = Gathered::new(near);
        let part = vec![b'x'; LONG_BYTES - 1];
        let mut context = Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut writer).poll_write(&mut context, &part) {
            taken += written.unwrap();
        }
        assert!(taken <= MOST_BYTES);
        let mut buffer = vec![0; 64];
        assert_eq!(far.read(&mut buffer).await.unwrap(), 64);
        drop(far);
        assert!(writer.poll_send(&mut context).is_ready());
        assert!(writer.write_all(b"x").await.is_err(), "a failure is heard of");
    }
}
