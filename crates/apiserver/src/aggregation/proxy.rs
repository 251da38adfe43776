//! Requests passed on to other API servers (`kube-aggregator/pkg/apiserver/handler_proxy.go`).

use std::sync::Arc;

use api::Status;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Remote;
use super::exchange::{self, Verify};
use super::front_proxy;
use crate::body::{self, Body};
use crate::call::Call;
use crate::respond::{self, Answer};
use crate::state::State;
use crate::subresource::proxy::{copy_headers, tunnel};
use crate::user::UserInfo;

/// Passes a request on as its user.
///
/// # Errors
/// What the client is told instead of an answer.
pub(crate) async fn forward(state: &Arc<State>, call: &Call, remote: &Remote, content: Body) -> Result<Answer, Status> {
    forward_as(state, call, remote, &call.user, content).await
}

/// The same as somebody else.
///
/// # Errors
/// As [`forward`].
pub(crate) async fn forward_as(
    state: &Arc<State>,
    call: &Call,
    remote: &Remote,
    user: &UserInfo,
    content: Body,
) -> Result<Answer, Status> {
    if !remote.is_available() {
        return Ok(respond::text(503, "service unavailable\n"));
    }
    let stream = match exchange::connect(state, remote, Verify::Certificate).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(
                apiservice = remote.name,
                error,
                "cannot reach an API server that requests are passed on to"
            );
            return Ok(respond::text(503, format!("error trying to reach service: {error}\n")));
        }
    };
    let failed =
        |error: &dyn std::fmt::Display| respond::text(503, format!("error trying to reach service: {error}\n"));
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Ok(failed(&error)),
    };
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended badly");
        }
    });
    let request = request(call, remote, user, content).map_err(|e| Status::internal(e.to_string()))?;
    let mut answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(error) => return Ok(failed(&error)),
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return tunnel(call, &mut answer);
    }
    let (parts, incoming) = answer.into_parts();
    let mut out = Response::new(body::boxed(incoming));
    *out.status_mut() = parts.status;
    copy_headers(&parts.headers, out.headers_mut());
    Ok(out)
}

fn request(call: &Call, remote: &Remote, user: &UserInfo, content: Body) -> Result<Request<Body>, http::Error> {
    let query = call.query.text();
    let mark = if query.is_empty() { "" } else { "?" };
    let uri = format!("{}{mark}{query}", call.info.path);
    let mut request = Request::builder().method(call.method.clone()).uri(uri).body(content)?;
    let headers = request.headers_mut();
    copy_headers(&call.headers, headers);
    let host = format!("{}.{}.svc:{}", remote.service, remote.namespace, remote.port);
    headers.insert(HOST, host.parse()?);
    if let Some(address) = call.peer {
        let before = call.headers.get("x-forwarded-for").and_then(|v| v.to_str().ok());
        let chain = before.map_or_else(|| address.ip().to_string(), |b| format!("{b}, {}", address.ip()));
        headers.insert("x-forwarded-for", chain.parse()?);
    }
    front_proxy::name_user(headers, user);
    if call.headers.contains_key(UPGRADE) {
        for name in [CONNECTION, UPGRADE] {
            if let Some(value) = call.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        *request.body_mut() = body::empty();
    }
    Ok(request)
}
