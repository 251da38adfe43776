//! A set of field paths, as a tree.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::model::{ListKind, MapKind};
use crate::{Shape, TypeRef};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field or map key.
    Field(String),
    /// An element of a list of objects, by its keys as canonical JSON (`{"name":"x"}`).
    Key(String),
    /// An element of a set, by its value as JSON.
    Value(String),
    /// An element by its place; only read from others' managed fields.
    Index(String),
}

/// A set of paths. The empty path itself is never a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path that leads here is a member.
    pub(super) member: bool,
    pub(super) children: BTreeMap<PathElement, FieldSet>,
}

impl FieldSet {
    /// Every field that `object` sets (upstream `TypedValue.ToFieldSet`).
    #[must_use]
    pub fn of(ty: TypeRef<'_>, object: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        collect(Some(ty), object, &mut set);
        set.member = false;
        set
    }

    /// Whether there is no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// All paths of both.
    #[must_use]
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut result = self.clone();
        result.extend(other);
        result
    }

    fn extend(&mut self, other: &FieldSet) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().extend(child);
        }
    }

    /// The paths of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(Some(other), |mine, theirs| mine && !theirs)
    }

    /// The paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(Some(other), |mine, theirs| mine && theirs)
    }

    fn combine(&self, other: Option<&FieldSet>, keep: fn(bool, bool) -> bool) -> FieldSet {
        let children = self.children.iter().filter_map(|(element, child)| {
            let theirs = other.and_then(|other| other.children.get(element));
            let kept = child.combine(theirs, keep);
            (!kept.is_empty()).then(|| (element.clone(), kept))
        });
        FieldSet {
            member: keep(self.member, other.is_some_and(|other| other.member)),
            children: children.collect(),
        }
    }

    /// Forgets a field and all below it.
    pub(super) fn remove_branch(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let element = PathElement::Field((*first).to_owned());
        if rest.is_empty() {
            self.children.remove(&element);
        } else if let Some(child) = self.children.get_mut(&element) {
            child.remove_branch(rest);
            if child.is_empty() {
                self.children.remove(&element);
            }
        }
    }

    pub(super) fn child(&mut self, element: PathElement) -> &mut FieldSet {
        self.children.entry(element).or_default()
    }

    /// Every path as text: `.spec.containers[name="x"].image`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths("", &mut paths);
        paths
    }

    fn write_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.write_paths(&format!("{prefix}{element}"), paths);
        }
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Value(value) => write!(f, "[={value}]"),
            PathElement::Index(index) => write!(f, "[{index}]"),
            PathElement::Key(key) => {
                let fields: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
        }
    }
}

/// How a list's elements are told apart; `None` for a list that is owned as a whole.
pub(super) fn element_of(kind: &ListKind, ty: TypeRef<'_>, item: &Value) -> Option<PathElement> {
    match kind {
        ListKind::Set => Some(PathElement::Value(item.to_string())),
        ListKind::Map(keys) => {
            if let [name] = &**keys
                && let Some(Value::String(text)) = item.get(name)
            {
                let text = serde_json::to_string(text).unwrap_or_default();
                return Some(PathElement::Key(["{\"", name, "\":", &text, "}"].concat()));
            }
            let mut key = BTreeMap::new();
            for name in keys {
                // A key with a default may be left out (a port's protocol).
                let default = || ty.field(name).and_then(|field| field.default()).cloned();
                if let Some(value) = item.get(name).cloned().or_else(default) {
                    key.insert(name.as_str(), value);
                }
            }
            Some(PathElement::Key(serde_json::to_string(&key).unwrap_or_default()))
        }
        ListKind::Atomic | ListKind::Unset => None,
    }
}

/// How the value of a type is divided among owners.
pub(super) enum Division<'s> {
    /// Owned as a whole.
    Whole,
    /// By fields; the types of those that are known.
    Fields(TypeRef<'s>),
    /// By keys, all of one type.
    Keys(TypeRef<'s>),
    /// By elements.
    Elements(&'s ListKind, TypeRef<'s>),
    /// By whatever keys there are: an untyped object.
    Untyped,
}

pub(super) fn division<'s>(ty: Option<TypeRef<'s>>, value: &Value) -> Division<'s> {
    let Some(ty) = ty else {
        return if value.is_object() {
            Division::Untyped
        } else {
            Division::Whole
        };
    };
    match ty.kind() {
        Shape::Struct(object) if object.map_kind() != MapKind::Atomic && value.is_object() => Division::Fields(ty),
        Shape::Map(map) if map.kind != MapKind::Atomic && value.is_object() => Division::Keys(map.value()),
        Shape::List(list) if matches!(list.kind, ListKind::Set | ListKind::Map(_)) && value.is_array() => {
            Division::Elements(list.kind, list.elem())
        }
        _ => Division::Whole,
    }
}

/// Adds the paths of what in `value` is divided no further although it has parts.
pub(super) fn atomics(ty: Option<TypeRef<'_>>, value: &Value, path: &str, found: &mut Vec<String>) {
    let fields = || value.as_object().into_iter().flatten();
    match division(ty, value) {
        Division::Whole if value.is_object() || value.is_array() => found.push(path.to_owned()),
        Division::Whole => {}
        Division::Fields(ty) => {
            for (name, value) in fields() {
                let ty = ty.field(name).map(|field| field.ty());
                atomics(ty, value, &format!("{path}.{name}"), found);
            }
        }
        Division::Keys(ty) => {
            for (name, value) in fields() {
                atomics(Some(ty), value, &format!("{path}.{name}"), found);
            }
        }
        Division::Untyped => {
            for (name, value) in fields() {
                atomics(None, value, &format!("{path}.{name}"), found);
            }
        }
        Division::Elements(_, ty) => {
            for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                atomics(Some(ty), value, &format!("{path}[{index}]"), found);
            }
        }
    }
}

/// Adds the paths of `value` below `set`, which stands for the value itself.
pub(super) fn collect(ty: Option<TypeRef<'_>>, value: &Value, set: &mut FieldSet) {
    let fields = || value.as_object().into_iter().flatten();
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    match division(ty, value) {
        Division::Whole => set.member = true,
        Division::Fields(ty) => {
            for (name, value) in fields() {
                let field = ty.field(name);
                let child = set.child(PathElement::Field(name.clone()));
                collect(field.map(|field| field.ty()), value, child);
                child.member |= empty(value) || field.is_none();
                if child.is_empty() {
                    set.children.remove(&PathElement::Field(name.clone()));
                }
            }
        }
        Division::Keys(ty) => {
            for (name, value) in fields() {
                let child = set.child(PathElement::Field(name.clone()));
                collect(Some(ty), value, child);
                child.member = true;
            }
        }
        Division::Untyped => {
            for (name, value) in fields() {
                let child = set.child(PathElement::Field(name.clone()));
                collect(None, value, child);
                child.member = true;
            }
        }
        Division::Elements(kind, ty) => {
            for item in value.as_array().into_iter().flatten() {
                if let Some(element) = element_of(kind, ty, item) {
                    let child = set.child(element);
                    if item.is_object() {
                        collect(Some(ty), item, child);
                    }
                    child.member = true;
                }
            }
        }
    }
}
