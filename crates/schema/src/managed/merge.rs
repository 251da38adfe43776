//! Merging what a manager wants into the live object, and taking out what nobody wants any more.

use serde_json::{Map, Value};

use super::field_set::{Division, FieldSet, PathElement, division, element_of};
use crate::TypeRef;

/// `config` laid over `live` (upstream `TypedValue.Merge`).
pub(super) fn merge(ty: TypeRef<'_>, live: &Value, config: &Value) -> Value {
    lay_over(Some(ty), live, config)
}

fn lay_over<'s>(ty: Option<TypeRef<'s>>, live: &Value, config: &Value) -> Value {
    let fields = |below: &dyn Fn(&str) -> Option<TypeRef<'s>>| {
        let mut merged: Map<String, Value> = live.as_object().cloned().unwrap_or_default();
        for (name, wanted) in config.as_object().into_iter().flatten() {
            let ty = below(name);
            let value = match merged.get(name) {
                Some(live) => lay_over(ty, live, wanted),
                None => wanted.clone(),
            };
            merged.insert(name.clone(), value);
        }
        Value::Object(merged)
    };
    match (division(ty, config), live) {
        (Division::Fields(ty), Value::Object(_)) => fields(&|name| ty.field(name).map(|field| field.ty())),
        (Division::Keys(ty), Value::Object(_)) => fields(&|_| Some(ty)),
        (Division::Untyped, Value::Object(_)) => fields(&|_| None),
        (Division::Elements(kind, ty), Value::Array(live)) => {
            let named = |items: &[Value]| -> Vec<(Option<PathElement>, Value)> {
                items
                    .iter()
                    .map(|item| (element_of(kind, ty, item), item.clone()))
                    .collect()
            };
            Value::Array(merge_lists(
                ty,
                &named(live),
                &named(config.as_array().map_or(&[], Vec::as_slice)),
            ))
        }
        _ => config.clone(),
    }
}

type Named = (Option<PathElement>, Value);

/// The wanted elements in their order; those that only the live list has stay where they were,
/// before the first wanted element that followed them.
fn merge_lists(ty: TypeRef<'_>, live: &[Named], wanted: &[Named]) -> Vec<Value> {
    let is_wanted = |element: &Option<PathElement>| wanted.iter().any(|(other, _)| other == element);
    let mut merged = Vec::with_capacity(live.len() + wanted.len());
    let mut rest = live.iter().peekable();
    for (element, value) in wanted {
        while let Some((other, kept)) = rest.next_if(|(other, _)| !is_wanted(other)) {
            let _ = other;
            merged.push(kept.clone());
        }
        match live.iter().find(|(other, _)| other == element) {
            Some((_, old)) => {
                merged.push(lay_over(Some(ty), old, value));
                rest.next_if(|(other, _)| other == element);
            }
            None => merged.push(value.clone()),
        }
    }
    merged.extend(
        rest.filter(|(other, _)| !is_wanted(other))
            .map(|(_, kept)| kept.clone()),
    );
    merged
}

/// Takes the paths of `gone` out of `value`. An element of a list goes as a whole, unless somebody of
/// `kept` owns something in it.
pub(super) fn remove(ty: TypeRef<'_>, value: &mut Value, gone: &FieldSet, kept: &FieldSet) {
    take_out(Some(ty), value, gone, Some(kept));
}

fn take_out(ty: Option<TypeRef<'_>>, value: &mut Value, gone: &FieldSet, kept: Option<&FieldSet>) {
    let kept_below = |element: &PathElement| kept.and_then(|kept| kept.children.get(element));
    // The whole value goes if it is listed and nobody has anything below it.
    let goes = |element: &PathElement, below: &FieldSet| below.member && kept_below(element).is_none();
    match division(ty, value) {
        Division::Elements(kind, ty) => {
            let Value::Array(items) = value else { return };
            items.retain_mut(|item| {
                let Some(element) = element_of(kind, ty, item) else {
                    return true;
                };
                let Some(below) = gone.children.get(&element) else {
                    return true;
                };
                if goes(&element, below) {
                    return false;
                }
                take_out(Some(ty), item, below, kept_below(&element));
                true
            });
        }
        division => {
            let Value::Object(fields) = value else { return };
            for (element, below) in &gone.children {
                let PathElement::Field(name) = element else { continue };
                if goes(element, below) {
                    fields.remove(name);
                    continue;
                }
                let Some(field) = fields.get_mut(name) else { continue };
                let ty = match division {
                    Division::Fields(ty) => ty.field(name).map(|field| field.ty()),
                    Division::Keys(ty) => Some(ty),
                    _ => None,
                };
                take_out(ty, field, below, kept_below(element));
                let emptied =
                    field.as_object().is_some_and(Map::is_empty) || field.as_array().is_some_and(Vec::is_empty);
                if emptied && kept_below(element).is_none() {
                    fields.remove(name);
                }
            }
        }
    }
}

/// Removes a field and all below it.
pub(super) fn remove_branch(value: &mut Value, path: &[&str]) {
    match path {
        [] => {}
        [last] => {
            if let Some(fields) = value.as_object_mut() {
                fields.remove(*last);
            }
        }
        [first, rest @ ..] => {
            if let Some(field) = value.get_mut(*first) {
                remove_branch(field, rest);
            }
        }
    }
}
