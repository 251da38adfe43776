//! The envelope of protobuf objects: `k8s\0` and a `runtime.Unknown` message.

use super::json::TypeMeta;
use super::protobuf::wire::{Back, Fields, Payload, WireError};

/// First bytes of every enveloped object.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// An opened envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// What the content says it is.
    pub type_meta: TypeMeta,
    /// The content: a protobuf message unless `content_type` says otherwise.
    pub raw: &'a [u8],
    /// Encoding of the content, such as `gzip`; empty for none.
    pub content_encoding: String,
    /// Media type of the content; empty for protobuf.
    pub content_type: String,
}

/// Puts a protobuf message in its envelope.
pub fn wrap(gvk: &api::Gvk, raw: &[u8]) -> Vec<u8> {
    let api_version = if gvk.group.is_empty() {
        gvk.version.clone()
    } else {
        format!("{}/{}", gvk.group, gvk.version)
    };
    wrap_as(
        &TypeMeta {
            api_version,
            kind: gvk.kind.clone(),
        },
        raw,
        "",
    )
}

/// Puts content of any media type in an envelope.
pub fn wrap_as(meta: &TypeMeta, raw: &[u8], content_type: &str) -> Vec<u8> {
    let mut out = Back::with_capacity(raw.len() + 64);
    out.string(4, content_type);
    out.string(3, "");
    out.bytes(2, raw);
    let mark = out.written();
    out.string(2, &meta.kind);
    out.string(1, &meta.api_version);
    out.close(1, mark);
    out.raw(MAGIC);
    out.finish()
}

/// Opens an envelope.
///
/// # Errors
/// When the magic is missing or the message is damaged.
pub fn unwrap(bytes: &[u8]) -> Result<Unknown<'_>, WireError> {
    let Some(message) = bytes.strip_prefix(MAGIC) else {
        return Err(WireError::NoMagic);
    };
    let mut unknown = Unknown::default();
    for field in Fields::new(message) {
        match field? {
            (1, Payload::Bytes(meta)) => {
                for field in Fields::new(meta) {
                    match field? {
                        (1, Payload::Bytes(text)) => unknown.type_meta.api_version = lossy(text),
                        (2, Payload::Bytes(text)) => unknown.type_meta.kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(raw)) => unknown.raw = raw,
            (3, Payload::Bytes(text)) => unknown.content_encoding = lossy(text),
            (4, Payload::Bytes(text)) => unknown.content_type = lossy(text),
            _ => {}
        }
    }
    Ok(unknown)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
