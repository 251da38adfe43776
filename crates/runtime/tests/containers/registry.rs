//! A registry on loopback: as little of the distribution API as pulling needs, and the ways in which it can go wrong.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::images::{Layer, digest};

type Body = BoxBody<Bytes, std::io::Error>;

/// Who may pull.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Everybody,
    Basic,
    Token,
}

pub const USER: &str = "user";
pub const PASSWORD: &str = "secret";
const TOKEN: &str = "a-token";

#[derive(Default)]
pub struct State {
    pub blobs: HashMap<String, Vec<u8>>,
    /// By repository and tag or digest.
    pub manifests: HashMap<(String, String), (String, Vec<u8>)>,
    pub requests: Vec<String>,
    /// How many blob answers are cut off in the middle.
    pub cut_off: usize,
    /// Whether `Range` is understood.
    pub no_ranges: bool,
    /// Blobs are answered with other bytes.
    pub lies: bool,
}

pub struct Registry {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A certificate for the loopback address, and that of the CA that signed it.
fn certificates() -> (rustls::ServerConfig, String) {
    let key = || rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "a registry's CA");
    let ca_key = key();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let leaf_key = key();
    let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&leaf_key, &issuer)
        .unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    (config, ca.pem())
}

impl Registry {
    /// With TLS, by a CA whose certificate comes with it.
    pub async fn start_tls(access: Access) -> (Registry, String) {
        let (config, ca) = certificates();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        (Registry::serve(access, Some(acceptor)).await, ca)
    }

    pub async fn start(access: Access) -> Registry {
        Registry::serve(access, None).await
    }

    async fn serve(access: Access, tls: Option<tokio_rustls::TlsAcceptor>) -> Registry {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    let scheme = if tls.is_some() { "https" } else { "http" };
                    let realm = format!("{scheme}://{address}/token");
                    let service = service_fn(move |request| {
                        let response = answer(&shared, access, &realm, &request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    // What a client does with its connection is its business.
                    let http = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Registry { address, state, server }
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    fn blob(&self, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.state.lock().unwrap().blobs.insert(digest, bytes);
        descriptor
    }

    fn manifest(&self, repository: &str, tag: &str, media_type: &str, body: &Value) -> Value {
        let bytes = body.to_string().into_bytes();
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        let mut state = self.state.lock().unwrap();
        for reference in [tag, digest.as_str()] {
            let key = (repository.to_owned(), reference.to_owned());
            state.manifests.insert(key, (media_type.to_owned(), bytes.clone()));
        }
        descriptor
    }

    /// Adds an image with one layer; returns its manifest's descriptor.
    pub fn push(&self, repository: &str, tag: &str, config: &[u8], layers: &[&Layer]) -> Value {
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                let compressed = zstd::encode_all(layer.tar().as_slice(), 1).unwrap();
                self.blob(compressed, "application/vnd.oci.image.layer.v1.tar+zstd")
            })
            .collect();
        let config = self.blob(config.to_vec(), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        self.manifest(repository, tag, media_type, &manifest)
    }

    /// Adds an index of images for platforms.
    pub fn push_index(&self, repository: &str, tag: &str, entries: &[(&Value, &str)]) -> Value {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(descriptor, architecture)| {
                let mut entry = (*descriptor).clone();
                entry["platform"] = json!({ "os": "linux", "architecture": architecture });
                entry
            })
            .collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
        self.manifest(repository, tag, media_type, &index)
    }

    pub fn requests(&self, containing: &str) -> usize {
        self.state
            .lock()
            .unwrap()
            .requests
            .iter()
            .filter(|line| line.contains(containing))
            .count()
    }
}

fn full(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    full(
        status,
        json!({ "errors": [{ "code": code, "message": message }] }).to_string(),
    )
}

fn is_allowed(access: Access, request: &Request<Incoming>) -> bool {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    match access {
        Access::Everybody => true,
        Access::Basic => given == basic(),
        Access::Token => given == format!("Bearer {TOKEN}"),
    }
}

fn basic() -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"))
    )
}

fn answer(state: &Mutex<State>, access: Access, realm: &str, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{} {path}", request.method()));
    if path == "/token" {
        let given = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        return if given == Some(basic().as_str()) {
            full(StatusCode::OK, json!({ "token": TOKEN }).to_string())
        } else {
            error(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "incorrect username or password",
            )
        };
    }
    if !is_allowed(access, request) {
        let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let challenge = match access {
            Access::Token => format!("Bearer realm=\"{realm}\",service=\"test\""),
            _ => "Basic realm=\"test\"".to_owned(),
        };
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_str(&challenge).unwrap());
        return response;
    }
    let rest = path.strip_prefix("/v2/").unwrap_or("");
    if rest.is_empty() {
        return full(StatusCode::OK, "{}");
    }
    if let Some((repository, reference)) = rest.split_once("/manifests/") {
        return match state.manifests.get(&(repository.to_owned(), reference.to_owned())) {
            Some((media_type, bytes)) => {
                let mut response = full(StatusCode::OK, bytes.clone());
                response
                    .headers_mut()
                    .insert("content-type", HeaderValue::from_str(media_type).unwrap());
                response
            }
            None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        };
    }
    let Some((_, digest)) = rest.split_once("/blobs/") else {
        return error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such thing");
    };
    let Some(mut bytes) = state.blobs.get(digest).cloned() else {
        return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown");
    };
    if state.lies {
        bytes.reverse();
    }
    let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
    let offset = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let (status, bytes) = match offset.filter(|_| !state.no_ranges) {
        Some(offset) => (StatusCode::PARTIAL_CONTENT, bytes[offset..].to_vec()),
        None => (StatusCode::OK, bytes),
    };
    if state.cut_off == 0 || bytes.len() < 1000 {
        return full(status, bytes);
    }
    state.cut_off -= 1;
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let broken = std::io::Error::other("cut off");
    let body = StreamBody::new(stream::iter([Ok(Frame::data(half)), Err(broken)])).boxed();
    Response::builder()
        .status(status)
        .header("content-length", bytes.len())
        .body(body)
        .unwrap()
}
