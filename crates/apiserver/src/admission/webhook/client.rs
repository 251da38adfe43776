//! The HTTPS calls: HTTP/1.1 with connections kept, never through a proxy
//! (upstream `util/webhook/client.go`).

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::{Status, Value};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::configuration::{Endpoint, Hook};
use super::credentials::{Credentials, Login};
use super::destination;
use crate::state::State;

/// An answer longer than this is a failed call.
const ANSWER_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// How many webhooks' connections are kept.
const KEPT: usize = 128;

/// A call that brought no answer.
#[derive(Debug)]
pub(in crate::admission) struct CallError {
    pub message: String,
    /// The HTTP status it is counted under.
    pub code: u16,
}

impl CallError {
    fn new(message: impl Into<String>) -> CallError {
        CallError {
            message: message.into(),
            code: 400,
        }
    }
}

/// Who is called, and whom we believe.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// `host:port` as the certificate and the kubeconfig know it.
    authority: String,
    ca_bundle: Vec<u8>,
}

struct Kept {
    client: legacy::Client<HttpsConnector<Dial>, Full<Bytes>>,
    authorization: Option<HeaderValue>,
    /// Where new connections go.
    target: Arc<Mutex<(String, u16)>>,
}

/// The connections to webhooks.
pub(super) struct Clients {
    credentials: Credentials,
    kept: Mutex<HashMap<Key, Arc<Kept>>>,
}

impl Clients {
    /// # Errors
    /// If the settings cannot be used.
    pub fn new(settings: Option<&Value>) -> Result<Clients, String> {
        Credentials::read(settings).map(Clients::with)
    }

    /// Calls with these credentials.
    pub fn with(credentials: Credentials) -> Clients {
        Clients {
            credentials,
            kept: Mutex::default(),
        }
    }

    /// Sends a review and returns the answer's body.
    ///
    /// # Errors
    /// If there is none within the webhook's timeout.
    pub async fn post(&self, state: &State, hook: &Hook, body: Bytes) -> Result<Bytes, CallError> {
        let (authority, path, target) = locate(state, hook).await?;
        let key = Key {
            authority: authority.clone(),
            ca_bundle: hook.ca_bundle.clone(),
        };
        let kept = self.kept(key, target)?;
        let url = format!(
            "https://{}{path}?timeout={}s",
            authority
                .strip_suffix(":443")
                .filter(|_| !is_service(hook))
                .unwrap_or(&authority),
            hook.timeout.as_secs()
        );
        let mut request = Request::post(&url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission");
        if let Some(value) = &kept.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| CallError::new(format!("Unparsable URL: {error}")))?;
        let failed = |why: &str| {
            CallError::new(format!(
                "failed to call webhook: Post {}: {why}",
                api::field::go_quote(&url)
            ))
        };
        match tokio::time::timeout(hook.timeout, exchange(&kept, request)).await {
            Err(_) => Err(failed("context deadline exceeded")),
            Ok(Err(Exchange::Broken(why))) => Err(failed(&why)),
            Ok(Err(Exchange::Refused(status))) => Err(CallError {
                message: format!("failed to call webhook: {}", status.message),
                code: status.code,
            }),
            Ok(Ok(body)) => Ok(body),
        }
    }

    fn kept(&self, key: Key, target: (String, u16)) -> Result<Arc<Kept>, CallError> {
        let mut all = self.kept.lock();
        if let Some(kept) = all.get(&key) {
            *kept.target.lock() = target;
            return Ok(kept.clone());
        }
        let refused = |error: String| CallError::new(format!("could not get REST client: {error}"));
        let login = self.credentials.login(&key.authority).map_err(refused)?;
        let kept = Arc::new(Kept::new(&key, login, target).map_err(refused)?);
        if all.len() >= KEPT {
            // Whoever is still called gets a new connection.
            all.clear();
        }
        all.insert(key, kept.clone());
        Ok(kept)
    }
}

fn is_service(hook: &Hook) -> bool {
    matches!(hook.endpoint, Endpoint::Service { .. })
}

