//! Accessors to `metadata` of an object tree.
//!
//! Readers never fail: a missing or mistyped field reads as empty. Writers create `metadata` when
//! it is missing and remove a field when its value is empty, as Go's `omitempty` would.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::time;

/// The finalizer of foreground deletion.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of orphaning deletion.
pub const FINALIZER_ORPHAN: &str = "orphan";
/// The annotation in which `kubectl apply` keeps the last applied object.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One entry of `metadata.ownerReferences`, borrowed from the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    /// `apiVersion` of the owner.
    pub api_version: &'a str,
    /// Kind of the owner.
    pub kind: &'a str,
    /// Name of the owner.
    pub name: &'a str,
    /// UID of the owner.
    pub uid: &'a str,
    /// Whether the owner is the managing controller.
    pub controller: bool,
    /// Whether the owner's foreground deletion waits for this object.
    pub block_owner_deletion: bool,
}

/// The `metadata` map, if there is one.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// The `metadata` map, made when missing. `None` only when the object itself is no map.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let map = object.as_object_mut()?;
    let slot = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object)
        .and_then(|meta| meta.get(field))
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn integer(object: &Value, field: &str) -> Option<i64> {
    metadata(object)?.get(field)?.as_i64()
}

fn timestamp(object: &Value, field: &str) -> Option<Timestamp> {
    time::parse(metadata(object)?.get(field)?.as_str()?).ok()
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or("")
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or("")
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`, an opaque string.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`; 0 when missing.
pub fn generation(object: &Value) -> i64 {
    integer(object, "generation").unwrap_or(0)
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    integer(object, "deletionGracePeriodSeconds")
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<Timestamp> {
    timestamp(object, "creationTimestamp")
}

/// `metadata.deletionTimestamp`.
pub fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    timestamp(object, "deletionTimestamp")
}

/// Whether `metadata.deletionTimestamp` is set.
pub fn is_deleting(object: &Value) -> bool {
    metadata(object)
        .and_then(|meta| meta.get("deletionTimestamp"))
        .is_some_and(|v| !v.is_null())
}

/// `metadata.labels` as a map of its own.
pub fn labels(object: &Value) -> BTreeMap<String, String> {
    string_map(metadata(object).and_then(|meta| meta.get("labels")))
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object)?.get("labels")?.get(key)?.as_str()
}

/// `metadata.annotations` as a map of its own.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    string_map(metadata(object).and_then(|meta| meta.get("annotations")))
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object)?.get("annotations")?.get(key)?.as_str()
}

/// A JSON object of strings as a map; entries that are no strings are left out.
pub fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(map) = value.and_then(Value::as_object) else {
        return BTreeMap::new();
    };
    map.iter()
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    list(object, "finalizers").iter().filter_map(Value::as_str).collect()
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> Vec<OwnerReference<'_>> {
    list(object, "ownerReferences").iter().map(owner_reference).collect()
}

/// The owner that manages this object, if any.
pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).into_iter().find(|owner| owner.controller)
}

fn owner_reference(value: &Value) -> OwnerReference<'_> {
    let text = |field| value.get(field).and_then(Value::as_str).unwrap_or("");
    let flag = |field| value.get(field).and_then(Value::as_bool).unwrap_or(false);
    OwnerReference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    }
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    metadata(object)
        .and_then(|meta| meta.get(field))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(meta) = metadata_mut(object) else { return };
    match value {
        Some(value) => drop(meta.insert(field.to_owned(), value)),
        None => drop(meta.remove(field)),
    }
}

fn set_text(object: &mut Value, field: &str, value: &str) {
    set(object, field, (!value.is_empty()).then(|| Value::from(value)));
}

/// Writes `metadata.name`.
pub fn set_name(object: &mut Value, name: &str) {
    set_text(object, "name", name);
}

/// Writes `metadata.namespace`.
pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_text(object, "namespace", namespace);
}

/// Writes `metadata.generateName`.
pub fn set_generate_name(object: &mut Value, prefix: &str) {
    set_text(object, "generateName", prefix);
}

/// Writes `metadata.uid`.
pub fn set_uid(object: &mut Value, uid: &str) {
    set_text(object, "uid", uid);
}

/// Writes `metadata.resourceVersion`.
pub fn set_resource_version(object: &mut Value, revision: &str) {
    set_text(object, "resourceVersion", revision);
}

