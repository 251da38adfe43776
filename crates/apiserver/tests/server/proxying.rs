//! TLS serving, and connections passed on to a node agent.

use std::sync::Arc;

use apiserver::kind::{Connect, Kind, Subresource};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::harness::{self, Server, rbac_kinds, server_with};

/// An authority, and certificates of it.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority {
            issuer: rcgen::Issuer::new(params, key),
            der,
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    fn issue(
        &self,
        name: &str,
        group: &str,
    ) -> (
        Vec<rustls::pki_types::CertificateDer<'static>>,
        PrivatePkcs8KeyDer<'static>,
    ) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, name);
        subject.push(rcgen::DnType::OrganizationName, group);
        params.distinguished_name = subject;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()),
        )
    }

    pub fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (chain, key) = self.issue("server", "servers");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key.into())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub fn client(&self, name: &str, group: &str, protocol: &str) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (chain, key) = self.issue(name, group);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key.into())
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

/// A node agent that says what it was asked, and echoes upgraded connections.
async fn kubelet(authority: &Authority) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(authority.server(&["http/1.1"]));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let known = stream.get_ref().1.peer_certificates().is_some();
            let service = service_fn(move |request| answer(request, known));
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                connection.await.unwrap();
            });
        }
    });
    port
}

async fn answer(
    mut request: Request<Incoming>,
    known: bool,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    assert!(!request.headers().contains_key("authorization"));
    if request.headers().contains_key("upgrade") {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "SPDY/3.1".parse().unwrap());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer).await.unwrap();
            stream.write_all(&buffer).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        return Ok(response);
    }
    match request.uri().path() {
        "/page" => {
            let mut page = Response::new(Full::from("<a href=\"/logs/\">logs</a><a href=\"x\">x</a>"));
            page.headers_mut()
                .insert("content-type", "text/html; charset=utf-8".parse().unwrap());
            page.headers_mut()
                .insert("access-control-allow-origin", "*".parse().unwrap());
            return Ok(page);
        }
        "/moved" => {
            let mut moved = Response::new(Full::default());
            *moved.status_mut() = StatusCode::FOUND;
            moved.headers_mut().insert("location", "/page".parse().unwrap());
            return Ok(moved);
        }
        "/containerLogs/ns/p/gone" => {
            let mut missing = Response::new(Full::from("no such container\n"));
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return Ok(missing);
        }
        _ => {}
    }
    Ok(Response::new(Full::from(format!(
        "{} {} {known}",
        request.method(),
        request.uri()
    ))))
}

/// A cluster of one node and one pod, served over TLS.
async fn cluster(authority: &Authority) -> (Server, u16, CancellationToken) {
    let agent = kubelet(authority).await;
    cluster_of(authority, agent, &[]).await
}

/// The same whose node agent listens at a port and declares features.
pub async fn cluster_of(authority: &Authority, agent: u16, features: &[&str]) -> (Server, u16, CancellationToken) {
    let mut kinds = harness::kinds();
    let pods = kinds.pop().unwrap();
    kinds.push(
        pods.subresource(Subresource::connect(Connect::Log))
            .subresource(Subresource::connect(Connect::Exec))
            .subresource(Subresource::connect(Connect::Attach))
            .subresource(Subresource::connect(Connect::PortForward))
            .subresource(Subresource::connect(Connect::PodProxy)),
    );
    kinds.push(
        Kind::cluster("", "v1", "Node", "nodes")
            .with_status()
            .subresource(Subresource::connect(Connect::NodeProxy)),
    );
    kinds.extend(rbac_kinds());
    let tls = authority.client("apiserver", "system:masters", "http/1.1");
    let server = server_with(kinds, |config| config.kubelet_tls = Some(tls)).await;
    server.namespace("ns").await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "declaredFeatures": features,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": agent}}}});
    let merge = "application/merge-patch+json";
    server.patch("/api/v1/nodes/n/status", merge, &status).await.expect(200);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}],
            "initContainers": [{"name": "gone", "image": "i"}]}});
    server.post("/api/v1/namespaces/ns/pods", &pod).await.expect(201);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shutdown = CancellationToken::new();
    let (api, tls, ending) = (
        server.api.clone(),
        authority.server(&["h2", "http/1.1"]),
        shutdown.clone(),
    );
    tokio::spawn(async move { api.serve(listener, tls, ending).await });
    (server, port, shutdown)
}

pub async fn connect(port: u16, tls: Arc<ClientConfig>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(tls).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn logs_and_node_requests_are_passed_on() {
    let authority = Authority::new();
    let (server, _, _) = cluster(&authority).await;
    let logs = server
        .get("/api/v1/namespaces/ns/pods/p/log?follow=true&tailLines=3")
        .await;
    assert_eq!(logs.text(), "GET /containerLogs/ns/p/c?follow=true&tailLines=3 true");
    let wrong = server
        .get("/api/v1/namespaces/ns/pods/p/log?container=x")
        .await
        .expect(400);
    assert_eq!(wrong["message"], "container x is not valid for pod p");
    let node = server.get("/api/v1/nodes/n/proxy/metrics/cadvisor?a=b").await;
    assert_eq!(node.text(), "GET /metrics/cadvisor?a=b true");
    server.get("/api/v1/namespaces/ns/pods/none/log").await.expect(404);
}

#[tokio::test]
async fn upgraded_connections_are_tunnelled() {
    let authority = Authority::new();
    let (_server, port, _shutdown) = cluster(&authority).await;
    let stream = connect(port, authority.client("root", "system:masters", "http/1.1")).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/namespaces/ns/pods/p/exec?command=sh&command=-c&stdin=true&stderr=false")
        .header("host", "127.0.0.1")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).await.unwrap();
    assert_eq!(echoed, b"hello");
}

