//! Passing a request on: ordinary answers are streamed, upgraded connections tunnelled byte for
//! byte once the other end has agreed (`apimachinery/pkg/util/proxy`).

use std::io::Read;
use std::sync::Arc;

use api::Status;
use futures_util::FutureExt;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, LOCATION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::links::Links;
use crate::body::{self, Body};
use crate::call::Call;
use crate::respond::{self, Answer};
use crate::state::State;

/// How the other end is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Plain.
    None,
    /// As a node agent: with our certificate, its own verified.
    Kubelet,
    /// The same, but its certificate is not looked at.
    KubeletUnverified,
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

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Who may use an answer is for this server to say.
const CORS: [&str; 6] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
];

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

/// Longer pages are passed on with their links as they are.
const PAGE_BYTES: usize = 8 << 20;

/// Passes a request on to any path of a pod, service or node: an empty path is redirected to one with a
/// slash, and links in the answer lead through the proxy again.
///
/// # Errors
/// 503 if nobody answers there.
pub(super) async fn forward_path(
    state: &Arc<State>,
    call: &Call,
    to: &Destination,
    rest: &str,
    content: Body,
) -> Result<Answer, Status> {
    let path = &call.info.path;
    // Only what reads is redirected: others would lose their method.
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    let rest = if rest.is_empty() && !reads { "/" } else { rest };
    if call.headers.contains_key(UPGRADE) {
        let rest = if rest.is_empty() { "/" } else { rest };
        return forward(state, call, to, rest, call.query.pairs(), content).await;
    }
    if rest.is_empty() {
        let query = call.query.text();
        let mark = if query.is_empty() { "" } else { "?" };
        let mut answer = respond::text(301, "");
        let location = format!("{path}/{mark}{query}");
        let location = HeaderValue::from_str(&location).map_err(|e| Status::bad_request(e.to_string()))?;
        answer.headers_mut().insert(LOCATION, location);
        return Ok(answer);
    }
    let mut answer = forward(state, call, to, rest, call.query.pairs(), content).await?;
    let host = call.headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or("");
    let target = authority(to);
    let links = Links {
        prefix: path.strip_suffix(rest).unwrap_or(path),
        target: &target,
        host,
    };
    let headers = answer.headers_mut();
    for name in CORS {
        headers.remove(name);
    }
    if headers.contains_key(LOCATION) {
        let location = links.rewrite(&text(headers, &LOCATION));
        if let Ok(location) = HeaderValue::from_str(&location) {
            headers.insert(LOCATION, location);
        }
        return Ok(answer);
    }
    let page = match page_of(&answer) {
        Some(page) => page,
        None => return Ok(answer),
    };
    let (mut parts, body) = answer.into_parts();
    let body = Limited::new(body, PAGE_BYTES).collect().boxed().await;
    let body = body.map_err(unreached)?.to_bytes();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(CONTENT_ENCODING);
    let page = rewrite_page(page, &body, &links)?;
    Ok(Response::from_parts(parts, body::full(page)))
}

/// How a page is compressed.
#[derive(Clone, Copy)]
enum Page {
    Plain,
    Gzip,
}

/// Whether the answer is an HTML page that can be read, and is not too long.
fn page_of(answer: &Answer) -> Option<Page> {
    let headers = answer.headers();
    let kind = text(headers, &CONTENT_TYPE);
    let is_page = kind.split(';').next().unwrap_or("").trim() == "text/html";
    let length: usize = text(headers, &CONTENT_LENGTH).parse().unwrap_or(0);
    match &*text(headers, &CONTENT_ENCODING) {
        _ if !is_page || length > PAGE_BYTES => None,
        "" => Some(Page::Plain),
        "gzip" => Some(Page::Gzip),
        _ => None,
    }
}

/// The page with its links rewritten, uncompressed.
fn rewrite_page(page: Page, content: &[u8], links: &Links<'_>) -> Result<Vec<u8>, Status> {
    let mut text = Vec::new();
    match page {
        Page::Plain => text.extend_from_slice(content),
        Page::Gzip => {
            let mut decoder = flate2::read::GzDecoder::new(content).take(PAGE_BYTES as u64);
            decoder.read_to_end(&mut text).map_err(unreached)?;
        }
    }
    Ok(match String::from_utf8(text) {
        Ok(page) => links.rewrite_html(&page).into_bytes(),
        Err(error) => error.into_bytes(),
    })
}

fn unreached(error: impl std::fmt::Display) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {error}"))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or("").to_owned()
}

fn authority(to: &Destination) -> String {
    if to.host.contains(':') {
        format!("[{}]:{}", to.host, to.port)
    } else {
        format!("{}:{}", to.host, to.port)
    }
}

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
    let refused = |error: std::io::Error| {
        let (host, port) = (&to.host, to.port);
        Status::service_unavailable(format!("error trying to reach service: {host}:{port}: {error}"))
    };
    let upgrading = call.headers.contains_key(UPGRADE);
    let request =
        request(call, to, path, query, content, upgrading).map_err(|error| Status::internal(error.to_string()))?;
    let answer = exchange(state, to, request).await.map_err(refused)?;
    passed_on(call, answer)
}

