//! The server: from a request to an answer.

mod chain;
mod startup;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Status, Value};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rustls::ClientConfig;
use rustls::server::danger::ClientCertVerifier;
use store::Store;

use crate::admission::{Admission, AdmissionError};
use crate::allocate::Pool;
use crate::audit::{self, AuditError};
use crate::authn::token_keys::{KeyError, ServiceAccountConfig};
use crate::body::Body;
use crate::health::Endpoints;
use crate::kind::Kind;
use crate::state::{Mounted, State};
use crate::user::UserInfo;

pub(crate) use trust::trusting;

/// The longest body that is read.
const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;

/// What a server is made of.
pub struct Config {
    /// Every kind that is served.
    pub kinds: Vec<Kind>,
    /// Where objects are kept.
    pub store: Store,
    /// Pools of unique values, by the names that kinds use.
    pub pools: Vec<Pool>,
    /// Keys of service-account tokens; without them there are none.
    pub service_account: Option<ServiceAccountConfig>,
    /// TLS towards node agents: our client certificate, and the authority of theirs.
    pub kubelet_tls: Option<Arc<ClientConfig>>,
    /// What tells whether a client's certificate is good. Without it, TLS has to have found out.
    pub client_certificates: Option<Arc<dyn ClientCertVerifier>>,
    /// Where clients reach the server: host and port.
    pub address: String,
    /// Which admission plugins run.
    pub admission: Admission,
    /// What is recorded of requests; nothing without it.
    pub audit: Option<audit::Options>,
    /// How much is done at a time, and how it ends.
    pub limits: Limits,
}

/// How much is done at a time, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are served at a time, of which each priority level gets its share (upstream's
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight` together).
    pub in_flight: u32,
    /// How long the server goes on serving after it says that it is not ready any more.
    pub shutdown_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            in_flight: 600,
            shutdown_delay: Duration::ZERO,
        }
    }
}

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The service-account keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The admission plugins cannot be set up.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// Auditing cannot be set up.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The address, unless it is this process.
    pub address: Option<SocketAddr>,
    /// Whom the connection itself identifies: a component in this process, or the subject of a
    /// verified client certificate.
    pub user: Option<UserInfo>,
    /// The front proxy that the connection comes from: it names the user of each request in headers.
    pub front_proxy: Option<String>,
    /// Why the certificate that the client showed identifies nobody. Without other credentials such a
    /// client gets 401.
    pub bad_certificate: Option<String>,
}

/// The API server; cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) state: Arc<State>,
}

/// The server for a component in this process, as one user.
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    peer: Peer,
}

impl InProcess {
    /// Sends a request with a complete body; the answer's body streams.
    pub async fn call(&self, request: Request<Bytes>) -> Response<Body> {
        self.server
            .handle(request.map(crate::body::full), self.peer.clone())
            .await
    }
}

impl ApiServer {
    /// The server for a component of this process that is `user`; RBAC applies to it.
    pub fn in_process(&self, user: UserInfo) -> InProcess {
        InProcess {
            server: self.clone(),
            peer: Peer {
                user: Some(user),
                ..Peer::default()
            },
        }
    }

    /// Adds a health check, e.g. `poststarthook/rbac/bootstrap-roles`.
    pub fn add_check<F>(&self, name: &str, endpoints: Endpoints, probe: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.state.health.add(name, endpoints, probe);
    }

    /// Answers GETs below `prefix`, a path that is about no resource, with what `answer` finds for the rest of the
    /// path; nothing found is 404. RBAC's nonResourceURLs say who may. Only the first call counts.
    pub fn mount(
        &self,
        prefix: &'static str,
        answer: impl Fn(String) -> BoxFuture<'static, Option<Value>> + Send + Sync + 'static,
    ) {
        let answer = Box::new(answer);
        let _ = self.state.mounted.set(Mounted { prefix, answer });
    }

    /// What `text` says, in Prometheus' text form, follows the server's own numbers. Only the first call counts.
    pub fn add_metrics(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        let _ = self.state.more_metrics.set(Box::new(text));
    }

    /// Waits until the caches are filled and allocations are mended.
    pub async fn ready(&self) {
        startup::ready(&self.state).await;
    }

    /// A token with these claims, signed with the key of service accounts.
    ///
    /// # Errors
    /// There is no such key, or it does not sign.
    pub fn sign_token(&self, claims: &api::Value) -> Result<String, String> {
        let keys = self
            .state
            .tokens
            .as_ref()
            .ok_or("no service-account keys are configured")?;
        keys.sign(claims).map_err(|error| error.to_string())
    }

    /// Turns unready and ends watches. [`ApiServer::serve`] does this by itself.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
        self.state.shutdown.cancel();
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        // Behind a pointer: what the handlers hold is large, and its type would burden every caller.
        let answered: BoxFuture<'_, Response<Body>> = Box::pin(chain::run(self, request, peer));
        answered.await
    }
}

/// Reads a body up to the limit.
///
/// # Errors
/// 413 if it is longer, 400 if it breaks off.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, BODY_LIMIT_BYTES).collect().boxed().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::request_entity_too_large(format!("limit is {BODY_LIMIT_BYTES}")))
        }
        Err(error) => Err(Status::bad_request(format!("cannot read the body: {error}"))),
    }
}