/// Writes `metadata.generation`; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    set(object, "generation", (generation != 0).then(|| Value::from(generation)));
}

/// Writes `metadata.creationTimestamp` with second precision. `None` writes `null`, the wire
/// shape of an unset time in this field before v1.34; use [`remove`] to leave it out.
pub fn set_creation_timestamp(object: &mut Value, at: Option<Timestamp>) {
    let value = at.map_or(Value::Null, |at| Value::from(time::format(at)));
    set(object, "creationTimestamp", Some(value));
}

/// Writes or removes `metadata.deletionTimestamp`.
pub fn set_deletion_timestamp(object: &mut Value, at: Option<Timestamp>) {
    set(object, "deletionTimestamp", at.map(|at| Value::from(time::format(at))));
}

/// Writes or removes `metadata.deletionGracePeriodSeconds`.
pub fn set_deletion_grace_period_seconds(object: &mut Value, seconds: Option<i64>) {
    set(object, "deletionGracePeriodSeconds", seconds.map(Value::from));
}

/// Writes `metadata.labels`; an empty map removes it.
pub fn set_labels(object: &mut Value, labels: &BTreeMap<String, String>) {
    set(object, "labels", map_value(labels));
}

/// Writes `metadata.annotations`; an empty map removes it.
pub fn set_annotations(object: &mut Value, annotations: &BTreeMap<String, String>) {
    set(object, "annotations", map_value(annotations));
}

fn map_value(map: &BTreeMap<String, String>) -> Option<Value> {
    let map: Map<String, Value> = map.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
    (!map.is_empty()).then_some(Value::Object(map))
}

/// Writes one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    set_entry(object, "annotations", key, value);
}

/// Writes one label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    set_entry(object, "labels", key, value);
}

fn set_entry(object: &mut Value, field: &str, key: &str, value: &str) {
    let Some(meta) = metadata_mut(object) else { return };
    let slot = meta.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Some(map) = slot.as_object_mut() {
        map.insert(key.to_owned(), Value::from(value));
    }
}

/// Writes `metadata.finalizers`; an empty list removes it.
pub fn set_finalizers<S: AsRef<str>>(object: &mut Value, finalizers: &[S]) {
    let list: Vec<Value> = finalizers.iter().map(|name| Value::from(name.as_ref())).collect();
    set(object, "finalizers", (!list.is_empty()).then_some(Value::Array(list)));
}

/// Removes one field of `metadata`.
pub fn remove(object: &mut Value, field: &str) {
    set(object, field, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_are_total() {
        for object in [json!(null), json!({}), json!({"metadata": 1}), json!({"metadata": {}})] {
            assert_eq!(name(&object), "");
            assert_eq!(generation(&object), 0);
            assert!(labels(&object).is_empty());
            assert!(finalizers(&object).is_empty());
            assert!(owner_references(&object).is_empty());
            assert_eq!(deletion_timestamp(&object), None);
            assert!(!is_deleting(&object));
        }
    }

    #[test]
    fn writes_are_read_back_and_empty_removes() {
        let mut object = json!({});
        set_name(&mut object, "a");
        set_namespace(&mut object, "b");
        set_generation(&mut object, 3);
        set_label(&mut object, "k", "v");
        set_finalizers(&mut object, &["f"]);
        let at: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        set_deletion_timestamp(&mut object, Some(at));
        assert_eq!((name(&object), namespace(&object), generation(&object)), ("a", "b", 3));
        assert_eq!(label(&object, "k"), Some("v"));
        assert_eq!(finalizers(&object), ["f"]);
        assert_eq!(object["metadata"]["deletionTimestamp"], "2026-01-02T03:04:05Z");
        assert!(is_deleting(&object));
        set_namespace(&mut object, "");
        set_finalizers::<&str>(&mut object, &[]);
        set_labels(&mut object, &BTreeMap::new());
        set_deletion_timestamp(&mut object, None);
        assert_eq!(object, json!({"metadata": {"name": "a", "generation": 3}}));
    }

    #[test]
    fn the_controller_is_the_owner_that_says_so() {
        let object = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "2", "controller": true},
        ]}});
        assert_eq!(controller_of(&object).map(|owner| owner.uid), Some("2"));
    }
}
