//! Copyable handles that walk a [`Schema`].

use std::fmt;

use serde_json::Value;

use super::{EnumId, FieldDef, FieldFlags, ListKind, MapKind, Schema, StructDef, StructId, TypeDef, TypeId, Width};

/// Handle on one type of a schema.
#[derive(Clone, Copy)]
pub struct TypeRef<'s> {
    schema: &'s Schema,
    id: TypeId,
}

/// What a type looks like.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'s> {
    /// `true` or `false`.
    Bool,
    /// An integer.
    Integer(Width),
    /// A floating-point number.
    Number,
    /// A string.
    String,
    /// Bytes, base64 in JSON.
    Bytes,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`.
    Time,
    /// `metav1.MicroTime`.
    MicroTime,
    /// `metav1.Duration`.
    Duration,
    /// A struct with known fields.
    Struct(Struct<'s>),
    /// A list.
    List(List<'s>),
    /// A map with string keys.
    Map(Map<'s>),
    /// Any JSON value: raw extensions, field sets and free-form JSON.
    Any,
}

impl<'s> TypeRef<'s> {
    pub(crate) fn new(schema: &'s Schema, id: TypeId) -> Self {
        Self { schema, id }
    }

    /// The arena it belongs to.
    pub fn schema(self) -> &'s Schema {
        self.schema
    }

    /// Its index.
    pub fn id(self) -> TypeId {
        self.id
    }

    /// Its definition in the arena.
    pub fn def(self) -> &'s TypeDef {
        &self.schema.types[self.id.0 as usize]
    }

    /// What it looks like.
    pub fn kind(self) -> Shape<'s> {
        let schema = self.schema;
        match self.def() {
            TypeDef::Bool => Shape::Bool,
            TypeDef::Integer(width) => Shape::Integer(*width),
            TypeDef::Number => Shape::Number,
            TypeDef::String(_) => Shape::String,
            TypeDef::Bytes => Shape::Bytes,
            TypeDef::Quantity => Shape::Quantity,
            TypeDef::IntOrString => Shape::IntOrString,
            TypeDef::Time => Shape::Time,
            TypeDef::MicroTime => Shape::MicroTime,
            TypeDef::Duration => Shape::Duration,
            TypeDef::RawExtension | TypeDef::FieldsV1 | TypeDef::Any => Shape::Any,
            TypeDef::Struct(id, over) => Shape::Struct(Struct::new(schema, *id, *over)),
            TypeDef::List { elem, kind, .. } => Shape::List(List {
                schema,
                elem: *elem,
                kind,
            }),
            TypeDef::Map { value, kind } => Shape::Map(Map {
                schema,
                value: *value,
                kind: *kind,
            }),
        }
    }

    /// The struct, when it is one.
    pub fn as_struct(self) -> Option<Struct<'s>> {
        match self.def() {
            TypeDef::Struct(id, over) => Some(Struct::new(self.schema, *id, *over)),
            _ => None,
        }
    }

    /// A member of a struct by JSON name, inlined members included.
    pub fn field(self, name: &str) -> Option<Field<'s>> {
        self.as_struct()?.field(name)
    }

    /// The type of list items or map values.
    pub fn elem(self) -> Option<TypeRef<'s>> {
        match self.def() {
            TypeDef::List { elem, .. } => Some(Self::new(self.schema, *elem)),
            TypeDef::Map { value, .. } => Some(Self::new(self.schema, *value)),
            _ => None,
        }
    }

    /// Go's name of the type, such as `int32` or `[]v1.Container`; empty for custom resources.
    pub fn go_name(self) -> &'s str {
        self.schema.str(self.schema.go_names[self.id.0 as usize])
    }

    /// The closed set of values of a string type, sorted.
    pub fn enum_values(self) -> Option<impl Iterator<Item = &'s str>> {
        let schema = self.schema;
        self.enum_id()
            .map(|id| schema.enums[id.0 as usize].iter().map(|t| schema.str(*t)))
    }

    pub(crate) fn enum_id(self) -> Option<EnumId> {
        match self.def() {
            TypeDef::String(id) => *id,
            _ => None,
        }
    }
}

impl fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeRef({} {})", self.id.0, self.go_name())
    }
}

impl PartialEq for TypeRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schema, other.schema) && self.id == other.id
    }
}

/// Handle on a struct.
#[derive(Clone, Copy)]
pub struct Struct<'s> {
    schema: &'s Schema,
    id: StructId,
    over: MapKind,
}

impl<'s> Struct<'s> {
    fn new(schema: &'s Schema, id: StructId, over: MapKind) -> Self {
        Self { schema, id, over }
    }

    pub(crate) fn def(self) -> &'s StructDef {
        &self.schema.structs[self.id.0 as usize]
    }

    /// Its index.
    pub fn id(self) -> StructId {
        self.id
    }

    /// Its OpenAPI name, such as `io.k8s.api.core.v1.PodSpec`; empty for custom resources.
    pub fn name(self) -> &'s str {
        self.schema.str(self.def().name)
    }

    /// The last part of its name, which is Go's type name.
    pub fn short_name(self) -> &'s str {
        let name = self.name();
        name.rsplit_once('.').map_or(name, |(_, short)| short)
    }

    /// How it merges: the field's marker wins over the type's.
    pub fn map_kind(self) -> MapKind {
        if self.over == MapKind::Unset {
            self.def().kind
        } else {
            self.over
        }
    }

    /// The marker on the type itself.
    pub fn own_map_kind(self) -> MapKind {
        self.def().kind
    }

    /// Unknown members are kept (`x-kubernetes-preserve-unknown-fields`).
    pub fn preserves_unknown(self) -> bool {
        self.def().preserves_unknown
    }

    /// A default is declared on a member here or below.
    pub fn has_defaults(self) -> bool {
        self.def().has_defaults
    }

    /// Members as JSON shows them (inlined structs flattened), sorted by name.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field<'s>> + DoubleEndedIterator {
        let range = self.def().flat.start as usize..self.def().flat.end as usize;
        let schema = self.schema;
        schema.flat[range].iter().map(move |&index| Field { schema, index })
    }

    /// Members as the protobuf message has them, by ascending number; embedded structs are members.
    pub fn wire_fields(self) -> impl ExactSizeIterator<Item = Field<'s>> + DoubleEndedIterator {
        let schema = self.schema;
        self.def().own.clone().map(move |index| Field { schema, index })
    }

    /// A member by JSON name.
    pub fn field(self, name: &str) -> Option<Field<'s>> {
        let schema = self.schema;
        let range = self.def().flat.start as usize..self.def().flat.end as usize;
        let flat = &schema.flat[range];
        flat.binary_search_by(|&i| schema.str(schema.fields[i as usize].name).cmp(name))
            .ok()
            .map(|at| Field {
                schema,
                index: flat[at],
            })
    }

    /// A member of the protobuf message by number.
    pub fn wire_field(self, number: u32) -> Option<Field<'s>> {
        let own = self.def().own.clone();
        let fields = &self.schema.fields[own.start as usize..own.end as usize];
        fields.binary_search_by_key(&number, |f| f.number).ok().map(|at| Field {
            schema: self.schema,
            index: own.start + at as u32,
        })
    }
}

impl fmt::Debug for Struct<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Struct({})", self.name())
    }
}

/// Finds members of a struct by names that come in order.
pub(crate) struct Cursor<'s> {
    schema: &'s Schema,
    rest: std::slice::Iter<'s, u32>,
}

impl<'s> Cursor<'s> {
    /// At the first member; what is no struct has none.
    pub(crate) fn new(ty: TypeRef<'s>) -> Self {
        let flat = ty.as_struct().map_or(0..0, |structure| structure.def().flat.clone());
        Self {
            schema: ty.schema,
            rest: ty.schema.flat[flat.start as usize..flat.end as usize].iter(),
        }
    }

    /// The member of that name, which must be greater than the last one that was asked for.
    pub(crate) fn find(&mut self, name: &str) -> Option<Field<'s>> {
        while let Some(&index) = self.rest.as_slice().first() {
            let schema = self.schema;
            let order = schema.str(schema.fields[index as usize].name).cmp(name);
            if order.is_gt() {
                return None;
            }
            self.rest.next();
            if order.is_eq() {
                return Some(Field { schema, index });
            }
        }
        None
    }
}

/// Handle on a member of a struct.
#[derive(Clone, Copy)]
pub struct Field<'s> {
    schema: &'s Schema,
    index: u32,
}

impl<'s> Field<'s> {
    fn def(self) -> &'s FieldDef {
        &self.schema.fields[self.index as usize]
    }

    /// Position among all fields of the schema; documentation is aligned with it.
    pub fn index(self) -> u32 {
        self.index
    }

    /// JSON name; empty for an embedded struct.
    pub fn name(self) -> &'s str {
        self.schema.str(self.def().name)
    }

    /// Protobuf number; 0 when it is not on the wire.
    pub fn number(self) -> u32 {
        self.def().number
    }

    /// Its type.
    pub fn ty(self) -> TypeRef<'s> {
        TypeRef::new(self.schema, self.def().ty)
    }

    /// Its facts.
    pub fn flags(self) -> FieldFlags {
        self.def().flags
    }

    /// Clients must set it.
    pub fn required(self) -> bool {
        self.flags().contains(FieldFlags::REQUIRED)
    }

    /// JSON leaves it out when empty.
    pub fn omitempty(self) -> bool {
        self.flags().contains(FieldFlags::OMITEMPTY)
    }

    /// JSON leaves it out when zero.
    pub fn omitzero(self) -> bool {
        self.flags().contains(FieldFlags::OMITZERO)
    }

    /// A Go pointer.
    pub fn pointer(self) -> bool {
        self.flags().contains(FieldFlags::POINTER)
    }

    /// An embedded struct.
    pub fn inline(self) -> bool {
        self.flags().contains(FieldFlags::INLINE)
    }

    /// `null` is a value of its own.
    pub fn nullable(self) -> bool {
        self.flags().contains(FieldFlags::NULLABLE)
    }

    /// `null` in JSON takes back what an earlier member of the same name set: Go leaves plain values alone.
    pub(crate) fn null_unsets(self) -> bool {
        let plain = matches!(
            self.ty().def(),
            TypeDef::Bool | TypeDef::Integer(_) | TypeDef::Number | TypeDef::String(_) | TypeDef::Struct(..)
        );
        self.pointer() || !plain
    }

    /// The declared default.
    pub fn default(self) -> Option<&'s Value> {
        let at = self.def().default as usize;
        if at == 0 {
            None
        } else {
            self.schema.defaults.get(at - 1)
        }
    }

    /// Strategic merge: the list or struct is merged rather than replaced.
    pub fn patch_merge(self) -> bool {
        self.flags().contains(FieldFlags::PATCH_MERGE)
    }

    /// Strategic merge: keys that the patch does not retain are cleared.
    pub fn patch_retain_keys(self) -> bool {
        self.flags().contains(FieldFlags::PATCH_RETAIN_KEYS)
    }

    /// The `patchStrategy` tag as upstream writes it, such as `merge,retainKeys`.
    pub fn patch_strategy(self) -> Option<&'static str> {
        let flags = self.flags();
        match (
            self.patch_merge(),
            self.patch_retain_keys(),
            flags.contains(FieldFlags::PATCH_REPLACE),
        ) {
            (true, true, _) => Some("merge,retainKeys"),
            (true, false, _) => Some("merge"),
            (false, true, _) => Some("retainKeys"),
            (false, false, true) => Some("replace"),
            (false, false, false) => None,
        }
    }

    /// Strategic merge: the member that identifies an item.
    pub fn merge_key(self) -> Option<&'s str> {
        Some(self.schema.str(self.def().merge_key)).filter(|key| !key.is_empty())
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({}: {})", self.name(), self.ty().go_name())
    }
}

/// Handle on a list type.
#[derive(Clone, Copy)]
pub struct List<'s> {
    schema: &'s Schema,
    elem: TypeId,
    /// How it merges.
    pub kind: &'s ListKind,
}

impl<'s> List<'s> {
    /// Type of the items.
    pub fn elem(self) -> TypeRef<'s> {
        TypeRef::new(self.schema, self.elem)
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({:?}, {:?})", self.elem(), self.kind)
    }
}

/// Handle on a map type.
#[derive(Clone, Copy)]
pub struct Map<'s> {
    schema: &'s Schema,
    value: TypeId,
    /// How it merges.
    pub kind: MapKind,
}

impl<'s> Map<'s> {
    /// Type of the values.
    pub fn value(self) -> TypeRef<'s> {
        TypeRef::new(self.schema, self.value)
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({:?}, {:?})", self.value(), self.kind)
    }
}
