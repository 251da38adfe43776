//! The node's HTTPS API, as upstream's kubelet serves it on port 10250 (pkg/kubelet/server/server.go).

mod auth;
mod exec;
mod follow;
mod forward;
mod logs;
mod lookup;
mod metrics;
mod stats;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::context::Context;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What is answered when something is wrong.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            message: message.into(),
        }
    }

    pub fn bad(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn internal(message: impl ToString) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message.to_string())
    }
}

pub(crate) type Answer = Result<Response<Body>, Refusal>;

/// What the server's requests share.
pub(crate) struct Server {
    pub ctx: Arc<Context>,
    auth: auth::Auth,
    usage: stats::Samples,
    pub tasks: TaskTracker,
}

/// Serves until the node stops.
pub(crate) async fn serve(ctx: Arc<Context>, listener: TcpListener) {
    let Some(config) = ctx.config.server.clone() else {
        return;
    };
    let acceptor = TlsAcceptor::from(config.tls);
    let server = Arc::new(Server {
        auth: auth::Auth::new(ctx.client().clone(), ctx.config.name.clone()),
        usage: stats::Samples::default(),
        tasks: TaskTracker::new(),
        ctx: ctx.clone(),
    });
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of descriptors, most likely: closing others makes room.
                    tracing::warn!(%error, "cannot accept a connection to the node's API");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = ctx.stop.cancelled() => return,
        };
        let (server, acceptor) = (server.clone(), acceptor.clone());
        tokio::spawn(async move {
            let stop = server.ctx.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(server, acceptor, socket) => {}
            }
        });
    }
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake did not end in time"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = Arc::new(certificate.and_then(|der| auth::User::of_certificate(der)));
    let service = service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(server.handle(request, &peer).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(error, "connection to the node's API ended");
    }
}

impl Server {
    async fn handle(self: &Arc<Self>, request: Request<Incoming>, peer: &Option<auth::User>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_string());
        let answer = async {
            let user = match peer {
                Some(user) => user.clone(),
                None => self.auth.of_token(request.headers()).await?,
            };
            self.auth.authorize(&user, &method, &path).await?;
            self.route(request).await
        }
        .await;
        answer.unwrap_or_else(|refusal| {
            tracing::debug!(%method, path, status = refusal.status.as_u16(), message = refusal.message, "refused");
            text(refusal.status, refusal.message)
        })
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().trim_end_matches('/').to_string();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match (parts.as_slice(), reads) {
            (["healthz" | "livez" | "readyz"] | ["healthz", "ping" | "log" | "syncloop"], true) => {
                Ok(text(StatusCode::OK, "ok"))
            }
            (["pods"], true) => Ok(lookup::pods(&self.ctx)),
            (["runningpods"], true) => lookup::running_pods(&self.ctx).await,
            (["containerLogs", namespace, pod, container], true) => {
                let query = Query::of(request.uri());
                logs::answer(self, namespace, pod, container, &query).await
            }
            (["exec", namespace, pod, rest @ ..], _) => {
                self.exec(namespace, pod, rest, request, exec::Kind::Exec).await
            }
            (["attach", namespace, pod, rest @ ..], _) => {
                self.exec(namespace, pod, rest, request, exec::Kind::Attach).await
            }
            (["run", namespace, pod, rest @ ..], false) => {
                let (uid, container) = split(rest)?;
                exec::run(self, namespace, pod, uid, container, &Query::of(request.uri())).await
            }
            (["portForward", namespace, pod, rest @ ..], _) if rest.len() <= 1 => {
                forward::answer(self, namespace, pod, rest.first().copied(), request).await
            }
            (["stats"] | ["stats", "summary"], true) => stats::summary(&self.ctx, &self.usage).await,
            (["metrics"], true) => metrics::own(&self.ctx).await,
            (["metrics", "resource"], true) => metrics::resource(&self.ctx).await,
            (["metrics", "cadvisor" | "probes"], true) => Ok(text(StatusCode::OK, "")),
            (["configz"], true) => Ok(json(&lookup::configuration(&self.ctx))),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
        }
    }

    async fn exec(
        self: &Arc<Self>,
        namespace: &str,
        pod: &str,
        rest: &[&str],
        request: Request<Incoming>,
        kind: exec::Kind,
    ) -> Answer {
        let (uid, container) = split(rest)?;
        exec::answer(self, namespace, pod, uid, container, request, kind).await
    }
}

/// `[uid/]container`.
fn split<'a>(rest: &[&'a str]) -> Result<(Option<&'a str>, &'a str), Refusal> {
    match rest {
        [container] => Ok((None, container)),
        [uid, container] => Ok((Some(uid), container)),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    }
}

/// A request's query.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(uri: &http::Uri) -> Query {
        let pairs = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decoded(key), decoded(value))
                })
                .collect(),
        )
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, v)| k == key && !v.is_empty())
            .map(|(_, value)| value.as_str())
    }

    pub fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub fn is_set(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True" | "TRUE" | "t" | "T"))
    }

    pub fn number(&self, key: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::bad(format!("invalid value {text:?} of {key}: it must be a number")))
    }
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", full(message.into()))
}

pub(crate) fn json(value: &impl serde::Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    answer(StatusCode::OK, "application/json", full(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::of(
            &"/x?command=ls&command=-l+a%2Fb&input=1&tty=false&tailLines=x"
                .parse()
                .unwrap(),
        );
        assert_eq!(query.all("command"), ["ls", "-l a/b"]);
        assert!(query.is_set("input") && !query.is_set("tty"));
        assert!(query.number("tailLines").is_err());
        assert_eq!(query.number("none").unwrap(), None);
    }
}
