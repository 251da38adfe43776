//! GET requests of probes and hooks (pkg/probe/http). Certificates are not checked: what is asked is whether the
//! container answers.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::attempt::{plain, port};

/// Redirects followed.
const MAX_REDIRECTS: usize = 10;
/// Bytes of an answer that are read.
const MAX_BODY: usize = 10 * 1024;

/// What to GET.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Target {
    /// Of an action of a container at this address.
    pub fn of(action: &HTTPGetAction, container: &Container, ip: Option<IpAddr>) -> Result<Target, String> {
        let port = port(&action.port, container)?;
        let host = action.host.clone().filter(|host| !host.is_empty());
        let host = host
            .or_else(|| ip.map(|ip| ip.to_string()))
            .ok_or("the pod has no address")?;
        let path = action.path.clone().unwrap_or_default();
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        let headers = action.http_headers.iter().flatten().filter_map(|h| {
            Some((
                HeaderName::from_bytes(h.name.as_bytes()).ok()?,
                HeaderValue::from_str(&h.value).ok()?,
            ))
        });
        let tls = action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        Ok(Target {
            tls,
            host,
            port,
            path,
            headers: headers.collect(),
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// As messages show it.
    pub fn url(&self) -> String {
        format!(
            "{}://{}{}",
            if self.tls { "https" } else { "http" },
            self.authority(),
            self.path
        )
    }

    /// Where a redirect leads; `None` if that is another host.
    fn redirected(&self, location: &str) -> Option<Target> {
        let mut next = self.clone();
        let uri: Uri = location.parse().ok()?;
        if let Some(host) = uri.host() {
            if host.trim_matches(['[', ']']) != self.host {
                return None;
            }
            next.tls = uri.scheme_str() == Some("https");
            next.port = uri.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
        }
        let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        next.path = if path.starts_with('/') {
            path
        } else {
            let folder = self
                .path
                .split('?')
                .next()
                .and_then(|p| p.rsplit_once('/'))
                .map_or("", |(folder, _)| folder);
            format!("{folder}/{path}")
        };
        Some(next)
    }
}

/// GETs; an answer of 200 to 399 is success.
pub(crate) async fn get(target: &Target, agent: &str) -> Result<(), String> {
    let mut target = target.clone();
    for _ in 0..MAX_REDIRECTS {
        let (status, location) = once(&target, agent).await?;
        if !(200..400).contains(&status) {
            return Err(format!("HTTP probe failed with statuscode: {status}"));
        }
        let next = location
            .filter(|_| (300..400).contains(&status))
            .and_then(|location| target.redirected(&location));
        match next {
            Some(next) => target = next,
            None => return Ok(()),
        }
    }
    Err(format!(
        "Get {:?}: stopped after {MAX_REDIRECTS} redirects",
        target.url()
    ))
}

async fn once(target: &Target, agent: &str) -> Result<(u16, Option<String>), String> {
    let url = target.url();
    let failed = |message: String| format!("Get {url:?}: {message}");
    let socket = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|error| failed(format!("dial tcp {}: connect: {}", target.authority(), plain(&error))))?;
    if !target.tls {
        return exchange(socket, target, agent).await.map_err(failed);
    }
    let name = match target.host.parse::<IpAddr>() {
        Ok(ip) => ServerName::from(ip),
        Err(_) => ServerName::try_from(target.host.clone()).map_err(|error| failed(error.to_string()))?,
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(pki::unverifying_config()));
    let socket = connector
        .connect(name, socket)
        .await
        .map_err(|error| failed(error.to_string()))?;
    exchange(socket, target, agent).await.map_err(failed)
}

async fn exchange(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
    agent: &str,
) -> Result<(u16, Option<String>), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(target.path.as_str());
    let given = |name: HeaderName| target.headers.iter().any(|(key, _)| *key == name);
    if !given(header::HOST) {
        request = request.header(header::HOST, target.authority());
    }
    if !given(header::USER_AGENT) {
        request = request.header(header::USER_AGENT, agent);
    }
    if !given(header::ACCEPT) {
        request = request.header(header::ACCEPT, "*/*");
    }
    request = request.header(header::CONNECTION, "close");
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    let result = match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let location = answer
                .headers()
                .get(header::LOCATION)
                .and_then(|l| l.to_str().ok())
                .map(String::from);
            // Read a little, so that servers do not see a reset.
            let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            Ok((status, location))
        }
        Err(error) => Err(error),
    };
    connection.abort();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host() {
        let action = HTTPGetAction {
            path: Some("a/b?x".into()),
            port: k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(8080),
            ..HTTPGetAction::default()
        };
        let target = Target::of(&action, &Container::default(), Some(IpAddr::from([10, 0, 0, 1]))).unwrap();
        assert_eq!(target.url(), "http://10.0.0.1:8080/a/b?x");
        let to = |location: &str| target.redirected(location).map(|t| t.url());
        assert_eq!(to("/c").as_deref(), Some("http://10.0.0.1:8080/c"));
        assert_eq!(to("https://10.0.0.1/c?d").as_deref(), Some("https://10.0.0.1:443/c?d"));
        assert_eq!(to("http://elsewhere/c"), None);
    }

    /// Serves these answers, one a connection.
    async fn serve(answers: Vec<String>) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let count = socket.read(&mut buffer).await.unwrap();
                let request = String::from_utf8_lossy(&buffer[..count]).to_lowercase();
                assert!(
                    request.contains("user-agent: kube-probe/1.37") && request.contains("x-own: 1"),
                    "{request}"
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn answers() {
        let reply = |head: &str| format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
        for (answers, expected) in [
            (vec![reply("204 No Content")], Ok(())),
            (vec![reply("302 Found\r\nlocation: /next"), reply("200 OK")], Ok(())),
            (vec![reply("302 Found\r\nlocation: http://elsewhere/")], Ok(())),
            (
                vec![reply("503 Busy")],
                Err("HTTP probe failed with statuscode: 503".to_string()),
            ),
        ] {
            let mut target = Target {
                tls: false,
                host: "127.0.0.1".into(),
                port: serve(answers).await,
                path: "/".into(),
                headers: vec![(HeaderName::from_static("x-own"), HeaderValue::from_static("1"))],
            };
            assert_eq!(get(&target, "kube-probe/1.37").await, expected);
            target.port = 1;
            let error = get(&target, "kube-probe/1.37").await.unwrap_err();
            assert_eq!(
                error,
                "Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused"
            );
        }
    }
}
