//! The watch protocol: JSON documents, one a line.

use std::marker::PhantomData;

use api::Status;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use typed::Decoded;

use crate::{Body, ClientError};

/// Longer than any object the server stores (3 MiB request limit, escapes included).
const MAX_LINE_BYTES: usize = 32 << 20;

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent<T> {
    /// An object entered the selection.
    Added(T),
    /// An object of the selection changed.
    Modified(T),
    /// An object left the selection; the last state.
    Deleted(T),
    /// Everything up to this revision has been sent.
    Bookmark {
        /// The revision.
        resource_version: String,
        /// Ends the initial events.
        initial_events_end: bool,
    },
    /// The server ends the watch (410: too old).
    Error(Box<Status>),
}

/// A running watch. Dropping it ends the watch.
pub struct WatchStream<T> {
    path: String,
    body: Body,
    buffer: BytesMut,
    scanned: usize,
    decoded: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for WatchStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<T: Decoded> WatchStream<T> {
    pub(crate) fn new(path: String, body: Body) -> Self {
        Self {
            path,
            body,
            buffer: BytesMut::new(),
            scanned: 0,
            decoded: PhantomData,
        }
    }

    /// The next event; `None` when the server ended the watch.
    ///
    /// Cancel-safe: a dropped future loses no event.
    ///
    /// # Errors
    /// The connection broke, or an event could not be decoded.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<T>, ClientError>> {
        loop {
            if let Some(line) = self.line() {
                if line.is_empty() {
                    continue;
                }
                return Some(decode(&line, &self.path));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                        if self.buffer.len() > MAX_LINE_BYTES && !self.buffer.contains(&b'\n') {
                            let path = self.path.clone();
                            return Some(Err(ClientError::WatchLineTooLong {
                                path,
                                limit: MAX_LINE_BYTES,
                            }));
                        }
                    }
                }
                Err(source) => {
                    return Some(Err(ClientError::ReadBody {
                        path: self.path.clone(),
                        source,
                    }));
                }
            }
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + end);
        self.buffer.advance(1);
        self.scanned = 0;
        Some(line)
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

fn decode<T: Decoded>(line: &[u8], path: &str) -> Result<WatchEvent<T>, ClientError> {
    decode_frame(line).map_err(|source| ClientError::Decode {
        what: format!("an event of {path}"),
        source,
    })
}

fn decode_frame<T: Decoded>(line: &[u8]) -> Result<WatchEvent<T>, serde_json::Error> {
    let frame: Frame<'_> = serde_json::from_slice(line)?;
    let object = frame.object.get();
    Ok(match frame.kind {
        "ADDED" => WatchEvent::Added(T::from_json(object.as_bytes())?),
        "MODIFIED" => WatchEvent::Modified(T::from_json(object.as_bytes())?),
        "DELETED" => WatchEvent::Deleted(T::from_json(object.as_bytes())?),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_str(object)?;
            let end = bookmark.metadata.annotations.get("k8s.io/initial-events-end");
            WatchEvent::Bookmark {
                initial_events_end: end.is_some_and(|value| value == "true"),
                resource_version: bookmark.metadata.resource_version,
            }
        }
        "ERROR" => WatchEvent::Error(serde_json::from_str(object)?),
        other => return Err(serde::de::Error::custom(format!("unknown event type {other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use api::Value;

    use super::*;
    use crate::transport::full_body;

    #[tokio::test]
    async fn events_are_lines_and_an_error_is_a_status() {
        let text = concat!(
            "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n\n",
            "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"old\",\"reason\":\"Expired\",\"code\":410}}\n",
        );
        let mut stream = WatchStream::<Value>::new("/x".into(), full_body(text));
        assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Added(v))) if v["a"] == 1));
        let bookmark = stream.next().await;
        assert!(matches!(bookmark, Some(Ok(WatchEvent::Bookmark { resource_version, .. })) if resource_version == "7"));
        assert!(matches!(stream.next().await, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
        assert!(stream.next().await.is_none());
    }
}
