//! exec, attach and run: stdin, stdout, stderr, terminal size, and how it ended.
//!
//! Server end: [`accept`] answers the request, [`Pending::streams`] waits for the client's streams,
//! [`RemoteCommand::finish`] reports the outcome and closes. Client end: [`Client`], over WebSocket.
//! Upstream: kubelet `pkg/cri/streaming/remotecommand`, client-go `tools/remotecommand`.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fastwebsockets::Role as WebSocketRole;
use http::{Request, Response};
use serde_json::json;

use crate::StreamError;
use crate::bytes_channel::{ByteReceiver, ByteSender};
use crate::connection::{Connection, Socket, Stream, header};
use crate::outcome::Outcome;
use crate::spdy;
use crate::upgrade::{self, Supported, Upgrade, Wire};
use crate::websocket::{self, Coding};

/// How long a server waits for the client's streams (kubelet's `DefaultStreamCreationTimeout`).
const STREAM_CREATION_TIMEOUT: Duration = Duration::from_secs(30);

const SUPPORTED: Supported = Supported {
    spdy: &[
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
        "channel.k8s.io",
    ],
    websocket: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ],
};

/// Channels over WebSocket, in order: stdin, stdout, stderr, error, resize.
const CHANNELS: u32 = 5;

/// Which streams the request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Input is sent.
    pub stdin: bool,
    /// Output is wanted.
    pub stdout: bool,
    /// Error output is wanted; never with a terminal.
    pub stderr: bool,
    /// A terminal is allocated.
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Sizes as the client's terminal changes: a stream of JSON objects `{"Width":…,"Height":…}`.
#[derive(Debug)]
pub struct Resizes {
    receiver: ByteReceiver,
    pending: BytesMut,
}

impl Resizes {
    /// The next size, or `None` when no more come. Rubbish ends the stream. Cancel-safe.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.pending).into_iter::<serde_json::Value>();
            match values.next() {
                Some(Ok(size)) => {
                    let used = values.byte_offset();
                    self.pending.advance(used);
                    let side = |name: &str| u16::try_from(size[name].as_u64()?).ok();
                    return Some(TerminalSize {
                        width: side("Width")?,
                        height: side("Height")?,
                    });
                }
                Some(Err(error)) if !error.is_eof() => return None,
                _ => self.pending.extend_from_slice(&self.receiver.recv().await?),
            }
        }
    }
}

/// A command's streams, at the server.
#[derive(Debug)]
pub struct RemoteCommand {
    /// From the client.
    pub stdin: Option<ByteReceiver>,
    /// To the client.
    pub stdout: Option<ByteSender>,
    /// To the client.
    pub stderr: Option<ByteSender>,
    /// Terminal sizes; only with a terminal.
    pub resizes: Option<Resizes>,
    error: ByteSender,
    reports_status: bool,
    connection: Connection,
}

impl RemoteCommand {
    /// Reports how the command ended, after all output sent so far, and closes the connection.
    pub async fn finish(self, outcome: Outcome) {
        for output in [&self.stdout, &self.stderr].into_iter().flatten() {
            let _ = output.finish().await;
        }
        let report = if self.reports_status {
            outcome.to_status()
        } else {
            outcome.to_text()
        };
        if !report.is_empty() {
            let _ = self.error.send(report).await;
        }
        let _ = self.error.finish().await;
        self.connection.close().await;
    }

    /// The same in words of another server, which are passed on as they are.
    pub(crate) async fn finish_as(self, report: Bytes) {
        for output in [&self.stdout, &self.stderr].into_iter().flatten() {
            let _ = output.finish().await;
        }
        let _ = self.error.send(report).await;
        let _ = self.error.finish().await;
        self.connection.close().await;
    }

    /// Resolves when the client has gone away.
    pub async fn closed(&mut self) {
        self.connection.closed().await;
    }
}

/// An accepted request whose streams are yet to come.
pub struct Pending {
    upgrade: Upgrade,
    options: Options,
}

/// Answers an exec, attach or run request. Send the response; with `Some`, await the streams in a
/// task of its own.
///
/// # Errors
/// [`StreamError::BadRequest`] when the request is no upgrade that is understood, or asks for no
/// stream at all.
pub fn accept<B>(request: &mut Request<B>, options: Options) -> Result<(Response<()>, Option<Pending>), StreamError> {
    if !(options.stdin || options.stdout || options.stderr) {
        let message = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(StreamError::BadRequest(message.into()));
    }
    if options.tty && options.stderr {
        return Err(StreamError::BadRequest("tty and stderr cannot both be true".into()));
    }
    let (response, upgrade) = upgrade::answer(request, &SUPPORTED)?;
    Ok((response, upgrade.map(|upgrade| Pending { upgrade, options })))
}

impl Pending {
    /// Waits for the upgraded connection and the client's streams.
    ///
    /// # Errors
    /// When the connection breaks, or the streams do not come in time.
    pub async fn streams(self) -> Result<RemoteCommand, StreamError> {
        let (wire, protocol, options) = (self.upgrade.wire, self.upgrade.protocol.clone(), self.options);
        let socket = self.upgrade.socket().await?;
        match wire {
            Wire::Spdy => over_spdy(socket, &protocol, options).await,
            Wire::WebSocket => over_websocket(socket, &protocol, options).await,
        }
    }
}

