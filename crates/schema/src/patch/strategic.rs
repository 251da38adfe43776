//! Strategic merge patch (upstream apimachinery/pkg/util/strategicpatch; api-conventions, "PATCH").
//!
//! Objects merge field by field and null deletes. A list with a merge strategy merges element by
//! element, by the merge key for objects, as a set for scalars; other lists are replaced. The order
//! of a merged list is that of the patch (or of `$setElementOrder`), with the elements that only the
//! server has put where the old list had them, as far as that can be.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::PatchError;
use crate::TypeRef;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// Applies `patch` to `original`, an object of type `ty`. Fields that the type does not know merge as
/// plain JSON, lists of them are replaced.
///
/// # Errors
/// When the patch misuses a directive or lacks a merge key.
pub fn apply(ty: TypeRef<'_>, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::NotAnObject);
    };
    let original = original.as_object().cloned().unwrap_or_default();
    merge_objects(Some(ty), original, patch.clone()).map(Value::Object)
}

/// How a list field merges.
struct ListRule<'s> {
    merges: bool,
    key: Option<&'s str>,
    element: Option<TypeRef<'s>>,
}

fn list_rule<'s>(ty: Option<TypeRef<'s>>, name: &str) -> ListRule<'s> {
    match ty.and_then(|ty| ty.field(name)) {
        Some(field) => ListRule {
            merges: field.patch_merge(),
            key: field.merge_key(),
            element: field.ty().elem(),
        },
        None => ListRule {
            merges: false,
            key: None,
            element: None,
        },
    }
}

fn field_type<'s>(ty: Option<TypeRef<'s>>, name: &str) -> Option<TypeRef<'s>> {
    let ty = ty?;
    ty.field(name).map(|field| field.ty()).or_else(|| match ty.kind() {
        crate::Shape::Map(_) => ty.elem(),
        _ => None,
    })
}

fn merge_objects(ty: Option<TypeRef<'_>>, mut original: Object, mut patch: Object) -> Result<Object, PatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => {
                let mut replacement = Value::Object(patch);
                remove_directives(&mut replacement);
                return Ok(replacement.as_object().cloned().unwrap_or_default());
            }
            Some("delete") => return Ok(Object::new()),
            Some("merge") => {}
            _ => return Err(unknown_directive(&directive, &Value::Object(patch))),
        }
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(ty, &mut original, &mut patch)?;
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM_LIST) {
            delete_scalars(&mut original, list, &value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        let merged = match (original.remove(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                Value::Object(merge_objects(field_type(ty, &name), old, new)?)
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                Value::Array(merge_lists(&list_rule(ty, &name), &name, old, new)?)
            }
            (_, mut new) => {
                discard_nulls(&mut new);
                if !remove_directives(&mut new) {
                    continue;
                }
                new
            }
        };
        original.insert(name, merged);
    }
    Ok(original)
}

