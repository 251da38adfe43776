//! Building a [`Schema`]: from upstream's sources at development time, from CRDs at run time.

use std::collections::HashMap;

use serde_json::Value;

use super::{EnumId, FieldDef, FieldFlags, MapKind, RootDef, Schema, StructDef, StructId, Text, TypeDef, TypeId};

/// A field as a builder is given it.
#[derive(Clone, Debug)]
pub struct FieldSpec {
    /// JSON name; empty for an embedded struct.
    pub name: String,
    /// Protobuf number, 0 when not on the wire.
    pub number: u32,
    /// Its type.
    pub ty: TypeId,
    /// Its facts.
    pub flags: FieldFlags,
    /// The declared default.
    pub default: Option<Value>,
    /// The `patchMergeKey` tag, or empty.
    pub merge_key: String,
}

impl FieldSpec {
    /// A plain optional member with no wire number.
    pub fn new(name: impl Into<String>, ty: TypeId) -> Self {
        let flags = FieldFlags::OMITEMPTY.with(FieldFlags::POINTER);
        Self {
            name: name.into(),
            number: 0,
            ty,
            flags,
            default: None,
            merge_key: String::new(),
        }
    }
}

/// A struct's own facts.
#[derive(Clone, Debug, Default)]
pub struct StructSpec {
    /// Its members.
    pub fields: Vec<FieldSpec>,
    /// Merge behaviour declared on the type itself.
    pub kind: MapKind,
    /// Unknown members are kept.
    pub preserves_unknown: bool,
}

/// Collects types; equal types get equal ids.
#[derive(Debug, Default)]
pub struct Builder {
    text: String,
    texts: HashMap<String, Text>,
    interned: HashMap<(TypeDef, Text), TypeId>,
    schema: Schema,
}

impl Builder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A type; `go_name` is what error messages call it.
    pub fn ty(&mut self, def: TypeDef, go_name: &str) -> TypeId {
        let go = self.text(go_name);
        if let Some(id) = self.interned.get(&(def.clone(), go)) {
            return *id;
        }
        let id = TypeId(self.schema.types.len() as u32);
        self.schema.types.push(def.clone());
        self.schema.go_names.push(go);
        self.interned.insert((def, go), id);
        id
    }

    /// A struct to be defined later, so that types may refer to it (and to themselves).
    pub fn declare(&mut self, name: &str) -> StructId {
        let name = self.text(name);
        let id = StructId(self.schema.structs.len() as u32);
        self.schema.structs.push(StructDef {
            name,
            own: 0..0,
            flat: 0..0,
            kind: MapKind::Unset,
            preserves_unknown: false,
            has_defaults: false,
        });
        id
    }

    /// Defines a declared struct; returns the index of each given field, in the order given.
    pub fn define(&mut self, id: StructId, spec: StructSpec) -> Vec<u32> {
        let start = self.schema.fields.len() as u32;
        let mut order: Vec<usize> = (0..spec.fields.len()).collect();
        order.sort_by_key(|&i| spec.fields[i].number);
        let mut indexes = vec![0; spec.fields.len()];
        for (rank, &i) in order.iter().enumerate() {
            indexes[i] = start + rank as u32;
            let field = &spec.fields[i];
            let default = match &field.default {
                Some(value) => {
                    self.schema.defaults.push(value.clone());
                    self.schema.defaults.len() as u32
                }
                None => 0,
            };
            let (name, merge_key) = (self.text(&field.name), self.text(&field.merge_key));
            let (number, ty, flags) = (field.number, field.ty, field.flags);
            self.schema.fields.push(FieldDef {
                name,
                number,
                ty,
                flags,
                default,
                merge_key,
            });
        }
        let def = &mut self.schema.structs[id.0 as usize];
        def.own = start..start + spec.fields.len() as u32;
        def.kind = spec.kind;
        def.preserves_unknown = spec.preserves_unknown;
        indexes
    }

    /// A closed set of strings.
    pub fn enumeration<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) -> EnumId {
        let values = values.into_iter().map(|v| self.text(v)).collect();
        self.schema.enums.push(values);
        EnumId(self.schema.enums.len() as u32 - 1)
    }

    /// Registers a kind.
    pub fn root(&mut self, group: &str, version: &str, kind: &str, ty: TypeId) {
        let (group, version, kind) = (self.text(group), self.text(version), self.text(kind));
        self.schema.roots.push(RootDef {
            group,
            version,
            kind,
            ty,
        });
    }

    /// The finished arena.
    pub fn finish(self) -> Schema {
        let mut schema = self.schema;
        schema.text = self.text.into_boxed_str();
        schema.index();
        schema
    }

    fn text(&mut self, s: &str) -> Text {
        if let Some(text) = self.texts.get(s) {
            return *text;
        }
        let text = Text {
            at: self.text.len() as u32,
            len: s.len() as u32,
        };
        self.text.push_str(s);
        self.texts.insert(s.to_owned(), text);
        text
    }
}

