//! Whether a registry that may be spoken to without TLS has it all the same.

use std::time::Duration;

use oci_client::client::ClientProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One that says nothing is spoken to as one without TLS.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer; the hint is in its first lines.
const ANSWER_BYTES: usize = 2048;

/// Asks in plain text, as nothing secret is in the question: servers with TLS break off, send an alert, or say what is
/// wrong. `registry` is `HOST[:PORT]`.
pub(super) async fn of_insecure(registry: &str) -> ClientProtocol {
    let has_port = registry
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_tls = if has_port {
        tokio::time::timeout(PATIENCE, wants_tls(registry))
            .await
            .unwrap_or(false)
    } else {
        TcpStream::connect(format!("{registry}:443")).await.is_ok()
    };
    match with_tls {
        true => ClientProtocol::Https,
        false => ClientProtocol::Http,
    }
}

async fn wants_tls(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return false;
    };
    let question = format!("GET /v2/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    if stream.write_all(question.as_bytes()).await.is_err() {
        return true;
    }
    let mut answer = Vec::new();
    // A connection that is reset has said enough.
    let _ = stream.take(ANSWER_BYTES as u64).read_to_end(&mut answer).await;
    is_of_tls(&answer)
}

/// Whether this answers plain text on a port for TLS.
fn is_of_tls(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    match text.strip_prefix("HTTP/") {
        Some(rest) => rest.get(3..).is_some_and(|rest| rest.starts_with(" 400")) && text.contains("HTTPS"),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_plain_text() {
        let go = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        assert!(is_of_tls(go));
        let nginx = b"HTTP/1.1 400 Bad Request\r\n\r\n<title>400 The plain HTTP request was sent to HTTPS port</title>";
        assert!(is_of_tls(nginx));
        assert!(is_of_tls(&[0x15, 3, 3, 0, 2, 2, 50]));
        assert!(is_of_tls(b""));
        assert!(!is_of_tls(b"HTTP/1.1 200 OK\r\n\r\n{}"));
        assert!(!is_of_tls(b"HTTP/1.1 401 Unauthorized\r\n\r\n"));
        assert!(!is_of_tls(b"HTTP/1.1 400 Bad Request\r\n\r\nno"));
    }
}
