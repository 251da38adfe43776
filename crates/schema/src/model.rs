//! The arena of types: what is known of every field of every type.
//!
//! Invariants: ids index the arena that made them; a struct's own fields are in wire-number order;
//! its flattened fields are sorted by JSON name and hold no inlined member twice.

mod build;
pub(crate) mod format;
mod handle;

use serde_json::Value;

pub use build::{Builder, FieldSpec, StructSpec};
pub use format::FormatError;
pub(crate) use handle::Cursor;
pub use handle::{Field, List, Map, Shape, Struct, TypeRef};

/// A piece of the arena's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// Index of a type in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// Index of a struct in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(pub(crate) u32);

impl StructId {
    /// Position among the structs of the schema; documentation is aligned with it.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of an enumeration in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnumId(pub(crate) u32);

/// Width of an integer; out of range is a type error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits, signed.
    I32,
    /// 64 bits, signed.
    I64,
}

/// How a list merges (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Not declared: treated as atomic.
    #[default]
    Unset,
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// Items are identified by these keys.
    Map(Box<[String]>),
}

/// How a map or a struct merges (`x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// Not declared: treated as granular.
    #[default]
    Unset,
    /// Merged key by key.
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// One type of the arena.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeDef {
    /// `true` or `false`.
    Bool,
    /// An integer.
    Integer(Width),
    /// A floating-point number.
    Number,
    /// A string, perhaps of a closed set of values.
    String(Option<EnumId>),
    /// Bytes, base64 in JSON.
    Bytes,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`: RFC 3339, whole seconds.
    Time,
    /// `metav1.MicroTime`: RFC 3339, microseconds.
    MicroTime,
    /// `metav1.Duration`: Go's duration syntax.
    Duration,
    /// `runtime.RawExtension`: any object, carried as JSON bytes in protobuf.
    RawExtension,
    /// `metav1.FieldsV1`: a set of field paths as JSON.
    FieldsV1,
    /// Any JSON value.
    Any,
    /// A struct.
    Struct(StructId, MapKind),
    /// A list; `wrapped` lists are a message of their own in protobuf.
    List {
        /// Type of the items.
        elem: TypeId,
        /// How it merges.
        kind: ListKind,
        /// A named Go slice that protobuf wraps in a message with one repeated field.
        wrapped: bool,
    },
    /// A map with string keys.
    Map {
        /// Type of the values.
        value: TypeId,
        /// How it merges.
        kind: MapKind,
    },
}

/// Facts about a field that are yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldFlags(pub(crate) u16);

impl FieldFlags {
    /// A Go pointer: absence and zero differ.
    pub const POINTER: Self = Self(1);
    /// JSON leaves it out when empty.
    pub const OMITEMPTY: Self = Self(2);
    /// JSON leaves it out when it is the zero value, structs included.
    pub const OMITZERO: Self = Self(4);
    /// Clients must set it (OpenAPI `required`).
    pub const REQUIRED: Self = Self(8);
    /// An embedded struct: its members appear in the parent's JSON object.
    pub const INLINE: Self = Self(16);
    /// `null` is a value of its own (custom resources only).
    pub const NULLABLE: Self = Self(32);
    /// Patch strategy `merge`.
    pub const PATCH_MERGE: Self = Self(64);
    /// Patch strategy `retainKeys`.
    pub const PATCH_RETAIN_KEYS: Self = Self(128);
    /// Patch strategy `replace`.
    pub const PATCH_REPLACE: Self = Self(256);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A field as the arena stores it.
#[derive(Clone, Debug)]
pub(crate) struct FieldDef {
    pub(crate) name: Text,
    /// Protobuf number, 0 when the field is not on the wire.
    pub(crate) number: u32,
    pub(crate) ty: TypeId,
    pub(crate) flags: FieldFlags,
    /// Index + 1 into the defaults.
    pub(crate) default: u32,
    pub(crate) merge_key: Text,
}

/// A struct as the arena stores it.
#[derive(Clone, Debug)]
pub(crate) struct StructDef {
    pub(crate) name: Text,
    pub(crate) own: std::ops::Range<u32>,
    pub(crate) flat: std::ops::Range<u32>,
    /// Merge behaviour declared on the type itself.
    pub(crate) kind: MapKind,
    pub(crate) preserves_unknown: bool,
    /// A default is declared here or somewhere below.
    pub(crate) has_defaults: bool,
}

/// A registered kind.
#[derive(Clone, Debug)]
pub(crate) struct RootDef {
    pub(crate) group: Text,
    pub(crate) version: Text,
    pub(crate) kind: Text,
    pub(crate) ty: TypeId,
}

/// An arena of types; immutable once built.
#[derive(Debug, Default)]
pub struct Schema {
    pub(crate) text: Box<str>,
    pub(crate) types: Vec<TypeDef>,
    /// Go's name of each type, for error messages.
    pub(crate) go_names: Vec<Text>,
    pub(crate) structs: Vec<StructDef>,
    pub(crate) fields: Vec<FieldDef>,
    pub(crate) flat: Vec<u32>,
    pub(crate) defaults: Vec<Value>,
    pub(crate) enums: Vec<Vec<Text>>,
    /// Sorted by (group, version, kind).
    pub(crate) roots: Vec<RootDef>,
    /// Struct types with no merge override, sorted by name.
    pub(crate) by_name: Vec<(Text, TypeId)>,
}

impl Schema {
    /// The type registered for a kind.
    pub fn root(&self, gvk: &api::Gvk) -> Option<TypeId> {
        self.root_of(&gvk.group, &gvk.version, &gvk.kind)
    }

    /// The type registered for a kind, by its parts.
    pub fn root_of(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        let wanted = (group, version, kind);
        self.roots
            .binary_search_by(|r| self.root_key(r).cmp(&wanted))
            .ok()
            .map(|i| self.roots[i].ty)
    }

    /// Handle on a type of this arena.
    pub fn get(&self, id: TypeId) -> TypeRef<'_> {
        TypeRef::new(self, id)
    }

    /// Handle on the type registered for a kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeRef<'_>> {
        self.root_of(group, version, kind).map(|id| self.get(id))
    }

    /// A struct type by its OpenAPI name, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn by_name(&self, name: &str) -> Option<TypeId> {
        self.by_name
            .binary_search_by(|(n, _)| self.str(*n).cmp(name))
            .ok()
            .map(|i| self.by_name[i].1)
    }

    /// All registered kinds, sorted: group, version, kind, type.
    pub fn roots(&self) -> impl Iterator<Item = (&str, &str, &str, TypeId)> {
        self.roots.iter().map(|r| {
            let (group, version, kind) = self.root_key(r);
            (group, version, kind, r.ty)
        })
    }

    /// All structs, sorted by name.
    pub fn structs(&self) -> impl Iterator<Item = (&str, TypeId)> {
        self.by_name.iter().map(|(name, id)| (self.str(*name), *id))
    }

    pub(crate) fn str(&self, text: Text) -> &str {
        &self.text[text.at as usize..(text.at + text.len) as usize]
    }

    fn root_key<'a>(&'a self, r: &RootDef) -> (&'a str, &'a str, &'a str) {
        (self.str(r.group), self.str(r.version), self.str(r.kind))
    }
}
