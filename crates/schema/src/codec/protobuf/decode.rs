//! Message to tree.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::{Fields, Payload, WireError, varint};
use crate::codec::json::{whole_or_float, zero};
use crate::codec::scan::{MAX_DEPTH, Scanner, Unheard};
use crate::codec::time::{Instant, Precision, format_duration};
use crate::codec::unknown::{self, MAGIC};
use crate::model::{Field, Struct, TypeDef, TypeRef, Width};

/// Decodes the message of a type, without an envelope. Unknown fields are skipped.
///
/// The tree holds what the wire held; [`crate::normalize`] gives it the shape that JSON shows.
///
/// # Errors
/// When the message is damaged or a value in it does not parse.
pub fn decode(ty: TypeRef<'_>, bytes: &[u8]) -> Result<Value, WireError> {
    let Some(structure) = ty.as_struct() else {
        return Err(WireError::NotOnWire(ty.go_name().to_owned()));
    };
    let mut map = Map::new();
    message(structure, bytes, &mut map, 0)?;
    Ok(Value::Object(map))
}

fn message(structure: Struct<'_>, bytes: &[u8], map: &mut Map<String, Value>, depth: usize) -> Result<(), WireError> {
    if depth > MAX_DEPTH {
        return Err(WireError::TooDeep);
    }
    for field in Fields::new(bytes) {
        let (number, payload) = field?;
        let Some(field) = structure.wire_field(number) else {
            continue;
        };
        if field.inline() {
            let Payload::Bytes(inner) = payload else {
                return wrong_type(field.ty().go_name(), payload);
            };
            if let Some(structure) = field.ty().as_struct() {
                message(structure, inner, map, depth + 1)?;
            }
            continue;
        }
        member(field, payload, map, depth)?;
    }
    Ok(())
}

fn wrong_type<T>(name: &str, payload: Payload<'_>) -> Result<T, WireError> {
    Err(WireError::WrongType {
        wire_type: payload.wire_type(),
        field: name.to_owned(),
    })
}

fn content<T>(name: &str, message: impl ToString) -> Result<T, WireError> {
    Err(WireError::Content {
        field: name.to_owned(),
        message: message.to_string(),
    })
}

