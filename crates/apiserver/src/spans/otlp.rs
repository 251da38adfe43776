//! `ExportTraceServiceRequest` in protobuf, as a gRPC message (opentelemetry-proto `trace/v1/trace.proto`).

use super::{Span, SpanContext};
use crate::verbs::output::put_message;

/// `Span.Kind`
const SERVER: u8 = 2;
/// `Status.StatusCode`
const ERROR: u8 = 2;

/// The message behind its head: not compressed, and its length.
pub(super) fn framed(spans: &[Span]) -> Vec<u8> {
    let message = request(spans);
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&message);
    out
}

fn nested(out: &mut Vec<u8>, field: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    content(&mut inner);
    put_message(out, field, &inner);
}

fn request(spans: &[Span]) -> Vec<u8> {
    let mut out = Vec::new();
    nested(&mut out, 1, |of_resource| {
        nested(of_resource, 1, |resource| {
            nested(resource, 1, |pair| text(pair, "service.name", "apiserver"));
        });
        nested(of_resource, 2, |of_scope| {
            nested(of_scope, 1, |scope| put_message(scope, 1, b"skiff/apiserver"));
            for it in spans {
                nested(of_scope, 2, |out| span(out, it));
            }
        });
    });
    out
}

fn span(out: &mut Vec<u8>, span: &Span) {
    context(out, span.own);
    put_message(out, 5, span.name.as_bytes());
    out.extend_from_slice(&[6 << 3, SERVER]);
    for (field, time) in [(7, span.started), (8, span.ended)] {
        out.push(field << 3 | 1);
        out.extend_from_slice(&time.to_le_bytes());
    }
    for (key, value) in &span.attributes {
        nested(out, 9, |pair| text(pair, key, value));
    }
    nested(out, 9, |pair| whole(pair, "http.response.status_code", span.code));
    if let Some(link) = span.link {
        nested(out, 13, |out| context(out, link));
    }
    // Of server spans only the server's own errors are errors.
    if span.code >= 500 {
        nested(out, 15, |status| status.extend_from_slice(&[3 << 3, ERROR]));
    }
}

fn context(out: &mut Vec<u8>, context: SpanContext) {
    put_message(out, 1, &context.trace);
    put_message(out, 2, &context.span);
}

fn text(pair: &mut Vec<u8>, key: &str, value: &str) {
    put_message(pair, 1, key.as_bytes());
    nested(pair, 2, |any| put_message(any, 1, value.as_bytes()));
}

fn whole(pair: &mut Vec<u8>, key: &str, value: u16) {
    put_message(pair, 1, key.as_bytes());
    nested(pair, 2, |any| {
        any.push(3 << 3);
        let mut rest = value;
        while rest >= 0x80 {
            any.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        any.push(rest as u8);
    });
}
