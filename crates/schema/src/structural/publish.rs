//! The schema of a custom resource as OpenAPI documents show it
//! (`controller/openapi/builder`, `schema/kubeopenapi.go`).

use serde_json::{Map, Value, json};

/// The version of OpenAPI a schema is published in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger 2.0: what it cannot say is left out.
    V2,
    /// OpenAPI 3.0.
    V3,
}

/// Schemas of arbitrary depth stay as they are; these members cannot be said in v2.
const NOT_IN_V2: [&str; 4] = ["oneOf", "anyOf", "allOf", "not"];

/// The published form of `schema`, the root of a kind; `None` stands for a kind without one.
/// `object_meta` refers to the definition of ObjectMeta.
pub fn publish(schema: Option<&Value>, preserve: bool, dialect: Dialect, object_meta: &str) -> Value {
    let whole = Value::Object(Map::new());
    let schema = schema.unwrap_or(&whole);
    let loose = preserve || schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true);
    if dialect == Dialect::V2 && loose {
        // Clients of v2 take a schema that names members to name all of them: this one names none.
        return json!({"type": "object"});
    }
    let mut out = convert(schema, dialect);
    out["type"] = "object".into();
    let text = |text: &str| json!({"type": "string", "description": text});
    let properties = &mut out["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    properties["apiVersion"] = text(API_VERSION);
    properties["kind"] = text(KIND);
    properties["metadata"] = match dialect {
        Dialect::V2 => json!({"description": METADATA, "$ref": object_meta}),
        Dialect::V3 => json!({"description": METADATA, "default": {}, "allOf": [{"$ref": object_meta}]}),
    };
    if dialect == Dialect::V3
        && let Some(below) = schema["properties"]
            .get("metadata")
            .filter(|m| m["properties"].is_object())
    {
        let rest = json!({"type": "object", "properties": convert(below, dialect)["properties"]});
        properties["metadata"]["allOf"] = json!([{"$ref": object_meta}, rest]);
    }
    out
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

fn convert(schema: &Value, dialect: Dialect) -> Value {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let v2 = dialect == Dialect::V2;
    let nullable = fields.get("nullable") == Some(&Value::Bool(true));
    let mut out = Map::new();
    for (name, value) in fields {
        if v2 && (NOT_IN_V2.contains(&name.as_str()) || matches!(name.as_str(), "nullable" | "default")) {
            continue;
        }
        let value = match name.as_str() {
            "properties" => Value::Object(
                value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, below)| (name.clone(), convert(below, dialect)))
                    .collect(),
            ),
            "items" | "additionalProperties" | "not" => convert(value, dialect),
            "allOf" | "anyOf" | "oneOf" => Value::Array(
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|one| convert(one, dialect))
                    .collect(),
            ),
            _ => value.clone(),
        };
        out.insert(name.clone(), value);
    }
    // v2 has no null: clients must not take the type for all there is.
    if v2 && nullable {
        for field in ["type", "items", "properties", "additionalProperties"] {
            out.remove(field);
        }
    }
    if v2 && fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        out.remove("type");
    }
    if v2 && fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        for field in ["items", "properties", "type"] {
            out.remove(field);
        }
    }
    Value::Object(out)
}
