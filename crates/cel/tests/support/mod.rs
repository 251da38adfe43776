//! Values and types as the tables of these tests write them.
#![allow(dead_code)]

use cel::{Key, Map, Type, Value};
use serde_json::Value as Json;

/// A value: JSON's own are themselves; the others are objects with one member that names their type.
pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(values) => Value::list(values.iter().map(value).collect()),
        Json::Number(number) => Value::Int(number.as_i64().expect("a whole number")),
        Json::Object(object) => {
            let (name, inside) = object.iter().next().expect("a type");
            let text = inside.as_str().unwrap_or_default();
            let pair = || {
                (
                    inside[0].as_i64().expect("seconds"),
                    inside[1].as_i64().expect("nanoseconds"),
                )
            };
            match name.as_str() {
                "int" => Value::Int(text.parse().expect(text)),
                "uint" => Value::Uint(text.parse().expect(text)),
                "double" => Value::Double(text.parse().expect(text)),
                "bytes" => Value::Bytes(hex(text).into()),
                "type" => Value::Type(ty(text)),
                "duration" => Value::Duration(pair().0 * 1_000_000_000 + pair().1),
                "timestamp" => Value::Timestamp(cel::Timestamp::new(pair().0, pair().1 as i32).expect("a moment")),
                "map" => {
                    let entries = inside.as_array().expect("entries").iter();
                    let key = |json: &Json| Key::of(&value(json)).expect("a key");
                    Value::Map(Map::from_entries(
                        entries.map(|entry| (key(&entry[0]), value(&entry[1]))),
                    ))
                }
                other => panic!("no type of values {other}"),
            }
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// A type as messages write it.
pub fn ty(text: &str) -> Type {
    if let Some((name, inside)) = text.split_once('(') {
        let inside = inside.strip_suffix(')').expect("a closing bracket");
        let mut depth = 0;
        let comma = inside.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth == 0
        });
        return match (name, comma) {
            ("map", Some(comma)) => Type::map(ty(&inside[..comma]), ty(inside[comma + 1..].trim_start())),
            ("list", _) => Type::list(ty(inside)),
            ("optional_type", _) => Type::optional(ty(inside)),
            _ => Type::type_of(ty(inside)),
        };
    }
    match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null" | "null_type" => Type::Null,
        "timestamp" | "google.protobuf.Timestamp" => Type::Timestamp,
        "duration" | "google.protobuf.Duration" => Type::Duration,
        "type" => Type::Type(None),
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        "obj" => Type::object("obj"),
        "dyn" => Type::Dyn,
        other => panic!("no type {other}"),
    }
}
