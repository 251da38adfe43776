//! What a schema of a definition may say (`schema/validation.go` and the schema part of
//! `apis/apiextensions/validation/validation.go`). Works on the schema as JSON, since a [`super::Node`]
//! has forgotten what it does not know.

use api::field::{Error, Path};
use serde_json::{Map, Value};

use super::is_meta;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn flag(schema: &Value, field: &str) -> bool {
    schema[field].as_bool().unwrap_or(false)
}

fn text<'v>(schema: &'v Value, field: &str) -> &'v str {
    schema[field].as_str().unwrap_or_default()
}

fn list<'v>(schema: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    schema[field].as_array().into_iter().flatten()
}

fn members(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// Whether a member says anything.
fn is_set(schema: &Value, field: &str) -> bool {
    match &schema[field] {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty() || field == "additionalProperties",
        _ => true,
    }
}

/// Why a schema cannot be read as a structural one at all.
pub fn unreadable(schema: &Value) -> Option<String> {
    for field in [
        "id",
        "schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "additionalItems",
        "definitions",
    ] {
        let key = if field == "schema" { "$schema" } else { field };
        if is_set(schema, key) {
            return Some(format!("OpenAPIV3Schema '{field}' is not supported"));
        }
    }
    if schema["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(false) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    let nested = members(schema).map(|(_, below)| below);
    let nested = nested.chain(["items", "additionalProperties", "not"].into_iter().map(|f| &schema[f]));
    let nested = nested.chain(["allOf", "anyOf", "oneOf"].into_iter().flat_map(|f| list(schema, f)));
    nested.filter(|below| below.is_object()).find_map(unreadable)
}

/// Every breach of the rules of structural schemas, sorted.
pub fn structural_errors(schema: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    completeness(schema, schema, path, path, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut Vec<Error>) {
    let ty = text(schema, "type");
    if ty == "array" && !schema["items"].is_object() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if schema["items"].is_object() {
        invariants(&schema["items"], Level::Item, &path.child("items"), errors);
    }
    for (name, below) in members(schema) {
        invariants(below, Level::Field, &path.child("properties").key(name), errors);
    }
    let (embedded, preserve) = (
        flag(schema, "x-kubernetes-embedded-resource"),
        flag(schema, "x-kubernetes-preserve-unknown-fields"),
    );
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let additional = !schema["additionalProperties"].is_null();
    if additional && level == Level::Root {
        errors.push(Error::forbidden(
            &path.child("additionalProperties"),
            "must not be used at the root",
        ));
    }
    if schema["additionalProperties"].is_object() {
        let path = path.child("additionalProperties");
        invariants(&schema["additionalProperties"], Level::Field, &path, errors);
    }
    let conflicting = [
        (preserve, "x-kubernetes-preserve-unknown-fields"),
        (embedded, "x-kubernetes-embedded-resource"),
    ];
    for (set, field) in conflicting {
        if set && int_or_string {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(Error::invalid(&path.child(field), true, detail));
        }
    }
    let (skip_any, skip_first) = int_or_string_patterns(schema);
    value_validation(schema, skip_any, skip_first, path, errors);
    if embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if ty.is_empty() {
            Error::required(&path.child("type"), detail)
        } else {
            Error::invalid(&path.child("type"), ty, detail)
        });
    } else if ty.is_empty() && !int_or_string && !preserve {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&path.child("type"), detail));
    }
    if embedded && additional {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(Error::invalid(&path.child("type"), ty, "must be object at the root"));
    }
    meta_members(schema, level, embedded, path, errors);
    if embedded && !preserve && members(schema).next().is_none() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), detail));
    }
}

