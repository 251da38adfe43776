//! A WebSocket on which only the server has something to say: watches.

use bytes::Bytes;
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocketWrite};
use http::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::StreamError;
use crate::upgrade::is_upgrade;

/// Clients send nothing but control frames.
const LONGEST_FROM_CLIENT: usize = 64 * 1024;

/// Whether the request asks for a WebSocket.
#[must_use]
pub fn is_web_socket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    is_upgrade(headers) && upgrade.is_some_and(|name| name.eq_ignore_ascii_case("websocket"))
}

/// A WebSocket whose handshake was answered.
pub struct Pending(fastwebsockets::upgrade::UpgradeFut);

/// The answer to a WebSocket handshake. The first subprotocol that the client offers is taken, as it
/// changes nothing in what is sent.
///
/// # Errors
/// [`StreamError::BadRequest`] if it is no handshake.
pub fn accept(headers: &HeaderMap, upgrade: OnUpgrade) -> Result<(Response<()>, Pending), StreamError> {
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    request.extensions_mut().insert(upgrade);
    let (response, upgrade) =
        fastwebsockets::upgrade::upgrade(&mut request).map_err(|error| StreamError::BadRequest(error.to_string()))?;
    let mut response = response.map(|_| ());
    let offered = headers
        .get(SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok());
    let first = offered.and_then(|list| list.split(',').next()).map(str::trim);
    if let Some(Ok(value)) = first.filter(|name| !name.is_empty()).map(HeaderValue::from_str) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok((response, Pending(upgrade)))
}

/// The sending end.
pub struct Messages {
    write: WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>,
    /// Payloads of the client's pings; closed when the client is gone.
    pings: mpsc::Receiver<Bytes>,
    reader: tokio::task::JoinHandle<()>,
}

impl Pending {
    /// Waits until the answer has been sent.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] if the connection broke off.
    pub async fn start(self) -> Result<Messages, StreamError> {
        let socket = self
            .0
            .await
            .map_err(|error| StreamError::Protocol(error.to_string()))?
            .into_inner();
        let (read, write) = tokio::io::split(socket);
        let (mut read, write) = fastwebsockets::after_handshake_split(read, write, Role::Server);
        read.set_max_message_size(LONGEST_FROM_CLIENT);
        read.set_auto_close(false);
        read.set_auto_pong(false);
        let (sender, pings) = mpsc::channel(4);
        let reader = tokio::spawn(read_until_closed(FragmentCollectorRead::new(read), sender));
        Ok(Messages { write, pings, reader })
    }
}

async fn read_until_closed(mut read: FragmentCollectorRead<ReadHalf<TokioIo<Upgraded>>>, pings: mpsc::Sender<Bytes>) {
    loop {
        let frame = read.read_frame::<_, StreamError>(&mut |_| async { Ok(()) }).await;
        match frame {
            Ok(frame) if frame.opcode == OpCode::Ping => {
                if pings.send(Bytes::copy_from_slice(&frame.payload)).await.is_err() {
                    return;
                }
            }
            Ok(frame) if frame.opcode != OpCode::Close => {}
            _ => return,
        }
    }
}

impl Messages {
    async fn send(&mut self, frame: Frame<'_>) -> Result<(), StreamError> {
        let broken = |error: fastwebsockets::WebSocketError| StreamError::Protocol(error.to_string());
        self.write.write_frame(frame).await.map_err(broken)?;
        self.write.flush().await.map_err(broken)
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`StreamError::Protocol`] if the connection broke off.
    pub async fn text(&mut self, content: &[u8]) -> Result<(), StreamError> {
        self.send(Frame::text(Payload::Borrowed(content))).await
    }

    /// Sends a binary message; errors as [`Messages::text`].
    ///
    /// # Errors
    /// [`StreamError::Protocol`] if the connection broke off.
    pub async fn binary(&mut self, content: &[u8]) -> Result<(), StreamError> {
        self.send(Frame::binary(Payload::Borrowed(content))).await
    }

    /// Answers the client's pings until it is gone. Cancel-safe.
    pub async fn closed(&mut self) {
        while let Some(payload) = self.pings.recv().await {
            if self.send(Frame::pong(Payload::Owned(payload.to_vec()))).await.is_err() {
                return;
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = self.send(Frame::close(1000, b"")).await;
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
