//! Watches over WebSocket: a message an event (`endpoints/handlers/watch.go` HandleWS).

use api::Status;
use bytes::{Buf, Bytes};
use streams::messages::{Messages, Pending};
use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::body;
use crate::call::Call;
use crate::negotiate::Encoding;
use crate::respond::Answer;

/// The client's socket, once the answer has been sent.
pub(super) struct Socket {
    pending: Pending,
    encoding: Encoding,
    shutdown: CancellationToken,
}

/// The answer that switches to WebSocket; none if the client does not ask for it.
pub(super) fn answer(
    call: &Call,
    encoding: Encoding,
    shutdown: &CancellationToken,
) -> Option<Result<(Answer, Socket), Status>> {
    if !streams::messages::is_web_socket(&call.headers) {
        return None;
    }
    let Some(upgrade) = call.upgrade.lock().take() else {
        return Some(Err(Status::bad_request("the connection cannot be upgraded")));
    };
    let accepted = streams::messages::accept(&call.headers, upgrade);
    Some(match accepted {
        Ok((response, pending)) => {
            let socket = Socket {
                pending,
                encoding,
                shutdown: shutdown.clone(),
            };
            Ok((response.map(|()| body::empty()), socket))
        }
        Err(error) => Err(Status::bad_request(error.to_string())),
    })
}

/// Sends events until the watch or the client ends.
pub(super) async fn send(mut feed: Feed, socket: Socket) {
    let mut messages = tokio::select! {
        started = socket.pending.start() => match started {
            Ok(messages) => messages,
            Err(error) => {
                tracing::debug!(%error, "a watch was not upgraded to WebSocket");
                return;
            }
        },
        () = socket.shutdown.cancelled() => return,
    };
    loop {
        let events = tokio::select! {
            events = feed.next() => events,
            () = messages.closed() => return,
        };
        let Some(events) = events else { break };
        if send_each(&mut messages, events, socket.encoding).await.is_err() {
            return;
        }
    }
    messages.close().await;
}

/// Events come framed for a stream: as lines, or with their lengths.
async fn send_each(messages: &mut Messages, mut events: Bytes, encoding: Encoding) -> Result<(), streams::StreamError> {
    while !events.is_empty() {
        if encoding == Encoding::Protobuf {
            let length = events.get_u32() as usize;
            messages.binary(&events.split_to(length.min(events.len()))).await?;
        } else {
            let end = events
                .iter()
                .position(|b| *b == b'\n')
                .map_or(events.len(), |at| at + 1);
            messages.text(&events.split_to(end)).await?;
        }
    }
    Ok(())
}
