//! The shape that a tree takes on its way through Go's structs and back.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::codec::json::zero;
use crate::model::{Field, Struct, TypeDef, TypeRef};

/// Gives a decoded tree the shape in which upstream shows it: empty members that Go would omit are
/// dropped, members that it always prints get their zero value (`status: {}`, `containers: null`).
///
/// Running it twice changes nothing more. Members that the schema does not know stay as they are.
pub fn normalize(ty: TypeRef<'_>, value: &mut Value) {
    match (ty.def(), value) {
        (TypeDef::Struct(..), Value::Object(map)) => {
            structure(ty.as_struct().expect("matched a struct"), map);
        }
        (TypeDef::List { elem, .. }, Value::Array(items)) => {
            let elem = ty.schema().get(*elem);
            if !is_plain(elem) {
                for item in items {
                    fill(elem, item);
                }
            }
        }
        (TypeDef::Map { value: elem, .. }, Value::Object(map)) => {
            let elem = ty.schema().get(*elem);
            if !is_plain(elem) {
                for item in map.values_mut() {
                    fill(elem, item);
                }
            }
        }
        _ => {}
    }
}

/// Removes every member that the schema does not know, at any depth.
pub fn prune(ty: TypeRef<'_>, value: &mut Value) {
    match (ty.def(), value) {
        (TypeDef::Struct(..), Value::Object(map)) => {
            let structure = ty.as_struct().expect("matched a struct");
            map.retain(|key, value| match structure.field(key) {
                Some(field) => {
                    prune(field.ty(), value);
                    true
                }
                None => structure.preserves_unknown(),
            });
        }
        (TypeDef::List { elem, .. }, Value::Array(items)) => {
            let elem = ty.schema().get(*elem);
            items.iter_mut().for_each(|item| prune(elem, item));
        }
        (TypeDef::Map { value: elem, .. }, Value::Object(map)) => {
            let elem = ty.schema().get(*elem);
            map.values_mut().for_each(|item| prune(elem, item));
        }
        _ => {}
    }
}

/// Nothing below a plain value can need a change, unless it is `null`.
fn is_plain(ty: TypeRef<'_>) -> bool {
    matches!(
        ty.def(),
        TypeDef::String(_) | TypeDef::Bool | TypeDef::Integer(_) | TypeDef::Any | TypeDef::RawExtension
    )
}

fn fill(ty: TypeRef<'_>, value: &mut Value) {
    if value.is_null() {
        *value = zero(ty);
    }
    normalize(ty, value);
}

fn structure(structure: Struct<'_>, map: &mut Map<String, Value>) {
    // What is missing or too much; nothing in most objects that came this way before.
    let mut wrong: Vec<(Field<'_>, bool)> = Vec::new();
    for (field, member) in members(structure, map) {
        match member {
            None if is_omitted(field) => {}
            None | Some(Value::Null) => wrong.push((field, true)),
            Some(value) => {
                normalize(field.ty(), value);
                let omits = field.omitempty() || field.omitzero();
                if !field.pointer() && omits && droppable(field, value) {
                    wrong.push((field, false));
                } else if !omits && is_empty(value) && is_stored_in_protobuf(structure, field) {
                    *value = Value::Null;
                }
            }
        }
    }
    for (field, is_absent) in wrong {
        if is_absent {
            absent(field, map);
        } else {
            map.remove(field.name());
        }
    }
}

/// Each field of a struct with its member in `map`, in one pass over both: they have the same order.
pub(crate) fn members<'s, 'm>(
    structure: Struct<'s>,
    map: &'m mut Map<String, Value>,
) -> impl Iterator<Item = (Field<'s>, Option<&'m mut Value>)> {
    let mut rest = map.iter_mut().peekable();
    structure.fields().map(move |field| {
        let name = field.name();
        while let Some((key, _)) = rest.peek() {
            match key.as_str().cmp(name) {
                Ordering::Less => drop(rest.next()),
                Ordering::Equal => return (field, rest.next().map(|(_, value)| value)),
                Ordering::Greater => break,
            }
        }
        (field, None)
    })
}

/// Whether Go prints nothing for a member that was not set.
fn is_omitted(field: Field<'_>) -> bool {
    // Go's omitempty knows nothing of structs, and these are structs.
    let is_struct = || {
        matches!(
            field.ty().def(),
            TypeDef::Struct(..)
                | TypeDef::Time
                | TypeDef::MicroTime
                | TypeDef::Duration
                | TypeDef::Quantity
                | TypeDef::IntOrString
                | TypeDef::RawExtension
                | TypeDef::FieldsV1
        )
    };
    field.nullable() || field.omitzero() || field.omitempty() && (field.pointer() || !is_struct())
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Protobuf knows no empty lists, and most objects go through it before they are answered. The lists of objects and
/// what is asked but not stored do not, nor do definitions and API services, which are stored as JSON.
fn is_stored_in_protobuf(structure: Struct<'_>, field: Field<'_>) -> bool {
    let name = structure.name();
    matches!(field.ty().def(), TypeDef::List { .. })
        && field.name() != "items"
        && !["apiextensions", "kube-aggregator", "RulesReviewStatus"]
            .iter()
            .any(|part| name.contains(part))
}

/// What Go prints for a member that was not set.
fn absent(field: Field<'_>, map: &mut Map<String, Value>) {
    if field.nullable() {
        return;
    }
    if is_omitted(field) {
        map.remove(field.name());
        return;
    }
    let ty = field.ty();
    let mut value = if field.pointer() { Value::Null } else { zero(ty) };
    normalize(ty, &mut value);
    map.insert(field.name().to_owned(), value);
}

fn droppable(field: Field<'_>, value: &Value) -> bool {
    let ty = field.ty();
    match (ty.def(), value) {
        (TypeDef::Struct(..), value) if field.omitzero() => {
            let mut empty = Value::Object(Map::new());
            normalize(ty, &mut empty);
            *value == empty
        }
        (TypeDef::Quantity | TypeDef::IntOrString | TypeDef::Duration | TypeDef::RawExtension, _) => {
            field.omitzero() && *value == zero(ty)
        }
        (TypeDef::Struct(..) | TypeDef::Any | TypeDef::Time | TypeDef::MicroTime | TypeDef::FieldsV1, _) => false,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Array(items)) => items.is_empty(),
        (_, Value::Object(map)) => map.is_empty(),
        (_, Value::Bool(bit)) => !bit,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::Null) => true,
    }
}