/// Asks a node agent, without content, and without asking for an upgrade that the client may want of us.
///
/// # Errors
/// 500 if nobody answers there, as upstream tells it (`rest.LocationStreamer`).
pub(super) async fn ask_agent(
    state: &Arc<State>,
    call: &Call,
    to: &Destination,
    path: &str,
    query: &[(String, String)],
) -> Result<Answer, Status> {
    let request =
        request(call, to, path, query, body::empty(), false).map_err(|error| Status::internal(error.to_string()))?;
    let url = format!("https://{}{}", authority(to), request.uri());
    let told = |error| Status::failure(500, "", format!("Get \"{url}\": {}", dialling(to, &error)));
    passed_on(call, exchange(state, to, request).await.map_err(told)?)
}

/// Asks a node agent for the upgrade that the client wants.
///
/// # Errors
/// 500 if nobody answers there.
pub(super) async fn upgrade_at_agent(
    state: &Arc<State>,
    call: &Call,
    to: &Destination,
    path: &str,
    query: &[(String, String)],
) -> Result<Answer, Status> {
    let request =
        request(call, to, path, query, body::empty(), true).map_err(|error| Status::internal(error.to_string()))?;
    let answer = exchange(state, to, request).await;
    passed_on(call, answer.map_err(|error| undialled(to, &error))?)
}

/// Asks a node agent for SPDY on behalf of a client that speaks something else.
///
/// # Errors
/// 500 if nobody answers there.
pub(super) async fn ask_for_spdy(
    state: &State,
    call: &Call,
    to: &Destination,
    (path, query): (&str, &[(String, String)]),
    protocols: &[&'static str],
) -> Result<Response<hyper::body::Incoming>, Status> {
    let mut request =
        request(call, to, path, query, body::empty(), false).map_err(|error| Status::internal(error.to_string()))?;
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    for name in [
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    ] {
        headers.remove(name);
    }
    headers.extend(streams::spdy_request_headers(protocols));
    exchange(state, to, request)
        .await
        .map_err(|error| undialled(to, &error))
}

/// What was made of an agent's answer for somebody else.
pub(super) fn passed_on(call: &Call, mut answer: Response<hyper::body::Incoming>) -> Result<Answer, Status> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return tunnel(call, &mut answer);
    }
    let (parts, incoming) = answer.into_parts();
    let mut out = Response::new(body::boxed(incoming));
    *out.status_mut() = parts.status;
    copy_headers(&parts.headers, out.headers_mut());
    Ok(out)
}

fn undialled(to: &Destination, error: &std::io::Error) -> Status {
    Status::failure(500, "", format!("error dialing backend: {}", dialling(to, error)))
}

/// As Go says that a connection could not be made.
fn dialling(to: &Destination, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => return error.to_string(),
    };
    format!("dial tcp {}: {why}", authority(to))
}

async fn exchange(
    state: &State,
    to: &Destination,
    request: Request<Body>,
) -> std::io::Result<Response<hyper::body::Incoming>> {
    let stream = connect(state, to).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended badly");
        }
    });
    sender.send_request(request).await.map_err(std::io::Error::other)
}

/// Longest answer that is read whole.
const ANSWER_BYTES: usize = 32 << 20;
/// How long a node agent may take over one.
const ANSWER_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// GETs a text on our own behalf.
///
/// # Errors
/// Nobody answers there in time, or not with what was asked for.
pub(super) async fn get_text(state: &State, to: &Destination, path: &str) -> std::io::Result<String> {
    let ask = async {
        let stream = connect(state, to).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .uri(path)
            .header(HOST, authority(to))
            .body(body::empty());
        let request = request.map_err(std::io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(std::io::Error::other)?;
        if answer.status() != StatusCode::OK {
            return Err(std::io::Error::other(format!("{path} answers {}", answer.status())));
        }
        let content = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        let content = content.map_err(std::io::Error::other)?.to_bytes();
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    tokio::time::timeout(ANSWER_TIME, ask).await?
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
        Tls::KubeletUnverified => Arc::new(crate::server::trusting(state.kubelet_tls.as_deref())),
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
    let mut request = Request::builder().method(call.method.clone()).uri(uri).body(content)?;
    let headers = request.headers_mut();
    copy_headers(&call.headers, headers);
    headers.insert(HOST, authority(to).parse()?);
    if let Some(address) = call.peer {
        let before = call.headers.get(FORWARDED_FOR).and_then(|v| v.to_str().ok());
        let chain = before.map_or_else(|| address.ip().to_string(), |b| format!("{b}, {}", address.ip()));
        headers.insert(FORWARDED_FOR, chain.parse()?);
    }
    headers.insert("x-forwarded-uri", call.info.path.parse()?);
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

/// Copies the headers that are passed on.
pub(crate) fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let dropped = NOT_PASSED_ON.contains(&name.as_str()) || name.as_str().starts_with("impersonate-");
        if !dropped {
            to.append(name.clone(), value.clone());
        }
    }
}

/// Joins both upgraded connections until either ends.
pub(crate) fn tunnel(call: &Call, answer: &mut Response<hyper::body::Incoming>) -> Result<Answer, Status> {
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
