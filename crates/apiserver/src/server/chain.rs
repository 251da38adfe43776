//! What every request goes through, in this order (`server/config.go` DefaultBuildHandlerChain): panic guard, deadline,
//! authentication, audit, impersonation, priority and fairness, authorization, and then its handler.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use api::Status;
use futures_util::FutureExt;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{ApiServer, Peer, read_body};
use crate::aggregation::front_proxy;
use crate::audit::{self, Level, Recording, Stage};
use crate::authn;
use crate::authz::{self, Attributes, Decision};
use crate::body::{self, Body};
use crate::call::{Annotations, Call, Warnings};
use crate::compress;
use crate::flow_control::{self, Class, Ticket};
use crate::metrics::{Finished, InFlight};
use crate::negotiate::{self, Output};
use crate::request::{Query, RequestInfo};
use crate::respond::{self, Answer};
use crate::route;
use crate::state::State;
use crate::user::{SYSTEM_MASTERS, UserInfo};
use crate::verbs::metadata;

/// How long an ordinary request may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Longer answers are not put into audit events.
const RECORDED_BYTES: u64 = 4 << 20;

/// What is known of a request before anything is done.
struct Arrived {
    info: RequestInfo,
    query: Query,
    output: Output,
    /// Of the audit event and the answer's header.
    id: HeaderValue,
    started: Instant,
    /// Set once the policy is known to want it.
    recording: OnceLock<Recording>,
    /// How long it waited for a turn.
    waited: OnceLock<Duration>,
}

/// Answers one request.
pub(super) async fn run(server: &ApiServer, request: Request<Body>, peer: Peer) -> Response<Body> {
    let state = &server.state;
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    let output = negotiate::output_or_json(request.headers(), &query);
    let gzip = compress::accepts_gzip(request.headers());
    let arrived = Arc::new(Arrived {
        id: audit_id(request.headers()),
        started: Instant::now(),
        recording: OnceLock::new(),
        waited: OnceLock::new(),
        info,
        query,
        output,
    });
    let spans = state.spans.get();
    let span = spans.and_then(|spans| spans.begin(request.method(), request.headers(), &arrived.info));
    let in_flight = state.metrics.enter(&arrived.info);
    let answered = within_deadline(state.clone(), request, peer, arrived.clone()).await;
    drop(in_flight);
    let mut answer = answered.unwrap_or_else(|| {
        let info = &arrived.info;
        tracing::error!(path = info.path, verb = info.verb, "a request handler panicked");
        if let Some(recording) = arrived.recording.get() {
            recording.emit(Stage::Panic);
        }
        let why = "This request caused apiserver to panic. Look in the logs for details.";
        respond::status(&Status::failure(500, api::reason::INTERNAL_ERROR, why), output)
    });
    answer.headers_mut().insert("audit-id", arrived.id.clone());
    if gzip {
        answer = compress::compress(answer);
    }
    count(state, &arrived, &answer);
    if let (Some(spans), Some(span)) = (spans, span) {
        spans.end(span, answer.status().as_u16(), arrived.id.to_str().unwrap_or(""));
    }
    finish(state, &arrived, answer).await
}

/// The answer, also if it takes too long; nothing if the handler panics.
async fn within_deadline(
    state: Arc<State>,
    request: Request<Body>,
    peer: Peer,
    arrived: Arc<Arrived>,
) -> Option<Answer> {
    let output = arrived.output;
    let deadline = match request_deadline(&arrived.query) {
        Ok(deadline) => deadline,
        Err(status) => return Some(respond::status(&status, output)),
    };
    let long = arrived.info.is_long_running();
    let work = answer(state.clone(), request, peer, arrived.clone(), deadline);
    let work = AssertUnwindSafe(work).catch_unwind();
    if long {
        return work.await.ok();
    }
    match tokio::time::timeout(deadline, work).await {
        Ok(answered) => answered.ok(),
        Err(_) => {
            let known = state.registry.load().serves(&arrived.info);
            state.metrics.record_termination(&arrived.info, known, 504);
            let why = "request did not complete within the allotted timeout";
            Some(respond::status(&Status::timeout(why, 0), output))
        }
    }
}

async fn answer(
    state: Arc<State>,
    mut request: Request<Body>,
    peer: Peer,
    arrived: Arc<Arrived>,
    deadline: Duration,
) -> Answer {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    let warnings = Warnings::default();
    let mut call = Call {
        info: arrived.info.clone(),
        method: parts.method,
        query: arrived.query.clone(),
        headers: parts.headers,
        user: UserInfo::default(),
        peer: peer.address,
        now: Timestamp::now(),
        warnings: warnings.clone(),
        annotations: Annotations::new(state.audit.is_some()),
        upgrade: Mutex::new(upgrade),
    };
    let mut turn = None;
    let result = match admit(&state, &mut call, &peer, &arrived, deadline, &mut turn).await {
        Ok(None) => handle(&state, &call, body, &arrived).await,
        Ok(Some(refusal)) => Ok(refusal),
        Err(status) => Err(status),
    };
    let mut answer = result.unwrap_or_else(|status| {
        let mut answer = respond::status(&status, arrived.output);
        answer.extensions_mut().insert(audit::Failure(Arc::new(status)));
        answer
    });
    if let Some(ticket) = &turn {
        write_class(&ticket.class, answer.headers_mut());
    }
    warnings.write(answer.headers_mut());
    answer
}

