//! A pod's log over WebSocket: a message a piece, the first one empty (`apiserver/pkg/endpoints/handlers/responsewriters`
//! StreamObject, `apimachinery/pkg/util/httpstream/wsstream` Reader).

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use streams::messages::{self, Pending};

use crate::body::{self, Body};
use crate::call::Call;
use crate::respond::Answer;

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// How a piece becomes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    Base64,
}

/// Whether the client wants messages instead of a text.
pub(super) fn is_wanted(call: &Call) -> bool {
    messages::is_web_socket(&call.headers)
}

/// Switches to WebSocket and sends the answer's content there.
///
/// # Errors
/// 400 if the handshake is wrong, or offers only subprotocols that are not known.
pub(super) fn answer(call: &Call, log: Answer) -> Result<Answer, Status> {
    let mut headers = call.headers.clone();
    let form = choose(&mut headers)?;
    let Some(upgrade) = call.upgrade.lock().take() else {
        return Err(Status::bad_request("the connection cannot be upgraded"));
    };
    let (response, pending) =
        messages::accept(&headers, upgrade).map_err(|error| Status::bad_request(error.to_string()))?;
    let content = log.into_body();
    tokio::spawn(async move {
        if let Err(error) = send(content, pending, form).await {
            tracing::debug!(%error, "a log over WebSocket broke off");
        }
    });
    Ok(response.map(|()| body::empty()))
}

/// The first subprotocol that is known, which is left alone in the headers; binary if none is offered.
fn choose(headers: &mut HeaderMap) -> Result<Form, Status> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let known = [(BINARY, Form::Binary), (BASE64, Form::Base64)];
    let chosen = offered
        .iter()
        .find_map(|name| known.iter().find(|(known, _)| known == name));
    let (name, form) = match chosen {
        Some((name, form)) => (*name, *form),
        None if offered.is_empty() => return Ok(Form::Binary),
        None => {
            let detail = format!("no subprotocol is known: it may be {BINARY} or {BASE64}");
            return Err(Status::bad_request(detail));
        }
    };
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    Ok(form)
}

/// Sends what comes until it or the client ends.
async fn send(mut content: Body, pending: Pending, form: Form) -> Result<(), streams::StreamError> {
    let mut messages = pending.start().await?;
    messages.binary(b"").await?;
    loop {
        let frame = tokio::select! {
            frame = content.frame() => frame,
            () = messages.closed() => return Ok(()),
        };
        let Some(Ok(frame)) = frame else { break };
        let Ok(piece) = frame.into_data() else { continue };
        match form {
            Form::Binary => messages.binary(&piece).await?,
            Form::Base64 => messages.text(STANDARD.encode(&piece).as_bytes()).await?,
        }
    }
    messages.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subprotocols() {
        let chosen = |offered: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
            let form = choose(&mut headers).ok()?;
            Some((form, headers[SEC_WEBSOCKET_PROTOCOL].to_str().unwrap().to_owned()))
        };
        assert_eq!(chosen("binary.k8s.io"), Some((Form::Binary, BINARY.to_owned())));
        let both = "x.example.com, base64.binary.k8s.io, binary.k8s.io";
        assert_eq!(chosen(both), Some((Form::Base64, BASE64.to_owned())));
        assert_eq!(chosen("x.example.com"), None);
        assert_eq!(choose(&mut HeaderMap::new()), Ok(Form::Binary));
    }
}
