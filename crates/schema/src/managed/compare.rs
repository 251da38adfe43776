//! What differs between two objects, as field sets (upstream `TypedValue.Compare`).

use serde_json::Value;

use super::field_set::{Division, FieldSet, PathElement, collect, division, element_of};
use crate::TypeRef;

/// The difference from one object to another.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

/// Compares two objects of one type.
pub(super) fn compare(ty: TypeRef<'_>, old: &Value, new: &Value) -> Difference {
    let (mut before, mut after) = (FieldSet::default(), FieldSet::default());
    collect(Some(ty), old, &mut before);
    collect(Some(ty), new, &mut after);
    let mut modified = FieldSet::default();
    walk(Some(ty), old, new, &mut modified);
    let mut difference = Difference {
        added: after.difference(&before),
        removed: before.difference(&after),
        modified,
    };
    parts(Some(ty), new, Some(old), &mut difference.added);
    parts(Some(ty), old, Some(new), &mut difference.removed);
    for set in [&mut difference.added, &mut difference.removed, &mut difference.modified] {
        set.member = false;
    }
    difference
}

/// Adds what is divided in `here` and absent in `there`: it comes or goes itself, beside its parts.
fn parts(ty: Option<TypeRef<'_>>, here: &Value, there: Option<&Value>, set: &mut FieldSet) {
    let mut descend = |element: PathElement, ty: Option<TypeRef<'_>>, here: &Value, there: Option<&Value>| {
        let child = set.child(element.clone());
        parts(ty, here, there, child);
        if child.is_empty() {
            set.children.remove(&element);
        }
    };
    let fields = || here.as_object().into_iter().flatten();
    match division(ty, here) {
        Division::Whole => return,
        Division::Fields(ty) => {
            for (name, here) in fields() {
                let ty = ty.field(name).map(|field| field.ty());
                let there = there.and_then(|there| there.get(name));
                descend(PathElement::Field(name.clone()), ty, here, there);
            }
        }
        Division::Keys(ty) => {
            for (name, here) in fields() {
                let there = there.and_then(|there| there.get(name));
                descend(PathElement::Field(name.clone()), Some(ty), here, there);
            }
        }
        Division::Untyped => {
            for (name, here) in fields() {
                let there = there.and_then(|there| there.get(name));
                descend(PathElement::Field(name.clone()), None, here, there);
            }
        }
        Division::Elements(kind, ty) => {
            let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
            let named = |list: &Value| -> Vec<(PathElement, Value)> {
                let each = items(list).into_iter();
                each.filter_map(|item| Some((element_of(kind, ty, &item)?, item)))
                    .collect()
            };
            let others = there.map(named).unwrap_or_default();
            for (element, here) in named(here) {
                let there = others.iter().find(|(candidate, _)| *candidate == element);
                descend(element, Some(ty), &here, there.map(|(_, item)| item));
            }
        }
    }
    set.member |= there.is_none();
}

/// Adds the leaves that both have with different values.
fn walk(ty: Option<TypeRef<'_>>, old: &Value, new: &Value, modified: &mut FieldSet) {
    if old == new {
        return;
    }
    let fields = || {
        let new = new.as_object().into_iter().flatten();
        new.filter_map(|(name, value)| Some((name, old.get(name)?, value)))
    };
    let mut descend = |element: PathElement, ty: Option<TypeRef<'_>>, old: &Value, new: &Value| {
        let mut child = FieldSet::default();
        walk(ty, old, new, &mut child);
        if !child.is_empty() {
            modified.children.insert(element, child);
        }
    };
    match (division(ty, old), division(ty, new)) {
        (Division::Fields(ty), Division::Fields(_)) => {
            for (name, old, new) in fields() {
                descend(
                    PathElement::Field(name.clone()),
                    ty.field(name).map(|field| field.ty()),
                    old,
                    new,
                );
            }
        }
        (Division::Keys(ty), Division::Keys(_)) => {
            for (name, old, new) in fields() {
                descend(PathElement::Field(name.clone()), Some(ty), old, new);
            }
        }
        (Division::Untyped, Division::Untyped) => {
            for (name, old, new) in fields() {
                descend(PathElement::Field(name.clone()), None, old, new);
            }
        }
        (Division::Elements(kind, ty), Division::Elements(..)) => {
            let named = |list: &Value| -> Vec<(PathElement, Value)> {
                let items = list.as_array().into_iter().flatten();
                items
                    .filter_map(|item| Some((element_of(kind, ty, item)?, item.clone())))
                    .collect()
            };
            let before = named(old);
            for (element, new) in named(new) {
                if let Some((_, old)) = before.iter().find(|(candidate, _)| *candidate == element) {
                    descend(element, Some(ty), old, &new);
                }
            }
        }
        // What has no parts yet gets some.
        (_, Division::Whole) => modified.member = true,
        _ if old.is_null() => {}
        _ => modified.member = true,
    }
}
