//! What a write changes, as `fieldsV1` writes it, in one walk over both objects: the same paths as [`super::compare`]
//! finds, without a set of all that either object has.

use serde_json::{Map, Value};

use super::entries::unite;
use super::field_set::{Division, PathElement, division, element_of};
use super::fields_v1;
use crate::TypeRef;
use crate::model::{Cursor, ListKind};

/// The fields that `new` sets and `old` does not, or has other values for.
pub(super) fn changed(ty: TypeRef<'_>, old: &Value, new: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    if old != new {
        Walk { modified: true }.children(Some(ty), Some(old), new, &mut fields);
    }
    fields
}

/// The fields that `old` sets and `new` does not.
pub(super) fn removed(ty: TypeRef<'_>, old: &Value, new: &Value) -> Map<String, Value> {
    let mut fields = Map::new();
    if old != new {
        Walk { modified: false }.children(Some(ty), Some(new), old, &mut fields);
    }
    fields
}

/// From `there` to `here`.
#[derive(Clone, Copy)]
struct Walk {
    /// Whether what both have with different values counts.
    modified: bool,
}

/// A value and what stands in its place in the other object.
type Pair<'v> = (Option<&'v Value>, &'v Value);

impl Walk {
    /// Adds what is sought below `here`. Returns whether the value is divided no further, and whether both are divided
    /// in the same way.
    fn children(
        self,
        ty: Option<TypeRef<'_>>,
        there: Option<&Value>,
        here: &Value,
        out: &mut Map<String, Value>,
    ) -> (bool, bool) {
        let divided = division(ty, here);
        let same = match (&divided, there) {
            (Division::Whole, _) => return (true, false),
            (_, None) => false,
            // What has no parts yet gets some.
            (_, Some(Value::Null)) => true,
            (divided, Some(there)) => std::mem::discriminant(divided) == std::mem::discriminant(&division(ty, there)),
        };
        let members = || here.as_object().into_iter().flatten();
        let pair = |name: &str, value| (there.and_then(|there| there.get(name)), value);
        match divided {
            Division::Whole => {}
            Division::Fields(ty) => {
                let mut fields = Cursor::new(ty);
                for (name, value) in members() {
                    let field = fields.find(name);
                    let sets = |value: &Value| field.is_none() || is_empty(value);
                    let pair = pair(name, value);
                    let sets = (pair.0.is_some_and(sets), sets(value));
                    self.member(("f:", name), field.map(|field| field.ty()), pair, sets, out);
                }
            }
            Division::Keys(ty) => {
                for (name, value) in members() {
                    self.member(("f:", name), Some(ty), pair(name, value), (true, true), out);
                }
            }
            Division::Untyped => {
                for (name, value) in members() {
                    self.member(("f:", name), None, pair(name, value), (true, true), out);
                }
            }
            Division::Elements(kind, ty) => {
                let others = there.map_or_else(Vec::new, |there| named(kind, ty, there));
                for (at, (element, item)) in named(kind, ty, here).into_iter().enumerate() {
                    // Mostly they have kept their places.
                    let same_place = others.get(at).filter(|(other, _)| *other == element);
                    let other = same_place.or_else(|| others.iter().find(|(other, _)| *other == element));
                    let pair = (other.map(|(_, item)| *item), item);
                    self.member(fields_v1::parts(&element), Some(ty), pair, (true, true), out);
                }
            }
        }
        (false, same)
    }

    /// Adds a part of the value, if it or something below it is sought. `sets` says whether being this part makes it
    /// a path of `there` and of `here`, however it is divided.
    fn member(
        self,
        (prefix, name): (&str, &str),
        ty: Option<TypeRef<'_>>,
        (there, here): Pair<'_>,
        sets: (bool, bool),
        out: &mut Map<String, Value>,
    ) {
        if there == Some(here) {
            return;
        }
        let mut below = Map::new();
        let (whole, same) = self.children(ty, there, here, &mut below);
        let is_member = match there {
            // Also what is divided comes itself, beside its parts.
            None => true,
            Some(there) => {
                let was_set = sets.0 || matches!(division(ty, there), Division::Whole);
                !was_set && (sets.1 || whole) || self.modified && !same
            }
        };
        if !is_member && below.is_empty() {
            return;
        }
        if is_member && !below.is_empty() {
            below.insert(".".to_owned(), Value::Object(Map::new()));
        }
        let name = [prefix, name].concat();
        match out.get_mut(&name).and_then(Value::as_object_mut) {
            // An element that is there twice.
            Some(earlier) => unite(earlier, &below),
            None => drop(out.insert(name, Value::Object(below))),
        }
    }
}

fn named<'v>(kind: &ListKind, ty: TypeRef<'_>, list: &'v Value) -> Vec<(PathElement, &'v Value)> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| Some((element_of(kind, ty, item)?, item)))
        .collect()
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}
