//! Defaults (`schema/defaulting`).

use serde_json::{Value, json};

use super::coerce::{Malformed, coerce};
use super::{Additional, Node, prune};

/// Sets defaults where a member is absent, or null without being nullable. Running it twice changes
/// nothing more.
pub fn apply_defaults(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                if let Some(default) = &property.default
                    && map.get(name).is_none_or(|v| v.is_null() && !property.nullable)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, below) in map.iter_mut() {
                if let Some(property) = node.properties.get(name) {
                    apply_defaults(property, below);
                } else if let Additional::Schema(schema) = &node.additional {
                    replace_null(schema, below);
                    apply_defaults(schema, below);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for item in items {
                    replace_null(schema, item);
                    apply_defaults(schema, item);
                }
            }
        }
        _ => {}
    }
}

fn replace_null(node: &Node, value: &mut Value) {
    if value.is_null() && !node.nullable {
        *value = node.default.clone().unwrap_or(Value::Null);
    }
}

/// Removes members that are null without being nullable and have no default (`prunenulls.go`).
pub fn drop_nulls(node: &Node, value: &mut Value) {
    walk_nulls(Some(node), value);
}

fn walk_nulls(node: Option<&Node>, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, below| {
            let schema = node.and_then(|n| n.member(name));
            if below.is_null() && schema.is_some_and(|s| !s.nullable && s.default.is_none()) {
                return false;
            }
            walk_nulls(schema, below);
            true
        }),
        Value::Array(items) => {
            let schema = node.and_then(|n| n.items.as_deref());
            items.iter_mut().for_each(|item| walk_nulls(schema, item));
        }
        _ => {}
    }
}

/// Prunes every default of a schema as if it stood in an object (`PruneDefaults`), so that defaulting
/// never adds what pruning would remove.
pub fn prune_defaults(root: &mut Node) {
    let whole = root.clone();
    walk_defaults(&whole, root, &mut Vec::new());
}

#[derive(Clone)]
pub(super) enum Step {
    Member(String),
    Item,
}

fn walk_defaults(whole: &Node, node: &mut Node, path: &mut Vec<Step>) {
    if let Some(default) = node.default.take() {
        let mut object = surround(path, default);
        // With malformed members dropped this never fails.
        drop(coerce(whole, &mut object, Malformed::Drop));
        prune(whole, &mut object);
        node.default = focus(path, object);
    }
    for (name, property) in &mut node.properties {
        path.push(Step::Member(name.clone()));
        walk_defaults(whole, property, path);
        path.pop();
    }
    if let Additional::Schema(below) = &mut node.additional {
        path.push(Step::Member("*".to_owned()));
        walk_defaults(whole, below, path);
        path.pop();
    }
    if let Some(items) = &mut node.items {
        path.push(Step::Item);
        walk_defaults(whole, items, path);
        path.pop();
    }
}

/// The smallest object that has `value` at that path.
pub(super) fn surround(path: &[Step], value: Value) -> Value {
    path.iter().rev().fold(value, |value, step| match step {
        Step::Member(name) => json!({name.as_str(): value}),
        Step::Item => json!([value]),
    })
}

fn focus(path: &[Step], object: Value) -> Option<Value> {
    path.iter().try_fold(object, |value, step| match (step, value) {
        (Step::Member(name), Value::Object(mut map)) => map.remove(name),
        (Step::Item, Value::Array(items)) => items.into_iter().next(),
        _ => None,
    })
}
