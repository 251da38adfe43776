//! From a structural schema to the arena: custom resources merge, and are owned field by field,
//! through the same code as built-in kinds.

use std::collections::HashMap;
use std::sync::LazyLock;

use api::Gvk;

use super::coerce::object_meta;
use super::{Additional, Node};
use crate::model::{Builder, EnumId, FieldFlags, FieldSpec, ListKind, MapKind, StructId, StructSpec, TypeDef, Width};
use crate::{Schema, TypeId, TypeRef};

/// The model of a kind. Scalars take any value: what is wrong with one is for validation to say, not
/// for decoding.
pub fn build(gvk: &Gvk, root: &Node) -> (Schema, TypeId) {
    let mut builder = Builder::new();
    let mut imported = HashMap::new();
    let metadata = import(&mut builder, object_meta(), &mut imported);
    let id = resource(&mut builder, root, metadata, &gvk.kind);
    builder.root(&gvk.group, &gvk.version, &gvk.kind, id);
    (builder.finish(), id)
}

fn map_kind(node: &Node) -> MapKind {
    match node.map_type.as_str() {
        "atomic" => MapKind::Atomic,
        "granular" => MapKind::Granular,
        _ => MapKind::Unset,
    }
}

fn any(builder: &mut Builder) -> TypeId {
    builder.ty(TypeDef::Any, "")
}

fn resource(builder: &mut Builder, node: &Node, metadata: TypeId, name: &str) -> TypeId {
    let text = builder.ty(TypeDef::String(None), "string");
    let mut fields: Vec<FieldSpec> = ["apiVersion", "kind"].map(|name| FieldSpec::new(name, text)).into();
    fields.push(FieldSpec::new("metadata", metadata));
    fields.extend(
        members(builder, node, metadata)
            .into_iter()
            .filter(|f| !super::is_meta(&f.name)),
    );
    structure(builder, node, fields, name)
}

fn members(builder: &mut Builder, node: &Node, metadata: TypeId) -> Vec<FieldSpec> {
    node.properties
        .iter()
        .map(|(name, property)| {
            let ty = value(builder, property, metadata);
            let mut field = FieldSpec::new(name, ty);
            if property.nullable {
                field.flags = field.flags.with(FieldFlags::NULLABLE);
            }
            field.default = property.default.clone();
            field
        })
        .collect()
}

fn structure(builder: &mut Builder, node: &Node, fields: Vec<FieldSpec>, name: &str) -> TypeId {
    let id = builder.declare(name);
    // What is not named is kept: pruning has been done by then.
    let spec = StructSpec {
        fields,
        kind: map_kind(node),
        preserves_unknown: true,
    };
    builder.define(id, spec);
    builder.ty(TypeDef::Struct(id, MapKind::Unset), "")
}

fn value(builder: &mut Builder, node: &Node, metadata: TypeId) -> TypeId {
    if node.int_or_string {
        return any(builder);
    }
    match node.ty.as_str() {
        "object" if node.embedded => resource(builder, node, metadata, ""),
        "object" if !node.properties.is_empty() => {
            let fields = members(builder, node, metadata);
            structure(builder, node, fields, "")
        }
        "object" => match &node.additional {
            Additional::Schema(below) => {
                let below = value(builder, below, metadata);
                let def = TypeDef::Map {
                    value: below,
                    kind: map_kind(node),
                };
                builder.ty(def, "")
            }
            // An object of which nothing is known is divided by whatever keys it has.
            _ => structure(builder, node, Vec::new(), ""),
        },
        "array" => {
            let elem = match &node.items {
                Some(items) => value(builder, items, metadata),
                None => any(builder),
            };
            let kind = match node.list_type.as_str() {
                "set" => ListKind::Set,
                "map" => ListKind::Map(node.list_map_keys.clone().into()),
                "atomic" => ListKind::Atomic,
                _ => ListKind::Unset,
            };
            let wrapped = false;
            builder.ty(TypeDef::List { elem, kind, wrapped }, "")
        }
        "" if node.preserve_unknown => structure(builder, node, Vec::new(), ""),
        _ => any(builder),
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Source {
    Type(TypeId),
    Struct(StructId),
}

#[derive(Clone, Copy)]
enum Copied {
    Type(TypeId),
    Struct(StructId),
}

/// Copies a type, and all below it, from another arena.
fn import(builder: &mut Builder, ty: TypeRef<'_>, known: &mut HashMap<Source, Copied>) -> TypeId {
    if let Some(Copied::Type(id)) = known.get(&Source::Type(ty.id())) {
        return *id;
    }
    let schema = ty.schema();
    let def = match ty.def() {
        TypeDef::Struct(id, over) => TypeDef::Struct(import_struct(builder, ty, *id, known), *over),
        TypeDef::List { elem, kind, wrapped } => TypeDef::List {
            elem: import(builder, schema.get(*elem), known),
            kind: kind.clone(),
            wrapped: *wrapped,
        },
        TypeDef::Map { value, kind } => TypeDef::Map {
            value: import(builder, schema.get(*value), known),
            kind: *kind,
        },
        TypeDef::String(Some(_)) => {
            let values: Vec<&str> = ty.enum_values().into_iter().flatten().collect();
            let id: EnumId = builder.enumeration(values);
            TypeDef::String(Some(id))
        }
        TypeDef::Integer(Width::I32) => TypeDef::Integer(Width::I32),
        other => other.clone(),
    };
    let id = builder.ty(def, ty.go_name());
    known.insert(Source::Type(ty.id()), Copied::Type(id));
    id
}

fn import_struct(
    builder: &mut Builder,
    ty: TypeRef<'_>,
    id: StructId,
    known: &mut HashMap<Source, Copied>,
) -> StructId {
    if let Some(Copied::Struct(id)) = known.get(&Source::Struct(id)) {
        return *id;
    }
    let structure = ty.as_struct().expect("the caller matched a struct");
    let copy = builder.declare(structure.name());
    known.insert(Source::Struct(id), Copied::Struct(copy));
    let fields = structure
        .wire_fields()
        .map(|field| FieldSpec {
            name: field.name().to_owned(),
            number: field.number(),
            ty: import(builder, field.ty(), known),
            flags: field.flags(),
            default: field.default().cloned(),
            merge_key: field.merge_key().unwrap_or_default().to_owned(),
        })
        .collect();
    let spec = StructSpec {
        fields,
        kind: structure.own_map_kind(),
        preserves_unknown: structure.preserves_unknown(),
    };
    builder.define(copy, spec);
    copy
}

/// The type of any resource: metadata has its shape, all else is taken as it is.
pub fn any_resource() -> TypeRef<'static> {
    static ANY: LazyLock<(Schema, TypeId)> = LazyLock::new(|| build(&Gvk::new("", "", ""), &Node::default()));
    let (schema, id) = &*ANY;
    schema.get(*id)
}