/// `kind`, `apiVersion` and `metadata` can hardly be restricted.
fn meta_members(schema: &Value, level: Level, embedded: bool, path: &Path, errors: &mut Vec<Error>) {
    let checked = level == Level::Root || embedded;
    let properties = &schema["properties"];
    for name in ["kind", "apiVersion"] {
        if let (true, Some(below)) = (checked, properties.get(name))
            && text(below, "type") != "string"
        {
            let path = path.child("properties").key(name).child("type");
            errors.push(Error::invalid(&path, text(below, "type"), "must be string"));
        }
    }
    let Some(metadata) = properties.get("metadata") else {
        return;
    };
    let path = path.child("properties").key("metadata");
    if checked && text(metadata, "type") != "object" {
        errors.push(Error::invalid(
            &path.child("type"),
            text(metadata, "type"),
            "must be object",
        ));
    }
    if level == Level::Root {
        let mut rest = metadata.as_object().cloned().unwrap_or_default();
        let only_names = rest
            .get("properties")
            .and_then(Value::as_object)
            .is_none_or(|map| map.keys().all(|name| name == "name" || name == "generateName"));
        if only_names {
            rest.remove("properties");
        }
        rest.remove("type");
        rest.remove("default");
        let rest = Value::Object(rest);
        let says = rest
            .as_object()
            .is_some_and(|map| map.keys().any(|field| is_set(&rest, field)));
        if says {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

/// The two ways of writing "an integer or a string" that may name types.
fn int_or_string_patterns(schema: &Value) -> (bool, bool) {
    let is_pair = |any: &Value| {
        let types: Vec<&Value> = any.as_array().into_iter().flatten().collect();
        matches!(types.as_slice(), [a, b]
            if **a == serde_json::json!({"type": "integer"}) && **b == serde_json::json!({"type": "string"}))
    };
    (is_pair(&schema["anyOf"]), is_pair(&schema["allOf"][0]["anyOf"]))
}

fn value_validation(schema: &Value, skip_any: bool, skip_first: bool, path: &Path, errors: &mut Vec<Error>) {
    if !skip_any {
        for (i, one) in list(schema, "anyOf").enumerate() {
            nested(one, false, &path.child("anyOf").index(i), errors);
        }
    }
    for (i, one) in list(schema, "allOf").enumerate() {
        nested(one, skip_first && i == 0, &path.child("allOf").index(i), errors);
    }
    for (i, one) in list(schema, "oneOf").enumerate() {
        nested(one, false, &path.child("oneOf").index(i), errors);
    }
    if schema["not"].is_object() {
        nested(&schema["not"], false, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(error) = regex::Regex::new(pattern) {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// What may not stand below `allOf` and its like.
const FORBIDDEN: [(&str, &str); 13] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

fn nested(schema: &Value, skip_any: bool, path: &Path, errors: &mut Vec<Error>) {
    value_validation(schema, skip_any, false, path, errors);
    if schema["items"].is_object() {
        nested(&schema["items"], false, &path.child("items"), errors);
    }
    for (name, below) in members(schema) {
        nested(below, false, &path.child("properties").key(name), errors);
    }
    for (field, detail) in FORBIDDEN {
        let optional = matches!(field, "additionalProperties" | "default");
        // Rules may stand below allOf since v1.32, where they see the whole value.
        if is_set(schema, field) || optional && !schema[field].is_null() {
            errors.push(Error::forbidden(&path.child(field), detail));
        }
    }
    if schema["properties"].get("metadata").is_some() {
        let path = path.child("properties").key("metadata");
        errors.push(Error::forbidden(&path, "must not be specified in a nested context"));
    }
}

/// What value validation speaks of has to be specified outside it too.
fn completeness(validation: &Value, schema: &Value, at: &Path, from: &Path, errors: &mut Vec<Error>) {
    if validation["not"].is_object() {
        nested_completeness(&validation["not"], schema, at, &from.child("not"), errors);
    }
    for field in ["allOf", "anyOf", "oneOf"] {
        for (i, one) in list(validation, field).enumerate() {
            nested_completeness(one, schema, at, &from.child(field).index(i), errors);
        }
    }
}

fn nested_completeness(validation: &Value, schema: &Value, at: &Path, from: &Path, errors: &mut Vec<Error>) {
    completeness(validation, schema, at, from, errors);
    let missing = |at: &Path, from: &Path| Error::required(at, format!("because it is defined in {from}"));
    if validation["items"].is_object() {
        let (at, from) = (at.child("items"), from.child("items"));
        if schema["items"].is_object() {
            nested_completeness(&validation["items"], &schema["items"], &at, &from, errors);
        } else {
            errors.push(missing(&at, &from));
        }
    }
    for (name, below) in members(validation) {
        let (at, from) = (at.child("properties").key(name), from.child("properties").key(name));
        match schema["properties"].get(name) {
            Some(schema) => nested_completeness(below, schema, &at, &from, errors),
            None => errors.push(missing(&at, &from)),
        }
    }
}

/// How a schema is looked at on the way down.
#[derive(Clone, Default)]
struct View {
    /// Why defaults may not stand here; `None` where they may.
    no_defaults: Option<String>,
    inside_metadata: bool,
}

/// Every breach of the rules for schemas of definitions that are not about structure.
pub fn schema_errors(schema: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    openapi(schema, path, &View::default(), true, &mut errors);
    errors
}

fn openapi(schema: &Value, path: &Path, view: &View, root: bool, errors: &mut Vec<Error>) {
    if !schema.is_object() {
        return;
    }
    standard(schema, path, view, errors);
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), detail));
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() {
        if members(schema).next().is_some() && *additional != Value::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.push(Error::forbidden(&path.child("additionalProperties"), detail));
        }
        let mut below = view.clone();
        if view.inside_metadata {
            below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        openapi(additional, &path.child("additionalProperties"), &below, false, errors);
    }
    for (name, property) in members(schema) {
        let mut below = view.clone();
        if (root || flag(schema, "x-kubernetes-embedded-resource")) && is_meta(name) {
            below.inside_metadata = true;
            if root {
                below.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        openapi(property, &path.child("properties").key(name), &below, false, errors);
    }
    openapi(&schema["not"], &path.child("not"), view, false, errors);
    for field in ["allOf", "oneOf", "anyOf"] {
        for (i, one) in list(schema, field).enumerate() {
            openapi(one, &path.child(field).index(i), view, false, errors);
        }
    }
    openapi(&schema["items"], &path.child("items"), view, false, errors);
    for (i, one) in list(schema, "items").enumerate() {
        openapi(one, &path.child("items").index(i), view, false, errors);
    }
    extensions(schema, path, errors);
    rules(schema, path, errors);
}

fn standard(schema: &Value, path: &Path, view: &View, errors: &mut Vec<Error>) {
    let ty = text(schema, "type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(Error::not_supported(&path.child("type"), ty, &TYPES));
    }
    if let (Some(reason), false) = (&view.no_defaults, schema["default"].is_null()) {
        errors.push(Error::forbidden(
            &path.child("default"),
            format!("must not be set {reason}"),
        ));
    }
    for field in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        if is_set(schema, field) || field == "additionalItems" && !schema[field].is_null() {
            errors.push(Error::forbidden(
                &path.child(field),
                format!("{field} is not supported"),
            ));
        }
    }
    if ty == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(Error::forbidden(&path.child("type"), detail));
    }
    if schema["items"].is_array() {
        let detail = "items must be a schema object and not an array";
        errors.push(Error::forbidden(&path.child("items"), detail));
    }
    if view.inside_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.push(Error::forbidden(&path, "must not be used inside of resource meta"));
    }
}

fn extensions(schema: &Value, path: &Path, errors: &mut Vec<Error>) {
    let ty = text(schema, "type");
    let needs_type = |field: &str, wanted: &str| {
        let detail = format!("must be {wanted} if {field} is specified");
        if ty.is_empty() {
            Error::required(&path.child("type"), detail)
        } else {
            Error::invalid(&path.child("type"), ty, detail)
        }
    };
    if schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(false) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&path, false, "must be true or undefined"));
    }
    if let Some(kind) = schema["x-kubernetes-map-type"].as_str() {
        if ty != "object" {
            errors.push(needs_type("x-kubernetes-map-type", "object"));
        }
        if !matches!(kind, "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            errors.push(Error::not_supported(&path, kind, &["atomic", "granular"]));
        }
    }
    let list_type = schema["x-kubernetes-list-type"].as_str();
    let items = &schema["items"];
    if let Some(kind) = list_type {
        if ty != "array" {
            errors.push(needs_type("x-kubernetes-list-type", "array"));
        } else if kind == "set" && items.is_object() {
            set_items(items, path, errors);
        }
        if !matches!(kind, "atomic" | "set" | "map") {
            let path = path.child("x-kubernetes-list-type");
            errors.push(Error::not_supported(&path, kind, &["atomic", "set", "map"]));
        }
    }
    if list(schema, "x-kubernetes-list-map-keys").next().is_some() && list_type != Some("map") {
        let at = path.child("x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => Error::required(&at, detail),
            Some(kind) => Error::invalid(&at, kind, detail),
        });
    }
    if list_type == Some("map") {
        map_items(schema, path, errors);
    }
    if let Some(kind @ ("set" | "map")) = list_type
        && items.is_object()
    {
        keyed_items(schema, kind, path, errors);
    }
}

