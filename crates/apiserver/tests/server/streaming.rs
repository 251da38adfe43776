//! exec, attach and port-forward from a client through the API server to a node agent, whatever wires
//! both speak.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use streams::remote_command::{self, Client, Options, RemoteCommand, TerminalSize};
use streams::{Outcome, port_forward};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::Server;
use crate::proxying::{Authority, cluster_of, connect};

const POD: &str = "/api/v1/namespaces/ns/pods/p";
const WEB_SOCKETS: &str = "ExtendWebSocketsToKubelet";

/// A node agent; `web_sockets` tells whether it understands them.
async fn agent(authority: &Authority, web_sockets: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(authority.server(&["http/1.1"]));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(serve(request, web_sockets)) });
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    port
}

fn refused(code: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(why.to_owned()));
    *response.status_mut() = code;
    response
}

fn serve(mut request: Request<Incoming>, web_sockets: bool) -> Response<Full<Bytes>> {
    assert!(!request.headers().contains_key("authorization"));
    let wire = request.headers()["upgrade"].to_str().unwrap().to_owned();
    if wire == "websocket" && !web_sockets {
        return refused(StatusCode::BAD_REQUEST, "no WebSockets here");
    }
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    if query.contains("command=missing") {
        return refused(StatusCode::NOT_FOUND, "no such container");
    }
    if path == "/portForward/ns/p" {
        let (response, pending) = port_forward::accept(&mut request, vec![]).unwrap();
        tokio::spawn(async move { forward(pending.unwrap().start().await.unwrap(), wire).await });
        return response.map(|()| Full::default());
    }
    assert!(["/exec/ns/p/c", "/attach/ns/p/c"].contains(&&*path), "{path}");
    let is_set = |name: &str| query.split('&').any(|pair| pair == format!("{name}=1"));
    let options = Options {
        stdin: is_set("input"),
        stdout: is_set("output"),
        stderr: is_set("error"),
        tty: is_set("tty"),
    };
    let (response, pending) = remote_command::accept(&mut request, options).unwrap();
    tokio::spawn(async move {
        let command = pending.unwrap().streams().await.unwrap();
        run(command, &wire, query.contains("command=lost")).await;
    });
    response.map(|()| Full::default())
}

/// Says which wire it is reached by and how large its terminal is, echoes its input, ends with 7.
async fn run(mut command: RemoteCommand, wire: &str, lost: bool) {
    let stdout = command.stdout.clone().unwrap();
    stdout.send(Bytes::from(format!("{wire}\n"))).await.unwrap();
    if lost {
        return;
    }
    if let Some(resizes) = &mut command.resizes {
        let size = resizes.next().await.unwrap();
        let size = format!("{}x{}\n", size.width, size.height);
        stdout.send(Bytes::from(size)).await.unwrap();
    }
    if let Some(stderr) = &command.stderr {
        stderr.send(Bytes::from_static(b"careful")).await.unwrap();
    }
    if let Some(mut stdin) = command.stdin.take() {
        while let Some(chunk) = stdin.recv().await {
            stdout.send(chunk).await.unwrap();
        }
    }
    command.finish(Outcome::ExitCode(7)).await;
}

async fn forward(mut server: port_forward::PortForward, wire: String) {
    while let Some(forward) = server.next().await {
        if forward.port == 1 {
            forward.fail("connection refused").await;
            continue;
        }
        let (mut pod, far) = tokio::io::duplex(64);
        let greeting = wire.clone();
        tokio::spawn(async move {
            pod.write_all(format!("{greeting} ").as_bytes()).await.unwrap();
            let mut input = Vec::new();
            pod.read_to_end(&mut input).await.unwrap();
            pod.write_all(&input).await.unwrap();
        });
        tokio::spawn(forward.copy(far));
    }
}

/// What a client gets for its handshake: the switched connection, or the refusal.
async fn upgrade(
    authority: &Authority,
    port: u16,
    method: &str,
    path: &str,
    headers: HeaderMap,
) -> Result<(TokioIo<Upgraded>, String), (u16, String)> {
    let stream = connect(port, authority.client("root", "system:masters", "http/1.1")).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .body(Empty::<Bytes>::new())
        .unwrap();
    request.headers_mut().extend(headers);
    let response = sender.send_request(request).await.unwrap();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        return Err((code, String::from_utf8_lossy(&body).into_owned()));
    }
    let protocol = response.headers().get("sec-websocket-protocol");
    let protocol = protocol.map_or_else(String::new, |p| p.to_str().unwrap().to_owned());
    Ok((TokioIo::new(hyper::upgrade::on(response).await.unwrap()), protocol))
}

