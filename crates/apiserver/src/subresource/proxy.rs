//! Passing a request on: ordinary answers are streamed, upgraded connections tunnelled byte for
//! byte once the other end has agreed (`apimachinery/pkg/util/proxy`).

use std::sync::Arc;

use api::Status;
use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::body::{self, Body};
use crate::call::Call;
use crate::respond::Answer;
use crate::state::State;

/// How the other end is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Plain.
    None,
    /// As a node agent: with our certificate, its own verified.
    Kubelet,
    /// Encrypted but not verified: pods have certificates of their own making.
    Unverified,
}

/// The other end.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
}

/// Headers that belong to one connection, or that tell who the client is.
const NOT_PASSED_ON: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "authorization",
    "host",
    "content-length",
];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Sends the request there and the answer back.
///
/// # Errors
/// 503 if nobody answers there.
pub(super) async fn forward(
    state: &Arc<State>,
    call: &Call,
    to: &Destination,
    path: &str,
    query: &[(String, String)],
    content: Body,
) -> Result<Answer, Status> {
    let refused = |error: &dyn std::fmt::Display| {
        let (host, port) = (&to.host, to.port);
        Status::service_unavailable(format!("error trying to reach service: {host}:{port}: {error}"))
    };
    let stream = connect(state, to).await.map_err(|error| refused(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| refused(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended badly");
        }
    });
    let upgrading = call.headers.get(UPGRADE).cloned();
    let request = request(call, to, path, query, content, upgrading.is_some())
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut answer = sender.send_request(request).await.map_err(|error| refused(&error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return tunnel(call, &mut answer);
    }
    let (parts, incoming) = answer.into_parts();
    let mut out = Response::new(body::boxed(incoming));
    *out.status_mut() = parts.status;
    copy_headers(&parts.headers, out.headers_mut());
    Ok(out)
}

async fn connect(state: &State, to: &Destination) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    stream.set_nodelay(true)?;
    let config = match to.tls {
        Tls::None => return Ok(Box::new(stream)),
        Tls::Kubelet => state
            .kubelet_tls
            .clone()
            .ok_or_else(|| std::io::Error::other("no client certificate for node agents is configured"))?,
        Tls::Unverified => state.unverified_tls.clone(),
    };
    let name = ServerName::try_from(to.host.clone()).map_err(std::io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

fn request(
    call: &Call,
    to: &Destination,
    path: &str,
    query: &[(String, String)],
    content: Body,
    upgrading: bool,
) -> Result<Request<Body>, http::Error> {
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    let uri = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    };
    let host = if to.host.contains(':') {
        format!("[{}]:{}", to.host, to.port)
    } else {
        format!("{}:{}", to.host, to.port)
    };
    let mut request = Request::builder().method(call.method.clone()).uri(uri).body(content)?;
    let headers = request.headers_mut();
    copy_headers(&call.headers, headers);
    headers.insert(HOST, host.parse()?);
    if upgrading {
        for name in [CONNECTION, UPGRADE] {
            if let Some(value) = call.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        *request.body_mut() = body::empty();
    }
    Ok(request)
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let dropped = NOT_PASSED_ON.contains(&name.as_str()) || name.as_str().starts_with("impersonate-");
        if !dropped {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Joins both upgraded connections until either ends.
fn tunnel(call: &Call, answer: &mut Response<hyper::body::Incoming>) -> Result<Answer, Status> {
    let Some(client) = call.upgrade.lock().take() else {
        return Err(Status::bad_request("the connection cannot be upgraded"));
    };
    let mut out = Response::new(body::empty());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in answer.headers() {
        if name != TRANSFER_ENCODING && *name != HeaderName::from_static("content-length") {
            out.headers_mut().append(name.clone(), value.clone());
        }
    }
    let backend = hyper::upgrade::on(answer);
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(client, backend) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "an upgrade was not completed");
                return;
            }
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
            tracing::debug!(%error, "an upgraded connection ended badly");
        }
    });
    Ok(out)
}

/// Percent-encodes what is not unreserved.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
