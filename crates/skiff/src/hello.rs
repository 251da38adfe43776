//! `skiff hello`: the web server of the image `skiff.local/hello`.
//!
//! Answers every request with a greeting and where it runs, so that a cluster can be tried without
//! any registry. Ends at once on SIGTERM and SIGINT.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Options of `skiff hello`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// TCP port to listen on
    #[arg(long, default_value_t = 8080, env = "PORT")]
    port: u16,
}

/// Serves until a signal.
pub fn run(options: &Options) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                result = serve(options.port) => result,
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
            }
        })
}

async fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("::", port)).await;
    let listener = match listener {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port))
            .await
            .with_context(|| format!("listen on port {port}"))?,
    };
    println!("listening on port {port}");
    loop {
        let (socket, client) = listener.accept().await?;
        tokio::spawn(async move {
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(&request, client)) });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

fn answer(request: &Request<Incoming>, client: SocketAddr) -> Response<Full<Bytes>> {
    println!("{} {} from {client}", request.method(), request.uri());
    let place = Place::find();
    let text = format!(
        "Hello from skiff!\nhostname: {}\nnamespace: {}\nnode: {}\n",
        place.hostname, place.namespace, place.node
    );
    Response::new(Full::from(text))
}

/// Where this process runs.
struct Place {
    hostname: String,
    namespace: String,
    node: String,
}

impl Place {
    /// Node and namespace come from the environment (downward API), else from the pod's
    /// service-account token, which names both.
    fn find() -> Place {
        let unknown = || "unknown".to_owned();
        let claims = token_claims().unwrap_or_default();
        let kubernetes = &claims["kubernetes.io"];
        let claim = |value: &serde_json::Value| value.as_str().map(String::from);
        let file = |name: &str| std::fs::read_to_string(format!("{ACCOUNT}/{name}")).ok();
        Place {
            hostname: nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_else(unknown),
            namespace: std::env::var("POD_NAMESPACE")
                .ok()
                .or_else(|| file("namespace"))
                .unwrap_or_else(unknown),
            node: std::env::var("NODE_NAME")
                .ok()
                .or_else(|| claim(&kubernetes["node"]["name"]))
                .unwrap_or_else(unknown),
        }
    }
}

fn token_claims() -> Option<serde_json::Value> {
    let token = std::fs::read_to_string(format!("{ACCOUNT}/token")).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