fn member(field: Field<'_>, payload: Payload<'_>, map: &mut Map<String, Value>, depth: usize) -> Result<(), WireError> {
    let (ty, name) = (field.ty(), field.name());
    match ty.def() {
        TypeDef::List { wrapped: false, .. } => {
            let elem = ty.elem().expect("lists have items");
            let items = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = items else {
                return content(name, "not a list");
            };
            match (elem.def(), payload) {
                (TypeDef::Bool | TypeDef::Integer(_), Payload::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let value = Payload::Varint(varint(&mut packed)?);
                        items.push(single(elem, value, None, name, depth)?);
                    }
                }
                _ => items.push(single(elem, payload, None, name, depth)?),
            }
        }
        TypeDef::Map { .. } => {
            let elem = ty.elem().expect("maps have values");
            let Payload::Bytes(bytes) = payload else {
                return wrong_type(name, payload);
            };
            let entries = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(entries) = entries else {
                return content(name, "not a map");
            };
            let (key, value) = entry(elem, bytes, name, depth)?;
            entries.insert(key, value);
        }
        _ => {
            let before = map.remove(name);
            let value = single(ty, payload, before, name, depth)?;
            if !value.is_null() {
                map.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn entry(elem: TypeRef<'_>, bytes: &[u8], name: &str, depth: usize) -> Result<(String, Value), WireError> {
    let (mut key, mut value) = (String::new(), None);
    for field in Fields::new(bytes) {
        match field? {
            (1, Payload::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, payload) => value = Some(single(elem, payload, value, name, depth)?),
            _ => {}
        }
    }
    Ok((key, value.unwrap_or_else(|| zero(elem))))
}

/// One value; a message that occurs twice merges with what came `before`.
fn single(
    ty: TypeRef<'_>,
    payload: Payload<'_>,
    before: Option<Value>,
    name: &str,
    depth: usize,
) -> Result<Value, WireError> {
    match (ty.def(), payload) {
        (TypeDef::Bool, Payload::Varint(bit)) => Ok(Value::Bool(bit != 0)),
        (TypeDef::Integer(Width::I32), Payload::Varint(bits)) => Ok(i64::from(bits as i32).into()),
        (TypeDef::Integer(Width::I64), Payload::Varint(bits)) => Ok((bits as i64).into()),
        (TypeDef::Number, Payload::Fixed64(bits)) => match whole_or_float(f64::from_bits(bits)) {
            Some(number) => Ok(number),
            None => content(name, "json: unsupported value: NaN or infinity"),
        },
        (TypeDef::String(_), Payload::Bytes(text)) => Ok(String::from_utf8_lossy(text).into()),
        (TypeDef::Bytes, Payload::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (TypeDef::Quantity, Payload::Bytes(bytes)) => quantity(bytes, name),
        (TypeDef::IntOrString, Payload::Bytes(bytes)) => int_or_string(bytes),
        (TypeDef::Time, Payload::Bytes(bytes)) => time(bytes, Precision::Seconds, name),
        (TypeDef::MicroTime, Payload::Bytes(bytes)) => time(bytes, Precision::Micros, name),
        (TypeDef::Duration, Payload::Bytes(bytes)) => {
            let nanos = last_varint(bytes, 1)?;
            Ok(format_duration(nanos as i64).into())
        }
        (TypeDef::RawExtension | TypeDef::FieldsV1, Payload::Bytes(bytes)) => raw(ty, bytes, name, depth),
        (TypeDef::Struct(..), Payload::Bytes(bytes)) => {
            let mut map = match before {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            message(ty.as_struct().expect("matched a struct"), bytes, &mut map, depth + 1)?;
            Ok(Value::Object(map))
        }
        (TypeDef::List { wrapped: true, .. }, Payload::Bytes(bytes)) => {
            let elem = ty.elem().expect("lists have items");
            let mut items = match before {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            for field in Fields::new(bytes) {
                if let (1, payload) = field? {
                    items.push(single(elem, payload, None, name, depth)?);
                }
            }
            Ok(Value::Array(items))
        }
        (TypeDef::Any | TypeDef::List { .. } | TypeDef::Map { .. }, _) => {
            Err(WireError::NotOnWire(ty.go_name().to_owned()))
        }
        _ => wrong_type(name, payload),
    }
}

fn last_varint(bytes: &[u8], wanted: u32) -> Result<u64, WireError> {
    let mut last = 0;
    for field in Fields::new(bytes) {
        if let (number, Payload::Varint(value)) = field?
            && number == wanted
        {
            last = value;
        }
    }
    Ok(last)
}

fn last_bytes(bytes: &[u8], wanted: u32) -> Result<&[u8], WireError> {
    let mut last: &[u8] = &[];
    for field in Fields::new(bytes) {
        if let (number, Payload::Bytes(value)) = field?
            && number == wanted
        {
            last = value;
        }
    }
    Ok(last)
}

fn quantity(bytes: &[u8], name: &str) -> Result<Value, WireError> {
    let text = String::from_utf8_lossy(last_bytes(bytes, 1)?);
    if text.is_empty() {
        return Ok("0".into());
    }
    match text.parse::<api::Quantity>() {
        Ok(quantity) => Ok(quantity.to_string().into()),
        Err(e) => content(name, e),
    }
}

fn int_or_string(bytes: &[u8]) -> Result<Value, WireError> {
    if last_varint(bytes, 1)? == 1 {
        return Ok(String::from_utf8_lossy(last_bytes(bytes, 3)?).into());
    }
    Ok(i64::from(last_varint(bytes, 2)? as i32).into())
}

/// An empty message is Go's zero time, which JSON shows as `null`.
fn time(bytes: &[u8], precision: Precision, name: &str) -> Result<Value, WireError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (seconds, nanos) = (last_varint(bytes, 1)? as i64, last_varint(bytes, 2)? as i32);
    let nanos = if precision == Precision::Seconds {
        0
    } else {
        u32::try_from(nanos).unwrap_or_default()
    };
    match Instant::new(seconds, nanos) {
        Some(time) if time.is_zero() => Ok(Value::Null),
        Some(time) => Ok(time.format(precision).into()),
        None => content(name, "year outside of range [0,9999]"),
    }
}

/// Raw content is JSON, or an enveloped object of a kind that the schema knows.
fn raw(ty: TypeRef<'_>, bytes: &[u8], name: &str, depth: usize) -> Result<Value, WireError> {
    let raw = last_bytes(bytes, 1)?;
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if !raw.starts_with(MAGIC) {
        let text = String::from_utf8_lossy(raw);
        let mut scan = Scanner::new(&text);
        let value = scan
            .any(depth, &mut Unheard)
            .and_then(|value| scan.end().map(|()| value));
        return value.or_else(|e| content(name, e));
    }
    let unknown = unknown::unwrap(raw)?;
    let meta = unknown.type_meta;
    let (group, version) = meta.api_version.split_once('/').unwrap_or(("", &meta.api_version));
    let Some(kind) = ty
        .schema()
        .kind(group, version, &meta.kind)
        .and_then(TypeRef::as_struct)
    else {
        return content(
            name,
            format!(
                "no kind {:?} is registered for version {:?}",
                meta.kind, meta.api_version
            ),
        );
    };
    let mut map = Map::new();
    message(kind, unknown.raw, &mut map, depth + 1)?;
    let mut value = Value::Object(map);
    if let Some(root) = ty.schema().kind(group, version, &meta.kind) {
        crate::normalize(root, &mut value);
    }
    value["apiVersion"] = meta.api_version.into();
    value["kind"] = meta.kind.into();
    Ok(value)
}
