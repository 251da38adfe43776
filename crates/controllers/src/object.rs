//! Typed objects and their metadata.

use std::collections::BTreeMap;

use api::{Gvr, Value};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
pub use typed::Object;

/// The resource of a typed kind.
pub fn gvr_of<K: Resource>() -> Gvr {
    Gvr::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
}

/// The JSON of a typed value.
pub fn to_value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("generated types have string keys and finite numbers")
}

/// Name, or empty.
pub fn name<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or("")
}

/// Namespace, or empty.
pub fn namespace<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().namespace.as_deref().unwrap_or("")
}

/// UID, or empty.
pub fn uid<K: Metadata<Ty = ObjectMeta>>(object: &K) -> &str {
    object.metadata().uid.as_deref().unwrap_or("")
}

/// Whether its deletion has begun.
pub fn is_deleting<K: Metadata<Ty = ObjectMeta>>(object: &K) -> bool {
    object.metadata().deletion_timestamp.is_some()
}

/// When it was created.
pub fn created<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Option<Timestamp> {
    object.metadata().creation_timestamp.as_ref().map(|time| time.0)
}

/// An annotation.
pub fn annotation<'a, K: Metadata<Ty = ObjectMeta>>(object: &'a K, key: &str) -> Option<&'a str> {
    object.metadata().annotations.as_ref()?.get(key).map(String::as_str)
}

/// The owner that manages it.
pub fn controller_of<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Option<&OwnerReference> {
    let owners = object.metadata().owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Whether the owner that manages it has this UID.
pub fn is_controlled_by<K: Metadata<Ty = ObjectMeta>>(object: &K, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.uid == uid)
}

/// A reference by which an object manages others.
pub fn controller_reference<K: Object>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A time with the precision that conditions have.
pub fn seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).expect("a time's own second is in range"))
}

/// Whether a selector selects these labels (`metav1.LabelSelectorAsSelector`: an empty one selects
/// all; an unknown operator, nothing).
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let get = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            let found = get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => found.is_some_and(|value| values.contains(value)),
                "NotIn" => found.is_none_or(|value| !values.contains(value)),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector has no requirement.
pub fn selects_everything(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether labels have all of a plain map's pairs.
pub fn has_labels(wanted: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}
