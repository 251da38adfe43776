//! Server-side apply: who set which field, and what follows from it (KEP-555; upstream
//! structured-merge-diff and apimachinery/pkg/util/managedfields).
//!
//! Every write goes through [`update`] or [`apply`], which keep `metadata.managedFields` true. An
//! update takes over what it changes; an apply states all that its manager wants, meets conflicts
//! where others own a different value, and removes what the manager wanted before but not now.
//!
//! Not done: field sets of other API versions are not converted (names are taken as they are).

mod changes;
mod compare;
mod entries;
mod field_set;
mod fields_v1;
mod last_applied;
mod managers;
mod merge;
mod typed;

use serde_json::{Map, Value};

pub use field_set::{FieldSet, PathElement};
pub use managers::Writer;
pub use typed::faults;

use compare::compare;
use managers::Managers;

use crate::TypeRef;

/// A field that an apply would change although another manager owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner and, for updates, with which version: `"kubectl" using apps/v1`.
    pub owner: String,
    /// The field, such as `.spec.replicas`.
    pub field: String,
}

/// Who owns what there was before anybody was noted.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that are nobody's, or that the server decides on.
const NEVER_OWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

fn owned_fields(ty: TypeRef<'_>, object: &Value, reset: &[&[&str]]) -> FieldSet {
    let mut set = FieldSet::of(ty, object);
    for path in NEVER_OWNED.iter().chain(reset) {
        set.remove_branch(path);
    }
    set
}

/// Brings the managed fields of `new` up to date after any write but an apply. `live` is the object
/// before, `None` when it is created; `now` is the time as the API writes it. Managed fields that a client sent are
/// believed, unless they are malformed or it writes a subresource; an empty list (`[{}]` or `[]`) forgets all.
pub fn update(ty: TypeRef<'_>, live: Option<&Value>, new: &mut Value, writer: &Writer, now: &str) {
    let mut entries = match writer.subresource.as_str() {
        "" if managers::asks_to_forget(new) => Vec::new(),
        "" => sent(live, new).unwrap_or_else(|| live.map(entries_of).unwrap_or_default()),
        _ => live.map(entries_of).unwrap_or_default(),
    };
    let (changed, removed) = match live {
        Some(live) => (changes::changed(ty, live, new), changes::removed(ty, live, new)),
        None => {
            // An object that nobody has set yet has what its type always has.
            let mut nothing = Value::Object(Map::new());
            crate::normalize(ty, &mut nothing);
            (changes::changed(ty, &nothing, new), Map::new())
        }
    };
    let mut changed = changed;
    for path in NEVER_OWNED {
        entries::remove_branch(&mut changed, path);
    }
    entries::update(&mut entries, writer, changed, &removed, now);
    managers::remove(new);
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut)
        && !entries.is_empty()
    {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// What a client sent as managed fields, if that is not what there is and is sound.
fn sent(live: Option<&Value>, new: &Value) -> Option<Vec<Value>> {
    let fields = fields_of(new)?;
    if live.and_then(fields_of) == Some(fields) {
        return None;
    }
    Managers::sent(new).map(|managers| managers.entries())
}

fn fields_of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn entries_of(object: &Value) -> Vec<Value> {
    let entries = fields_of(object).and_then(Value::as_array);
    entries.cloned().unwrap_or_default()
}

/// Applies `config`, all that its manager wants of the object. `reset` names branches that this
/// request cannot set (status, or all but it). The result carries its managed fields; it is not
/// defaulted.
///
/// To the manager `kubectl` belongs what client-side apply noted in its annotation and nobody changed since; the
/// annotation, where there is one, follows.
///
/// # Errors
/// Every field that others own with another value, unless `force`.
pub fn apply(
    ty: TypeRef<'_>,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer,
    force: Force,
    reset: &[&[&str]],
    now: &str,
) -> Result<Value, Vec<Conflict>> {
    let nothing = Value::Object(Map::new());
    let before = live.unwrap_or(&nothing);
    let mut managers = live.map(Managers::read).unwrap_or_default();
    if live.is_some() && managers.is_empty() {
        let first = Writer {
            manager: BEFORE_FIRST_APPLY.to_owned(),
            ..writer.clone()
        };
        let mut empty = Value::Object(serde_json::Map::new());
        crate::normalize(ty, &mut empty);
        let mut set = compare(ty, &empty, before).added;
        for path in NEVER_OWNED.iter().chain(reset) {
            set.remove_branch(path);
        }
        managers.put(first.update_id(), &first, set, now);
    }
    let wanted = owned_fields(ty, config, reset);
    let mut config = config.clone();
    for path in reset {
        merge::remove_branch(&mut config, path);
    }
    managers::remove(&mut config);
    let id = writer.apply_id();
    let abandoned = managers.set(&id).difference(&wanted);
    let mut merged = merge::merge(ty, before, &config);
    let others = managers.union_of_others(&id);
    // What it still wants a part of stays, though its last set may have named the whole: one that kubectl made does.
    let kept = others.union(&wanted);
    merge::remove(ty, &mut merged, &abandoned.difference(&others), &kept);
    let difference = compare(ty, before, &merged);
    let mut changed = difference.added.union(&difference.modified);
    for path in NEVER_OWNED {
        changed.remove_branch(path);
    }
    let from_client = writer.manager == last_applied::KUBECTL;
    if force == Force::No {
        let mut conflicts = managers.conflicts(&id, &changed);
        if from_client && !conflicts.is_empty() {
            conflicts = last_applied::remaining(ty, before, &writer.api_version, conflicts);
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    managers.take_from_others(&id, &changed, &difference.removed);
    managers.put(id, writer, wanted, now);
    if from_client {
        last_applied::renew(&mut merged, &config);
    }
    managers.write(&mut merged);
    Ok(merged)
}

/// `config` laid over `live`, as an apply does it, without regard to owners (upstream
/// `TypedValue.Merge`).
pub fn merge(ty: TypeRef<'_>, live: &Value, config: &Value) -> Value {
    merge::merge(ty, live, config)
}

/// The paths of lists, maps and structs in `config` that an apply replaces as a whole.
pub fn atomics(ty: TypeRef<'_>, config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    field_set::atomics(Some(ty), config, "", &mut found);
    found
}

/// Whether an apply takes fields over from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Conflicts are errors.
    No,
    /// Conflicting fields change hands.
    Yes,
}

#[cfg(test)]
mod tests;
