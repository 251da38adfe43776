//! Metadata that the server fills in, and the rules for the rest
//! (upstream `registry/rest/meta.go`, `apimachinery/pkg/api/validation/objectmeta.go`).

use api::field::{Error, Path};
use api::{Status, Value, meta};
use jiff::Timestamp;

use crate::kind::{Kind, NameRule};

const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const LONGEST_NAME: usize = 63;
const SUFFIX_LENGTH: usize = 5;

/// Removes what a client may not set on create.
pub(crate) fn wipe_system_fields(object: &mut Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        meta::remove(object, field);
    }
}

/// Gives a new object its uid and creation time.
pub(crate) fn fill_system_fields(object: &mut Value, now: Timestamp) {
    meta::set_creation_timestamp(object, Some(now));
    meta::set_uid(object, &new_uid());
}

/// A random UUID; of a generator that does not ask the kernel each time.
pub(crate) fn new_uid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// A name made of a prefix and five random characters, of at most 63.
pub(crate) fn generate_name(prefix: &str) -> String {
    let cut = prefix.floor_char_boundary(LONGEST_NAME - SUFFIX_LENGTH);
    let mut name = prefix[..cut.min(prefix.len())].to_owned();
    for _ in 0..SUFFIX_LENGTH {
        let at = rand::random_range(0..NAME_ALPHABET.len());
        name.push(char::from(NAME_ALPHABET[at]));
    }
    name
}

/// Sets the request's namespace in the object, or refuses another one.
///
/// # Errors
/// 400 on a mismatch.
pub fn ensure_namespace(kind: &Kind, object: &mut Value, namespace: &str) -> Result<(), Status> {
    let expected = if kind.is_namespaced() { namespace } else { "" };
    let actual = meta::namespace(object);
    if actual == expected {
        return Ok(());
    }
    if actual.is_empty() || expected.is_empty() {
        meta::set_namespace(object, expected);
        return Ok(());
    }
    Err(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// The messages against a name.
pub(crate) fn name_rule(rule: &NameRule) -> api::validate::NameRule {
    match rule {
        NameRule::Dns1123Subdomain => api::validate::dns1123_subdomain,
        NameRule::Dns1123Label => api::validate::dns1123_label,
        NameRule::Dns1035Label => api::validate::dns1035_label,
        NameRule::PathSegment => api::validate::path_segment_name,
        NameRule::Custom(check) => *check,
    }
}

/// Validates the metadata of a new object.
pub fn validate(kind: &Kind, object: &Value) -> Vec<Error> {
    let (rule, path) = (name_rule(&kind.strategy.name), Path::new("metadata"));
    let mut errors = api::validate::object_meta(object, kind.is_namespaced(), rule, &path);
    errors.extend(unqualified_finalizers(kind, object));
    errors
}

/// What is checked of a new object that has no other fault: its name is a part of its path (`BeforeCreate`).
pub fn validate_path(kind: &Kind, object: &Value) -> Vec<Error> {
    let rule = api::validate::path_segment_name;
    api::validate::object_meta(object, kind.is_namespaced(), rule, &Path::new("metadata"))
}

/// Built-in kinds take short names of finalizers only if they know them (`validateKubeFinalizerName` of
/// `pkg/apis/core/validation`; definitions and API services are not checked there).
fn unqualified_finalizers(kind: &Kind, object: &Value) -> Vec<Error> {
    let elsewhere = matches!(&*kind.gvk.group, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    if !kind.is_builtin() || elsewhere {
        return Vec::new();
    }
    let known = ["kubernetes", meta::FINALIZER_ORPHAN, meta::FINALIZER_FOREGROUND];
    let path = Path::new("metadata").child("finalizers");
    let names = meta::finalizers(object).into_iter().enumerate();
    let unknown = names.filter(|(_, name)| !name.contains('/') && !known.contains(name));
    let detail = "name is neither a standard finalizer name nor is it fully qualified";
    unknown
        .map(|(index, name)| Error::invalid(&path.index(index), name, detail))
        .collect()
}

/// Validates the metadata of a changed object.
pub fn validate_update(kind: &Kind, new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("metadata");
    let rule = api::validate::path_segment_name;
    let mut errors = api::validate::object_meta(new, kind.is_namespaced(), rule, &path);
    errors.extend(unqualified_finalizers(kind, new));
    let rule = name_rule(&kind.strategy.name);
    errors.extend(api::validate::generate_name(new, rule, &path));
    for error in api::validate::object_meta_update(new, old, &path) {
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
    errors
}

/// Removes repeated owner references; says which uids were repeated.
pub fn dedup_owner_references(object: &mut Value) -> Vec<String> {
    let list = object.get_mut("metadata").and_then(|m| m.get_mut("ownerReferences"));
    let Some(list) = list.and_then(Value::as_array_mut) else {
        return Vec::new();
    };
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    let mut repeated = Vec::new();
    for owner in list.drain(..) {
        if kept.contains(&owner) {
            repeated.push(owner.get("uid").and_then(Value::as_str).unwrap_or("").to_owned());
        } else {
            kept.push(owner);
        }
    }
    *list = kept;
    repeated
}

/// The warning for repeated owner references.
pub(crate) fn dedup_warning(repeated: &[String], after_admission: bool) -> Option<String> {
    if repeated.is_empty() {
        return None;
    }
    let when = if after_admission {
        " after mutating admission happens"
    } else {
        ""
    };
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        repeated.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_names_are_short_and_differ() {
        let long = "x".repeat(80);
        assert_eq!(generate_name(&long).len(), LONGEST_NAME);
        let name = generate_name("pod-");
        assert_eq!(name.len(), 9);
        assert!(name[4..].bytes().all(|b| NAME_ALPHABET.contains(&b)));
        assert_ne!(generate_name("pod-"), generate_name("pod-"));
    }

    #[test]
    fn owner_references_are_kept_once() {
        let owner = json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1"});
        let mut object = json!({"metadata": {"ownerReferences": [owner, owner]}});
        assert_eq!(dedup_owner_references(&mut object), ["1"]);
        assert_eq!(object["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    }
}
