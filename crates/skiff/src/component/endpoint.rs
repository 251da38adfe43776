//! A component's own HTTPS endpoint: health for anyone, metrics for those who may read them.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{Gvr, Value};
use bytes::Bytes;
use client::{Client, WriteParams};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pki::{AltNames, Identity, Subject};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Component;

const HANDSHAKE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Health and metrics")]
pub(super) struct EndpointOptions {
    /// Address on which health and metrics are served
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Its port; 0 for none, else upstream's: 10259 of the scheduler, 10257 of the controller manager
    #[arg(long)]
    secure_port: Option<u16>,
    /// Its certificate; without one it vouches for itself
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// As for upstream; the kubeconfig of --kubeconfig is asked who may read metrics
    #[arg(long, hide = true)]
    authentication_kubeconfig: Option<PathBuf>,
    /// As for upstream
    #[arg(long, hide = true)]
    authorization_kubeconfig: Option<PathBuf>,
}

impl EndpointOptions {
    fn identity(&self) -> Result<Identity> {
        if let (Some(cert), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) {
            let read =
                |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
            return Ok(Identity {
                cert_pem: read(cert)?,
                key_pem: read(key)?,
            });
        }
        let names = AltNames {
            dns: vec!["localhost".to_owned(), crate::host::name()],
            ips: vec![IpAddr::from([127, 0, 0, 1])],
        };
        Ok(pki::self_signed(&Subject::server("localhost", names))?)
    }
}

/// Serves until the shutdown; nothing if the port is 0.
pub(super) async fn serve(
    options: &EndpointOptions,
    component: &Component,
    client: Client,
    shutdown: CancellationToken,
) -> Result<Option<JoinHandle<()>>> {
    let port = options.secure_port.unwrap_or(component.port());
    if port == 0 {
        return Ok(None);
    }
    let identity = options.identity()?;
    let tls = TlsAcceptor::from(pki::server_config(&identity, &identity.cert_pem)?);
    let listen = SocketAddr::new(options.bind_address, port);
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen on {listen} (--secure-port chooses another port, 0 none)"))?;
    let name = component.name();
    let scheduler = match component {
        Component::Scheduler(handle) => Some(handle.clone()),
        Component::ControllerManager { .. } => None,
    };
    let endpoint = Arc::new(Endpoint {
        client,
        name,
        scheduler,
    });
    Ok(Some(tokio::spawn(accept(listener, tls, endpoint, shutdown))))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, endpoint: Arc<Endpoint>, shutdown: CancellationToken) {
    loop {
        let socket = match shutdown.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok((socket, _))) => socket,
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, endpoint, shutdown) = (tls.clone(), endpoint.clone(), shutdown.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await else {
                return;
            };
            let service = service_fn(|request| {
                let endpoint = endpoint.clone();
                async move { Ok::<_, Infallible>(endpoint.answer(&request).await) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            shutdown.run_until_cancelled(serving).await;
        });
    }
}

struct Endpoint {
    client: Client,
    name: &'static str,
    scheduler: Option<driver::SchedulerHandle>,
}

impl Endpoint {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match path {
            // Whoever waits for leadership is well.
            "/healthz" | "/livez" | "/readyz" => text(StatusCode::OK, "ok"),
            "/metrics" => match self.allows(request).await {
                Ok(()) => {
                    let own = self.scheduler.as_ref().map(driver::SchedulerHandle::metrics);
                    text(StatusCode::OK, &(process_metrics(self.name) + &own.unwrap_or_default()))
                }
                Err(refused) => refused,
            },
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    /// Asks the API server who it is, and whether they may.
    async fn allows(&self, request: &Request<Incoming>) -> Result<(), Response<Full<Bytes>>> {
        let unauthorized = || text(StatusCode::UNAUTHORIZED, "a bearer token is needed");
        let header = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|header| header.strip_prefix("Bearer "))
            .ok_or_else(unauthorized)?;
        let review = json!({"spec": {"token": token}});
        let who = self.review("authentication.k8s.io", "tokenreviews", review).await?;
        if who["status"]["authenticated"] != true {
            return Err(unauthorized());
        }
        let user = &who["status"]["user"];
        let spec = json!({
            "user": user["username"], "groups": user["groups"], "uid": user["uid"],
            "nonResourceAttributes": {"path": request.uri().path(), "verb": "get"},
        });
        let may = self
            .review("authorization.k8s.io", "subjectaccessreviews", json!({"spec": spec}))
            .await?;
        if may["status"]["allowed"] != true {
            let user = user["username"].as_str().unwrap_or_default();
            let path = request.uri().path();
            return Err(text(
                StatusCode::FORBIDDEN,
                &format!("{user:?} cannot get path {path:?}"),
            ));
        }
        Ok(())
    }

    async fn review(&self, group: &str, resource: &str, review: Value) -> Result<Value, Response<Full<Bytes>>> {
        let mut review = review;
        review["apiVersion"] = json!(format!("{group}/v1"));
        review["kind"] = json!(if resource == "tokenreviews" {
            "TokenReview"
        } else {
            "SubjectAccessReview"
        });
        let handle = self.client.dynamic(&Gvr::new(group, "v1", resource));
        let answer = handle.create("", &review, &WriteParams::default()).await;
        answer.map_err(|error| {
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("cannot ask the API server: {error}"),
            )
        })
    }
}

fn text(code: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = code;
    let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// What every Prometheus client tells of its process.
fn process_metrics(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let cpu = crate::bench::own_cpu().unwrap_or_default().as_secs_f64();
    format!(
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {cpu}\n\
         # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}\n\
         # TYPE process_threads gauge\nprocess_threads {}\n\
         # TYPE kubernetes_build_info gauge\nkubernetes_build_info{{component=\"{name}\",git_version=\"v1.37.0\"}} 1\n",
        field("VmRSS:") * 1024,
        field("Threads:"),
    )
}
