//! Port-forward: for each forwarded connection a data and an error stream.
//!
//! Three wires carry it: SPDY/3.1 (streams with `port` and `requestID` headers), SPDY/3.1 tunnelled in
//! WebSocket messages (`SPDY/3.1+portforward.k8s.io`, what kubectl since 1.31 speaks), and plain
//! WebSocket channels, two a port named in the query. Upstream: kubelet
//! `pkg/cri/streaming/portforward`.

use std::collections::HashMap;

use bytes::Bytes;
use fastwebsockets::Role as WebSocketRole;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::StreamError;
use crate::bytes_channel::{ByteReceiver, ByteSender};
use crate::connection::{Connection, Socket, Stream, header};
use crate::spdy;
use crate::upgrade::{self, Supported, Upgrade, Wire};
use crate::websocket::{self, Coding};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const SUPPORTED: Supported = Supported {
    spdy: &["portforward.k8s.io"],
    websocket: &[
        TUNNEL,
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "portforward.k8s.io",
        "base64.portforward.k8s.io",
        "channel.k8s.io",
    ],
};

/// Streams of requests that were announced by only one of their two streams so far.
const MAX_HALF_OPEN: usize = 256;

/// What [`Client`] offers in its WebSocket handshake.
pub const CLIENT_PROTOCOLS: &[&str] = &[TUNNEL];

/// One connection to forward, or forwarded.
#[derive(Debug)]
pub struct Forward {
    /// The port inside the pod.
    pub port: u16,
    /// Bytes from the peer.
    pub receiver: ByteReceiver,
    /// Bytes to the peer.
    pub sender: ByteSender,
    error_sender: ByteSender,
    error_receiver: ByteReceiver,
}

impl Forward {
    /// Copies between the peer and `socket` until both directions are done.
    ///
    /// # Errors
    /// When either side breaks.
    pub async fn copy(self, socket: impl AsyncRead + AsyncWrite) -> Result<(), StreamError> {
        let (mut read, mut write) = tokio::io::split(socket);
        let Forward {
            mut receiver,
            sender,
            error_sender,
            error_receiver: _error_receiver,
            ..
        } = self;
        let to_socket = async {
            while let Some(chunk) = receiver.recv().await {
                write.write_all(&chunk).await?;
            }
            write.shutdown().await.or_else(|error| match error.kind() {
                std::io::ErrorKind::NotConnected => Ok(()),
                _ => Err(error),
            })?;
            Ok::<(), StreamError>(())
        };
        // Once the pod has closed, the client may go: it waits for the end of the error stream, and
        // only then closes its own side (client-go `portforward.handleConnection`).
        let from_socket = async {
            sender.send_all(&mut read).await?;
            error_sender.finish().await
        };
        let result = tokio::try_join!(from_socket, to_socket).map(|_| ());
        if result.is_err() {
            let _ = sender.finish().await;
            let _ = error_sender.finish().await;
        }
        result
    }

    /// Tells the peer why the connection could not be forwarded.
    pub async fn fail(self, message: &str) {
        let _ = self.error_sender.send(Bytes::from(message.to_owned())).await;
        let _ = self.error_sender.finish().await;
        let _ = self.sender.finish().await;
    }

    /// At the client: what the server says went wrong, or `None` when the connection ended well.
    pub async fn error(&mut self) -> Option<String> {
        let message = self.error_receiver.recv().await?;
        Some(String::from_utf8_lossy(&message).into_owned())
    }

    /// Splits off the error stream, so that it can be awaited beside [`Forward::copy`].
    #[must_use]
    pub fn take_error(&mut self) -> ErrorStream {
        let (_, empty) = ByteReceiver::new();
        ErrorStream(std::mem::replace(&mut self.error_receiver, empty))
    }
}

/// The error stream of a forwarded connection, at the client.
#[derive(Debug)]
pub struct ErrorStream(ByteReceiver);

