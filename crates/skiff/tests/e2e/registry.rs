//! An image registry on a loopback address: one image, `any/name:1`, with or without a password.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::image_tar::BuiltImage;

pub const USER: &str = "reader";
pub const PASSWORD: &str = "open sesame";

/// Serves until the test ends.
pub fn serve(image: Arc<BuiltImage>, wants_password: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen on a loopback port");
    let address = listener.local_addr().expect("it listens");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let image = image.clone();
            std::thread::spawn(move || {
                let _ = converse(&stream, &image, wants_password);
            });
        }
    });
    address
}

fn converse(stream: &TcpStream, image: &BuiltImage, wants_password: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut authorization = String::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                authorization = value.trim().to_owned();
            }
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let allowed = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        if wants_password && authorization != allowed {
            let challenge = "WWW-Authenticate: Basic realm=\"e2e\"\r\n";
            write(
                stream,
                method,
                "401 Unauthorized",
                challenge,
                br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#,
            )?;
            continue;
        }
        answer(stream, method, path, image)?;
    }
}

fn answer(stream: &TcpStream, method: &str, path: &str, image: &BuiltImage) -> std::io::Result<()> {
    let blob = |digest: &str| path.ends_with(&format!("/blobs/{digest}"));
    let octets = "Content-Type: application/octet-stream\r\n";
    if path == "/v2/" || path == "/v2" {
        write(stream, method, "200 OK", "", b"{}")
    } else if path.contains("/manifests/") && !path.ends_with("/manifests/absent") {
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        write(stream, method, "200 OK", kind, image.manifest().to_string().as_bytes())
    } else if blob(&image.config_digest) {
        write(stream, method, "200 OK", octets, &image.config)
    } else if blob(&image.layer_digest) {
        write(stream, method, "200 OK", octets, &fs::read(&image.layer)?)
    } else {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        write(
            stream,
            method,
            "404 Not Found",
            "Content-Type: application/json\r\n",
            body,
        )
    }
}

fn write(mut stream: &TcpStream, method: &str, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(body)?;
    }
    stream.flush()
}
