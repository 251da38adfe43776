//! The transport over TCP: HTTP/2 where the server offers it, HTTP/1.1 for upgrades.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::client::{failure, read_body};
use crate::token::{TokenFile, bearer};
use crate::{Auth, Body, BoxFuture, ClientError, Config, ConfigError, Transport, Upgraded, tls};

type Hyper = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Many watches share one HTTP/2 connection: an unread one must not use up the others' credit.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

enum Credentials {
    None,
    Header(HeaderValue),
    File(TokenFile),
}

/// HTTP or HTTPS to one server.
pub struct HttpsTransport {
    http: Hyper,
    http1: Hyper,
    base: Base,
    credentials: Credentials,
    headers: HeaderMap,
}

struct Base {
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    prefix: String,
}

impl HttpsTransport {
    /// Prepares the transport; connections are made when needed.
    ///
    /// # Errors
    /// The address, certificates or credentials are unusable.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let tls = tls::client_config(&config)?;
        let server_name = match &config.tls_server_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|error| ConfigError::Tls {
                what: "tls-server-name",
                reason: error.to_string(),
            })?),
        };
        Ok(Self {
            http: hyper_client(connector(tls.clone(), server_name.clone(), true)),
            http1: hyper_client(connector(tls, server_name, false)),
            base: Base::parse(&config.server)?,
            headers: impersonation(&config)?,
            credentials: credentials(config.auth)?,
        })
    }

    async fn prepare(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, ClientError> {
        let (mut head, body) = request.into_parts();
        head.uri = self.base.join(&head.uri)?;
        for (name, value) in &self.headers {
            head.headers.append(name.clone(), value.clone());
        }
        match &self.credentials {
            Credentials::None => {}
            Credentials::Header(value) => {
                head.headers.insert(AUTHORIZATION, value.clone());
            }
            Credentials::File(file) => {
                head.headers.insert(AUTHORIZATION, file.header().await?);
            }
        }
        Ok(Request::from_parts(head, Full::new(body)))
    }
}

impl Transport for HttpsTransport {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        Box::pin(async move {
            let response = send(&self.http, self.prepare(request).await?).await?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }

    fn upgrade(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<(Response<()>, Upgraded), ClientError>> {
        Box::pin(async move {
            let (path, method) = (request.uri().path().to_owned(), request.method().clone());
            let mut request = self.prepare(request).await?;
            request
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            let mut response = send(&self.http1, request).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let code = response.status();
                let response = response.map(|body| body.map_err(Into::into).boxed_unsync());
                return Err(failure(code, &method, &read_body(response, &path).await?).into());
            }
            let upgraded = hyper::upgrade::on(&mut response)
                .await
                .map_err(|source| ClientError::Upgrade {
                    path,
                    source: source.into(),
                })?;
            let (head, _) = response.into_parts();
            let stream: Upgraded = Box::new(TokioIo::new(upgraded));
            Ok((Response::from_parts(head, ()), stream))
        })
    }
}

async fn send(client: &Hyper, request: Request<Full<Bytes>>) -> Result<Response<hyper::body::Incoming>, ClientError> {
    let (method, url) = (request.method().to_string(), request.uri().to_string());
    client.request(request).await.map_err(|source| ClientError::Send {
        method,
        url,
        source: source.into(),
    })
}

impl Base {
    fn parse(server: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::Server {
            server: server.to_owned(),
        };
        let with_scheme = if server.contains("://") {
            server.to_owned()
        } else {
            format!("https://{server}")
        };
        let parts = with_scheme.parse::<Uri>().map_err(|_| bad())?.into_parts();
        let scheme = parts.scheme.ok_or_else(bad)?;
        if scheme != http::uri::Scheme::HTTP && scheme != http::uri::Scheme::HTTPS {
            return Err(bad());
        }
        let prefix = parts.path_and_query.map(|p| p.path().trim_end_matches('/').to_owned());
        Ok(Self {
            scheme,
            authority: parts.authority.ok_or_else(bad)?,
            prefix: prefix.unwrap_or_default(),
        })
    }

    fn join(&self, uri: &Uri) -> Result<Uri, ClientError> {
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.prefix))
            .build()
            .map_err(|source| ClientError::BuildRequest {
                path: path.to_owned(),
                source,
            })
    }
}

fn connector(tls: ClientConfig, name: Option<ServerName<'static>>, http2: bool) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(30)));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let builder = builder.enable_http1();
    if http2 {
        builder.enable_http2().wrap_connector(tcp)
    } else {
        builder.wrap_connector(tcp)
    }
}

fn hyper_client(connector: HttpsConnector<HttpConnector>) -> Hyper {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_keep_alive_while_idle(true)
        .build(connector)
}

fn credentials(auth: Auth) -> Result<Credentials, ConfigError> {
    Ok(match auth {
        Auth::None | Auth::Certificate { .. } => Credentials::None,
        Auth::Token(token) => Credentials::Header(bearer(&token)?),
        Auth::TokenFile(path) => Credentials::File(TokenFile::new(path)),
        Auth::Basic { username, password } => {
            let text = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
            let mut value = HeaderValue::from_str(&text).map_err(|_| ConfigError::Header {
                what: "the user name and password",
            })?;
            value.set_sensitive(true);
            Credentials::Header(value)
        }
    })
}

fn impersonation(config: &Config) -> Result<HeaderMap, ConfigError> {
    let value = |text: &String| {
        HeaderValue::from_str(text).map_err(|_| ConfigError::Header {
            what: "the impersonated user",
        })
    };
    let mut headers = HeaderMap::new();
    if let Some(user) = &config.impersonate_user {
        headers.insert(HeaderName::from_static("impersonate-user"), value(user)?);
    }
    for group in &config.impersonate_groups {
        headers.append(HeaderName::from_static("impersonate-group"), value(group)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_kept() {
        let base = Base::parse("https://h:1/prefix/").expect("a URL");
        let uri = base
            .join(&"/api/v1/pods?limit=1".parse().expect("a path"))
            .expect("joins");
        assert_eq!(uri.to_string(), "https://h:1/prefix/api/v1/pods?limit=1");
        assert!(Base::parse("ftp://h").is_err());
        assert_eq!(Base::parse("h:6443").expect("a URL").scheme.as_str(), "https");
    }
}
