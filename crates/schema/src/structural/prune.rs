//! Removing what a schema does not name (`schema/pruning/algorithm.go`).

use serde_json::Value;

use super::{Additional, Node, Place, is_meta};

/// Prunes a whole resource; returns the paths of what was removed, sorted.
pub fn prune(root: &Node, object: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    walk(Some(&root.as_resource()), object, &mut Place::default(), &mut removed);
    removed.sort();
    removed
}

/// Prunes a value that is no resource of its own.
pub fn prune_nested(node: &Node, value: &mut Value) {
    walk(Some(node), value, &mut Place::default(), &mut Vec::new());
}

/// The schema of a member: itself none if nothing is known below, `Err` if it has to go.
fn member<'n>(node: &'n Node, name: &str) -> Result<Option<&'n Node>, ()> {
    match (node.properties.get(name), &node.additional) {
        (Some(below), _) => Ok(Some(below)),
        (None, Additional::Schema(below)) => Ok(Some(below)),
        // Members are kept, but nothing below them is known.
        (None, Additional::Any | Additional::Forbidden) => Ok(None),
        (None, Additional::Unset) => Err(()),
    }
}

fn walk(node: Option<&Node>, value: &mut Value, place: &mut Place, removed: &mut Vec<String>) {
    if let Some(node) = node
        && node.preserve_unknown
    {
        return keep(node, value, place, removed);
    }
    match value {
        Value::Object(map) => {
            map.retain(|name, below| {
                if node.is_some_and(|n| n.embedded) && is_meta(name) {
                    return true;
                }
                match node.map_or(Err(()), |n| member(n, name)) {
                    Ok(node) => {
                        place.within(name, |place| walk(node, below, place, removed));
                        true
                    }
                    Err(()) => {
                        removed.push(place.of(name));
                        false
                    }
                }
            });
        }
        Value::Array(items) => {
            let node = node.and_then(|n| n.items.as_deref());
            for (index, item) in items.iter_mut().enumerate() {
                place.at(index, |place| walk(node, item, place, removed));
            }
        }
        _ => {}
    }
}

/// Unknown members stay; known ones may prune again below.
fn keep(node: &Node, value: &mut Value, place: &mut Place, removed: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, below) in map.iter_mut() {
                if node.embedded && is_meta(name) {
                    continue;
                }
                let known = match (node.properties.get(name), &node.additional) {
                    (Some(known), _) => Some(known),
                    (None, Additional::Schema(known)) => Some(&**known),
                    _ => None,
                };
                if let Some(known) = known {
                    place.within(name, |place| walk(Some(known), below, place, removed));
                }
            }
        }
        Value::Array(items) => {
            if let Some(known) = node.items.as_deref() {
                for (index, item) in items.iter_mut().enumerate() {
                    place.at(index, |place| keep(known, item, place, removed));
                }
            }
        }
        _ => {}
    }
}
