//! Values of each type that a server has something to say about.

use schema::{Shape, TypeRef};
use serde_json::{Map, Value, json};

use crate::since;

/// A string that is neither a name, a label, a path nor an address.
pub(crate) const BAD_TEXT: &str = "-Bad Name!";
/// How deep nonsense goes.
const DEPTH: usize = 5;

/// Values for a field, each with a label for its identity.
pub(crate) fn scalars(ty: TypeRef<'_>) -> Vec<(&'static str, Value)> {
    match ty.kind() {
        Shape::String if ty.enum_values().is_some() => vec![("empty", json!("")), ("bogus", json!("Bogus"))],
        Shape::String => vec![
            ("empty", json!("")),
            ("bad", json!(BAD_TEXT)),
            ("long", json!("a".repeat(300))),
        ],
        Shape::Bool => vec![("true", json!(true)), ("false", json!(false))],
        Shape::Integer(_) => vec![
            ("negative", json!(-1)),
            ("zero", json!(0)),
            ("two", json!(2)),
            ("port", json!(70000)),
            ("wide", json!(4_294_967_296_u64)),
        ],
        Shape::Number => vec![("negative", json!(-1.5))],
        Shape::Quantity => vec![
            ("negative", json!("-1")),
            ("zero", json!("0")),
            ("fraction", json!("1500m")),
            ("bad", json!("1z")),
        ],
        Shape::IntOrString => vec![
            ("negative", json!(-1)),
            ("zero", json!(0)),
            ("port", json!(70000)),
            ("percent", json!("150%")),
            ("bad", json!(BAD_TEXT)),
            ("empty", json!("")),
        ],
        Shape::Time | Shape::MicroTime => {
            vec![("bad", json!("yesterday")), ("old", json!("2001-02-03T04:05:06Z"))]
        }
        Shape::Duration => vec![("bad", json!("1 day")), ("negative", json!("-1s"))],
        Shape::Bytes => vec![("bad", json!("%%")), ("some", json!("eA=="))],
        Shape::Struct(_) | Shape::List(_) | Shape::Map(_) | Shape::Any => Vec::new(),
    }
}

/// A value of another JSON type than the field has.
pub(crate) fn wrong(ty: TypeRef<'_>) -> Option<Value> {
    Some(match ty.kind() {
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => json!(5),
        Shape::Bool | Shape::Integer(_) | Shape::Number => json!("text"),
        Shape::Quantity | Shape::IntOrString => json!({}),
        Shape::Struct(_) | Shape::Map(_) => json!([]),
        Shape::List(_) => json!({}),
        Shape::Any => return None,
    })
}

/// Whether a type is found again below itself, as a schema's properties are; `above` are the structs that hold it.
pub(crate) fn holds_itself<'s>(ty: TypeRef<'s>, above: &mut Vec<&'s str>) -> bool {
    match ty.kind() {
        Shape::List(list) => holds_itself(list.elem(), above),
        Shape::Map(map) => holds_itself(map.value(), above),
        Shape::Struct(structure) => {
            if above.contains(&structure.name()) {
                return true;
            }
            above.push(structure.name());
            let mut fields = structure.fields();
            let holds =
                fields.any(|field| since::has(structure.name(), field.name()) && holds_itself(field.ty(), above));
            above.pop();
            holds
        }
        _ => false,
    }
}

/// As wrong a value as the type can hold, with every field set.
pub(crate) fn nonsense(ty: TypeRef<'_>) -> Value {
    nonsense_at(ty, DEPTH)
}

fn nonsense_at(ty: TypeRef<'_>, depth: usize) -> Value {
    match ty.kind() {
        Shape::String if ty.enum_values().is_some() => json!("Bogus"),
        Shape::String => json!(BAD_TEXT),
        Shape::Bool => json!(true),
        Shape::Integer(_) | Shape::IntOrString => json!(-1),
        Shape::Number => json!(-1.5),
        Shape::Quantity => json!("-1"),
        Shape::Time => json!("2001-02-03T04:05:06Z"),
        Shape::MicroTime => json!("2001-02-03T04:05:06.000000Z"),
        Shape::Duration => json!("-1s"),
        Shape::Bytes => json!("eA=="),
        Shape::Any => json!({}),
        Shape::List(list) => {
            let item = nonsense_at(list.elem(), depth);
            json!([item, item])
        }
        Shape::Map(map) => json!({"bad key!": nonsense_at(map.value(), depth)}),
        Shape::Struct(structure) => {
            let mut members = Map::new();
            for field in structure.fields() {
                if depth > 0 && since::has(structure.name(), field.name()) {
                    members.insert(field.name().to_owned(), nonsense_at(field.ty(), depth - 1));
                }
            }
            Value::Object(members)
        }
    }
}