impl Schema {
    /// Derives what lookups need from what was declared.
    pub(crate) fn index(&mut self) {
        self.index_flat();
        self.index_names();
        self.mark_defaults();
    }

    fn index_flat(&mut self) {
        let mut flat = Vec::with_capacity(self.fields.len());
        for at in 0..self.structs.len() {
            let start = flat.len();
            // Go's rule: of two members with one name the shallower one is seen.
            let mut level = vec![StructId(at as u32)];
            let mut depth = 0;
            while !level.is_empty() && depth < 8 {
                let mut deeper = Vec::new();
                let known = flat.len();
                for id in level {
                    for index in self.structs[id.0 as usize].own.clone() {
                        let field = &self.fields[index as usize];
                        match (
                            &self.types[field.ty.0 as usize],
                            field.flags.contains(FieldFlags::INLINE),
                        ) {
                            (TypeDef::Struct(inner, _), true) => deeper.push(*inner),
                            _ => {
                                let hidden = flat[start..known]
                                    .iter()
                                    .any(|&i: &u32| self.fields[i as usize].name == field.name);
                                if !hidden {
                                    flat.push(index);
                                }
                            }
                        }
                    }
                }
                level = deeper;
                depth += 1;
            }
            flat[start..].sort_by(|&a, &b| {
                let name = |i: u32| self.str(self.fields[i as usize].name);
                name(a).cmp(name(b))
            });
            self.structs[at].flat = start as u32..flat.len() as u32;
        }
        self.flat = flat;
    }

    fn index_names(&mut self) {
        let text = &self.text;
        let str = |t: Text| &text[t.at as usize..(t.at + t.len) as usize];
        self.roots.sort_by(|a, b| {
            (str(a.group), str(a.version), str(a.kind)).cmp(&(str(b.group), str(b.version), str(b.kind)))
        });
        let structs = &self.structs;
        self.by_name = self
            .types
            .iter()
            .enumerate()
            .filter_map(|(i, def)| match def {
                TypeDef::Struct(id, MapKind::Unset) => Some((structs[id.0 as usize].name, TypeId(i as u32))),
                _ => None,
            })
            .collect();
        self.by_name.sort_by(|a, b| str(a.0).cmp(str(b.0)));
    }

    fn mark_defaults(&mut self) {
        loop {
            let mut changed = false;
            for at in 0..self.structs.len() {
                if self.structs[at].has_defaults {
                    continue;
                }
                let own = self.structs[at].own.clone();
                let found = self.fields[own.start as usize..own.end as usize]
                    .iter()
                    .any(|f| f.default != 0 || self.type_has_defaults(f.ty));
                if found {
                    self.structs[at].has_defaults = true;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    pub(crate) fn type_has_defaults(&self, mut id: TypeId) -> bool {
        loop {
            match &self.types[id.0 as usize] {
                TypeDef::Struct(id, _) => return self.structs[id.0 as usize].has_defaults,
                TypeDef::List { elem, .. } => id = *elem,
                TypeDef::Map { value, .. } => id = *value,
                _ => return false,
            }
        }
    }
}