#[tokio::test]
async fn http2_identifies_by_certificate_and_drains() {
    let authority = Authority::new();
    let (_server, port, shutdown) = cluster(&authority).await;
    let stream = connect(port, authority.client("jane", "dev", "h2")).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let get = |path: &str| {
        Request::builder()
            .uri(format!("https://127.0.0.1{path}"))
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    let response = sender.send_request(get("/api/v1/pods")).await.unwrap();
    assert_eq!(response.status(), 403);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("User \\\"jane\\\" cannot list"));
    shutdown.cancel();
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn refusals_of_the_node_become_statuses() {
    let authority = Authority::new();
    let (server, _, _) = cluster(&authority).await;
    let logs = "/api/v1/namespaces/ns/pods/p/log";
    let missing = server.get(&format!("{logs}?container=gone")).await.expect(404);
    assert_eq!(missing["details"]["causes"][0]["message"], "no such container");
    let refused = server.get(&format!("{logs}?tailLines=-1")).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("tailLines"));
    let unverified = server.get(&format!("{logs}?insecureSkipTLSVerifyBackend=true")).await;
    assert_eq!(unverified.text(), "GET /containerLogs/ns/p/c true");
}

#[tokio::test]
async fn proxied_pages_lead_through_the_proxy() {
    let authority = Authority::new();
    let (server, _, _) = cluster(&authority).await;
    let proxy = "/api/v1/nodes/n/proxy";
    let bare = server.get(&format!("{proxy}?a=b")).await;
    assert_eq!(bare.code, 301);
    assert_eq!(bare.headers["location"], "/api/v1/nodes/n/proxy/?a=b");
    for method in ["DELETE", "OPTIONS", "PATCH", "POST", "PUT"] {
        let passed = server.call(method, proxy, None).await;
        assert_eq!((passed.code, passed.text()), (200, format!("{method} / true")));
    }
    assert_eq!(server.call("HEAD", proxy, None).await.code, 301);
    assert_eq!(server.call("HEAD", &format!("{proxy}/x"), None).await.code, 200);
    assert_eq!(server.call("HEAD", "/api/v1/nodes/n", None).await.code, 405);
    let page = server.get(&format!("{proxy}/page")).await;
    assert_eq!(
        page.text(),
        "<a href=\"/api/v1/nodes/n/proxy/logs/\">logs</a><a href=\"x\">x</a>"
    );
    assert!(!page.headers.contains_key("access-control-allow-origin"));
    let moved = server.get(&format!("{proxy}/moved")).await;
    assert_eq!(moved.headers["location"], "/api/v1/nodes/n/proxy/page");
}

#[tokio::test]
async fn a_watch_over_web_socket_sends_a_message_an_event() {
    let authority = Authority::new();
    let (_server, port, _shutdown) = cluster(&authority).await;
    let stream = connect(port, authority.client("root", "system:masters", "http/1.1")).await;
    let request = Request::builder()
        .uri("/api/v1/namespaces/ns/pods?watch=true")
        .header("host", "127.0.0.1")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", fastwebsockets::handshake::generate_key())
        .body(Empty::<Bytes>::new())
        .unwrap();
    let (mut socket, _) = fastwebsockets::handshake::client(&TokioExecutor::new(), request, stream)
        .await
        .unwrap();
    let frame = socket.read_frame().await.unwrap();
    assert_eq!(frame.opcode, fastwebsockets::OpCode::Text);
    let event: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["metadata"]["name"], "p");
}

#[tokio::test]
async fn a_log_over_web_socket_comes_in_messages() {
    let authority = Authority::new();
    let (_server, port, _shutdown) = cluster(&authority).await;
    for (protocol, kind, said) in [
        (
            "binary.k8s.io",
            fastwebsockets::OpCode::Binary,
            "GET /containerLogs/ns/p/c true",
        ),
        (
            "base64.binary.k8s.io",
            fastwebsockets::OpCode::Text,
            "R0VUIC9jb250YWluZXJMb2dzL25zL3AvYyB0cnVl",
        ),
    ] {
        let stream = connect(port, authority.client("root", "system:masters", "http/1.1")).await;
        let request = Request::builder()
            .uri("/api/v1/namespaces/ns/pods/p/log?container=c")
            .header("host", "127.0.0.1")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", protocol)
            .header("sec-websocket-key", fastwebsockets::handshake::generate_key())
            .body(Empty::<Bytes>::new())
            .unwrap();
        let (mut socket, answer) = fastwebsockets::handshake::client(&TokioExecutor::new(), request, stream)
            .await
            .unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
        socket.set_auto_close(false);
        assert!(socket.read_frame().await.unwrap().payload.is_empty());
        let frame = socket.read_frame().await.unwrap();
        assert_eq!(frame.opcode, kind);
        assert_eq!(String::from_utf8_lossy(&frame.payload), said);
        assert_eq!(socket.read_frame().await.unwrap().opcode, fastwebsockets::OpCode::Close);
    }
}

#[tokio::test]
async fn a_foreign_certificate_is_answered_with_401() {
    let (authority, other) = (Authority::new(), Authority::new());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let server = server_with(harness::kinds(), |config| config.client_certificates = Some(verifier)).await;
    // The handshake takes whatever the client shows; here, because it trusts the other authority.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let api = server.api.clone();
    let tls = other.server(&["http/1.1"]);
    tokio::spawn(async move { api.serve(listener, tls, CancellationToken::new()).await });
    let stream = connect(port, other.client("root", "system:masters", "http/1.1")).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri("/api/v1/pods")
        .header("host", "127.0.0.1")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 401);
}
