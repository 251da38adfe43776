//! The gRPC health check (grpc.health.v1), its two messages written by hand.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::attempt::{Outcome, plain};

const MAX_ANSWER: usize = 4096;
const SERVING: u64 = 1;

/// Asks whether the service (empty: the server) is healthy.
pub(super) async fn check(ip: IpAddr, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = std::net::SocketAddr::new(ip, port);
    let seconds = timeout.as_secs();
    match tokio::time::timeout(timeout, exchange(address, service)).await {
        Ok(Ok(SERVING)) => Outcome::success(),
        Ok(Ok(status)) => {
            let name = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "unknown",
            };
            Outcome::failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Err(message)) => Outcome::failure(message),
        Err(_) => Outcome::failure(format!(
            "timeout: failed to connect service {address:?} within {seconds}s: context deadline exceeded"
        )),
    }
}

async fn exchange(address: std::net::SocketAddr, service: &str) -> Result<u64, String> {
    let failed = |error: &dyn std::fmt::Display| format!("error: health rpc failed: {error}");
    let socket = TcpStream::connect(address).await.map_err(|error| {
        format!(
            "error: this server cannot be reached: dial tcp {address}: connect: {}",
            plain(&error)
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(question(service)))
        .map_err(|error| failed(&error))?;
    let result = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let head = code(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| failed(&error))?;
        let status = body.trailers().and_then(code).or(head);
        match status.as_deref() {
            None | Some("0") => reading(&body.to_bytes()).ok_or_else(|| failed(&"the answer cannot be read")),
            Some("12") => {
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into())
            }
            Some("5") => Err(format!("service {service:?} is not known to the server")),
            Some(code) => Err(failed(&format!("grpc status {code}"))),
        }
    }
    .await;
    connection.abort();
    result
}

fn code(headers: &http::HeaderMap) -> Option<String> {
    headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok())
        .map(String::from)
}

/// HealthCheckRequest { string service = 1 } in a gRPC frame.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// HealthCheckResponse { ServingStatus status = 1 } of a gRPC frame.
fn reading(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, rest @ ..] => {
            let mut value = 0u64;
            for (at, byte) in rest.iter().enumerate().take(9) {
                value |= u64::from(byte & 0x7f) << (7 * at);
                if byte & 0x80 == 0 {
                    return Some(value);
                }
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(reading(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(reading(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(reading(&[0, 0]), None);
    }

    /// A health server that answers once with this status (none: an error).
    async fn serve(status: Option<u8>) -> std::net::SocketAddr {
        use http_body_util::StreamBody;
        use hyper::body::Frame;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.headers()["te"], "trailers");
                let mut trailers = http::HeaderMap::new();
                let code = if status.is_some() { "0" } else { "12" };
                trailers.insert("grpc-status", code.parse().unwrap());
                let data = status.map(|status| Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status])));
                let frames = data
                    .into_iter()
                    .chain([Frame::trailers(trailers)])
                    .map(Ok::<_, std::io::Error>);
                let body = StreamBody::new(futures_util::stream::iter(frames));
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(socket), service).await;
        });
        address
    }

    #[tokio::test]
    async fn answers() {
        for (status, expected) in [
            (Some(1), ""),
            (Some(2), "service unhealthy (responded with \"NOT_SERVING\")"),
            (
                None,
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)",
            ),
        ] {
            let address = serve(status).await;
            let outcome = check(address.ip(), address.port(), "", Duration::from_secs(10)).await;
            assert_eq!(outcome.message, expected);
        }
        let outcome = check([127, 0, 0, 1].into(), 1, "", Duration::from_secs(10)).await;
        assert!(
            outcome.message.ends_with("connect: connection refused"),
            "{}",
            outcome.message
        );
    }
}
