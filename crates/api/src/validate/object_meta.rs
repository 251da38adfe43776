//! `metadata` of every object (apimachinery `api/validation/objectmeta.go`).

use serde_json::{Map, Value};

use crate::field::{Error, Path};
use crate::meta;
use crate::names::{GroupVersion, Gvk};

/// The rule for `metadata.name`: takes the name, gives upstream's messages. For `generateName`
/// a trailing dash is masked before the rule is asked.
pub type NameRule = fn(&str) -> Vec<String>;

const ANNOTATIONS_MAX_BYTES: usize = 256 << 10;
const FIELD_MANAGER_MAX_BYTES: usize = 128;

/// Upstream's `ValidateObjectMeta`, after name generation. `path` is usually `metadata`.
pub fn object_meta(object: &Value, namespaced: bool, name_rule: NameRule, path: &Path) -> Vec<Error> {
    let mut errors = generate_name(object, name_rule, path);
    let name = meta::name(object);
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        for message in name_rule(name) {
            errors.push(Error::invalid(&path.child("name"), name, message));
        }
    }
    let namespace = meta::namespace(object);
    if namespaced {
        if namespace.is_empty() {
            errors.push(Error::required(&path.child("namespace"), ""));
        } else {
            for message in super::dns1123_label(namespace) {
                errors.push(Error::invalid(&path.child("namespace"), namespace, message));
            }
        }
    } else if !namespace.is_empty() {
        errors.push(Error::forbidden(&path.child("namespace"), "not allowed on this type"));
    }
    errors.extend(nonnegative(meta::generation(object), &path.child("generation")));
    errors.extend(common(object, path));
    let field = |name| meta::metadata(object).and_then(|map| map.get(name));
    errors.extend(finalizers(field("finalizers"), &path.child("finalizers")));
    errors
}

/// What is wrong with `generateName`, if there is one.
pub fn generate_name(object: &Value, name_rule: NameRule, path: &Path) -> Vec<Error> {
    let prefix = meta::generate_name(object);
    if prefix.is_empty() {
        return Vec::new();
    }
    // A suffix will follow, so that a trailing dash is no fault.
    let masked = match prefix.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => {
            let mut stem: String = stem.to_owned();
            stem.pop();
            stem.push('a');
            stem
        }
        _ => prefix.to_owned(),
    };
    let path = path.child("generateName");
    let messages = name_rule(&masked).into_iter();
    messages.map(|message| Error::invalid(&path, prefix, message)).collect()
}

/// Upstream's `ValidateObjectMetaUpdate`.
pub fn object_meta_update(new: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let empty = Map::new();
    let (new_meta, old_meta) = (
        meta::metadata(new).unwrap_or(&empty),
        meta::metadata(old).unwrap_or(&empty),
    );
    if meta::is_deleting(old) {
        let old_finalizers = meta::finalizers(old);
        let mut extra: Vec<&str> = meta::finalizers(new);
        extra.retain(|name| !old_finalizers.contains(name));
        extra.sort_unstable();
        extra.dedup();
        if !extra.is_empty() {
            let quoted: Vec<String> = extra.iter().map(|name| format!("{name:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                quoted.join(", ")
            );
            errors.push(Error::forbidden(&path.child("finalizers"), detail));
        }
    }
    if meta::resource_version(new).is_empty() {
        let detail = "must be specified for an update";
        errors.push(Error::invalid(&path.child("resourceVersion"), "", detail));
    }
    let (new_generation, old_generation) = (meta::generation(new), meta::generation(old));
    errors.extend(nonnegative(new_generation, &path.child("generation")));
    if new_generation < old_generation {
        let detail = "must not be decremented";
        errors.push(Error::invalid(&path.child("generation"), new_generation, detail));
    }
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        errors.extend(immutable(new_meta.get(name), old_meta.get(name), &path.child(name)));
    }
    errors.extend(common(new, path));
    errors
}

fn common(object: &Value, path: &Path) -> Vec<Error> {
    let field = |name| meta::metadata(object).and_then(|map| map.get(name));
    let mut errors = labels(field("labels"), &path.child("labels"));
    errors.extend(annotations(field("annotations"), &path.child("annotations")));
    errors.extend(owner_references(
        field("ownerReferences"),
        &path.child("ownerReferences"),
    ));
    errors.extend(managed_fields(field("managedFields"), &path.child("managedFields")));
    errors
}

fn entries(map: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")))
}

/// A map of labels.
pub fn labels(map: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (key, value) in entries(map) {
        errors.extend(super::label_name(key, path));
        for message in super::label_value(value) {
            errors.push(Error::invalid(path, value, message));
        }
    }
    errors
}

/// A map of annotations: keys as labels in any case, 256 KiB together.
pub fn annotations(map: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(map) {
        size += key.len() + value.len();
        for message in super::qualified_name(&key.to_lowercase()) {
            errors.push(Error::invalid(path, key, message));
        }
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.push(Error::too_long(path, ANNOTATIONS_MAX_BYTES));
    }
    errors
}