fn unknown_directive(directive: &Value, element: &Value) -> PatchError {
    PatchError::UnknownDirective {
        directive: directive.clone(),
        element: element.clone(),
    }
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys: BTreeSet<&str> = keys
        .as_array()
        .ok_or(PatchError::RetainKeys)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let is_directive = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(ELEMENT_ORDER);
    if patch
        .iter()
        .any(|(name, value)| !value.is_null() && !is_directive(name) && !keys.contains(name.as_str()))
    {
        return Err(PatchError::RetainKeys);
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

fn delete_scalars(original: &mut Object, name: &str, gone: &Value) -> Result<(), PatchError> {
    let gone = gone.as_array().ok_or(PatchError::PrimitiveList)?;
    match original.get_mut(name) {
        None => Ok(()),
        Some(Value::Array(list)) if !list.iter().any(Value::is_object) => {
            list.retain(|item| !gone.contains(item));
            Ok(())
        }
        Some(_) => Err(PatchError::PrimitiveList),
    }
}

/// Merges the lists that come with `$setElementOrder`, which decides on their order.
fn ordered_lists(ty: Option<TypeRef<'_>>, original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let names: Vec<String> = patch
        .keys()
        .filter_map(|name| name.strip_prefix(ELEMENT_ORDER))
        .map(String::from)
        .collect();
    for name in names {
        let order = patch.remove(&format!("{ELEMENT_ORDER}{name}")).unwrap_or_default();
        let Value::Array(order) = order else {
            return Err(PatchError::ElementOrder(format!("{name} is not ordered by a list")));
        };
        if let Some(gone) = patch.remove(&format!("{DELETE_FROM_LIST}{name}")) {
            delete_scalars(original, &name, &gone)?;
        }
        let rule = list_rule(ty, &name);
        let changes = match patch.remove(&name) {
            Some(Value::Array(changes)) => Some(changes),
            Some(Value::Null) => {
                original.remove(&name);
                continue;
            }
            Some(_) => return Err(PatchError::ElementOrder(format!("{name} is not a list"))),
            None => None,
        };
        check_order(&changes, &order, rule.key)?;
        let old = match original.get(&name) {
            Some(Value::Array(old)) => Some(old.clone()),
            Some(_) => return Err(PatchError::ElementOrder(format!("{name} is not a list"))),
            None => None,
        };
        let (merged, before) = match (old, changes) {
            (None, None) => continue,
            (Some(old), None) => (old.clone(), old),
            (None, Some(changes)) => {
                let mut list = Value::Array(changes);
                discard_nulls(&mut list);
                remove_directives(&mut list);
                (list.as_array().cloned().unwrap_or_default(), Vec::new())
            }
            (Some(old), Some(changes)) => (merge_lists(&rule, &name, old.clone(), changes)?, old),
        };
        original.insert(name, Value::Array(in_order(merged, &order, &before, rule.key)));
    }
    Ok(())
}

/// Every element of the patch list stands in the order, and in that order.
fn check_order(changes: &Option<Vec<Value>>, order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let mut places = order.iter();
    for change in changes.iter().flatten() {
        if change.get(DIRECTIVE).is_some() {
            continue;
        }
        let id = identity(change, key);
        if !places.any(|place| identity(place, key) == id) {
            return Err(PatchError::ElementOrder(format!(
                "{} is out of order or missing",
                id.unwrap_or(&Value::Null)
            )));
        }
    }
    Ok(())
}

fn merge_lists(
    rule: &ListRule<'_>,
    name: &str,
    original: Vec<Value>,
    mut patch: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    if !rule.merges {
        let mut replacement = Value::Array(patch);
        discard_nulls(&mut replacement);
        remove_directives(&mut replacement);
        return Ok(replacement.as_array().cloned().unwrap_or_default());
    }
    let objects = original.iter().chain(&patch).filter(|item| item.is_object()).count();
    let lists = original.iter().chain(&patch).any(Value::is_array);
    if lists || (objects > 0 && objects < original.len() + patch.len()) {
        return Err(PatchError::MixedList(name.to_owned()));
    }
    if objects == 0 {
        let mut merged: Vec<Value> = Vec::new();
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(in_order(merged, &patch, &original, None));
    }
    let key = rule.key.ok_or_else(|| PatchError::Unmergeable(name.to_owned()))?;
    let original = directives(original, &mut patch, key)?;
    let mut merged = original.clone();
    for item in &patch {
        let id = identity(item, Some(key)).ok_or_else(|| no_merge_key(item, key))?;
        match merged
            .iter_mut()
            .find(|candidate| identity(candidate, Some(key)) == Some(id))
        {
            Some(candidate) => {
                let (Value::Object(old), Value::Object(new)) = (candidate.take(), item.clone()) else {
                    return Err(PatchError::MixedList(name.to_owned()));
                };
                *candidate = Value::Object(merge_objects(rule.element, old, new)?);
            }
            None => {
                let mut added = item.clone();
                discard_nulls(&mut added);
                remove_directives(&mut added);
                merged.push(added);
            }
        }
    }
    if let Some(item) = merged.iter().find(|item| identity(item, Some(key)).is_none()) {
        return Err(no_merge_key(item, key));
    }
    Ok(in_order(merged, &patch, &original, Some(key)))
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::NoMergeKey {
        element: item.clone(),
        key: key.to_owned(),
    }
}

/// Takes elements with `$patch` out of the patch list and does what they say to the original.
fn directives(mut original: Vec<Value>, patch: &mut Vec<Value>, key: &str) -> Result<Vec<Value>, PatchError> {
    let mut replace = false;
    let mut rest = Vec::new();
    for item in std::mem::take(patch) {
        match item.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
            None => rest.push(item),
            Some((_, Some("delete"))) => {
                let id = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                original.retain(|candidate| candidate.get(key) != Some(id));
            }
            Some((_, Some("replace"))) => replace = true,
            Some((directive, _)) => return Err(unknown_directive(directive, &item)),
        }
    }
    *patch = rest;
    Ok(if replace { Vec::new() } else { original })
}

/// What tells elements of a list apart: the merge key's value, or the scalar itself.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// Elements that `order` names in its order; the others keep the order of `before`, and each stands
/// before the first named element that `before` had after it.
fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| {
        let id = identity(item, key);
        list.iter().position(|candidate| identity(candidate, key) == id)
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(before, item).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(name)) => {
                matches!((place(before, other), place(before, name)), (Some(a), Some(b)) if a < b)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return result,
        };
        result.extend(if other_first { others.next() } else { named.next() });
    }
}

