//! Protobuf by schema, byte for byte as upstream's generated code writes it: fields in ascending
//! number, a field that is no pointer always present, maps by sorted key.

mod decode;
mod encode;
pub(crate) mod wire;

use serde_json::Value;

use super::json::TypeMeta;
use super::unknown;
use crate::model::TypeRef;

pub use decode::decode;
pub use encode::encode;
pub use wire::WireError;

/// An object in its envelope; `apiVersion` and `kind` are the tree's own.
///
/// # Errors
/// When a value does not fit its type or the type has no protobuf form.
pub fn encode_object(ty: TypeRef<'_>, value: &Value) -> Result<Vec<u8>, WireError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let meta = TypeMeta {
        api_version: text("apiVersion"),
        kind: text("kind"),
    };
    Ok(unknown::wrap_as(&meta, &encode(ty, value)?, ""))
}

/// Opens an envelope and decodes its content as `ty`; the tree says what the envelope says it is.
///
/// # Errors
/// When the envelope or the message is damaged, or the content is no protobuf.
pub fn decode_object(ty: TypeRef<'_>, bytes: &[u8]) -> Result<Value, WireError> {
    let unknown = unknown::unwrap(bytes)?;
    if !unknown.content_type.is_empty() && !unknown.content_type.starts_with("application/vnd.kubernetes.protobuf") {
        return Err(WireError::NotOnWire(unknown.content_type));
    }
    let mut value = decode(ty, unknown.raw)?;
    if let Value::Object(map) = &mut value {
        for (key, text) in [
            ("apiVersion", unknown.type_meta.api_version),
            ("kind", unknown.type_meta.kind),
        ] {
            if !text.is_empty() && ty.field(key).is_some() {
                map.insert(key.to_owned(), Value::String(text));
            }
        }
    }
    Ok(value)
}