fn set_items(items: &Value, path: &Path, errors: &mut Vec<Error>) {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match text(items, "type") {
        "array" => {
            if let Some(kind) = items["x-kubernetes-list-type"].as_str().filter(|k| *k != "atomic") {
                let path = path.child("items").child("x-kubernetes-list-type");
                errors.push(Error::invalid(&path, kind, detail));
            }
        }
        "object" if items["x-kubernetes-map-type"] != "atomic" => {
            let path = path.child("items").child("x-kubernetes-map-type");
            errors.push(Error::invalid(&path, items["x-kubernetes-list-type"].clone(), detail));
        }
        _ => {}
    }
}

fn map_items(schema: &Value, path: &Path, errors: &mut Vec<Error>) {
    let items = &schema["items"];
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let keys: Vec<&str> = list(schema, "x-kubernetes-list-map-keys")
        .filter_map(Value::as_str)
        .collect();
    if keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(Error::required(&keys_path, detail));
    }
    if items.is_null() {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        errors.push(Error::required(&path.child("items"), detail));
        return;
    }
    if items.is_array() {
        let detail = "must only have a single schema if x-kubernetes-list-type is map";
        errors.push(Error::invalid(&path.child("items"), items.clone(), detail));
        return;
    }
    let ty = text(items, "type");
    if ty != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&path.child("items").child("type"), ty, detail));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        match items["properties"].get(key) {
            Some(property) => {
                if matches!(text(property, "type"), "array" | "object") {
                    let path = path.child("items").child("properties").key(key).child("type");
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    errors.push(Error::invalid(&path, ty, detail));
                }
            }
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(Error::invalid(&keys_path, keys.clone(), detail));
            }
        }
        if keys[..i].contains(key) {
            let detail = "must not contain duplicate entries";
            errors.push(Error::invalid(&keys_path, keys.clone(), detail));
        }
    }
}

