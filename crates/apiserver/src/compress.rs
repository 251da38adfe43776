//! Compression of answers (`endpoints/handlers/responsewriters/writers.go`): gzip at its fastest, for
//! objects and lists of more than 128 KiB, if the client takes it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::body::{self, Body, BoxError};
use crate::respond::{Answer, Compressible};

/// Shorter bodies are sent as they are (`defaultGzipThresholdBytes`).
const THRESHOLD_BYTES: usize = 128 * 1024;

/// Whether the client names gzip among the encodings it takes; weights are not looked at, as upstream.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let header = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    header.split(',').any(|token| token.trim() == "gzip")
}

/// Compresses an answer that may be and is long enough.
pub(crate) fn compress(mut answer: Answer) -> Answer {
    let size = answer.extensions().get::<Compressible>().map_or(0, |c| c.0);
    if size <= THRESHOLD_BYTES {
        return answer;
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.remove(CONTENT_LENGTH);
    answer.map(gzip)
}

/// The same content, compressed frame by frame.
fn gzip(content: Body) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let frames = stream::unfold(Some((content, encoder)), |state| async move {
        let (mut content, mut encoder) = state?;
        loop {
            let Some(frame) = content.frame().await else {
                let rest = encoder.finish().map_err(BoxError::from).map(Bytes::from);
                return Some((rest.map(Frame::data), None));
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Some((Err(error), None)),
            };
            let Ok(data) = frame.into_data() else { continue };
            if let Err(error) = encoder.write_all(&data) {
                return Some((Err(error.into()), None));
            }
            let written = std::mem::take(encoder.get_mut());
            if !written.is_empty() {
                return Some((Ok(Frame::data(written.into())), Some((content, encoder))));
            }
        }
    });
    body::boxed(StreamBody::new(frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_name_gzip() {
        let accepts = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, text.parse().unwrap());
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip"));
        assert!(accepts("deflate, gzip"));
        assert!(!accepts("gzip;q=0"));
        assert!(!accepts("br"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