/// A list of owner references; at most one is the controller.
pub fn owner_references(list: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    let items = list.and_then(Value::as_array).into_iter().flatten();
    for (index, item) in items.enumerate() {
        let path = path.index(index);
        let text = |name| item.get(name).and_then(Value::as_str).unwrap_or("");
        let parsed = GroupVersion::parse(text("apiVersion"));
        if text("apiVersion").is_empty() {
            errors.push(Error::required(&path.child("apiVersion"), "must not be empty"));
        } else if !parsed.as_ref().is_ok_and(|gv| !gv.version.is_empty()) {
            let detail = "must be <group>/<version> or <version>";
            errors.push(Error::invalid(&path.child("apiVersion"), text("apiVersion"), detail));
        }
        for name in ["kind", "name", "uid"] {
            if text(name).is_empty() {
                errors.push(Error::required(&path.child(name), "must not be empty"));
            }
        }
        if parsed.is_ok_and(|gv| gv.with_kind(text("kind")) == Gvk::new("", "v1", "Event")) {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(&path, item.clone(), detail));
        }
        if item.get("controller").and_then(Value::as_bool) == Some(true) {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    let list = list.cloned().unwrap_or_default();
                    // Upstream reports it at the list, which is the path without the index.
                    errors.push(Error::invalid(&parent(&path), list, detail));
                }
                None => controller = Some(this),
            }
        }
    }
    errors
}

fn parent(path: &Path) -> Path {
    let text = path.as_str();
    Path::new(text.rfind('[').map_or(text, |at| &text[..at]))
}

/// A list of finalizers.
pub fn finalizers(list: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let items: Vec<&str> = list
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in &items {
        errors.extend(super::label_name(name, path));
    }
    if items.contains(&meta::FINALIZER_ORPHAN) && items.contains(&meta::FINALIZER_FOREGROUND) {
        let detail = format!(
            "finalizer {} and {} cannot be both set",
            meta::FINALIZER_ORPHAN,
            meta::FINALIZER_FOREGROUND
        );
        errors.push(Error::invalid(path, items, detail));
    }
    errors
}

fn managed_fields(list: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let items = list.and_then(Value::as_array).into_iter().flatten();
    for (index, item) in items.enumerate() {
        let path = path.index(index);
        let text = |name| item.get(name).and_then(Value::as_str).unwrap_or("");
        match text("operation") {
            "" => errors.push(Error::required(&path.child("operation"), "must not be empty")),
            "Apply" | "Update" => {}
            other => {
                let known = &["Apply", "Update"];
                errors.push(Error::not_supported(&path.child("operation"), other, known));
            }
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            let detail = "must be `FieldsV1`";
            errors.push(Error::invalid(&path.child("fieldsType"), text("fieldsType"), detail));
        }
        if text("manager").len() > FIELD_MANAGER_MAX_BYTES {
            errors.push(Error::too_long(&path.child("manager"), FIELD_MANAGER_MAX_BYTES));
        }
        if text("subresource").len() > 256 {
            errors.push(Error::too_long(&path.child("subresource"), 256));
        }
    }
    errors
}

/// A number that may not be negative.
pub fn nonnegative(value: i64, path: &Path) -> Vec<Error> {
    if value >= 0 {
        return Vec::new();
    }
    vec![Error::invalid(path, value, "must be greater than or equal to 0")]
}

/// A field that may not change. Missing, null and empty are the same, as in Go.
pub fn immutable(new: Option<&Value>, old: Option<&Value>, path: &Path) -> Vec<Error> {
    fn present(value: Option<&Value>) -> Option<&Value> {
        value.filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        })
    }
    if present(new) == present(old) {
        return Vec::new();
    }
    vec![Error::invalid(
        path,
        new.cloned().unwrap_or_default(),
        "field is immutable",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: &[Error]) -> Vec<&str> {
        errors.iter().map(|error| error.field.as_str()).collect()
    }

    #[test]
    fn metadata_is_checked_in_full() {
        let object = json!({"metadata": {
            "name": "A", "generateName": "ok-", "generation": -1,
            "labels": {"a": "b c"}, "annotations": {"UPPER/ok": "x", "a b": ""},
            "finalizers": ["orphan", "foregroundDeletion", "a b"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "1", "controller": true},
                {"apiVersion": "a/b/c", "controller": true},
            ],
            "managedFields": [{"operation": "Delete"}],
        }});
        let errors = object_meta(&object, true, crate::validate::dns1123_label, &Path::new("metadata"));
        assert_eq!(
            fields(&errors),
            [
                "metadata.name",
                "metadata.namespace",
                "metadata.generation",
                "metadata.labels",
                "metadata.annotations",
                "metadata.ownerReferences[0]",
                "metadata.ownerReferences[1].apiVersion",
                "metadata.ownerReferences[1].kind",
                "metadata.ownerReferences[1].name",
                "metadata.ownerReferences[1].uid",
                "metadata.ownerReferences",
                "metadata.managedFields[0].operation",
                "metadata.finalizers",
                "metadata.finalizers",
            ]
        );
    }

    #[test]
    fn updates_keep_identity() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "1", "generation": 2,
            "deletionTimestamp": "t", "finalizers": ["x/y"]}});
        let path = Path::new("metadata");
        assert!(object_meta_update(&old, &old, &path).is_empty());
        let new = json!({"metadata": {"name": "b", "uid": "2", "generation": 1, "finalizers": ["x/z"]}});
        assert_eq!(
            fields(&object_meta_update(&new, &old, &path)),
            [
                "metadata.finalizers",
                "metadata.resourceVersion",
                "metadata.generation",
                "metadata.name",
                "metadata.uid",
                "metadata.deletionTimestamp",
            ]
        );
    }
}
