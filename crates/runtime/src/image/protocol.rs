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
    while !says_enough(&answer) {
        // A connection that is reset has said enough.
        if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
            break;
        }
    }
    is_of_tls(&answer)
}

/// Whether more of an answer, for which one may have to wait, would change what it means.
fn says_enough(answer: &[u8]) -> bool {
    let of_http = answer.starts_with(&b"HTTP/"[..answer.len().min(5)]);
    let has_status = answer.len() >= "HTTP/1.1 400".len();
    answer.len() >= ANSWER_BYTES
        || !of_http
        || (has_status && !answer[8..].starts_with(b" 400"))
        || is_of_tls_http(answer)
}

/// Whether this answers plain text on a port for TLS.
fn is_of_tls(answer: &[u8]) -> bool {
    !answer.starts_with(b"HTTP/") || is_of_tls_http(answer)
}

/// Whether the server knows what is wrong, and says it in plain text.
fn is_of_tls_http(answer: &[u8]) -> bool {
    let refused = answer.get(8..).is_some_and(|rest| rest.starts_with(b" 400"));
    refused && String::from_utf8_lossy(answer).contains("HTTPS")
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

    #[test]
    fn one_waits_for_no_more_than_is_needed() {
        for open in [
            &b""[..],
            b"HT",
            b"HTTP/1.1 4",
            b"HTTP/1.1 400 Bad Request\r\n\r\nClient sent",
        ] {
            assert!(!says_enough(open), "{open:?}");
        }
        for enough in [
            &b"HTTP/1.1 200"[..],
            b"\x15\x03",
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.",
        ] {
            assert!(says_enough(enough), "{enough:?}");
        }
        assert!(says_enough(&[b'x'; ANSWER_BYTES]));
    }
}
