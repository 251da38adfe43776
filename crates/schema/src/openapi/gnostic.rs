//! Documents as protobuf (`gnostic-models`), which client-go asks for as
//! `application/com.github.proto-openapi.spec.v2@v1.0+protobuf` and `…spec.v3@v1.0+protobuf`.
//!
//! What a message is made of stands in tables, one a version of the specification; this file writes
//! any document by them. Members that are in no table are left out.

mod swagger;
mod v3;

use serde_json::{Map, Value};

use crate::codec::protobuf::wire::Back;

/// Encodes a v2 (Swagger) document.
pub fn encode(document: &Value) -> Vec<u8> {
    written(&swagger::DOCUMENT, document)
}

/// Encodes a v3 document.
pub fn encode_v3(document: &Value) -> Vec<u8> {
    written(&v3::DOCUMENT, document)
}

fn written(message: &Message, document: &Value) -> Vec<u8> {
    let mut out = Back::with_capacity(64 * 1024);
    message.write(&mut out, document);
    out.finish()
}

type Object = Map<String, Value>;

/// The members of an object and where they are written, in the order of the numbers. The key `x-` stands
/// for all extensions, `*` for all members that are in no other row; both are repeated names and values.
struct Message(&'static [(u32, &'static str, As)]);

/// How a value is written.
enum As {
    Text,
    Texts,
    Bool,
    Double,
    Whole,
    /// As YAML, of which JSON is a part.
    Any,
    /// A message of texts: a type, or the scopes of a requirement.
    TextList,
    /// A number, a truth value or a text (v3's `DefaultType`).
    Scalar,
    One(&'static Message),
    /// A message whose only field, of this number, is the value.
    Wrapped(u32, &'static As),
    /// A choice of the message (1) or a reference (2).
    OrReference(&'static Message),
    /// A choice of the value (1) or a truth value (2).
    OrBool(&'static As),
    /// Each item of a list.
    Each(&'static As),
    /// v2's choices of parameters, and the reference to one.
    Parameter,
    /// The same without the reference: what the document declares by name.
    Declaration,
}

static REFERENCE: Message = Message(&[(1, "$ref", As::Text), (2, "description", As::Text)]);

impl Message {
    fn write(&self, out: &mut Back, value: &Value) {
        let Some(from) = value.as_object() else { return };
        let extends = self.0.iter().any(|(_, key, _)| *key == "x-");
        for (number, key, how) in self.0.iter().rev() {
            match *key {
                "x-" => named_each(out, *number, how, from, |name| name.starts_with("x-")),
                "*" => named_each(out, *number, how, from, |name| {
                    !(extends && name.starts_with("x-") || self.0.iter().any(|(_, known, _)| *known == name))
                }),
                key => {
                    if let Some(value) = from.get(key) {
                        how.write(out, *number, value);
                    }
                }
            }
        }
    }
}

/// Members as repeated `{name = 1, value = 2}`.
fn named_each(out: &mut Back, number: u32, how: &As, from: &Object, wanted: impl Fn(&str) -> bool) {
    for (name, value) in from.iter().rev().filter(|(name, _)| wanted(name)) {
        message(out, number, |out| {
            how.write(out, 2, value);
            out.string(1, name);
        });
    }
}

impl As {
    /// Zero values are not written, as everywhere in proto3.
    fn write(&self, out: &mut Back, number: u32, value: &Value) {
        match self {
            As::Text => text(out, number, value),
            As::Texts => items(value).rev().for_each(|item| out.string(number, &plain(item))),
            As::Bool => {
                if value == &Value::Bool(true) {
                    out.varint(number, 1);
                }
            }
            As::Double => match value.as_f64() {
                Some(double) if double != 0.0 => out.fixed64(number, double.to_bits()),
                _ => {}
            },
            As::Whole => match value.as_i64() {
                Some(whole) if whole != 0 => out.varint(number, whole as u64),
                _ => {}
            },
            As::Any => message(out, number, |out| out.string(2, &format!("{value}\n"))),
            As::TextList => message(out, number, |out| match value {
                Value::Array(_) => As::Texts.write(out, 1, value),
                _ => text(out, 1, value),
            }),
            As::Scalar => message(out, number, |out| match value {
                Value::Number(double) => out.fixed64(1, double.as_f64().unwrap_or_default().to_bits()),
                Value::Bool(bit) => out.varint(2, (*bit).into()),
                Value::String(text) => out.string(3, text),
                _ => {}
            }),
            As::One(inner) => message(out, number, |out| inner.write(out, value)),
            As::Wrapped(only, how) => message(out, number, |out| how.write(out, *only, value)),
            As::OrReference(inner) => message(out, number, |out| match value.get("$ref") {
                Some(_) => message(out, 2, |out| REFERENCE.write(out, value)),
                None => message(out, 1, |out| inner.write(out, value)),
            }),
            As::OrBool(how) => message(out, number, |out| match value {
                Value::Bool(bit) => out.varint(2, (*bit).into()),
                _ => how.write(out, 1, value),
            }),
            As::Each(how) => items(value).rev().for_each(|item| how.write(out, number, item)),
            As::Parameter => swagger::parameter(out, number, value),
            As::Declaration => swagger::declared(out, number, value),
        }
    }
}

fn message(out: &mut Back, number: u32, content: impl FnOnce(&mut Back)) {
    let mark = out.written();
    content(out);
    out.close(number, mark);
}

fn text(out: &mut Back, number: u32, value: &Value) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        out.string(number, text);
    }
}

fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map_or(&[][..], Vec::as_slice).iter()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