impl ErrorStream {
    /// What the server says went wrong, or `None` when the connection ended well.
    pub async fn message(&mut self) -> Option<String> {
        let message = self.0.recv().await?;
        Some(String::from_utf8_lossy(&message).into_owned())
    }
}

/// An accepted request.
pub struct Pending {
    upgrade: Upgrade,
    ports: Vec<u16>,
}

/// Answers a port-forward request; `ports` are those of the query (`?ports=80&ports=81`), which only
/// plain WebSocket channels need.
///
/// # Errors
/// [`StreamError::BadRequest`] when the request is no upgrade that is understood.
pub fn accept<B>(request: &mut Request<B>, ports: Vec<u16>) -> Result<(Response<()>, Option<Pending>), StreamError> {
    let (response, upgrade) = upgrade::answer(request, &SUPPORTED)?;
    if let Some(upgrade) = &upgrade
        && upgrade.wire == Wire::WebSocket
        && upgrade.protocol != TUNNEL
        && ports.is_empty()
    {
        return Err(StreamError::BadRequest("query parameter \"ports\" is required".into()));
    }
    Ok((response, upgrade.map(|upgrade| Pending { upgrade, ports })))
}

/// Whether a WebSocket request asks for the SPDY tunnel
/// (`wsstream.IsWebSocketRequestWithTunnelingProtocol`).
#[must_use]
pub fn wants_tunnel(headers: &http::HeaderMap) -> bool {
    upgrade::offers(headers, TUNNEL)
}

/// Answers a request for the tunnel at a server that passes on what it carries.
///
/// # Errors
/// [`StreamError::BadRequest`] when the request is no such upgrade.
pub fn accept_tunnel<B>(request: &mut Request<B>) -> Result<(Response<()>, Tunnel), StreamError> {
    const ONLY: Supported = Supported {
        spdy: &[],
        websocket: &[TUNNEL],
    };
    match upgrade::answer(request, &ONLY)? {
        (response, Some(upgrade)) => Ok((response, Tunnel(upgrade))),
        _ => Err(StreamError::BadRequest(
            "unable to upgrade: no tunneling spdy protocols provided".into(),
        )),
    }
}

/// A tunnel whose ends are to be connected.
pub struct Tunnel(Upgrade);

impl Tunnel {
    /// Carries bytes between the client's WebSocket and a server that speaks SPDY, until either ends.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn join(self, mut server: impl Socket) -> Result<(), StreamError> {
        let mut tunnel = websocket::tunnel(self.0.socket().await?, WebSocketRole::Server);
        tokio::io::copy_bidirectional(&mut tunnel, &mut server).await?;
        Ok(())
    }
}

impl Pending {
    /// Waits for the upgraded connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn start(self) -> Result<PortForward, StreamError> {
        let Pending { upgrade, ports } = self;
        let (wire, protocol) = (upgrade.wire, upgrade.protocol.clone());
        let socket = upgrade.socket().await?;
        match (wire, protocol.as_str()) {
            (Wire::Spdy, _) => Ok(PortForward::spdy(spdy::start(socket, spdy::Role::Server))),
            (Wire::WebSocket, TUNNEL) => {
                let tunnel = websocket::tunnel(socket, WebSocketRole::Server);
                Ok(PortForward::spdy(spdy::start(tunnel, spdy::Role::Server)))
            }
            (Wire::WebSocket, protocol) => PortForward::channels(socket, protocol, &ports).await,
        }
    }
}

/// A port-forward connection, at the server.
pub struct PortForward {
    source: Source,
    half_open: HashMap<String, Stream>,
}

enum Source {
    Spdy(spdy::Session),
    Channels(Connection, std::vec::IntoIter<Forward>),
}

impl PortForward {
    fn spdy(session: spdy::Session) -> PortForward {
        PortForward {
            source: Source::Spdy(session),
            half_open: HashMap::new(),
        }
    }

