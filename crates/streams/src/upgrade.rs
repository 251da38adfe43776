//! Which protocol a request asks for, and the answer that switches to it.

use http::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use crate::StreamError;

const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";

/// How bytes travel once the connection is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Spdy,
    WebSocket,
}

/// An upgrade that was answered; the socket comes once the answer is sent.
pub(crate) struct Upgrade {
    pub wire: Wire,
    /// The chosen subprotocol; empty when the client named none.
    pub protocol: String,
    socket: UpgradeSocket,
}

enum UpgradeSocket {
    Spdy(hyper::upgrade::OnUpgrade),
    WebSocket(fastwebsockets::upgrade::UpgradeFut),
}

impl Upgrade {
    pub(crate) async fn socket(self) -> Result<TokioIo<Upgraded>, StreamError> {
        match self.socket {
            UpgradeSocket::Spdy(upgrade) => Ok(TokioIo::new(upgrade.await?)),
            UpgradeSocket::WebSocket(upgrade) => Ok(upgrade
                .await
                .map_err(|error| StreamError::Protocol(error.to_string()))?
                .into_inner()),
        }
    }
}

/// Subprotocols that a server end understands, for each wire.
pub(crate) struct Supported {
    pub spdy: &'static [&'static str],
    pub websocket: &'static [&'static str],
}

/// Whether the request asks to leave HTTP.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection_upgrades = headers.get_all(CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        })
    });
    connection_upgrades && headers.contains_key(UPGRADE)
}

fn wire(headers: &HeaderMap) -> Option<Wire> {
    let name = headers.get(UPGRADE)?.to_str().ok()?;
    if name.eq_ignore_ascii_case("websocket") {
        Some(Wire::WebSocket)
    } else if name.eq_ignore_ascii_case("SPDY/3.1") {
        Some(Wire::Spdy)
    } else {
        None
    }
}

fn listed<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty())
        .collect()
}

/// Whether the request is for a WebSocket and offers this subprotocol.
pub(crate) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    is_upgrade(headers)
        && wire(headers) == Some(Wire::WebSocket)
        && listed(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).contains(&protocol)
}

/// The headers that ask a server for SPDY/3.1 with one of these subprotocols.
#[must_use]
pub fn spdy_request_headers(protocols: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    for protocol in protocols {
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    headers
}

/// The subprotocol that a server chose which speaks SPDY.
#[must_use]
pub fn spdy_protocol(headers: &HeaderMap) -> &str {
    let value = headers.get(STREAM_PROTOCOL).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim()
}

/// Chooses the first protocol of the client's list that is supported (apimachinery
/// `httpstream.Handshake`): no list means the empty protocol; no match is an error.
fn choose(wanted: &[&str], supported: &[&str]) -> Result<String, String> {
    if wanted.is_empty() {
        return Ok(String::new());
    }
    wanted
        .iter()
        .find(|protocol| supported.contains(protocol))
        .map(|protocol| (*protocol).to_owned())
        .ok_or_else(|| {
            format!("unable to negotiate protocol: client supports {wanted:?}, server accepts {supported:?}")
        })
}

/// The answer to an upgrade request, and the upgrade when the answer is 101.
pub(crate) fn answer<B>(
    request: &mut Request<B>,
    supported: &Supported,
) -> Result<(Response<()>, Option<Upgrade>), StreamError> {
    if !is_upgrade(request.headers()) {
        return Err(StreamError::BadRequest("Upgrade request required".into()));
    }
    let wire = wire(request.headers())
        .ok_or_else(|| StreamError::BadRequest("the upgrade is neither websocket nor SPDY/3.1".into()))?;
    match wire {
        Wire::Spdy => {
            let mut response = Response::new(());
            let wanted = listed(request.headers(), STREAM_PROTOCOL);
            let protocol = match choose(&wanted, supported.spdy) {
                Ok(protocol) => protocol,
                Err(_) => {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                    for protocol in supported.spdy {
                        response
                            .headers_mut()
                            .append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
                    }
                    return Ok((response, None));
                }
            };
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            insert(headers, STREAM_PROTOCOL, &protocol);
            let socket = UpgradeSocket::Spdy(hyper::upgrade::on(request));
            Ok((response, Some(Upgrade { wire, protocol, socket })))
        }
        Wire::WebSocket => {
            let wanted = listed(request.headers(), SEC_WEBSOCKET_PROTOCOL.as_str());
            let protocol = choose(&wanted, supported.websocket).map_err(StreamError::BadRequest)?;
            let (response, upgrade) = fastwebsockets::upgrade::upgrade(request)
                .map_err(|error| StreamError::BadRequest(error.to_string()))?;
            let mut response = response.map(|_| ());
            insert(response.headers_mut(), SEC_WEBSOCKET_PROTOCOL.as_str(), &protocol);
            let socket = UpgradeSocket::WebSocket(upgrade);
            Ok((response, Some(Upgrade { wire, protocol, socket })))
        }
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, protocol: &str) {
    if !protocol.is_empty()
        && let Ok(value) = HeaderValue::from_str(protocol)
    {
        headers.insert(name, value);
    }
}

/// The headers of a client's WebSocket handshake that offers `protocols`.
#[must_use]
pub fn websocket_request_headers(protocols: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    let key = fastwebsockets::handshake::generate_key();
    headers.insert(
        "sec-websocket-key",
        HeaderValue::from_str(&key).expect("base64 is a header value"),
    );
    insert(&mut headers, SEC_WEBSOCKET_PROTOCOL.as_str(), &protocols.join(", "));
    headers
}
