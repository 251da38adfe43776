//! Lists that are sets or maps hold nothing twice (`schema/listtype`).

use std::collections::BTreeMap;

use api::field::{Error, Path};
use serde_json::{Map, Value};

use super::{Additional, Node};

/// Every repeated item in lists of type `set` and `map`.
pub fn list_errors(node: &Node, value: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    walk(node, value, path, &mut errors);
    errors
}

fn walk(node: &Node, value: &Value, path: &Path, errors: &mut Vec<Error>) {
    match value {
        Value::Object(map) => {
            for (name, below) in map {
                if let Some(property) = node.properties.get(name) {
                    walk(property, below, &path.child(name), errors);
                } else if let Additional::Schema(schema) = &node.additional {
                    walk(schema, below, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            match node.list_type.as_str() {
                "set" => errors.extend(repeated(items).map(|i| Error::duplicate(&path.index(i), items[i].clone()))),
                "map" => map_errors(node, items, path, errors),
                _ => {}
            }
            if let Some(schema) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    walk(schema, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn map_errors(node: &Node, items: &[Value], path: &Path, errors: &mut Vec<Error>) {
    for (index, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let detail = "must be an object for an array of list-type map";
            errors.push(Error::invalid(&path.index(index), item.clone(), detail));
            return;
        }
    }
    let keys: Vec<Value> = items
        .iter()
        .map(|item| {
            let keys = node.list_map_keys.iter();
            let key = keys.filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Value::Object(key.collect::<Map<_, _>>())
        })
        .collect();
    errors.extend(repeated(&keys).map(|i| Error::duplicate(&path.index(i), keys[i].clone())));
}

/// The index of the second of equal items.
fn repeated(items: &[Value]) -> impl Iterator<Item = usize> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut second = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let count = seen.entry(item.to_string()).or_default();
        *count += 1;
        if *count == 2 {
            second.push(index);
        }
    }
    second.into_iter()
}
