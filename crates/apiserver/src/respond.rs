//! Answers: objects and Statuses in the encoding the client asked for.

use api::{Gvk, Status, Value};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use schema::TypeRef;

use crate::body::{self, Body};
use crate::codec;
use crate::negotiate::{Encoding, Output};

/// A complete answer.
pub(crate) type Answer = Response<Body>;

/// An answer of these bytes.
pub(crate) fn bytes(code: u16, content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    stream(code, content_type, body::full(content))
}

/// An answer with this body.
pub(crate) fn stream(code: u16, content_type: &'static str, content: Body) -> Answer {
    let mut answer = Response::new(content);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// How many bytes an answer's body will have, about, and that it may be compressed.
#[derive(Clone, Copy)]
pub(crate) struct Compressible(pub usize);

/// Says how long a streamed body will be, about; so it may be compressed.
pub(crate) fn sized(mut answer: Answer, size: usize) -> Answer {
    answer.extensions_mut().insert(Compressible(size));
    answer
}

/// An encoded object: what may be compressed.
pub(crate) fn encoded(code: u16, content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let content = content.into();
    let size = content.len();
    sized(bytes(code, content_type, content), size)
}

/// Plain text.
pub(crate) fn text(code: u16, content: impl Into<String>) -> Answer {
    bytes(code, "text/plain; charset=utf-8", content.into().into_bytes())
}

/// An object of a known type.
pub(crate) fn object(code: u16, output: Output, ty: TypeRef<'_>, gvk: &Gvk, value: &Value) -> Result<Answer, Status> {
    let content = encode(output, ty, gvk, value)?;
    Ok(encoded(code, output.encoding.media_type(), content))
}

/// An object's bytes in the chosen encoding.
pub(crate) fn encode(output: Output, ty: TypeRef<'_>, gvk: &Gvk, value: &Value) -> Result<Bytes, Status> {
    match output.encoding {
        Encoding::Json => Ok(json(value, output.pretty)),
        Encoding::Yaml => codec::to_yaml(value),
        Encoding::Protobuf => codec::to_protobuf(ty, gvk, value),
    }
}

/// JSON, indented by two if pretty.
pub(crate) fn json(value: &Value, pretty: bool) -> Bytes {
    if pretty {
        codec::to_pretty_json(value)
    } else {
        codec::to_json(value)
    }
}

/// A Status in the chosen encoding.
pub(crate) fn status(status: &Status, output: Output) -> Answer {
    let code = if status.code == 0 { 200 } else { status.code };
    let value = serde_json::to_value(status).unwrap_or(Value::Null);
    let gvk = Gvk::new("", "v1", "Status");
    let ty = schema::builtin().kind("", "v1", "Status");
    let mut answer = ty
        .and_then(|ty| object(code, output, ty, &gvk, &value).ok())
        .unwrap_or_else(|| bytes(code, Encoding::Json.media_type(), status.to_json()));
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 && status.code >= 400 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    answer
}
