//! HTTP/1.1 and HTTP/2 over TLS.

mod gather;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aggregation::FrontProxy;
use crate::authn::user_of_certificate;
use crate::body::{self, Body};
use crate::server::{ApiServer, Peer};
use gather::Gathered;

/// Streams a client may have open on one HTTP/2 connection (watches above all).
const STREAMS_A_CONNECTION: u32 = 2000;
/// The longest header block.
const HEADER_LIMIT_BYTES: usize = 1024 * 1024;
/// How long a client may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long open requests may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(20);

impl ApiServer {
    /// Serves until `shutdown`; then turns unready, ends watches, and waits for open requests.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<ServerConfig>, shutdown: CancellationToken) {
        let acceptor = TlsAcceptor::from(tls);
        let connections = TaskTracker::new();
        let ending = CancellationToken::new();
        let mut leaving = false;
        let stop = self.leave(&shutdown);
        tokio::pin!(stop);
        while !leaving {
            let accepted = tokio::select! {
                () = &mut stop => {
                    leaving = true;
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let connection = connection(self.clone(), acceptor.clone(), stream, address, ending.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: give connections time to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.drain();
        drop(listener);
        ending.cancel();
        connections.close();
        if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "requests were still open at shutdown");
        }
    }
}

impl ApiServer {
    /// Waits for the end: unready first, and then serving for a while, so that whoever sends requests here can go
    /// elsewhere.
    async fn leave(&self, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        self.state.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.state.shutdown_delay).await;
    }
}

/// The requests of one connection.
#[derive(Clone)]
struct Requests {
    server: ApiServer,
    peer: Peer,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Requests { server, peer } = self.clone();
        Box::pin(async move { Ok(server.handle(request.map(body::boxed), peer).await) })
    }
}

/// The common name of a front proxy's certificate; none if it is not one that is believed.
fn front_proxy_of(
    known: &FrontProxy,
    certificate: &CertificateDer<'static>,
    intermediates: &[CertificateDer<'static>],
) -> Option<String> {
    let now = UnixTime::now();
    known
        .verifier
        .verify_client_cert(certificate, intermediates, now)
        .ok()?;
    let name = user_of_certificate(certificate)?.name;
    let allowed = known.allowed_names.is_empty() || known.allowed_names.contains(&name);
    allowed.then_some(name)
}

/// Whom the client's certificate identifies, if it has shown one.
fn peer_of_certificate(
    verifier: Option<&dyn ClientCertVerifier>,
    front_proxies: Option<&FrontProxy>,
    chain: Option<&[CertificateDer<'static>]>,
    address: SocketAddr,
) -> Peer {
    let mut peer = Peer {
        address: Some(address),
        ..Peer::default()
    };
    let Some((certificate, intermediates)) = chain.and_then(<[_]>::split_first) else {
        return peer;
    };
    if let Some(name) = front_proxies.and_then(|known| front_proxy_of(known, certificate, intermediates)) {
        // Without names in headers, such a certificate identifies nobody.
        peer.front_proxy = Some(name);
        peer.bad_certificate = Some("a front proxy's certificate names no user".to_owned());
        return peer;
    }
    let verified = verifier.map_or(Ok(()), |verifier| {
        verifier
            .verify_client_cert(certificate, intermediates, UnixTime::now())
            .map(drop)
    });
    match verified {
        Ok(()) => peer.user = user_of_certificate(certificate),
        Err(error) => {
            tracing::debug!(%address, %error, "a client's certificate is not good");
            peer.bad_certificate = Some(error.to_string());
        }
    }
    peer
}

/// Whose turn it is, lets first whatever else is ready run: what the requests of one connection have to send then goes
/// out together, in fewer records and system calls.
#[derive(Default)]
struct LastInLine {
    waited: bool,
}

impl LastInLine {
    fn poll<F: Future>(&mut self, context: &mut Context<'_>, work: Pin<&mut F>) -> Poll<F::Output> {
        if self.waited {
            self.waited = false;
            return work.poll(context);
        }
        self.waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn connection(
    server: ApiServer,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    ending: CancellationToken,
) {
    // Small answers must not wait for more to send.
    drop(stream.set_nodelay(true));
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            server.state.metrics.handshake_errors.of(&[]).inc();
            tracing::debug!(%address, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake timed out");
            return;
        }
    };
    let chain = stream.get_ref().1.peer_certificates();
    let peer = peer_of_certificate(
        server.state.client_certificates.as_deref(),
        server.state.front_proxy.get(),
        chain,
        address,
    );
    let service = Requests { server, peer };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(HEADER_LIMIT_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_A_CONNECTION)
        .max_header_list_size(HEADER_LIMIT_BYTES as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let stream = Gathered::new(stream);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream.clone()), service);
    tokio::pin!(connection);
    let mut line = LastInLine::default();
    let mut ending = Some(Box::pin(ending.cancelled_owned()));
    let ended = std::future::poll_fn(|context| {
        if let Some(end) = &mut ending
            && end.as_mut().poll(context).is_ready()
        {
            ending = None;
            connection.as_mut().graceful_shutdown();
        }
        let polled = line.poll(context, connection.as_mut());
        // What is left is sent when the stream takes it.
        let _ = stream.poll_send(context);
        polled
    });
    let ended = ended.await;
    stream.pass_through();
    if ended.is_ok() {
        // Whoever took the connection over may wait for an answer to what was said last.
        let sent = std::future::poll_fn(|context| stream.poll_send(context));
        let _ = tokio::time::timeout(DRAIN, sent).await;
    }
    if let Err(error) = ended {
        tracing::debug!(%address, error = %error, "a connection ended badly");
    }
}
