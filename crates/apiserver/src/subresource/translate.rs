//! Clients that speak WebSocket, and node agents that do not say that they do: commands are translated to
//! SPDY, and the tunnel of port-forward ends here (`apiserver/pkg/util/proxy`, which
//! `registry/core/pod/rest/subresources.go` uses so). Other WebSocket protocols are passed on as they are.

use std::sync::Arc;

use api::{Status, Value};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use streams::remote_command::{Options, RemoteCommand};
use streams::{Outcome, port_forward, translate};

use super::proxy::{self, Destination};
use crate::body;
use crate::call::Call;
use crate::kind::{Connect, value_at};
use crate::respond::Answer;
use crate::state::State;

/// What a node declares whose agent speaks WebSocket v5 and the tunnel.
const FEATURE: &str = "ExtendWebSocketsToKubelet";
const PORT_FORWARD: &str = "portforward.k8s.io";

/// A request as the node agent gets it.
pub(super) struct Asked<'a> {
    pub to: &'a Destination,
    pub path: &'a str,
    pub query: &'a [(String, String)],
}

/// Answers a request that has to be translated for this node.
///
/// # Errors
/// What the client is told if it cannot be done.
pub(super) async fn answer(
    state: &Arc<State>,
    call: &Call,
    connect: Connect,
    node: &Value,
    asked: &Asked<'_>,
) -> Option<Result<Answer, Status>> {
    let headers = &call.headers;
    let tunnel = connect == Connect::PortForward && port_forward::wants_tunnel(headers);
    let command = matches!(connect, Connect::Exec | Connect::Attach) && translate::is_wanted(headers);
    if !tunnel && !command {
        return None;
    }
    let features = value_at(node, "status.declaredFeatures").and_then(Value::as_array);
    let speaks = features.is_some_and(|list| list.iter().any(|feature| feature == FEATURE));
    let how = if speaks {
        "proxied_to_kubelet"
    } else {
        "translated_at_apiserver"
    };
    let counted = &state.metrics.websocket_streams;
    counted.of(&[how, &call.info.subresource]).inc();
    match (speaks, tunnel) {
        (true, _) => None,
        (false, true) => Some(tunnelled(state, call, asked).await),
        (false, false) => Some(translated(state, call, asked)),
    }
}

/// The client's handshake, to be answered here.
fn handshake(call: &Call) -> Result<Request<()>, Status> {
    let upgrade = call.upgrade.lock().take();
    let upgrade = upgrade.ok_or_else(|| Status::bad_request("the connection cannot be upgraded"))?;
    let mut request = Request::new(());
    *request.headers_mut() = call.headers.clone();
    request.extensions_mut().insert(upgrade);
    Ok(request)
}

fn switched(response: Response<()>) -> Answer {
    response.map(|()| body::empty())
}

/// The client is answered at once; what goes wrong from then on is told on the command's error channel.
fn translated(state: &Arc<State>, call: &Call, asked: &Asked<'_>) -> Result<Answer, Status> {
    let is_set = |name: &str| asked.query.iter().any(|(known, _)| known == name);
    let options = Options {
        stdin: is_set("input"),
        stdout: is_set("output"),
        stderr: is_set("error"),
        tty: is_set("tty"),
    };
    let counted = state.clone();
    let count = move |code: u16| counted.metrics.translated_streams.of(&[&code.to_string()]).inc();
    // Terminals have no separate error output; the node says so, or not.
    let accepted = Options {
        stderr: options.stderr && !options.tty,
        ..options
    };
    let (response, pending) = translate::accept(&mut handshake(call)?, accepted).map_err(|error| {
        count(400);
        Status::bad_request(error.to_string())
    })?;
    let (state, call) = (state.clone(), call.about(&call.info.name, &call.info.subresource));
    let (to, path, query) = (asked.to.clone(), asked.path.to_owned(), asked.query.to_vec());
    tokio::spawn(async move {
        let client = match pending.streams().await {
            Ok(client) => client,
            Err(error) => return tracing::debug!(%error, "a client's streams did not come"),
        };
        let node = proxy::ask_for_spdy(&state, &call, &to, (&path, &query), translate::NODE_PROTOCOLS).await;
        let code = match node {
            Ok(node) if is_spdy(&node) => relay(client, node, accepted).await,
            Ok(node) => {
                let code = node.status();
                let why = refusal(node).await;
                let message = format!("Internal error occurred: unable to upgrade connection: {why}");
                client.finish(Outcome::Failed(message)).await;
                code.as_u16()
            }
            Err(status) => {
                let message = format!("Internal error occurred: {}", status.message);
                client.finish(Outcome::Failed(message)).await;
                500
            }
        };
        count(code);
    });
    Ok(switched(response))
}

async fn relay(client: RemoteCommand, node: Response<hyper::body::Incoming>, options: Options) -> u16 {
    let protocol = streams::spdy_protocol(node.headers()).to_owned();
    match hyper::upgrade::on(node).await {
        Ok(socket) => {
            translate::relay(client, TokioIo::new(socket), &protocol, options).await;
            200
        }
        Err(error) => {
            client.finish(Outcome::Failed(error.to_string())).await;
            500
        }
    }
}

/// The node is asked first: if it refuses, the client gets that answer.
async fn tunnelled(state: &Arc<State>, call: &Call, asked: &Asked<'_>) -> Result<Answer, Status> {
    let place = (asked.path, asked.query);
    let node = proxy::ask_for_spdy(state, call, asked.to, place, &[PORT_FORWARD]).await?;
    let count = |code: StatusCode| state.metrics.tunnelled_streams.of(&[code.as_str()]).inc();
    if node.status() != StatusCode::SWITCHING_PROTOCOLS {
        count(node.status());
        return proxy::passed_on(call, node);
    }
    if !is_spdy(&node) {
        count(StatusCode::INTERNAL_SERVER_ERROR);
        let message = "unable to upgrade: missing upgrade headers in response";
        return Err(Status::failure(500, "", message));
    }
    count(StatusCode::SWITCHING_PROTOCOLS);
    let accepted = port_forward::accept_tunnel(&mut handshake(call)?);
    let (response, tunnel) = accepted.map_err(|error| Status::bad_request(error.to_string()))?;
    tokio::spawn(async move {
        let joined = async {
            let socket = hyper::upgrade::on(node).await?;
            tunnel.join(TokioIo::new(socket)).await
        };
        if let Err(error) = joined.await {
            tracing::debug!(%error, "a tunnel ended badly");
        }
    });
    Ok(switched(response))
}

fn is_spdy(answer: &Response<hyper::body::Incoming>) -> bool {
    let has = |name, wanted: &str| {
        let headers: &HeaderMap = answer.headers();
        let value = headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        value.to_ascii_lowercase().contains(wanted)
    };
    answer.status() == StatusCode::SWITCHING_PROTOCOLS && has(CONNECTION, "upgrade") && has(UPGRADE, "spdy/3.1")
}

async fn refusal(answer: Response<hyper::body::Incoming>) -> String {
    use http_body_util::{BodyExt, Limited};
    let body = Limited::new(answer.into_body(), 1 << 20).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned());
    text.unwrap_or_default()
}