async fn web_socket(authority: &Authority, port: u16, path: &str, protocols: &[&str]) -> Client {
    let headers = streams::websocket_request_headers(protocols);
    let (socket, protocol) = upgrade(authority, port, "GET", path, headers).await.unwrap();
    assert_eq!(protocol, protocols[0]);
    Client::new(socket, &protocol)
}

async fn text(receiver: &mut streams::ByteReceiver, length: usize) -> String {
    let mut out = Vec::new();
    while out.len() < length {
        out.extend_from_slice(&receiver.recv().await.expect("more output"));
    }
    String::from_utf8(out).unwrap()
}

async fn started(web_sockets: bool, features: &[&str]) -> (Authority, Server, u16) {
    let authority = Authority::new();
    let agent = agent(&authority, web_sockets).await;
    let (server, port, _) = cluster_of(&authority, agent, features).await;
    (authority, server, port)
}

#[tokio::test]
async fn commands_are_translated_for_nodes_that_speak_spdy() {
    let (authority, server, port) = started(false, &[]).await;
    for sub in ["exec", "attach"] {
        let path = format!("{POD}/{sub}?command=cat&stdin=true&stdout=true&stderr=true");
        let mut client = web_socket(&authority, port, &path, remote_command::CLIENT_PROTOCOLS).await;
        let big = "x".repeat(300_000);
        let (stdin, sent) = (client.stdin.clone(), big.clone());
        tokio::spawn(async move {
            stdin.send_all(&mut sent.as_bytes()).await.unwrap();
        });
        assert_eq!(
            text(&mut client.stdout, 9 + big.len()).await,
            format!("SPDY/3.1\n{big}")
        );
        assert_eq!(text(&mut client.stderr, 7).await, "careful");
        assert_eq!(client.outcome().await, Outcome::ExitCode(7));
    }
    let metrics = server.get("/metrics").await.text();
    let counted =
        "apiserver_websocket_streaming_requests_total{proxy_type=\"translated_at_apiserver\",subresource=\"exec\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn terminals_are_translated() {
    let (authority, _server, port) = started(false, &[]).await;
    let path = format!("{POD}/exec?command=sh&stdin=true&stderr=false&tty=true");
    let mut client = web_socket(&authority, port, &path, remote_command::CLIENT_PROTOCOLS).await;
    let size = TerminalSize { width: 80, height: 24 };
    client.resizer().resize(size).await.unwrap();
    client.stdin.send(Bytes::from_static(b"hello")).await.unwrap();
    client.stdin.finish().await.unwrap();
    assert_eq!(text(&mut client.stdout, 20).await, "SPDY/3.1\n80x24\nhello");
    assert_eq!(client.outcome().await, Outcome::ExitCode(7));
}

#[tokio::test]
async fn nodes_that_declare_it_get_web_sockets() {
    let (authority, server, port) = started(true, &[WEB_SOCKETS]).await;
    let path = format!("{POD}/exec?command=cat&stdin=true&stderr=false");
    let mut client = web_socket(&authority, port, &path, remote_command::CLIENT_PROTOCOLS).await;
    client.stdin.finish().await.unwrap();
    assert_eq!(text(&mut client.stdout, 10).await, "websocket\n");
    assert_eq!(client.outcome().await, Outcome::ExitCode(7));
    let headers = streams::websocket_request_headers(port_forward::CLIENT_PROTOCOLS);
    let path = format!("{POD}/portforward");
    let (socket, _) = upgrade(&authority, port, "GET", &path, headers).await.unwrap();
    let mut client = port_forward::Client::new(socket);
    let mut forward = client.open(80).await.unwrap();
    assert_eq!(text(&mut forward.receiver, 10).await, "websocket ");
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("proxy_type=\"proxied_to_kubelet\",subresource=\"portforward\"} 1"));
}

#[tokio::test]
async fn older_web_sockets_are_passed_on() {
    let (authority, _server, port) = started(true, &[]).await;
    let path = format!("{POD}/exec?command=cat&stderr=false");
    let mut client = web_socket(&authority, port, &path, &["v4.channel.k8s.io"]).await;
    assert_eq!(text(&mut client.stdout, 10).await, "websocket\n");
    assert_eq!(client.outcome().await, Outcome::ExitCode(7));
}

