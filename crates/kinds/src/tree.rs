//! Reading and filling object trees by dotted path.
//!
//! Null, the empty string and a missing field are the same to these readers where Go's `omitempty`
//! makes them the same to upstream.

use api::{Map, Quantity, Value};

/// The value at a dotted path, if it is there and not null.
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.')
        .try_fold(value, |value, step| value.get(step))
        .filter(|value| !value.is_null())
}

/// The string at a path, empty if there is none.
pub fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The string at a path, if it is there, even if empty.
pub fn text_opt<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    at(value, path)?.as_str()
}

/// The whole number at a path.
pub fn int(value: &Value, path: &str) -> Option<i64> {
    at(value, path)?.as_i64()
}

/// The whole number at a path, 0 if there is none.
pub fn count(value: &Value, path: &str) -> i64 {
    int(value, path).unwrap_or(0)
}

/// The boolean at a path, false if there is none.
pub fn flag(value: &Value, path: &str) -> bool {
    flag_opt(value, path).unwrap_or(false)
}

/// The boolean at a path.
pub fn flag_opt(value: &Value, path: &str) -> Option<bool> {
    at(value, path)?.as_bool()
}

/// The items at a path, none if there are none.
pub fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings at a path.
pub fn strings<'v>(value: &'v Value, path: &str) -> Vec<&'v str> {
    list(value, path).iter().filter_map(Value::as_str).collect()
}

/// The map at a path.
pub fn map<'v>(value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
    at(value, path)?.as_object()
}

/// The entries of the map at a path.
pub fn entries<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = (&'v str, &'v Value)> {
    map(value, path)
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

/// A quantity in a value; `None` if it is malformed, which the decoder has refused before.
pub fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// Whether two optional values of normalized objects are the same to Go's semantic comparison: null and empty lists
/// are nothing. Empty strings and maps have been removed from normalized objects, so that `""` there is a pointer to
/// an empty string and `{}` one to an empty struct (`namespaceSelector: {}`), which are not nil.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|v| !is_nil(v)), b.filter(|v| !is_nil(v))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(key, value)| same(Some(value), b.get(key)))
                && b.iter().all(|(key, value)| a.contains_key(key) || is_nil(value))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a == b,
    }
}

fn is_nil(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(_) | Value::Object(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Object(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a field holds more than nothing and more than an empty map.
pub fn is_set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !is_nothing(value) && value.as_object().is_none_or(|map| !map.is_empty()))
}

/// The map of an object, made if it is none.
pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it has just been made an object")
}

/// The value at a key, made an empty map when it is missing or null.
pub fn child<'v>(value: &'v mut Value, key: &str) -> &'v mut Value {
    let slot = object(value).entry(key).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot
}

/// The value at a dotted path for change, if every step is there and it is not null.
pub fn at_mut<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    path.split('.')
        .try_fold(value, |value, step| value.get_mut(step))
        .filter(|value| !value.is_null())
}

/// The items at a path, for change.
pub fn items_mut<'v>(value: &'v mut Value, path: &str) -> impl Iterator<Item = &'v mut Value> {
    at_mut(value, path).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Whether a field is missing, null, or the empty string.
pub fn is_unset(value: &Value, key: &str) -> bool {
    match value.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// Whether a field is missing, null, empty or 0: Go's zero value.
pub fn is_zero(value: &Value, key: &str) -> bool {
    is_unset(value, key) || value.get(key).and_then(Value::as_i64) == Some(0)
}

/// Writes a field.
pub fn set(value: &mut Value, key: &str, new: impl Into<Value>) {
    object(value).insert(key.to_owned(), new.into());
}

/// Removes a field.
pub fn unset(value: &mut Value, key: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(key);
    }
}

/// Writes a field that is unset.
pub fn fill(value: &mut Value, key: &str, default: impl Into<Value>) {
    if is_unset(value, key) {
        set(value, key, default);
    }
}

/// Writes a field that is missing or null, where upstream's field is a pointer: an empty string is a value.
pub fn fill_absent(value: &mut Value, key: &str, default: impl Into<Value>) {
    if value.get(key).is_none_or(Value::is_null) {
        set(value, key, default);
    }
}

/// Writes a number that is missing or 0, where upstream's field is no pointer.
pub fn fill_zero(value: &mut Value, key: &str, default: i64) {
    if is_zero(value, key) {
        set(value, key, default);
    }
}

/// Copies a top-level field of the old object over the new one's.
pub fn keep(new: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(value) => set(new, key, value.clone()),
        None => unset(new, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_nothing() {
        let cases = [
            (json!(null), json!([]), true),
            (json!({}), json!(null), false),
            (json!({"a": []}), json!({}), true),
            (json!({"a": 0}), json!({}), false),
            (json!([1]), json!([1, 2]), false),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": null}}), true),
            (json!("x"), json!("y"), false),
        ];
        for (a, b, want) in cases {
            assert_eq!(same(Some(&a), Some(&b)), want, "{a} {b}");
            assert_eq!(same(Some(&b), Some(&a)), want, "{b} {a}");
        }
    }

    #[test]
    fn paths_are_read_and_filled() {
        let mut value = json!({"a": {"b": "x", "n": 3, "e": ""}, "l": [{"k": 1}]});
        assert_eq!(
            (text(&value, "a.b"), count(&value, "a.n"), text(&value, "q.z")),
            ("x", 3, "")
        );
        fill(child(&mut value, "a"), "e", "filled");
        fill(child(&mut value, "z"), "y", true);
        for item in items_mut(&mut value, "l") {
            fill_zero(item, "m", 7);
        }
        assert_eq!(
            value,
            json!({"a": {"b": "x", "n": 3, "e": "filled"}, "l": [{"k": 1, "m": 7}], "z": {"y": true}})
        );
    }
}
