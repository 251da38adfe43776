//! The merge patch from one object to another.

use api::{Map, Value};
use serde::Serialize;

use crate::object::to_value;

/// The JSON merge patch (RFC 7386) that turns `old` into `new`; `None` when they are equal. Fields
/// that neither typed value knows are left alone.
pub fn merge_patch<T: Serialize>(old: &T, new: &T) -> Option<Value> {
    between(&to_value(old), &to_value(new))
}

fn between(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (key, value) in new {
                let change = match old.get(key) {
                    Some(was) => between(was, value),
                    None => Some(value.clone()),
                };
                if let Some(change) = change {
                    patch.insert(key.clone(), change);
                }
            }
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => (old != new).then(|| new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_in_the_patch() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1}), None),
            (
                json!({"a": 1, "b": 2}),
                json!({"a": 3}),
                Some(json!({"a": 3, "b": null})),
            ),
            (
                json!({"a": {"b": [1], "c": 1}}),
                json!({"a": {"b": [2], "c": 1}}),
                Some(json!({"a": {"b": [2]}})),
            ),
            (json!({}), json!({"a": {"b": 1}}), Some(json!({"a": {"b": 1}}))),
        ];
        for (old, new, patch) in cases {
            assert_eq!(merge_patch(&old, &new), patch, "{old} -> {new}");
        }
    }
}