#[tokio::test]
async fn what_goes_wrong_behind_a_translation_is_told_on_its_error_channel() {
    let (authority, _server, port) = started(false, &[]).await;
    for (command, wanted) in [
        (
            "missing",
            "Internal error occurred: unable to upgrade connection: no such container",
        ),
        (
            "lost",
            "protocol error: the connection to the node was lost before the command ended",
        ),
    ] {
        let path = format!("{POD}/exec?command={command}&stderr=false");
        let mut client = web_socket(&authority, port, &path, remote_command::CLIENT_PROTOCOLS).await;
        assert_eq!(client.outcome().await, Outcome::Failed(wanted.to_owned()));
    }
}

#[tokio::test]
async fn the_tunnel_of_port_forward_ends_at_the_api_server() {
    let (authority, _server, port) = started(false, &[]).await;
    let headers = streams::websocket_request_headers(port_forward::CLIENT_PROTOCOLS);
    let path = format!("{POD}/portforward");
    let (socket, protocol) = upgrade(&authority, port, "GET", &path, headers).await.unwrap();
    assert_eq!(protocol, "SPDY/3.1+portforward.k8s.io");
    let mut client = port_forward::Client::new(socket);
    for round in 0..3 {
        let mut forward = client.open(80).await.unwrap();
        let sent = format!("{round}{}", "y".repeat(100_000));
        forward.sender.send(Bytes::from(sent.clone())).await.unwrap();
        forward.sender.finish().await.unwrap();
        let mut answer = String::new();
        forward.receiver.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("SPDY/3.1 {sent}"));
        assert_eq!(forward.error().await, None);
    }
    let mut refused = client.open(1).await.unwrap();
    assert_eq!(refused.error().await.as_deref(), Some("connection refused"));
}

#[tokio::test]
async fn refusals_before_the_switch_are_answers() {
    let (authority, server, port) = started(true, &[]).await;
    for sub in ["exec?command=x", "attach", "portforward"] {
        let plain = server.post(&format!("{POD}/{sub}"), &json!({})).await.expect(400);
        assert_eq!(plain["message"], "Upgrade request required", "{sub}");
    }
    let spdy = || streams::spdy_request_headers(&["v4.channel.k8s.io"]);
    let path = format!("{POD}/exec?command=missing");
    let refused = upgrade(&authority, port, "POST", &path, spdy()).await.unwrap_err();
    assert_eq!(refused, (404, "no such container".to_owned()));
    let path = format!("{POD}/exec?command=x&container=none");
    let (code, body) = upgrade(&authority, port, "POST", &path, spdy()).await.unwrap_err();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (code, &body["message"]),
        (400, &json!("container none is not valid for pod p"))
    );
    let headers = streams::websocket_request_headers(port_forward::CLIENT_PROTOCOLS);
    let (code, _) = upgrade(
        &authority,
        port,
        "GET",
        "/api/v1/namespaces/ns/pods/q/portforward",
        headers,
    )
    .await
    .unwrap_err();
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_told_as_upstream_tells_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = listener.local_addr().unwrap().port();
    drop(listener);
    let authority = Authority::new();
    let (server, port, _) = cluster_of(&authority, agent, &[]).await;
    let dial = format!("dial tcp 127.0.0.1:{agent}: connect: connection refused");
    let path = format!("{POD}/exec?command=x&stderr=false");
    let spdy = streams::spdy_request_headers(&["v4.channel.k8s.io"]);
    let (code, body) = upgrade(&authority, port, "POST", &path, spdy).await.unwrap_err();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (code, &body["message"]),
        (500, &json!(format!("error dialing backend: {dial}")))
    );
    let mut client = web_socket(&authority, port, &path, remote_command::CLIENT_PROTOCOLS).await;
    let message = format!("Internal error occurred: error dialing backend: {dial}");
    assert_eq!(client.outcome().await, Outcome::Failed(message));
    let log = server.get(&format!("{POD}/log")).await.expect(500);
    let url = format!("https://127.0.0.1:{agent}/containerLogs/ns/p/c");
    assert_eq!(log["message"], format!("Get \"{url}\": {dial}"));
}

#[tokio::test]
async fn pods_are_proxied_to_at_their_own_address_only() {
    let (_authority, server, _) = started(false, &[]).await;
    let merge = "application/merge-patch+json";
    for (address, wanted) in [
        ("127.0.0.1", "address not allowed"),
        ("169.254.169.254", "address not allowed"),
    ] {
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        server.patch(&format!("{POD}/status"), merge, &status).await.expect(200);
        let refused = server.get(&format!("{POD}/proxy/")).await.expect(400);
        assert_eq!(refused["message"], wanted);
    }
    let refused = server
        .get("/api/v1/namespaces/ns/pods/ftp:p:80/proxy/")
        .await
        .expect(400);
    assert_eq!(refused["message"], "invalid pod request \"ftp:p:80\"");
}
