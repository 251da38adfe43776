//! Defaults that upstream declares with `+default=` markers, and CRDs with `default:`.

use serde_json::{Map, Value};

use crate::codec::json::zero;
use crate::model::{Field, Struct, TypeDef, TypeRef};
use crate::shape::members;

/// Sets declared defaults where nothing is set, at any depth.
///
/// As upstream's generated code does it: a struct that is absent behind a pointer stays absent, one
/// that is held by value counts as present; the zero value of a member that is no pointer counts as
/// not set. Defaults inside a default are applied too. Running it twice changes nothing more.
pub fn apply(ty: TypeRef<'_>, value: &mut Value) {
    if !ty.schema().type_has_defaults(ty.id()) {
        return;
    }
    match (ty.def(), value) {
        (TypeDef::Struct(..), Value::Object(map)) => {
            structure(ty.as_struct().expect("matched a struct"), map);
        }
        (TypeDef::List { elem, .. }, Value::Array(items)) => {
            let elem = ty.schema().get(*elem);
            items.iter_mut().for_each(|item| apply(elem, item));
        }
        (TypeDef::Map { value: elem, .. }, Value::Object(map)) => {
            let elem = ty.schema().get(*elem);
            map.values_mut().for_each(|item| apply(elem, item));
        }
        _ => {}
    }
}

fn structure(structure: Struct<'_>, map: &mut Map<String, Value>) {
    // Members that are to be made; none in most objects that came this way before.
    let mut made: Vec<(Field<'_>, Value)> = Vec::new();
    for (field, member) in members(structure, map) {
        let ty = field.ty();
        let below = ty.schema().type_has_defaults(ty.id());
        if let Some(default) = field.default()
            && unset(field, member.as_deref())
        {
            let mut value = default.clone();
            if below {
                apply(ty, &mut value);
            }
            made.push((field, value));
            continue;
        }
        if !below {
            continue;
        }
        match member {
            Some(value @ (Value::Object(_) | Value::Array(_))) => apply(ty, value),
            None | Some(Value::Null) if !field.pointer() && ty.as_struct().is_some() => {
                let mut value = Value::Object(Map::new());
                apply(ty, &mut value);
                if value.as_object().is_some_and(|map| !map.is_empty()) {
                    made.push((field, value));
                }
            }
            _ => {}
        }
    }
    for (field, value) in made {
        map.insert(field.name().to_owned(), value);
    }
}

fn unset(field: Field<'_>, value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::Null) => !field.nullable(),
        Some(value) if !field.pointer() => *value == zero(field.ty()),
        Some(_) => false,
    }
}
