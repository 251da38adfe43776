//! The server: from a request to an answer.

mod startup;
mod trust;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::Status;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::server::danger::ClientCertVerifier;
use store::Store;

use crate::admission::{Admission, AdmissionError};
use crate::allocate::Pool;
use crate::authn::{
    self,
    token_keys::{KeyError, ServiceAccountConfig},
};
use crate::authz::{self, Attributes};
use crate::body::Body;
use crate::call::{Annotations, Call, Warnings};
use crate::compress;
use crate::health::Endpoints;
use crate::kind::Kind;
use crate::negotiate::{self, Output};
use crate::request::{Query, RequestInfo};
use crate::respond::{self, Answer};
use crate::route;
use crate::state::State;
use crate::user::{ANONYMOUS, UserInfo};

pub(crate) use trust::trusting;

/// The longest body that is read.
const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;
/// How long an ordinary request may take.
const DEADLINE: Duration = Duration::from_secs(60);

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
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The address, unless it is this process.
    pub address: Option<SocketAddr>,
    /// Whom the connection itself identifies: a component in this process, or the subject of a
    /// verified client certificate.
    pub user: Option<UserInfo>,
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
                address: None,
                user: Some(user),
                bad_certificate: None,
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

    /// Waits until the caches are filled and allocations are mended.
    pub async fn ready(&self) {
        startup::ready(&self.state).await;
    }

    /// Turns unready and ends watches. [`ApiServer::serve`] does this by itself.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Relaxed);
        self.state.shutdown.cancel();
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
        let output = negotiate::output_or_json(request.headers(), &query);
        let gzip = compress::accepts_gzip(request.headers());
        let audit_id = audit_id(request.headers());
        let in_flight = self.state.metrics.enter(&info);
        let deadline = if info.is_long_running() {
            Ok(None)
        } else {
            request_deadline(&query).map(Some)
        };
        let answered = match deadline {
            Err(status) => Ok(respond::status(&status, output)),
            Ok(deadline) => {
                let work = self.clone().answer(request, peer, info.clone(), query.clone(), output);
                within(deadline, AssertUnwindSafe(work).catch_unwind(), output).await
            }
        };
        drop(in_flight);
        let mut answer = answered.unwrap_or_else(|_| {
            tracing::error!(path = info.path, verb = info.verb, "a request handler panicked");
            let why = "This request caused apiserver to panic. Look in the logs for details.";
            respond::status(&Status::failure(500, api::reason::INTERNAL_ERROR, why), output)
        });
        answer.headers_mut().insert("audit-id", audit_id);
        if gzip {
            answer = compress::compress(answer);
        }
        let code = answer.status().as_u16();
        let known = !info.is_resource || self.state.registry.load().serves(&info);
        self.state.metrics.record(&info, known, &query, code, started.elapsed());
        answer
    }

    async fn answer(
        self,
        mut request: Request<Body>,
        peer: Peer,
        info: RequestInfo,
        query: Query,
        output: Output,
    ) -> Answer {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (parts, body) = request.into_parts();
        let warnings = Warnings::default();
        let mut call = Call {
            info,
            method: parts.method,
            query,
            headers: parts.headers,
            user: UserInfo::default(),
            peer: peer.address,
            now: Timestamp::now(),
            warnings: warnings.clone(),
            annotations: Annotations::default(),
            upgrade: Mutex::new(upgrade),
        };
        let result = match admit(&self.state, &mut call, &peer).await {
            Ok(()) => route::dispatch(&self.state, &call, body).await,
            Err(status) => Err(status),
        };
        let mut answer = result.unwrap_or_else(|status| respond::status(&status, output));
        warnings.write(answer.headers_mut());
        answer
    }
}

/// The answer, or 504 if it takes longer than the deadline.
async fn within<P>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<Answer, P>>,
    output: Output,
) -> Result<Answer, P> {
    let Some(deadline) = deadline else {
        return work.await;
    };
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        let why = "request did not complete within the allotted timeout";
        Ok(respond::status(&Status::timeout(why, 0), output))
    })
}

/// The request's identifier in the audit log: the client's own, or a new one
/// (`endpoints/filters/audit_init.go`).
fn audit_id(headers: &http::HeaderMap) -> HeaderValue {
    let given = headers.get("audit-id").filter(|id| !id.is_empty());
    given.cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).expect("a UUID is visible ASCII")
    })
}

/// How long the request may take: what the client asks for, but not longer than the server's limit
/// (`endpoints/filters/request_deadline.go`).
fn request_deadline(query: &Query) -> Result<Duration, Status> {
    let Some(text) = query.non_empty("timeout") else {
        return Ok(DEADLINE);
    };
    match api::time::parse_go_duration(text) {
        Some(asked) if asked.is_zero() => Ok(DEADLINE),
        Some(asked) => Ok(asked.unsigned_abs().min(DEADLINE)),
        None => Err(Status::bad_request(format!(
            "invalid timeout specified in the request URL - time: invalid duration {}",
            api::field::go_quote(text)
        ))),
    }
}

/// Authentication, impersonation and authorization.
async fn admit(state: &State, call: &mut Call, peer: &Peer) -> Result<(), Status> {
    call.user = authn::authenticate(state, peer, &call.headers).await?;
    if let Some(user) = authn::impersonate(state, &call.user, &call.headers).await? {
        tracing::debug!(user = call.user.name, acting = user.name, "impersonation");
        call.user = user;
    }
    let attributes = Attributes::of(&call.info, &call.user);
    let allowed = authz::require(state, &attributes).await;
    // Upstream's mux answers unknown names only to those who may ask; so does this order.
    allowed.inspect_err(|_| {
        if call.user.name != ANONYMOUS {
            tracing::debug!(
                user = call.user.name,
                verb = call.info.verb,
                path = call.info.path,
                "forbidden"
            );
        }
    })
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
