//! Connections to the server: one HTTP/1.1 or HTTP/2 connection each, made by hand so that it is known how many there
//! are.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::{Auth, Config, Kubeconfig, Overrides};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// The protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Http {
    /// HTTP/1.1
    #[value(name = "1.1")]
    One,
    /// HTTP/2
    #[value(name = "2")]
    Two,
}

/// Where the server is, and as whom it is spoken to.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
}

/// Credit for answers that are not read at once.
const WINDOW_BYTES: u32 = 4 << 20;

impl Target {
    /// Reads a kubeconfig.
    pub fn load(path: Option<&Path>, context: Option<&str>) -> Result<Target> {
        let kubeconfig = match path {
            Some(path) => Kubeconfig::read(path)?,
            None => Kubeconfig::load()?,
        };
        let overrides = Overrides {
            context: context.map(str::to_owned),
            ..Overrides::default()
        };
        Target::of(&kubeconfig.config(&overrides)?)
    }

    fn of(config: &Config) -> Result<Target> {
        let rest = config
            .server
            .strip_prefix("https://")
            .context("the server is not https")?;
        let authority: http::uri::Authority = rest.trim_end_matches('/').parse().context("the server's address")?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let authorization = match &config.auth {
            Auth::None | Auth::Certificate { .. } => None,
            Auth::Token(token) => Some(HeaderValue::from_str(&format!("Bearer {token}"))?),
            _ => bail!("the user needs a certificate or a token"),
        };
        Ok(Target {
            port: authority.port_u16().unwrap_or(443),
            server_name: ServerName::try_from(name)?,
            tls: Arc::new(client::tls_config(config)?),
            host,
            authorization,
        })
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    /// A new connection.
    pub async fn connect(&self, http: Http) -> Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let mut tls = ClientConfig::clone(&self.tls);
        let protocol: &[u8] = if http == Http::Two { b"h2" } else { b"http/1.1" };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(self.server_name.clone(), stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(protocol) && http == Http::Two {
            bail!("the server does not speak HTTP/2");
        }
        let io = TokioIo::new(stream);
        let sender = match http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(WINDOW_BYTES)
                    .initial_connection_window_size(16 * WINDOW_BYTES)
                    .handshake(io)
                    .await?;
                tokio::spawn(connection);
                Sender::Two(sender)
            }
        };
        Ok(Connection {
            sender,
            authority: HeaderValue::from_str(&format!("{}:{}", self.host, self.port))?,
            authorization: self.authorization.clone(),
        })
    }
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// A connection; over HTTP/2 its clones share it.
pub struct Connection {
    sender: Sender,
    authority: HeaderValue,
    authorization: Option<HeaderValue>,
}

/// What is sent.
pub struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub content_type: &'static str,
    pub accept: &'static str,
    pub body: Bytes,
}

impl Connection {
    /// The same connection for another client; nothing over HTTP/1.1.
    pub fn share(&self) -> Option<Connection> {
        let Sender::Two(sender) = &self.sender else {
            return None;
        };
        Some(Connection {
            sender: Sender::Two(sender.clone()),
            authority: self.authority.clone(),
            authorization: self.authorization.clone(),
        })
    }

    /// Sends a request; the answer's body is still to come.
    pub async fn start(&mut self, call: Call<'_>) -> Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        let two = matches!(self.sender, Sender::Two(_));
        *request.uri_mut() = if two {
            format!("https://{}{}", self.authority.to_str()?, call.path).parse()?
        } else {
            call.path.parse()?
        };
        let headers = request.headers_mut();
        if !two {
            headers.insert(HOST, self.authority.clone());
        }
        headers.insert(USER_AGENT, HeaderValue::from_static("skiff-bench"));
        headers.insert(ACCEPT, HeaderValue::from_static(call.accept));
        if !call.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        }
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        Ok(match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Two(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }

    /// Sends a request and reads the answer: its code and length.
    pub async fn send(&mut self, call: Call<'_>) -> Result<(StatusCode, u64)> {
        let answer = self.start(call).await?;
        let code = answer.status();
        let mut body = answer.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok((code, length))
    }

    /// Sends a request and keeps the answer's body.
    pub async fn fetch(&mut self, call: Call<'_>) -> Result<(StatusCode, Bytes)> {
        let answer = self.start(call).await?;
        let code = answer.status();
        Ok((code, answer.into_body().collect().await?.to_bytes()))
    }
}