/// Authentication, audit, impersonation, priority and fairness, authorization. Gives the answer to a request that has
/// to come again.
async fn admit(
    state: &Arc<State>,
    call: &mut Call,
    peer: &Peer,
    arrived: &Arrived,
    deadline: Duration,
    turn: &mut Option<Ticket>,
) -> Result<Option<Answer>, Status> {
    let began = Instant::now();
    let user = authn::authenticate(state, peer, call).await;
    let (result, name) = match &user {
        Ok(user) => ("success", user.name.as_str()),
        Err(_) => ("failure", ""),
    };
    state.metrics.record_authentication(result, name, began.elapsed());
    match user {
        Ok(user) => call.user = user,
        Err(status) => {
            record(state, call, peer, arrived)?;
            return Err(status);
        }
    }
    // Whoever comes later must not take a front proxy's headers for ours.
    front_proxy::strip(&mut call.headers);
    record(state, call, peer, arrived)?;
    if let Some(user) = authn::impersonate(state, &call.user, &call.headers).await? {
        tracing::debug!(user = call.user.name, acting = user.name, "impersonation");
        if let Some(recording) = arrived.recording.get() {
            recording.impersonate(&user);
        }
        call.user = user;
    }
    let info = &call.info;
    // Whatever else runs long would hold its seats for as long.
    if !info.is_long_running() || info.verb == "watch" {
        let seats = || flow_control::seats(state, info, &call.query);
        match state.flow_control.admit(info, &call.user, deadline, seats).await {
            Ok(ticket) => {
                let _ = arrived.waited.set(ticket.waited);
                *turn = Some(ticket);
            }
            Err(rejected) => {
                let known = state.registry.load().serves(info);
                state.metrics.record_termination(info, known, 429);
                return Ok(Some(too_many(&rejected)));
            }
        }
    }
    authorize(state, call).await.map(|()| None)
}

async fn authorize(state: &State, call: &Call) -> Result<(), Status> {
    let began = Instant::now();
    let annotations = &call.annotations;
    if call.user.in_group(SYSTEM_MASTERS) {
        state.metrics.record_authorization(true, began.elapsed());
        annotations.add("authorization.k8s.io/decision", "allow");
        annotations.add("authorization.k8s.io/reason", "");
        return Ok(());
    }
    let attributes = Attributes::of(&call.info, &call.user);
    let decision = authz::authorize(state, &attributes).await;
    state
        .metrics
        .record_authorization(decision.is_allowed(), began.elapsed());
    match decision {
        Decision::Allow(reason) => {
            annotations.add("authorization.k8s.io/decision", "allow");
            annotations.add("authorization.k8s.io/reason", reason);
            Ok(())
        }
        Decision::NoOpinion(reason) => {
            annotations.add("authorization.k8s.io/decision", "forbid");
            annotations.add("authorization.k8s.io/reason", reason.clone());
            let (user, verb, path) = (&call.user.name, &call.info.verb, &call.info.path);
            tracing::debug!(user, verb, path, "forbidden");
            Err(attributes.forbidden(&reason))
        }
    }
}

/// 429, in the words and the form upstream has for it.
fn too_many(rejected: &flow_control::Rejected) -> Answer {
    let mut answer = respond::text(429, "Too many requests, please try again later.\n");
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(rejected.retry_after));
    write_class(&rejected.class, headers);
    answer
}

