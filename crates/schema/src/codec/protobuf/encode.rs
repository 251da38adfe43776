//! Tree to message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::{Back, WireError};
use crate::codec::time::{Instant, Precision, parse_duration};
use crate::model::{Field, Struct, TypeDef, TypeRef};

/// Encodes a tree as the message of its type, without an envelope.
///
/// # Errors
/// When a value does not fit its type or the type has no protobuf form.
pub fn encode(ty: TypeRef<'_>, value: &Value) -> Result<Vec<u8>, WireError> {
    let Some(structure) = ty.as_struct() else {
        return Err(WireError::NotOnWire(ty.go_name().to_owned()));
    };
    let mut out = Back::with_capacity(1024);
    message(&mut out, structure, value.as_object())?;
    Ok(out.finish())
}

fn content<T>(name: &str, message: impl ToString) -> Result<T, WireError> {
    Err(WireError::Content {
        field: name.to_owned(),
        message: message.to_string(),
    })
}

fn message(out: &mut Back, structure: Struct<'_>, map: Option<&Map<String, Value>>) -> Result<(), WireError> {
    for field in structure.wire_fields().rev().filter(|f| f.number() > 0) {
        if field.inline() {
            let mark = out.written();
            if let Some(inner) = field.ty().as_struct() {
                message(out, inner, map)?;
            }
            out.close(field.number(), mark);
            continue;
        }
        let value = map
            .and_then(|map| map.get(field.name()))
            .filter(|value| !value.is_null());
        member(out, field, value)?;
    }
    Ok(())
}

fn member(out: &mut Back, field: Field<'_>, value: Option<&Value>) -> Result<(), WireError> {
    let (ty, number) = (field.ty(), field.number());
    match (ty.def(), value) {
        (TypeDef::List { wrapped: false, .. }, value) => {
            let elem = ty.elem().expect("lists have items");
            repeated(out, elem, value, number, field.name())
        }
        (TypeDef::Map { .. }, None) => Ok(()),
        (TypeDef::Map { .. }, Some(Value::Object(map))) => {
            let elem = ty.elem().expect("maps have values");
            for (key, value) in map.iter().rev() {
                let mark = out.written();
                // A nil byte slice is the only map value that the wire leaves out.
                if !(value.is_null() && *elem.def() == TypeDef::Bytes) {
                    single(out, elem, Some(value), 2, field.name())?;
                }
                out.string(1, key);
                out.close(number, mark);
            }
            Ok(())
        }
        (TypeDef::Map { .. }, Some(_)) => content(field.name(), "not an object"),
        (TypeDef::Bytes | TypeDef::Any | TypeDef::List { .. }, None) => Ok(()),
        (_, None) if field.pointer() => Ok(()),
        (_, value) => single(out, ty, value, number, field.name()),
    }
}

fn repeated(
    out: &mut Back,
    elem: TypeRef<'_>,
    value: Option<&Value>,
    number: u32,
    name: &str,
) -> Result<(), WireError> {
    match value {
        None => Ok(()),
        Some(Value::Array(items)) => items
            .iter()
            .rev()
            .try_for_each(|item| single(out, elem, Some(item), number, name)),
        Some(_) => content(name, "not an array"),
    }
}

/// One value with its tag; `None` and `null` are the zero value.
fn single(out: &mut Back, ty: TypeRef<'_>, value: Option<&Value>, number: u32, name: &str) -> Result<(), WireError> {
    let value = value.filter(|value| !value.is_null());
    match ty.def() {
        TypeDef::Bool => out.varint(number, value.and_then(Value::as_bool).unwrap_or_default().into()),
        TypeDef::Integer(_) => match value.map_or(Some(0), Value::as_i64) {
            Some(whole) => out.varint(number, whole as u64),
            None => return content(name, "not an integer"),
        },
        TypeDef::Number => out.fixed64(number, value.and_then(Value::as_f64).unwrap_or_default().to_bits()),
        TypeDef::String(_) => out.string(number, text(value, name)?),
        TypeDef::Bytes => match STANDARD.decode(text(value, name)?) {
            Ok(bytes) => out.bytes(number, &bytes),
            Err(e) => return content(name, e),
        },
        TypeDef::Quantity => {
            let mark = out.written();
            out.string(1, value.map_or(Ok("0"), |value| text(Some(value), name))?);
            out.close(number, mark);
        }
        TypeDef::IntOrString => {
            let mark = out.written();
            int_or_string(out, value, name)?;
            out.close(number, mark);
        }
        TypeDef::Time | TypeDef::MicroTime => {
            let mark = out.written();
            if let Some(value) = value {
                time(out, ty, text(Some(value), name)?, name)?;
            }
            out.close(number, mark);
        }
        TypeDef::Duration => {
            let nanos = value.map_or(Ok(0), |value| {
                parse_duration(text(Some(value), name)?).or_else(|e| content(name, e))
            })?;
            let mark = out.written();
            out.varint(1, nanos as u64);
            out.close(number, mark);
        }
        TypeDef::RawExtension | TypeDef::FieldsV1 => {
            let mark = out.written();
            if let Some(value) = value {
                out.string(1, &value.to_string());
            }
            out.close(number, mark);
        }
        TypeDef::Struct(..) => {
            let mark = out.written();
            message(
                out,
                ty.as_struct().expect("matched a struct"),
                value.and_then(Value::as_object),
            )?;
            out.close(number, mark);
        }
        TypeDef::List { wrapped: true, .. } => {
            let mark = out.written();
            repeated(out, ty.elem().expect("lists have items"), value, 1, name)?;
            out.close(number, mark);
        }
        TypeDef::List { .. } | TypeDef::Map { .. } | TypeDef::Any => {
            return Err(WireError::NotOnWire(ty.go_name().to_owned()));
        }
    }
    Ok(())
}

fn text<'v>(value: Option<&'v Value>, name: &str) -> Result<&'v str, WireError> {
    match value {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => content(name, "not a string"),
    }
}

fn int_or_string(out: &mut Back, value: Option<&Value>, name: &str) -> Result<(), WireError> {
    let (kind, whole, text) = match value {
        Some(Value::String(text)) => (1, 0, text.as_str()),
        Some(value) => match value.as_i64() {
            Some(whole) => (0, whole, ""),
            None => return content(name, "not an integer or a string"),
        },
        None => (0, 0, ""),
    };
    out.string(3, text);
    out.varint(2, whole as u64);
    out.varint(1, kind);
    Ok(())
}

fn time(out: &mut Back, ty: TypeRef<'_>, text: &str, name: &str) -> Result<(), WireError> {
    let precision = if *ty.def() == TypeDef::Time {
        Precision::Seconds
    } else {
        Precision::Micros
    };
    let time = Instant::parse(text, precision).or_else(|e| content(name, e))?;
    if !time.is_zero() {
        out.varint(2, time.nanos.into());
        out.varint(1, time.seconds as u64);
    }
    Ok(())
}
