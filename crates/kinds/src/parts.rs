//! What updates through a part of an object may not change.

use api::Value;

use crate::tree;

/// Metadata that a status update may not touch (`metav1.ResetObjectMetaForStatus`).
const KEPT_METADATA: [&str; 7] = [
    "annotations",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "labels",
    "ownerReferences",
    "selfLink",
];

/// Takes every top-level field but `metadata` and `status` from the old object.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let fields: Vec<String> = [&*new, old]
        .iter()
        .filter_map(|object| object.as_object())
        .flat_map(|map| map.keys().cloned())
        .filter(|field| field != "metadata" && field != "status")
        .collect();
    for field in fields {
        tree::keep(new, old, &field);
    }
}

/// Takes the metadata from the old object that a status update may not touch.
pub fn reset_metadata(new: &mut Value, old: &Value) {
    let before = tree::at(old, "metadata").cloned().unwrap_or_default();
    let metadata = tree::child(new, "metadata");
    for field in KEPT_METADATA {
        tree::keep(metadata, &before, field);
    }
}

/// A status update that changes nothing but the status, as newer kinds have it.
pub fn status_only(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    reset_metadata(new, old);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_status_moves() {
        let old = json!({"metadata": {"name": "a", "labels": {"k": "v"}}, "spec": {"n": 1}, "status": {"n": 1}});
        let mut new = json!({"metadata": {"name": "a", "annotations": {"x": "y"}, "resourceVersion": "2"},
            "spec": {"n": 2}, "data": 1, "status": {"n": 2}});
        status_only(&mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"name": "a", "labels": {"k": "v"}, "resourceVersion": "2"},
                "spec": {"n": 1}, "status": {"n": 2}})
        );
    }
}