    /// Channel 2n carries data of the n-th port, 2n+1 its errors; the first message of each, from
    /// the server, is the port in little-endian.
    async fn channels(socket: impl Socket, protocol: &str, ports: &[u16]) -> Result<PortForward, StreamError> {
        let coding = Coding {
            base64: protocol.contains("base64"),
            close_message: false,
        };
        let count = u32::try_from(ports.len() * 2).unwrap_or(u32::MAX);
        let (connection, streams) = websocket::start_channels(socket, WebSocketRole::Server, count, coding);
        let mut streams = streams.into_iter();
        let mut forwards = Vec::new();
        for port in ports {
            let (Some(data), Some(error)) = (streams.next(), streams.next()) else {
                break;
            };
            let announcement = Bytes::copy_from_slice(&port.to_le_bytes());
            data.sender.send(announcement.clone()).await?;
            error.sender.send(announcement).await?;
            forwards.push(forward(*port, data, error));
        }
        Ok(PortForward {
            source: Source::Channels(connection, forwards.into_iter()),
            half_open: HashMap::new(),
        })
    }

    /// The next connection to forward, or `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Forward> {
        match &mut self.source {
            Source::Channels(connection, forwards) => {
                if let Some(forward) = forwards.next() {
                    return Some(forward);
                }
                connection.closed().await;
                None
            }
            Source::Spdy(session) => loop {
                let stream = session.incoming.recv().await?;
                if let Some(forward) = pair(&mut self.half_open, stream).await {
                    return Some(forward);
                }
            },
        }
    }
}

/// Matches data and error streams by request; a stream that is neither is refused.
async fn pair(half_open: &mut HashMap<String, Stream>, stream: Stream) -> Option<Forward> {
    let port = header(&stream.headers, "port")
        .and_then(|port| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    let kind = header(&stream.headers, "streamtype").unwrap_or_default().to_owned();
    let (Some(port), "data" | "error") = (port, kind.as_str()) else {
        let _ = stream.sender.finish().await;
        return None;
    };
    // Old clients send no requestID: one request at a time then, named by its port.
    let request = header(&stream.headers, "requestid").map_or_else(|| format!("port {port}"), String::from);
    match half_open.remove(&request) {
        None => {
            if half_open.len() < MAX_HALF_OPEN {
                half_open.insert(request, stream);
            }
            None
        }
        Some(other) if kind == "data" => Some(forward(port, stream, other)),
        Some(other) => Some(forward(port, other, stream)),
    }
}

fn forward(port: u16, data: Stream, error: Stream) -> Forward {
    Forward {
        port,
        receiver: data.receiver,
        sender: data.sender,
        error_sender: error.sender,
        error_receiver: error.receiver,
    }
}

/// The client's end, over a WebSocket tunnel.
pub struct Client {
    session: spdy::Session,
    requests: u32,
}

impl Client {
    /// Takes over a socket on which the WebSocket handshake chose [`CLIENT_PROTOCOLS`].
    #[must_use]
    pub fn new(socket: impl Socket) -> Client {
        let tunnel = websocket::tunnel(socket, WebSocketRole::Client);
        Client {
            session: spdy::start(tunnel, spdy::Role::Client),
            requests: 0,
        }
    }

    /// Opens a connection to `port` of the pod.
    ///
    /// # Errors
    /// When the connection to the server is gone.
    pub async fn open(&mut self, port: u16) -> Result<Forward, StreamError> {
        let request = self.requests.to_string();
        self.requests += 1;
        let headers = |kind: &str| {
            vec![
                ("streamtype".to_owned(), kind.to_owned()),
                ("port".to_owned(), port.to_string()),
                ("requestid".to_owned(), request.clone()),
            ]
        };
        let error = self.session.open(headers("error")).await?;
        error.sender.finish().await?;
        let data = self.session.open(headers("data")).await?;
        Ok(forward(port, data, error))
    }
}
