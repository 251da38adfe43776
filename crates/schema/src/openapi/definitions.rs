//! Schema objects of types.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::Map;
use serde_json::{Value, json};

use super::{Custom, Dialect};
use crate::docs::Docs;
use crate::model::{Field, ListKind, MapKind, Schema, Struct, TypeDef, TypeId, TypeRef, Width};

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// Makes schema objects, and remembers which definitions they refer to.
pub(super) struct Definitions<'a> {
    pub(super) schema: &'a Schema,
    pub(super) docs: &'a Docs,
    pub(super) dialect: Dialect,
    /// Every registered kind of a struct: group, version, kind.
    kinds: HashMap<TypeId, Vec<(&'a str, &'a str, &'a str)>>,
    wanted: BTreeSet<&'a str>,
    custom: &'a [Custom],
}

impl<'a> Definitions<'a> {
    pub(super) fn new(schema: &'a Schema, docs: &'a Docs, dialect: Dialect, custom: &'a [Custom]) -> Self {
        let mut kinds: HashMap<TypeId, Vec<_>> = HashMap::new();
        for (group, version, kind, ty) in schema.roots() {
            kinds.entry(ty).or_default().push((group, version, kind));
        }
        Self {
            schema,
            docs,
            dialect,
            kinds,
            wanted: BTreeSet::new(),
            custom,
        }
    }

    /// A reference to a named type; its definition will be part of [`Definitions::finish`].
    pub(super) fn reference(&mut self, name: &'a str) -> Value {
        self.wanted.insert(name);
        json!({"$ref": self.dialect.reference(name)})
    }

    /// A reference to a registered kind, if it is known.
    pub(super) fn kind(&mut self, group: &str, version: &str, kind: &str) -> Option<Value> {
        let name = match self.schema.kind(group, version, kind) {
            Some(ty) => ty.as_struct()?.name(),
            None => self.custom.iter().find_map(|c| c.name_of(group, version, kind))?,
        };
        Some(self.reference(name))
    }