/// Items of sets and maps are never null, and keys of maps always there.
fn keyed_items(schema: &Value, kind: &str, path: &Path, errors: &mut Vec<Error>) {
    let items = &schema["items"];
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(Error::forbidden(&path.child("items").child("nullable"), detail));
    }
    if kind != "map" {
        return;
    }
    for key in list(schema, "x-kubernetes-list-map-keys").filter_map(Value::as_str) {
        let Some(property) = items["properties"].get(key) else {
            continue;
        };
        let path = path.child("items").child("properties").key(key);
        if property["default"].is_null() && !list(items, "required").any(|name| name == key) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&path.child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&path.child("nullable"), detail));
        }
    }
}

const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// The texts of `x-kubernetes-validations`; compiling them is not for this crate.
fn rules(schema: &Value, path: &Path, errors: &mut Vec<Error>) {
    let broken = |text: &str| text.contains(['\n', '\r']);
    for (i, rule) in list(schema, "x-kubernetes-validations").enumerate() {
        let path = path.child("x-kubernetes-validations").index(i);
        let (expression, message) = (text(rule, "rule"), text(rule, "message"));
        if expression.trim().is_empty() {
            errors.push(Error::required(&path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            let detail = "message must be non-empty if specified";
            errors.push(Error::invalid(&path.child("message"), message, detail));
        } else if broken(message.trim()) {
            let detail = "message must not contain line breaks";
            errors.push(Error::invalid(&path.child("message"), message, detail));
        } else if broken(expression.trim()) && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&path.child("message"), detail));
        }
        let message_expression = text(rule, "messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&path.child("messageExpression"), detail));
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.push(Error::not_supported(&path.child("reason"), reason, &REASONS));
        }
        let field = text(rule, "fieldPath");
        let at = path.child("fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            errors.push(Error::invalid(&at, field, "fieldPath must be non-empty if specified"));
        }
        if broken(field) {
            errors.push(Error::invalid(&at, field, "fieldPath must not contain line breaks"));
        }
        if !field.is_empty() && resolve_field(schema, field).is_none() {
            errors.push(Error::invalid(&at, field, "fieldPath must be a valid path"));
        }
    }
}

/// The schema that a `fieldPath` (`.spec.x`, `.map['key']`) leads to.
pub fn resolve_field<'s>(schema: &'s Value, path: &str) -> Option<&'s Value> {
    let mut at = schema;
    for step in field_steps(path)? {
        at = match (at["properties"].get(&step), &at["additionalProperties"]) {
            (Some(below), _) => below,
            (None, below @ Value::Object(_)) => below,
            _ => return None,
        };
    }
    Some(at)
}

/// The names in a `fieldPath`; `None` if it is none.
pub fn field_steps(path: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("['") {
            let mut name = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => name.push(chars.next()?.1),
                    (at, '\'') => break at,
                    (_, c) => name.push(c),
                }
            };
            rest = after[end + 1..].strip_prefix(']')?;
            steps.push(name);
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0
                || !after[..end]
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '_' || c == '$')
            {
                return None;
            }
            steps.push(after[..end].to_owned());
            rest = &after[end..];
        }
    }
    (!steps.is_empty()).then_some(steps)
}

/// The fields that a root schema may have where the status subresource is enabled; Go's names, as the
/// message lists them.
const AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// What a root schema may not say where status is a part of its own.
pub fn status_root_errors(schema: &Value, path: &Path) -> Vec<Error> {
    let empty = Map::new();
    let fields = schema.as_object().unwrap_or(&empty);
    let ty = text(schema, "type");
    if !ty.is_empty() && ty != "object" {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return vec![Error::invalid(&Path::new(&format!("{path}.type")), ty, detail)];
    }
    let odd = fields
        .keys()
        .any(|field| is_set(schema, field) && !AT_ROOT.iter().any(|(name, _)| name == field));
    if !odd {
        return Vec::new();
    }
    let names = AT_ROOT.map(|(_, name)| name).join(" ");
    let detail =
        format!("only [{names}] fields are allowed at the root of the schema if the status subresource is enabled");
    vec![Error::invalid(path, schema.clone(), detail)]
}