async fn over_spdy(socket: impl Socket, protocol: &str, options: Options) -> Result<RemoteCommand, StreamError> {
    let mut session = spdy::start(socket, spdy::Role::Server);
    let sends_sizes = options.tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let wanted = [
        ("error", true),
        ("stdin", options.stdin),
        ("stdout", options.stdout),
        ("stderr", options.stderr),
        ("resize", sends_sizes),
    ];
    let mut streams: [Option<Stream>; 5] = Default::default();
    let all = async {
        while wanted
            .iter()
            .zip(&streams)
            .any(|((_, wanted), stream)| *wanted && stream.is_none())
        {
            let stream = session.incoming.recv().await.ok_or(StreamError::Closed)?;
            let kind = header(&stream.headers, "streamtype").unwrap_or_default();
            let place = wanted
                .iter()
                .position(|(name, _)| *name == kind)
                .ok_or_else(|| StreamError::Protocol(format!("unexpected stream type: {kind:?}")))?;
            streams[place] = Some(stream);
        }
        Ok::<(), StreamError>(())
    };
    match tokio::time::timeout(STREAM_CREATION_TIMEOUT, all).await {
        Ok(result) => result?,
        Err(_) => return Err(StreamError::StreamsMissing),
    }
    let [error, stdin, stdout, stderr, resize] = streams;
    Ok(RemoteCommand {
        stdin: stdin.map(|stream| stream.receiver),
        stdout: stdout.map(|stream| stream.sender),
        stderr: stderr.map(|stream| stream.sender),
        resizes: resize.map(|stream| Resizes {
            receiver: stream.receiver,
            pending: BytesMut::new(),
        }),
        error: error.map(|stream| stream.sender).ok_or(StreamError::Closed)?,
        reports_status: protocol == "v4.channel.k8s.io",
        connection: session.connection,
    })
}

async fn over_websocket(socket: impl Socket, protocol: &str, options: Options) -> Result<RemoteCommand, StreamError> {
    let coding = coding(protocol);
    let (connection, streams) = websocket::start_channels(socket, WebSocketRole::Server, CHANNELS, coding);
    let [stdin, stdout, stderr, error, resize] =
        <[Stream; 5]>::try_from(streams).expect("five channels were asked for");
    let command = RemoteCommand {
        stdin: options.stdin.then_some(stdin.receiver),
        stdout: options.stdout.then_some(stdout.sender),
        stderr: options.stderr.then_some(stderr.sender),
        resizes: options.tty.then(|| Resizes {
            receiver: resize.receiver,
            pending: BytesMut::new(),
        }),
        error: error.sender,
        reports_status: protocol.starts_with("v4.") || protocol.starts_with("v5."),
        connection,
    };
    // An empty message on the lowest writable channel tells the client that the streams are up
    // (kubelet `createWebSocketStreams`).
    let lowest = command
        .stdout
        .as_ref()
        .or(command.stderr.as_ref())
        .unwrap_or(&command.error);
    lowest.send(Bytes::new()).await?;
    Ok(command)
}

fn coding(protocol: &str) -> Coding {
    Coding {
        base64: protocol.contains("base64"),
        close_message: protocol.starts_with("v5."),
    }
}

/// A command's streams, at the client.
#[derive(Debug)]
pub struct Client {
    /// To the command; `finish` closes its input (v5).
    pub stdin: ByteSender,
    /// From the command.
    pub stdout: ByteReceiver,
    /// From the command.
    pub stderr: ByteReceiver,
    error: ByteReceiver,
    resize: ByteSender,
    connection: Connection,
}

/// What [`Client`] offers in its WebSocket handshake.
pub const CLIENT_PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

impl Client {
    /// Takes over a socket on which the WebSocket handshake chose `protocol`.
    #[must_use]
    pub fn new(socket: impl Socket, protocol: &str) -> Client {
        let (connection, streams) =
            websocket::start_channels(socket, WebSocketRole::Client, CHANNELS, coding(protocol));
        let [stdin, stdout, stderr, error, resize] =
            <[Stream; 5]>::try_from(streams).expect("five channels were asked for");
        Client {
            stdin: stdin.sender,
            stdout: stdout.receiver,
            stderr: stderr.receiver,
            error: error.receiver,
            resize: resize.sender,
            connection,
        }
    }

    /// Standard output, standard error and the error stream, to be read at the same time. What the
    /// last carries is for [`Outcome::parse`].
    pub fn streams(&mut self) -> (&mut ByteReceiver, &mut ByteReceiver, &mut ByteReceiver) {
        (&mut self.stdout, &mut self.stderr, &mut self.error)
    }

    /// A handle that tells the terminal's size.
    #[must_use]
    pub fn resizer(&self) -> Resizer {
        Resizer(self.resize.clone())
    }

    /// Waits for the command's end. Read stdout and stderr at the same time.
    pub async fn outcome(&mut self) -> Outcome {
        match self.error.recv().await {
            Some(report) => Outcome::parse(&report),
            None => Outcome::Failed("connection closed before the command ended".into()),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

/// Tells a remote terminal its size.
#[derive(Debug, Clone)]
pub struct Resizer(ByteSender);

impl Resizer {
    /// Sends a size.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), StreamError> {
        let size = json!({"Width": size.width, "Height": size.height});
        self.0.send(Bytes::from(size.to_string())).await
    }
}
