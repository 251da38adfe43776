//! Trees that were made from others, by a patch: only what is new in them is decoded.

use serde_json::Value;

use super::json::decode_value;
use crate::model::{Cursor, TypeDef, TypeRef};

/// Brings what is in `new` and not in `old`, a tree in the shape of `ty`, into the same shape, as decoding all of it
/// would. False if decoding would say something: a field is unknown or has the wrong type. Then `new` is in no
/// particular shape.
pub fn reshape_changes(ty: TypeRef<'_>, old: &Value, new: &mut Value) -> bool {
    if old == new {
        return true;
    }
    let schema = ty.schema();
    match (ty.def(), old, &mut *new) {
        (TypeDef::Struct(..), Value::Object(old), Value::Object(members)) => {
            let preserves = ty.as_struct().is_some_and(|structure| structure.preserves_unknown());
            let mut fields = Cursor::new(ty);
            !preserves
                && members.iter_mut().all(|(name, value)| match fields.find(name) {
                    Some(field) => member(field.ty(), old.get(name), value),
                    None => false,
                })
        }
        (TypeDef::Map { value: elem, .. }, Value::Object(old), Value::Object(members)) => {
            let elem = schema.get(*elem);
            members
                .iter_mut()
                .all(|(name, value)| member(elem, old.get(name), value))
        }
        (TypeDef::List { elem, .. }, Value::Array(old), Value::Array(items)) => {
            let elem = schema.get(*elem);
            let mut old = old.iter();
            items.iter_mut().all(|item| member(elem, old.next(), item))
        }
        _ => decode(ty, new),
    }
}

fn member(ty: TypeRef<'_>, old: Option<&Value>, new: &mut Value) -> bool {
    match old {
        _ if new.is_null() => old == Some(new),
        Some(old) => reshape_changes(ty, old, new),
        None => decode(ty, new),
    }
}

fn decode(ty: TypeRef<'_>, value: &mut Value) -> bool {
    match decode_value(ty, value) {
        Ok(decoded) if decoded.strict.is_empty() => {
            *value = decoded.value;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}, {"name": "d"}]},
        });
        crate::normalize(ty(), &mut pod);
        pod
    }

    fn ty() -> TypeRef<'static> {
        crate::builtin().kind("", "v1", "Pod").unwrap()
    }

    /// What is said to be in shape is what decoding makes of it.
    #[test]
    fn changes_are_decoded_as_the_whole_would_be() {
        type Change = fn(&mut Value);
        let changes: [(Change, bool); 9] = [
            (|pod| pod["metadata"]["labels"]["c"] = json!("d"), true),
            (
                |pod| pod["status"]["startTime"] = json!("2026-01-01T01:00:00+01:00"),
                true,
            ),
            (
                |pod| pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!(0.5),
                true,
            ),
            (
                |pod| pod["spec"]["containers"][1] = json!({"name": "e", "ports": [{"containerPort": 1}]}),
                true,
            ),
            (
                |pod| drop(pod["spec"]["containers"].as_array_mut().unwrap().remove(0)),
                true,
            ),
            (|pod| pod["spec"]["unknown"] = json!(1), false),
            (|pod| pod["spec"]["hostNetwork"] = json!("yes"), false),
            (|pod| pod["spec"]["nodeName"] = json!(null), false),
            (|pod| pod["metadata"]["labels"] = json!([]), false),
        ];
        for (change, in_shape) in changes {
            let (old, mut new) = (pod(), pod());
            change(&mut new);
            let whole = decode_value(ty(), &new);
            assert_eq!(reshape_changes(ty(), &old, &mut new), in_shape, "{new}");
            if in_shape {
                let mut whole = whole.unwrap().value;
                crate::normalize(ty(), &mut whole);
                crate::normalize(ty(), &mut new);
                assert_eq!(new, whole);
            }
        }
    }
}
