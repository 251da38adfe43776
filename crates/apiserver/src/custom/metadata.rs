//! What a conversion webhook may do to metadata: labels and annotations, nothing else
//! (`webhook_converter.go` validateConvertedObject, restoreObjectMeta).

use api::field::{Path, aggregate};
use api::validate;
use api::{Value, meta};

/// Refuses another identity.
///
/// # Errors
/// Which part differs.
pub(super) fn check_same(original: &Value, converted: &Value) -> Result<(), String> {
    let parts = [
        ("kind", meta::kind as fn(&Value) -> &str),
        ("name", meta::name),
        ("namespace", meta::namespace),
        ("UID", meta::uid),
    ];
    for (what, read) in parts {
        let (before, after) = (read(original), read(converted));
        if before != after {
            return Err(format!("must have the same {what}: {before} != {after}"));
        }
    }
    Ok(())
}

/// Takes metadata from the original, but for labels and annotations.
///
/// # Errors
/// What is wrong with those.
pub(super) fn restore_metadata(original: &Value, converted: &mut Value) -> Result<(), String> {
    let Some(response) = converted.get("metadata").cloned() else {
        return Err("missing metadata in converted object".to_owned());
    };
    let Value::Object(response) = response else {
        return Err("invalid metadata in converted object".to_owned());
    };
    let mut metadata = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let Some(texts) = response.get(field).filter(|v| !v.is_null()) else {
            metadata.remove(field);
            continue;
        };
        let Value::Object(map) = texts else {
            return Err(format!("invalid metadata.{field} in converted object"));
        };
        if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is not in converted object"
            ));
        }
        if metadata.get(field) != Some(texts) {
            let path = Path::new("metadata");
            let errors = if field == "labels" {
                validate::labels(Some(texts), &path.child("labels"))
            } else {
                validate::annotations(Some(texts), &path.child("annotation"))
            };
            if !errors.is_empty() {
                return Err(aggregate(&errors));
            }
        }
        metadata.insert(field.to_owned(), texts.clone());
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(())
}