    /// Every definition that was referred to, and those that these refer to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut done: BTreeMap<&str, Value> = BTreeMap::new();
        while let Some(name) = self.wanted.iter().find(|name| !done.contains_key(*name)).copied() {
            let definition = match self.schema.by_name(name) {
                Some(id) => self.definition(self.schema.get(id)),
                None => match self.custom.iter().find_map(|c| c.definition(name, self.dialect)) {
                    Some((definition, references)) => {
                        self.wanted.extend(references);
                        definition
                    }
                    None => self.special(name),
                },
            };
            done.insert(name, definition);
            self.wanted.remove(name);
            self.wanted.retain(|name| !done.contains_key(name));
        }
        done.into_iter()
            .map(|(name, definition)| (name.to_owned(), definition))
            .collect()
    }

    fn definition(&mut self, ty: TypeRef<'a>) -> Value {
        let structure = ty.as_struct().expect("names belong to structs");
        let mut out = self.structure(structure);
        describe(&mut out, self.docs.of_struct(structure.id()));
        if let Some(kinds) = self.kinds.get(&ty.id()) {
            let kinds: Vec<Value> = kinds
                .iter()
                .map(|(group, version, kind)| json!({"group": group, "kind": kind, "version": version}))
                .collect();
            out.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
        }
        set_map_type(&mut out, structure.own_map_kind());
        Value::Object(out)
    }

    fn structure(&mut self, structure: Struct<'a>) -> Map<String, Value> {
        let mut out = object("object");
        let mut properties = Map::new();
        for field in structure.fields() {
            let property = self.property(field);
            properties.insert(field.name().to_owned(), Value::Object(property));
        }
        if !properties.is_empty() {
            out.insert("properties".to_owned(), properties.into());
        }
        let mut required: Vec<Field<'_>> = structure.fields().filter(|field| field.required()).collect();
        required.sort_by_key(|field| field.index());
        if !required.is_empty() {
            let names: Vec<&str> = required.iter().map(|field| field.name()).collect();
            out.insert("required".to_owned(), names.into());
        }
        if structure.preserves_unknown() {
            out.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
        }
        out
    }

    fn property(&mut self, field: Field<'a>) -> Map<String, Value> {
        let ty = field.ty();
        let mut out = self.ty(ty);
        let docs = self.docs;
        let text = docs.of_field(field);
        let values = ty.enum_id().map_or("", |id| docs.of_enum(id));
        match (text.is_empty(), values.is_empty()) {
            (_, true) => describe(&mut out, text),
            (true, false) => describe(&mut out, values),
            (false, false) => describe(&mut out, &format!("{text}\n\n{values}")),
        }
        if self.dialect == Dialect::V3 {
            let default = field
                .default()
                .cloned()
                .or_else(|| enforced_default(ty, field.pointer(), field.omitempty()));
            out.extend(default.map(|value| ("default".to_owned(), value)));
        }
        if field.nullable() {
            out.insert("nullable".to_owned(), true.into());
        }
        if let TypeDef::Struct(_, over) = ty.def() {
            set_map_type(&mut out, *over);
        }
        let extensions = [
            ("x-kubernetes-patch-merge-key", field.merge_key()),
            ("x-kubernetes-patch-strategy", field.patch_strategy()),
        ];
        for (key, value) in extensions {
            out.extend(value.map(|value| (key.to_owned(), value.into())));
        }
        self.wrap_reference(out)
    }

    /// A list item or map value: held by value, never omitted.
    fn element(&mut self, ty: TypeRef<'a>) -> Value {
        let mut out = self.ty(ty);
        if self.dialect == Dialect::V3 {
            out.extend(enforced_default(ty, false, false).map(|value| ("default".to_owned(), value)));
        }
        Value::Object(self.wrap_reference(out))
    }

    /// In v3 a reference may have no siblings.
    fn wrap_reference(&self, mut out: Map<String, Value>) -> Map<String, Value> {
        if self.dialect == Dialect::V3
            && out.len() > 1
            && let Some(reference) = out.remove("$ref")
        {
            out.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        out
    }

    fn ty(&mut self, ty: TypeRef<'a>) -> Map<String, Value> {
        let named = match ty.def() {
            TypeDef::Bool => return object("boolean"),
            TypeDef::Integer(Width::I32) => return formatted("integer", "int32"),
            TypeDef::Integer(Width::I64) => return formatted("integer", "int64"),
            TypeDef::Number => return formatted("number", "double"),
            TypeDef::String(_) => {
                let mut out = object("string");
                if let Some(values) = ty.enum_values() {
                    out.insert("enum".to_owned(), values.collect::<Vec<_>>().into());
                }
                return out;
            }
            TypeDef::Bytes => return formatted("string", "byte"),
            TypeDef::Any => return object("object"),
            TypeDef::List { elem, kind, .. } => {
                let mut out = object("array");
                let items = self.element(ty.schema().get(*elem));
                out.insert("items".to_owned(), items);
                set_list_type(&mut out, kind);
                return out;
            }
            TypeDef::Map { value, kind } => {
                let mut out = object("object");
                let values = self.element(ty.schema().get(*value));
                out.insert("additionalProperties".to_owned(), values);
                set_map_type(&mut out, *kind);
                return out;
            }
            TypeDef::Struct(..) => {
                let structure = ty.as_struct().expect("matched a struct");
                if structure.name().is_empty() {
                    return self.structure(structure);
                }
                self.schema.str(structure.def().name)
            }
            TypeDef::Time => TIME,
            TypeDef::MicroTime => MICRO_TIME,
            TypeDef::Duration => DURATION,
            TypeDef::FieldsV1 => FIELDS_V1,
            TypeDef::Quantity => QUANTITY,
            TypeDef::IntOrString => INT_OR_STRING,
            TypeDef::RawExtension => RAW_EXTENSION,
        };
        match self.reference(named) {
            Value::Object(out) => out,
            _ => Map::new(),
        }
    }

    fn special(&self, name: &str) -> Value {
        let mut out = match (name, self.dialect) {
            (TIME | MICRO_TIME, _) => formatted("string", "date-time"),
            (QUANTITY, Dialect::V3) => one_of("string", "number"),
            (INT_OR_STRING, Dialect::V2) => formatted("string", "int-or-string"),
            (INT_OR_STRING, Dialect::V3) => {
                let mut out = one_of("integer", "string");
                out.insert("format".to_owned(), "int-or-string".into());
                out
            }
            (DURATION | QUANTITY, _) => object("string"),
            _ => object("object"),
        };
        describe(&mut out, self.docs.of_other(name));
        Value::Object(out)
    }
}

fn object(ty: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), ty.into())])
}

fn formatted(ty: &str, format: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), ty.into()), ("format".to_owned(), format.into())])
}

fn one_of(a: &str, b: &str) -> Map<String, Value> {
    Map::from_iter([("oneOf".to_owned(), json!([{"type": a}, {"type": b}]))])
}

fn describe(out: &mut Map<String, Value>, text: &str) {
    if !text.is_empty() {
        out.insert("description".to_owned(), text.into());
    }
}

fn set_list_type(out: &mut Map<String, Value>, kind: &ListKind) {
    let word = match kind {
        ListKind::Unset => return,
        ListKind::Atomic => "atomic",
        ListKind::Set => "set",
        ListKind::Map(keys) => {
            out.insert("x-kubernetes-list-map-keys".to_owned(), keys.to_vec().into());
            "map"
        }
    };
    out.insert("x-kubernetes-list-type".to_owned(), word.into());
}

fn set_map_type(out: &mut Map<String, Value>, kind: MapKind) {
    let word = match kind {
        MapKind::Unset => return,
        MapKind::Granular => "granular",
        MapKind::Atomic => "atomic",
    };
    out.insert("x-kubernetes-map-type".to_owned(), word.into());
}

/// The default that follows from Go's zero value (kube-openapi `mustEnforceDefault`).
fn enforced_default(ty: TypeRef<'_>, pointer: bool, omitempty: bool) -> Option<Value> {
    if pointer {
        return None;
    }
    match ty.def() {
        TypeDef::Struct(..) => Some(json!({})),
        _ if omitempty => None,
        TypeDef::Bool => Some(false.into()),
        TypeDef::Integer(_) | TypeDef::Number => Some(0.into()),
        TypeDef::String(_) => Some("".into()),
        _ => None,
    }
}
