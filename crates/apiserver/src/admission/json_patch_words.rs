//! Why a JSON patch does not apply, in the words of upstream's library (`evanphx/json-patch` v4).

use api::Value;
use json_patch::{Patch, PatchError, PatchErrorKind, PatchOperation};

/// The message of an error that `patch` met on `object`.
pub(super) fn words(error: &PatchError, patch: &Patch, object: &Value) -> String {
    let path = error.path.as_str();
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
    let parent_found = object.pointer(parent).is_some();
    let found = object.pointer(path).is_some();
    match (&error.kind, patch.0.get(error.operation)) {
        (PatchErrorKind::TestFailed, _) => format!("testing value {path} failed: test failed"),
        (_, Some(PatchOperation::Add(_))) if !parent_found => {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        (_, Some(PatchOperation::Add(_))) => {
            format!("error in add for path: '{path}': Unable to access invalid index: {key}: invalid index referenced")
        }
        (_, Some(PatchOperation::Remove(_))) if !parent_found => {
            format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        (_, Some(PatchOperation::Remove(_))) => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }
        (_, Some(PatchOperation::Replace(_))) if !parent_found => {
            format!("replace operation does not apply: doc is missing path: {path}: missing value")
        }
        (_, Some(PatchOperation::Replace(_))) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        (_, Some(PatchOperation::Move(_))) if !found => {
            format!("move operation does not apply: doc is missing from path: {path}: missing value")
        }
        (_, Some(PatchOperation::Copy(_))) if !found => {
            format!("copy operation does not apply: doc is missing from path: {path}: missing value")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn why(operation: &Value) -> String {
        let object = json!({"a": {"b": 1}});
        let patch: Patch = serde_json::from_value(json!([operation])).unwrap();
        let error = json_patch::patch(&mut object.clone(), &patch).unwrap_err();
        words(&error, &patch, &object)
    }

    #[test]
    fn the_words_of_upstream() {
        let why = |op: &str, path: &str| why(&json!({"op": op, "path": path, "value": 2}));
        let missing = "operation does not apply: doc is missing";
        assert_eq!(
            why("add", "/x/y"),
            format!("add {missing} path: \"/x/y\": missing value")
        );
        assert_eq!(
            why("remove", "/x/y"),
            format!("remove {missing} path: \"/x/y\": missing value")
        );
        assert_eq!(
            why("remove", "/a/y"),
            "error in remove for path: '/a/y': Unable to remove nonexistent key: y: missing value"
        );
        assert_eq!(
            why("replace", "/a/y"),
            format!("replace {missing} key: /a/y: missing value")
        );
        assert_eq!(why("test", "/a/b"), "testing value /a/b failed: test failed");
    }
}
