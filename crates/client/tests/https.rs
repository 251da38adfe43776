//! The HTTPS transport's HTTP side against a loopback server.

use bytes::Bytes;
use client::{Auth, Client, Config, Roots};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn serve_once(answer: &'static str) -> (Client, tokio::task::JoinHandle<(String, tokio::net::TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a request"));
        }
        stream.write_all(answer.as_bytes()).await.expect("open");
        (String::from_utf8(request).expect("text"), stream)
    });
    let config = Config::new(
        format!("http://{address}/base"),
        Roots::Native,
        Auth::Token("secret".into()),
    );
    (Client::https(config).expect("valid"), server)
}

#[tokio::test]
async fn requests_carry_the_base_path_and_the_token() {
    let (client, server) = serve_once("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope").await;
    let error = client.get_text("/healthz").await.expect_err("a 404");
    assert!(error.is_not_found(), "{error}");
    let (request, _) = server.await.expect("no panic");
    assert!(request.starts_with("GET /base/healthz HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
}

#[tokio::test]
async fn an_upgraded_connection_is_a_stream() {
    let (client, server) =
        serve_once("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n").await;
    let request = http::Request::post("/x")
        .header("upgrade", "SPDY/3.1")
        .body(Bytes::new())
        .expect("valid");
    let (head, mut stream) = client.upgrade(request).await.expect("upgraded");
    assert_eq!(head.headers()["upgrade"], "SPDY/3.1");
    let (request, mut peer) = server.await.expect("no panic");
    assert!(request.contains("connection: Upgrade\r\n"), "{request}");
    stream.write_all(b"ping").await.expect("open");
    stream.flush().await.expect("open");
    let mut text = [0; 4];
    peer.read_exact(&mut text).await.expect("open");
    peer.write_all(&text).await.expect("open");
    stream.read_exact(&mut text).await.expect("open");
    assert_eq!(&text, b"ping");
}
