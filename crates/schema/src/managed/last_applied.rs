//! From client-side to server-side apply: what `kubectl apply` noted of its last configuration in an annotation
//! (upstream managedfields/internal/lastappliedmanager.go and lastappliedupdater.go).

use serde_json::{Value, json};

use super::Conflict;
use super::compare::compare;
use super::field_set::FieldSet;
use crate::TypeRef;

/// The manager for whom the annotation counts. Who wants nothing of it takes another name.
pub(super) const KUBECTL: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What all annotations of an object may take, in bytes (`ValidateAnnotationsSize`).
const ANNOTATIONS_BYTES: usize = 256 * 1024;

/// The conflicts that stay: not those about what the live object still has as client-side apply left it.
pub(super) fn remaining(
    ty: TypeRef<'_>,
    live: &Value,
    api_version: &str,
    mut conflicts: Vec<Conflict>,
) -> Vec<Conflict> {
    let allowed = unchanged(ty, live, api_version).unwrap_or_default();
    conflicts.retain(|conflict| !allowed.contains(&conflict.field));
    conflicts
}

/// The fields that were applied last and have the values of then.
fn unchanged(ty: TypeRef<'_>, live: &Value, api_version: &str) -> Option<Vec<String>> {
    let text = annotation(live)?;
    let applied: Value = serde_json::from_str(text).ok().filter(Value::is_object)?;
    if applied["apiVersion"] != api_version {
        return None;
    }
    let difference = compare(ty, &applied, live);
    let set = FieldSet::of(ty, &applied)
        .difference(&difference.modified)
        .difference(&difference.added)
        .difference(&difference.removed);
    Some(set.paths())
}

/// Keeps the annotation, where there is one, in step with what was applied now.
pub(super) fn renew(merged: &mut Value, config: &Value) {
    if annotation(merged).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = annotations_mut(&mut config) {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = annotations_mut(merged) else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), json!(format!("{config}\n")));
    let bytes: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > ANNOTATIONS_BYTES {
        annotations.remove(ANNOTATION);
    }
}

fn annotation(object: &Value) -> Option<&str> {
    let text = object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()?;
    Some(text).filter(|text| !text.is_empty())
}

fn annotations_mut(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}