fn write_class(class: &Class, headers: &mut HeaderMap) {
    for (name, uid) in [
        ("x-kubernetes-pf-flowschema-uid", &class.schema_uid),
        ("x-kubernetes-pf-prioritylevel-uid", &class.level_uid),
    ] {
        if let Some(value) = uid {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

/// Begins to record the request, if there is a policy that wants it.
///
/// # Errors
/// 500 if it has to be recorded and cannot be.
fn record(state: &State, call: &Call, peer: &Peer, arrived: &Arrived) -> Result<(), Status> {
    let Some(audit) = &state.audit else { return Ok(()) };
    let text = |name: &str| call.headers.get(name).and_then(|v| v.to_str().ok());
    let query = call.query.text();
    let mark = if query.is_empty() { "" } else { "?" };
    let recording = audit.begin(audit::Request {
        info: &call.info,
        user: &call.user,
        id: arrived.id.to_str().unwrap_or(""),
        uri: &format!("{}{mark}{query}", call.info.path),
        user_agent: text(USER_AGENT.as_str()).unwrap_or(""),
        addresses: addresses(text("x-forwarded-for"), text("x-real-ip"), peer),
        annotations: call.annotations.clone(),
        received: call.now,
    })?;
    if let Some(recording) = recording {
        drop(arrived.recording.set(recording));
    }
    Ok(())
}

/// Where the request came from, the client first (`net.SourceIPs`).
fn addresses(forwarded: Option<&str>, real: Option<&str>, peer: &Peer) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let parsed = |text: &str| text.trim().parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string());
    all.extend(
        forwarded
            .into_iter()
            .flat_map(|list| list.split(','))
            .filter_map(parsed),
    );
    if all.is_empty() {
        all.extend(real.and_then(parsed));
    }
    let direct = peer
        .address
        .map_or("::1".to_owned(), |address| address.ip().to_string());
    if all.last() != Some(&direct) {
        all.push(direct);
    }
    all
}

/// Answers an admitted request; its body is recorded on the way if that is wanted.
async fn handle(state: &Arc<State>, call: &Call, content: Body, arrived: &Arrived) -> Result<Answer, Status> {
    let wanted = arrived
        .recording
        .get()
        .filter(|recording| recording.level() >= Level::Request);
    let Some(recording) = wanted.filter(|_| !call.info.is_long_running() && call.info.is_resource) else {
        return route::dispatch(state, call, content).await;
    };
    let bytes = read_body(content).await?;
    let registry = state.registry.load_full();
    if let Some(object) = audit::object_of(&registry, call, &bytes) {
        recording.request_object(object);
    }
    route::dispatch(state, call, body::full(bytes)).await
}

fn count(state: &State, arrived: &Arrived, answer: &Answer) {
    let info = &arrived.info;
    state.metrics.record(&Finished {
        info,
        known: !info.is_resource || state.registry.load().serves(info),
        query: &arrived.query,
        code: answer.status().as_u16(),
        took: arrived.started.elapsed(),
        waited: arrived.waited.get().copied().unwrap_or_default(),
        length: answer.body().size_hint().exact(),
    });
}

/// Records how the request ended, or will have when its body has.
async fn finish(state: &Arc<State>, arrived: &Arc<Arrived>, answer: Answer) -> Answer {
    let code = answer.status().as_u16();
    if arrived.info.is_long_running() {
        let known = state.registry.load().serves(&arrived.info);
        let counted = known.then(|| state.metrics.enter_long_running(&arrived.info));
        if let Some(recording) = arrived.recording.get() {
            recording.answer(code, failure(&answer));
            recording.emit(Stage::ResponseStarted);
        }
        let ends = Ends {
            arrived: arrived.clone(),
            _counted: counted,
        };
        return answer.map(|content| body::boxed(guarded(content, ends)));
    }
    let Some(recording) = arrived.recording.get() else {
        return answer;
    };
    recording.answer(code, failure(&answer));
    let answer = match recording.level() {
        Level::RequestResponse => record_response(recording, answer).await,
        _ => answer,
    };
    recording.emit(Stage::ResponseComplete);
    answer
}

fn failure(answer: &Answer) -> Option<&Status> {
    answer.extensions().get::<audit::Failure>().map(|failure| &*failure.0)
}

async fn record_response(recording: &Recording, answer: Answer) -> Answer {
    let plain = !answer.headers().contains_key(http::header::CONTENT_ENCODING);
    if !plain
        || answer
            .body()
            .size_hint()
            .upper()
            .is_none_or(|length| length > RECORDED_BYTES)
    {
        return answer;
    }
    let (parts, content) = answer.into_parts();
    let Ok(collected) = content.collect().boxed().await else {
        return Response::from_parts(parts, body::empty());
    };
    let bytes = collected.to_bytes();
    if let Ok(object) = serde_json::from_slice(&bytes) {
        recording.response_object(object);
    }
    Response::from_parts(parts, body::full(bytes))
}

/// Dropped when a long-running request has ended.
struct Ends {
    arrived: Arc<Arrived>,
    _counted: Option<InFlight>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(recording) = self.arrived.recording.get() {
            recording.emit(Stage::ResponseComplete);
        }
    }
}

/// A body that keeps something until it is dropped.
fn guarded<G: Send + 'static>(content: Body, guard: G) -> Guarded<G> {
    Guarded { content, _guard: guard }
}

struct Guarded<G> {
    content: Body,
    _guard: G,
}

impl<G: Unpin> http_body::Body for Guarded<G> {
    type Data = bytes::Bytes;
    type Error = body::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, body::BoxError>>> {
        std::pin::Pin::new(&mut self.content).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.content.size_hint()
    }
}

/// The request's identifier in the audit log: the client's own, or a new one
/// (`endpoints/filters/audit_init.go`).
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get("audit-id").filter(|id| !id.is_empty());
    given
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_str(&metadata::new_uid()).expect("a UUID is visible ASCII"))
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
