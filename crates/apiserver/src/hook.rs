//! Calling webhooks: a URL or a Service, trusted by the bundle of authorities that its configuration
//! has (`apiserver/pkg/util/webhook`).

use std::sync::Arc;
use std::time::Duration;

use api::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::endpoints;
use crate::state::State;

/// The longest answer that is read.
const ANSWER_BYTES: usize = 256 << 20;

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Url(Uri),
    Service {
        namespace: String,
        name: String,
        port: u16,
        path: String,
    },
}

/// A webhook that can be called.
pub(crate) struct Hook {
    target: Target,
    tls: Arc<ClientConfig>,
}

impl Hook {
    /// From a `clientConfig`.
    ///
    /// # Errors
    /// If it names no place or holds no certificates.
    pub fn new(config: &Value) -> Result<Hook, String> {
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let bundle = STANDARD.decode(bundle).map_err(|e| e.to_string())?;
        Ok(Hook {
            target: target(config)?,
            tls: Arc::new(trust(&bundle)?),
        })
    }

    /// Posts a document and returns the answer's.
    ///
    /// # Errors
    /// What went wrong, as the client of the API is told.
    pub async fn post(&self, state: &State, document: Bytes, timeout: Duration) -> Result<Bytes, String> {
        let url = self.url();
        let posted = tokio::time::timeout(timeout, self.exchange(state, document)).await;
        let failed = |why: String| format!("Post {}: {why}", api::field::go_quote(&url));
        match posted {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    /// As error messages show it.
    fn url(&self) -> String {
        match &self.target {
            Target::Url(uri) => uri.to_string(),
            Target::Service {
                namespace,
                name,
                port,
                path,
            } => format!("https://{name}.{namespace}.svc:{port}{path}"),
        }
    }

    async fn exchange(&self, state: &State, document: Bytes) -> Result<Bytes, String> {
        let (stream, name, path, host) = match &self.target {
            Target::Url(uri) => {
                let host = uri.host().unwrap_or_default();
                let bare = host.trim_matches(['[', ']']).to_owned();
                let port = uri.port_u16().unwrap_or(443);
                let stream = TcpStream::connect((bare.as_str(), port))
                    .await
                    .map_err(|e| format!("dial tcp {host}:{port}: {e}"))?;
                let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
                (stream, bare, path, format!("{host}:{port}"))
            }
            Target::Service {
                namespace,
                name,
                port,
                path,
            } => {
                let stream = endpoints::connect(state, namespace, name, *port).await?;
                let host = format!("{name}.{namespace}.svc");
                (stream, host.clone(), path.clone(), format!("{host}:{port}"))
            }
        };
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await
            .map_err(|e| format!("tls: failed to verify certificate: {e}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(document))
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string());
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                driver.abort();
                return Err(why);
            }
        };
        let code = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        driver.abort();
        let body = body.map_err(|e| e.to_string())?.to_bytes();
        if !code.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(format!(
                "the server responded with status code {}: {}",
                code.as_u16(),
                text.chars().take(256).collect::<String>().trim()
            ));
        }
        Ok(body)
    }
}

fn target(config: &Value) -> Result<Target, String> {
    if let Some(url) = config["url"].as_str() {
        let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(format!("{url}: not a URL of https"));
        }
        return Ok(Target::Url(uri));
    }
    let service = &config["service"];
    let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
    if text("name").is_empty() {
        return Err("webhook configuration must have either service or URL".to_owned());
    }
    let path = match text("path") {
        path if path.is_empty() => "/".to_owned(),
        path if path.starts_with('/') => path,
        path => format!("/{path}"),
    };
    let port = service["port"].as_u64().and_then(|p| u16::try_from(p).ok());
    Ok(Target::Service {
        namespace: text("namespace"),
        name: text("name"),
        port: port.unwrap_or(443),
        path,
    })
}

/// TLS that trusts a bundle, or, if it is empty, the system's authorities.
///
/// # Errors
/// If the bundle holds no certificate.
fn trust(bundle: &[u8]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots(bundle)?)
        .with_no_client_auth())
}

/// The authorities of a bundle, or, if it is empty, the system's.
///
/// # Errors
/// If the bundle holds no certificate.
pub(crate) fn roots(bundle: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let blocks = pem::parse_many(bundle).map_err(|e| e.to_string())?;
        for block in blocks.into_iter().filter(|b| b.tag() == "CERTIFICATE") {
            let der = CertificateDer::from(block.into_contents());
            roots.add(der).map_err(|e| e.to_string())?;
        }
        if roots.is_empty() {
            return Err("unable to load root certificates: no valid certificate data seen".to_owned());
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets() {
        let service = target(&json!({"service": {"namespace": "n", "name": "s", "path": "convert"}})).unwrap();
        let want = Target::Service {
            namespace: "n".into(),
            name: "s".into(),
            port: 443,
            path: "/convert".into(),
        };
        assert_eq!(service, want);
        assert!(target(&json!({"url": "http://x"})).is_err());
        assert!(target(&json!({})).is_err());
        assert!(trust(b"nonsense").is_err());
    }
}
