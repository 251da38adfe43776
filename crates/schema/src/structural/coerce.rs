//! Metadata of resources, embedded ones included, takes the shape of ObjectMeta
//! (`schema/objectmeta`).

use api::field::{Error, Path};
use serde_json::Value;

use super::{Additional, Node};
use crate::codec::{Decoded, decode_value};
use crate::{TypeRef, normalize};

/// What happens to metadata members of the wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are an error.
    Refuse,
    /// They are dropped: what is stored already has to be served.
    Drop,
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The built-in type of metadata.
pub fn object_meta() -> TypeRef<'static> {
    let schema = crate::builtin();
    schema.get(schema.by_name(OBJECT_META).expect("the built-in types have ObjectMeta"))
}

/// Coerces a whole resource; returns the paths of unknown metadata members.
///
/// # Errors
/// The first member that has the wrong type, unless those are dropped.
pub fn coerce(root: &Node, object: &mut Value, malformed: Malformed) -> Result<Vec<String>, Error> {
    coerce_object(&root.as_resource(), object, &Path::root(), malformed)
}

/// Coerces a value by a schema that says itself whether it is a resource; errors as [`coerce`].
pub fn coerce_object(node: &Node, value: &mut Value, path: &Path, malformed: Malformed) -> Result<Vec<String>, Error> {
    let mut unknown = Vec::new();
    walk(node, value, path, malformed, &mut unknown)?;
    unknown.sort();
    Ok(unknown)
}

fn walk(
    node: &Node,
    value: &mut Value,
    path: &Path,
    malformed: Malformed,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    match value {
        Value::Object(map) => {
            if node.embedded {
                resource(map, path, malformed, unknown)?;
            }
            for (name, below) in map.iter_mut() {
                if let Some(property) = node.properties.get(name) {
                    walk(property, below, &path.child(name), malformed, unknown)?;
                } else if let Additional::Schema(schema) = &node.additional {
                    walk(schema, below, &path.key(name), malformed, unknown)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                walk(schema, item, &path.index(index), malformed, unknown)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn resource(
    map: &mut api::Map<String, Value>,
    path: &Path,
    malformed: Malformed,
    unknown: &mut Vec<String>,
) -> Result<(), Error> {
    for name in ["apiVersion", "kind"] {
        if map.get(name).is_some_and(|v| !v.is_string()) {
            if malformed == Malformed::Refuse {
                return Err(Error::invalid(&path.child(name), map[name].clone(), "must be a string"));
            }
            map.remove(name);
        }
    }
    let Some(metadata) = map.get_mut("metadata") else {
        return Ok(());
    };
    match decode(metadata, malformed) {
        Ok(decoded) => {
            let at = path.child("metadata");
            for text in decoded.strict {
                let field = text
                    .strip_prefix("unknown field \"")
                    .and_then(|rest| rest.strip_suffix('"'));
                unknown.extend(field.map(|field| format!("{at}.{field}")));
            }
            *metadata = decoded.value;
            Ok(())
        }
        Err(error) if malformed == Malformed::Refuse => {
            Err(Error::invalid(&path.child("metadata"), metadata.clone(), error))
        }
        Err(_) => Ok(()),
    }
}

/// Metadata in ObjectMeta's shape; member by member where malformed ones are dropped.
fn decode(metadata: &Value, malformed: Malformed) -> Result<Decoded, String> {
    let ty = object_meta();
    let whole = decode_value(ty, metadata);
    let mut decoded = match (whole, metadata) {
        (Ok(decoded), _) => decoded,
        (Err(_), Value::Object(map)) if malformed == Malformed::Drop => {
            let mut kept = api::Map::new();
            for (name, value) in map {
                let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
                if let Ok(Decoded {
                    value: Value::Object(alone),
                    ..
                }) = decode_value(ty, &alone)
                {
                    kept.extend(alone);
                } else if matches!(name.as_str(), "labels" | "annotations")
                    && let Value::Object(texts) = value
                {
                    let texts = texts.iter().filter(|(_, v)| v.is_string());
                    let texts: api::Map<String, Value> = texts.map(|(k, v)| (k.clone(), v.clone())).collect();
                    kept.insert(name.clone(), Value::Object(texts));
                }
            }
            Decoded {
                value: Value::Object(kept),
                strict: Vec::new(),
            }
        }
        (Err(error), _) => return Err(error.to_string()),
    };
    normalize(ty, &mut decoded.value);
    if let Some(map) = decoded.value.as_object_mut()
        && map.get("creationTimestamp").is_some_and(Value::is_null)
    {
        map.remove("creationTimestamp");
    }
    Ok(decoded)
}

/// What is wrong with the embedded resources of an object (not with the object itself).
pub fn embedded_errors(node: &Node, object: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    below(node, object, path, &mut errors);
    errors
}

fn below(node: &Node, value: &Value, path: &Path, errors: &mut Vec<Error>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(property) = node.properties.get(name) {
                    embedded(property, value, &path.child(name), errors);
                } else if let Additional::Schema(schema) = &node.additional {
                    embedded(schema, value, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    embedded(schema, item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn embedded(node: &Node, value: &Value, path: &Path, errors: &mut Vec<Error>) {
    if let (true, Value::Object(map)) = (node.embedded, value) {
        let text = |name: &str, errors: &mut Vec<Error>| -> Option<String> {
            let at = path.child(name);
            match map.get(name) {
                None => errors.push(Error::required(&at, "must not be empty")),
                Some(Value::String(text)) if text.is_empty() => {
                    errors.push(Error::invalid(&at, "", "must not be empty"));
                }
                Some(Value::String(text)) => return Some(text.clone()),
                Some(other) => errors.push(Error::invalid(&at, other.clone(), "must be a string")),
            }
            None
        };
        if let Some(version) = text("apiVersion", errors)
            && let Err(error) = api::GroupVersion::parse(&version)
        {
            errors.push(Error::invalid(&path.child("apiVersion"), version, error.to_string()));
        }
        if let Some(kind) = text("kind", errors) {
            let messages = api::validate::dns1035_label(&kind.to_lowercase());
            if !messages.is_empty() {
                let detail = format!(
                    "may have mixed case, but should otherwise match: {}",
                    messages.join(",")
                );
                errors.push(Error::invalid(&path.child("kind"), kind, detail));
            }
        }
        if let Some(metadata) = map.get("metadata") {
            embedded_metadata(metadata, &path.child("metadata"), errors);
        }
    }
    below(node, value, path, errors);
}

fn embedded_metadata(metadata: &Value, path: &Path, errors: &mut Vec<Error>) {
    match decode(metadata, Malformed::Refuse) {
        Err(error) => errors.push(Error::invalid(path, metadata.clone(), error)),
        Ok(mut decoded) => {
            if decoded.value["name"].as_str().unwrap_or("").is_empty() {
                decoded.value["name"] = "fakename".into();
            }
            let object = serde_json::json!({"metadata": decoded.value});
            let namespaced = !api::meta::namespace(&object).is_empty();
            let rule = api::validate::path_segment_name;
            errors.extend(api::validate::object_meta(&object, namespaced, rule, path));
        }
    }
}
