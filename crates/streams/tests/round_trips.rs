//! Both ends over a real socket pair: HTTP upgrade, then streams.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use streams::remote_command::{self, Options, TerminalSize};
use streams::{Outcome, port_forward};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn unit(response: Response<()>) -> Response<Empty<Bytes>> {
    response.map(|()| Empty::new())
}

/// Serves one connection with `serve`, and returns the client's upgraded socket and protocol.
async fn upgraded<F>(
    serve: F,
    protocols: &[&str],
) -> (
    impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    String,
)
where
    F: Fn(Request<Incoming>) -> Response<Empty<Bytes>> + Send + Sync + 'static,
{
    let (near, far) = tokio::io::duplex(1024 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let response = serve(request);
            async move { Ok::<_, std::convert::Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
        connection.with_upgrades().await.unwrap();
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::new(Empty::<Bytes>::new());
    request
        .headers_mut()
        .extend(streams::websocket_request_headers(protocols));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let protocol = response.headers()["sec-websocket-protocol"]
        .to_str()
        .unwrap()
        .to_owned();
    (TokioIo::new(hyper::upgrade::on(response).await.unwrap()), protocol)
}

#[tokio::test]
async fn exec_echoes_input_reports_size_and_exit_code() {
    let serve = |mut request: Request<Incoming>| {
        let options = Options {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        let (response, pending) = remote_command::accept(&mut request, options).unwrap();
        tokio::spawn(async move {
            let mut command = pending.unwrap().streams().await.unwrap();
            let size = command.resizes.as_mut().unwrap().next().await.unwrap();
            let stdout = command.stdout.clone().unwrap();
            stdout
                .send(Bytes::from(format!("{}x{}\n", size.width, size.height)))
                .await
                .unwrap();
            let mut input = Vec::new();
            command.stdin.take().unwrap().read_to_end(&mut input).await.unwrap();
            stdout.send(Bytes::from(input)).await.unwrap();
            command.finish(Outcome::ExitCode(3)).await;
        });
        unit(response)
    };
    let (socket, protocol) = upgraded(serve, remote_command::CLIENT_PROTOCOLS).await;
    assert_eq!(protocol, "v5.channel.k8s.io");
    let mut client = remote_command::Client::new(socket, &protocol);
    client
        .resizer()
        .resize(TerminalSize { width: 80, height: 24 })
        .await
        .unwrap();
    let big = vec![b'x'; 300_000];
    let stdin = client.stdin.clone();
    let sent = big.clone();
    tokio::spawn(async move {
        let mut sent = &sent[..];
        stdin.send_all(&mut sent).await.unwrap();
    });
    let mut output = Vec::new();
    while output.len() < 6 + big.len() {
        output.extend_from_slice(&client.stdout.recv().await.unwrap());
    }
    assert_eq!(&output[..6], b"80x24\n");
    assert_eq!(output[6..], big);
    assert_eq!(client.outcome().await, Outcome::ExitCode(3));
}

#[tokio::test]
async fn port_forward_carries_several_connections_and_errors() {
    let serve = |mut request: Request<Incoming>| {
        let (response, pending) = port_forward::accept(&mut request, vec![]).unwrap();
        tokio::spawn(async move {
            let mut server = pending.unwrap().start().await.unwrap();
            while let Some(forward) = server.next().await {
                tokio::spawn(async move {
                    if forward.port == 1 {
                        return forward.fail("connection refused").await;
                    }
                    let (mut echo, far) = tokio::io::duplex(64);
                    tokio::spawn(async move {
                        let mut input = Vec::new();
                        echo.read_to_end(&mut input).await.unwrap();
                        input.reverse();
                        echo.write_all(&input).await.unwrap();
                    });
                    forward.copy(far).await.unwrap();
                });
            }
        });
        unit(response)
    };
    let (socket, _) = upgraded(serve, port_forward::CLIENT_PROTOCOLS).await;
    let mut client = port_forward::Client::new(socket);
    for round in 0..3 {
        let mut forward = client.open(80).await.unwrap();
        forward.sender.send(Bytes::from(format!("abc{round}"))).await.unwrap();
        forward.sender.finish().await.unwrap();
        let mut answer = String::new();
        forward.receiver.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("{round}cba"));
        assert_eq!(forward.error().await, None);
    }
    let mut refused = client.open(1).await.unwrap();
    assert_eq!(refused.error().await.as_deref(), Some("connection refused"));
}

#[tokio::test]
async fn when_the_pod_closes_first_the_client_learns_of_it() {
    let serve = |mut request: Request<Incoming>| {
        let (response, pending) = port_forward::accept(&mut request, vec![]).unwrap();
        tokio::spawn(async move {
            let mut server = pending.unwrap().start().await.unwrap();
            let forward = server.next().await.unwrap();
            let (mut pod, far) = tokio::io::duplex(64);
            tokio::spawn(async move {
                pod.write_all(b"bye").await.unwrap();
                pod.shutdown().await.unwrap();
                // The pod still reads: only its own direction is closed.
                let mut rest = Vec::new();
                pod.read_to_end(&mut rest).await.unwrap();
            });
            forward.copy(far).await.unwrap();
        });
        unit(response)
    };
    let (socket, _) = upgraded(serve, port_forward::CLIENT_PROTOCOLS).await;
    let mut client = port_forward::Client::new(socket);
    let mut forward = client.open(80).await.unwrap();
    let mut answer = String::new();
    forward.receiver.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "bye");
    assert_eq!(
        forward.error().await,
        None,
        "the error stream ends before the client closes"
    );
}

#[test]
fn a_request_without_upgrade_or_streams_is_refused() {
    let mut plain = Request::new(());
    assert!(
        remote_command::accept(
            &mut plain,
            Options {
                stdout: true,
                ..Options::default()
            }
        )
        .is_err()
    );
    assert!(remote_command::accept(&mut plain, Options::default()).is_err());
    assert!(port_forward::accept(&mut plain, vec![80]).is_err());
}
