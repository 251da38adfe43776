//! Field sets as `fieldsV1` writes them: `{"f:spec":{"f:replicas":{}}}`, `.` for the path itself.

use serde_json::{Map, Value};

use super::field_set::{FieldSet, PathElement};

/// Deeper nesting than any type has; a forged set cannot exhaust the stack.
const MAX_DEPTH: usize = 200;

/// Reads a set; what is malformed is left out.
pub(super) fn decode(fields: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    decode_into(fields, &mut set, 0);
    set.member = false;
    set
}

fn decode_into(fields: &Value, set: &mut FieldSet, depth: usize) {
    let Some(fields) = fields.as_object().filter(|_| depth < MAX_DEPTH) else {
        return;
    };
    if fields.is_empty() {
        set.member = true;
    }
    for (text, below) in fields {
        if text == "." {
            set.member = true;
        } else if let Some(element) = element(text) {
            decode_into(below, set.child(element), depth + 1);
        }
    }
}

fn element(text: &str) -> Option<PathElement> {
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "f" => Some(PathElement::Field(rest.to_owned())),
        "k" => {
            // Keys in any order name the same element.
            let key: std::collections::BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
            Some(PathElement::Key(serde_json::to_string(&key).ok()?))
        }
        "v" => Some(PathElement::Value(
            serde_json::from_str::<Value>(rest).ok()?.to_string(),
        )),
        "i" => Some(PathElement::Index(rest.to_owned())),
        _ => None,
    }
}

/// How an element is written: what it is, and which.
pub(super) fn parts(element: &PathElement) -> (&'static str, &str) {
    match element {
        PathElement::Field(name) => ("f:", name),
        PathElement::Key(key) => ("k:", key),
        PathElement::Value(value) => ("v:", value),
        PathElement::Index(index) => ("i:", index),
    }
}

/// Writes a set.
pub(super) fn encode(set: &FieldSet) -> Value {
    let mut fields = Map::new();
    if set.member && !set.children.is_empty() {
        fields.insert(".".into(), Value::Object(Map::new()));
    }
    for (element, child) in &set.children {
        let (kind, rest) = parts(element);
        fields.insert([kind, rest].concat(), encode(child));
    }
    Value::Object(fields)
}
