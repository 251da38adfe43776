//! Types as the schemas that expressions are checked against: OpenAPI with everything in place
//! (upstream `cel/openapi/resolver`).

use api::Value;
use schema::{Shape, Struct, TypeDef, TypeRef};
use serde_json::{Map, json};

/// The schema of a type; a type that contains itself is open where it does.
pub(super) fn of(ty: TypeRef<'_>) -> Value {
    schema_of(ty, &mut Vec::new())
}

fn schema_of(ty: TypeRef<'_>, above: &mut Vec<u32>) -> Value {
    match ty.kind() {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Integer(_) => json!({"type": "integer"}),
        Shape::Number => json!({"type": "number"}),
        Shape::String => match ty.enum_values() {
            Some(values) => json!({"type": "string", "enum": values.collect::<Vec<_>>()}),
            None => json!({"type": "string"}),
        },
        Shape::Duration => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
        Shape::IntOrString => json!({"x-kubernetes-int-or-string": true}),
        // One of two types: what has no single type cannot be seen.
        Shape::Quantity => json!({}),
        Shape::Any => match ty.def() {
            TypeDef::Any => json!({}),
            _ => json!({"type": "object"}),
        },
        Shape::List(list) => json!({"type": "array", "items": schema_of(list.elem(), above)}),
        Shape::Map(map) => json!({"type": "object", "additionalProperties": schema_of(map.value(), above)}),
        Shape::Struct(object) => struct_schema(object, above),
    }
}

fn struct_schema(object: Struct<'_>, above: &mut Vec<u32>) -> Value {
    let id = u32::try_from(object.id().index()).unwrap_or(u32::MAX);
    if above.contains(&id) {
        return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    above.push(id);
    let mut properties = Map::new();
    let mut required = Vec::new();
    add_fields(object, above, &mut properties, &mut required);
    above.pop();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if object.preserves_unknown() {
        schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    schema
}

fn add_fields(
    object: Struct<'_>,
    above: &mut Vec<u32>,
    properties: &mut Map<String, Value>,
    required: &mut Vec<String>,
) {
    for field in object.fields() {
        if field.inline() && field.name().is_empty() {
            if let Some(inner) = field.ty().as_struct() {
                add_fields(inner, above, properties, required);
            }
            continue;
        }
        let mut schema = schema_of(field.ty(), above);
        if let Some(default) = field.default() {
            schema["default"] = default.clone();
        }
        properties.insert(field.name().to_owned(), schema);
        if field.required() {
            required.push(field.name().to_owned());
        }
    }
}