/// Drops what directives mark; false when the value itself is one.
fn remove_directives(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            if fields.contains_key(DIRECTIVE) {
                return false;
            }
            fields.retain(|_, field| remove_directives(field));
        }
        Value::Array(items) => items.retain_mut(remove_directives),
        _ => {}
    }
    true
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(original: Value, patch: Value, expected: Value) {
        let ty = crate::builtin().kind("", "v1", "Pod").unwrap();
        assert_eq!(apply(ty, &original, &patch).unwrap(), expected, "{original} + {patch}");
    }

    fn spec(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    #[test]
    fn maps_merge_and_null_deletes() {
        check(
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": "3", "d": null}}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
        );
    }

    #[test]
    fn lists_merge_by_key_patch_items_first() {
        check(
            spec(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
            spec(json!([{"name": "c", "image": "3"}, {"name": "b", "image": "2"}])),
            spec(json!([{"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
        );
    }

    #[test]
    fn element_order_decides() {
        check(
            spec(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}])),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "c", "image": "x"}],
            }}),
            spec(json!([{"name": "b"}, {"name": "c", "image": "x"}, {"name": "a"}])),
        );
    }

    #[test]
    fn directives_delete_and_replace() {
        check(
            spec(json!([{"name": "a"}, {"name": "b"}])),
            spec(json!([{"name": "a", "$patch": "delete"}])),
            spec(json!([{"name": "b"}])),
        );
        check(
            spec(json!([{"name": "a"}, {"name": "b"}])),
            spec(json!([{"name": "z"}, {"$patch": "replace"}])),
            spec(json!([{"name": "z"}])),
        );
        check(
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        );
    }

    #[test]
    fn retain_keys_clears_the_rest() {
        check(
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        );
    }

    #[test]
    fn scalar_lists_merge_as_sets_or_are_replaced() {
        check(
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
        );
        check(
            spec(json!([{"name": "a", "args": ["1", "2"]}])),
            spec(json!([{"name": "a", "args": ["3"]}])),
            spec(json!([{"name": "a", "args": ["3"]}])),
        );
    }

    #[test]
    fn misuse_is_an_error() {
        let ty = crate::builtin().kind("", "v1", "Pod").unwrap();
        let original = spec(json!([{"name": "a"}]));
        for patch in [
            spec(json!([{"image": "x"}])),
            spec(json!([{"name": "a", "$patch": "nonsense"}])),
            spec(json!(["text"])),
            json!([]),
        ] {
            assert!(apply(ty, &original, &patch).is_err(), "{patch}");
        }
    }
}