/// Authority and path of the URL, and where to connect to.
async fn locate(state: &State, hook: &Hook) -> Result<(String, String, (String, u16)), CallError> {
    let rooted = |path: &str| format!("/{}", path.trim_matches('/'));
    match &hook.endpoint {
        Endpoint::Service {
            namespace,
            name,
            path,
            port,
        } => {
            let authority = format!("{name}.{namespace}.svc:{port}");
            let target = destination::of_service(state, namespace, name, *port)
                .await
                .map_err(|why| {
                    let url = format!(
                        "https://{authority}{}?timeout={}s",
                        rooted(path),
                        hook.timeout.as_secs()
                    );
                    CallError::new(format!(
                        "failed to call webhook: Post {}: {why}",
                        api::field::go_quote(&url)
                    ))
                })?;
            Ok((authority, rooted(path), target))
        }
        Endpoint::Url(url) => {
            let bad = |why: &str| CallError::new(format!("could not get REST client: Unparsable URL: {why}"));
            let uri: Uri = url
                .parse()
                .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
            if uri.scheme_str() != Some("https") {
                return Err(bad("'https' is the only allowed URL scheme"));
            }
            let host = uri.host().ok_or_else(|| bad("host must be specified"))?;
            let port = uri.port_u16().unwrap_or(443);
            let address = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Ok((format!("{host}:{port}"), rooted(uri.path()), (address, port)))
        }
        Endpoint::None => Err(CallError::new(
            "could not get REST client: webhook configuration must have either service or URL",
        )),
    }
}

impl Kept {
    fn new(key: &Key, login: Login, target: (String, u16)) -> Result<Kept, String> {
        let host = key
            .authority
            .rsplit_once(':')
            .map_or(key.authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(&key.ca_bundle)?);
        let tls = match login.certificate {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| error.to_string())?,
            None => builder.with_no_client_auth(),
        };
        let target = Arc::new(Mutex::new(target));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .with_server_name_resolver(FixedServerNameResolver::new(name))
            .enable_http1()
            .wrap_connector(Dial(target.clone()));
        Ok(Kept {
            client: legacy::Client::builder(TokioExecutor::new()).build(connector),
            authorization: login.authorization,
            target,
        })
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if pem.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    }
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
    }
    Ok(roots)
}

/// Connects to where the webhook is now, whatever its URL says.
#[derive(Clone)]
struct Dial(Arc<Mutex<(String, u16)>>);

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (host, port) = self.0.lock().clone();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| {
                let why = io_text(&error);
                std::io::Error::other(format!("dial tcp {host}:{port}: connect: {why}"))
            })?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// How an exchange ended without an answer.
enum Exchange {
    /// No HTTP answer.
    Broken(String),
    /// One that is no success.
    Refused(Status),
}

async fn exchange(kept: &Kept, request: Request<Full<Bytes>>) -> Result<Bytes, Exchange> {
    let response = kept
        .client
        .request(request)
        .await
        .map_err(|error| Exchange::Broken(explain(&error)))?;
    let (parts, body) = response.into_parts();
    let body = match Limited::new(body, ANSWER_LIMIT_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            let why = format!("unexpected error when reading response body. Please retry. Original error: {error}");
            return Err(Exchange::Refused(Status::failure(500, "", why)));
        }
    };
    let code = parts.status.as_u16();
    if !(200..=206).contains(&code) {
        return Err(Exchange::Refused(refusal(code, &body)));
    }
    if body.is_empty() {
        let kind = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        let why = format!("0-length response with status code: {code} and content type: {kind}");
        return Err(Exchange::Refused(Status::bad_request(why)));
    }
    Ok(body)
}

/// An error answer: the Status in it, or what client-go makes of the code.
fn refusal(code: u16, body: &[u8]) -> Status {
    let status: Option<Status> = serde_json::from_slice::<Value>(body)
        .ok()
        .filter(|value| value["kind"] == "Status" && value["status"] != "Success")
        .and_then(|value| serde_json::from_value(value).ok());
    status.unwrap_or_else(|| Status::from_http(code, "POST", &String::from_utf8_lossy(body)))
}

/// What went wrong, as Go would say it where that is known.
fn explain(error: &legacy::Error) -> String {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(error) = at {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_text(tls);
        }
        // An I/O error hides what it was made of from `source`.
        let io = error.downcast_ref::<std::io::Error>();
        last = io.map_or_else(|| error.to_string(), io_text);
        at = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    last
}

fn tls_text(error: &rustls::Error) -> String {
    use rustls::CertificateError;
    let certificate = |why: &str| format!("tls: failed to verify certificate: x509: {why}");
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                certificate("certificate signed by unknown authority")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                certificate("certificate has expired or is not yet valid")
            }
            other => certificate(&other.to_string()),
        },
        other => format!("tls: {other}"),
    }
}

fn io_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.to_string(),
    }
}
