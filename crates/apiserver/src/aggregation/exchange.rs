//! Connections to other API servers, and small requests of our own to them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Remote;
use super::front_proxy::{self, FrontProxy};
use crate::endpoints;
use crate::state::State;
use crate::user::UserInfo;

/// How long a request of our own may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest document that is read.
const DOCUMENT_BYTES: usize = 16 << 20;

/// TLS with our front-proxy certificate that trusts a bundle (base64, as in the APIService), or without
/// one the system's authorities.
pub(super) fn tls(bundle: &str, front_proxy: Option<&FrontProxy>) -> Result<ClientConfig, String> {
    let bundle = STANDARD.decode(bundle).map_err(|e| e.to_string())?;
    let roots = crate::hook::roots(&bundle)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    match front_proxy {
        None => Ok(builder.with_no_client_auth()),
        Some(own) => builder
            .with_client_auth_cert(own.identity.0.clone(), own.identity.1.clone_key())
            .map_err(|e| e.to_string()),
    }
}

/// Whether the other end's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    Certificate,
    Nothing,
}

/// Connects to a server behind the Service.
pub(super) async fn connect(state: &State, remote: &Remote, verify: Verify) -> Result<TlsStream<TcpStream>, String> {
    let config = match verify {
        Verify::Certificate => remote.tls.clone()?,
        Verify::Nothing => remote.unverified.clone(),
    };
    let stream = endpoints::connect(state, &remote.namespace, &remote.service, remote.port).await?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let name = format!("{}.{}.svc", remote.service, remote.namespace);
    let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|e| e.to_string())
}

/// A small answer.
pub(super) struct Document {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// GET of a path, as this server itself.
pub(super) async fn get(
    state: &State,
    remote: &Remote,
    verify: Verify,
    path: &str,
    accept: &str,
) -> Result<Document, String> {
    let accept = HeaderValue::from_str(accept).map_err(|e| e.to_string())?;
    get_with(state, remote, verify, path, &[(ACCEPT, accept)]).await
}

/// The same with any headers.
pub(super) async fn get_with(
    state: &State,
    remote: &Remote,
    verify: Verify,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Document, String> {
    let asked = tokio::time::timeout(TIMEOUT, ask(state, remote, verify, path, headers));
    asked.await.unwrap_or_else(|_| {
        Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned())
    })
}

async fn ask(
    state: &State,
    remote: &Remote,
    verify: Verify,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Document, String> {
    let stream = connect(state, remote, verify).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut request = Request::get(path)
        .header(HOST, format!("{}.{}.svc", remote.service, remote.namespace))
        .header(USER_AGENT, "kube-aggregator")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    request.headers_mut().extend(headers.iter().cloned());
    let user = UserInfo::new("system:kube-aggregator", &["system:masters"]);
    front_proxy::name_user(request.headers_mut(), &user);
    let result = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, DOCUMENT_BYTES).collect().await;
        Ok(Document {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body: body.map_err(|e| e.to_string())?.to_bytes(),
        })
    };
    let result = result.await;
    driver.abort();
    result
}
