//! Between a client that speaks WebSocket v5 and a node that only speaks SPDY
//! (apiserver `pkg/util/proxy/streamtranslator.go`).
//!
//! The client is answered before the node is asked, so that whatever goes wrong later is told on the error
//! channel. What the node reports of the command's end is passed on after all of its output; a node that
//! is lost before it reports is an error, never a success.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Request, Response};
use serde_json::json;

use crate::StreamError;
use crate::bytes_channel::{ByteReceiver, ByteSender};
use crate::connection::{Socket, Stream};
use crate::outcome::Outcome;
use crate::remote_command::{self, Options, Pending, RemoteCommand, Resizes};
use crate::spdy;
use crate::upgrade;

const V5: &str = "v5.channel.k8s.io";
/// The longest report that is passed on.
const REPORT_BYTES: usize = 1 << 20;

/// What the node is offered.
pub const NODE_PROTOCOLS: &[&str] = &[
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Whether a WebSocket request asks for what only v5 has (`wsstream.IsWebSocketRequestWithStreamCloseProtocol`).
#[must_use]
pub fn is_wanted(headers: &HeaderMap) -> bool {
    upgrade::offers(headers, V5)
}

/// Answers the client, in v5 whatever else it offers.
///
/// # Errors
/// [`StreamError::BadRequest`] when the request is no such upgrade, or asks for no stream at all.
pub fn accept<B>(request: &mut Request<B>, options: Options) -> Result<(Response<()>, Pending), StreamError> {
    let only = HeaderValue::from_static(V5);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, only);
    match remote_command::accept(request, options)? {
        (response, Some(pending)) => Ok((response, pending)),
        _ => Err(StreamError::BadRequest("the upgrade is not to a websocket".into())),
    }
}

/// Carries a command's streams between the client and the node's SPDY connection until it ends.
pub async fn relay(mut client: RemoteCommand, node: impl Socket, protocol: &str, options: Options) {
    let (stdin, resizes) = (client.stdin.take(), client.resizes.take());
    let outputs = (client.stdout.clone(), client.stderr.clone());
    let work = carry(node, protocol, options, (stdin, resizes), outputs);
    let report = tokio::select! {
        biased;
        report = work => report,
        () = client.closed() => return,
    };
    match report {
        Ok(Report::Status(status)) => client.finish_as(status).await,
        Ok(Report::Text(text)) => client.finish(Outcome::parse(&text)).await,
        Err(error) => client.finish(Outcome::Failed(error.to_string())).await,
    }
}

/// What the node says of the command's end.
enum Report {
    /// Since v4.
    Status(Bytes),
    /// Before: nothing for a success.
    Text(Bytes),
}

async fn carry(
    node: impl Socket,
    protocol: &str,
    options: Options,
    (stdin, resizes): (Option<ByteReceiver>, Option<Resizes>),
    (stdout, stderr): (Option<ByteSender>, Option<ByteSender>),
) -> Result<Report, StreamError> {
    let mut session = spdy::start(node, spdy::Role::Client);
    let mut open = async |kind: &str, wanted: bool| match wanted {
        true => session
            .open(vec![("streamtype".to_owned(), kind.to_owned())])
            .await
            .map(Some),
        false => Ok(None),
    };
    let sends_sizes = options.tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    // In the order in which client-go opens them.
    let error = open("error", true).await?.ok_or(StreamError::Closed)?;
    let to_stdin = open("stdin", options.stdin).await?;
    let from_stdout = open("stdout", options.stdout).await?;
    let from_stderr = open("stderr", options.stderr).await?;
    let to_resize = open("resize", sends_sizes).await?;
    let inputs = async {
        tokio::join!(feed(stdin, to_stdin), resize(resizes, to_resize));
        // Only the node ends a command.
        std::future::pending::<()>().await;
    };
    let ended = async {
        let drained = async {
            tokio::try_join!(drain(from_stdout, stdout), drain(from_stderr, stderr))?;
            Ok::<(), StreamError>(())
        };
        let (drained, report) = tokio::join!(drained, collect(error));
        drained.map(|()| report)
    };
    let report = tokio::select! {
        report = ended => report?,
        () = inputs => return Err(StreamError::Closed),
    };
    session.connection.close().await;
    match protocol {
        "v4.channel.k8s.io" if report.is_empty() => Err(StreamError::Protocol(
            "the connection to the node was lost before the command ended".into(),
        )),
        "v4.channel.k8s.io" => Ok(Report::Status(report)),
        _ => Ok(Report::Text(report)),
    }
}

async fn feed(from: Option<ByteReceiver>, to: Option<Stream>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    while let Some(chunk) = from.recv().await {
        if to.sender.send(chunk).await.is_err() {
            return;
        }
    }
    let _ = to.sender.finish().await;
}

async fn resize(from: Option<Resizes>, to: Option<Stream>) {
    let (Some(mut from), Some(to)) = (from, to) else {
        return;
    };
    while let Some(size) = from.next().await {
        let size = json!({"Width": size.width, "Height": size.height});
        if to.sender.send(Bytes::from(size.to_string())).await.is_err() {
            return;
        }
    }
    let _ = to.sender.finish().await;
}

async fn drain(from: Option<Stream>, to: Option<ByteSender>) -> Result<(), StreamError> {
    let (Some(mut from), Some(to)) = (from, to) else {
        return Ok(());
    };
    while let Some(chunk) = from.receiver.recv().await {
        to.send(chunk).await?;
    }
    Ok(())
}

async fn collect(mut error: Stream) -> Bytes {
    let mut report = BytesMut::new();
    while let Some(chunk) = error.receiver.recv().await {
        let room = REPORT_BYTES - report.len();
        report.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    report.freeze()
}
