//! From JSON, by a schema or without, and back.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Tree;

use crate::error::EvalError;
use crate::limits::MAX_JSON_VALUES;
use crate::schema::{Decl, Shape};
use crate::time;

use super::{Json, Key, List, Map, Opaque, Value};

fn kind_of(tree: &Tree) -> &'static str {
    match tree {
        Tree::Null => "<nil>",
        Tree::Bool(_) => "bool",
        Tree::Number(number) if number.is_i64() => "int64",
        Tree::Number(_) => "float64",
        Tree::String(_) => "string",
        Tree::Array(_) => "[]interface {}",
        Tree::Object(_) => "map[string]interface {}",
    }
}

impl Value {
    /// The value of a JSON node by its declaration. Nothing is copied; parts are looked at when they are asked for.
    /// The errors are upstream's (`UnstructuredToVal` in pkg/cel/common/valuesunstructured.go).
    pub fn from_json(json: impl Into<Json>, decl: &Arc<Decl>) -> Result<Value, EvalError> {
        let json = json.into();
        let tree = json.value();
        if matches!(decl.shape, Shape::Any) {
            return Value::from_dynamic_json(json);
        }
        if tree.is_null() {
            return if decl.nullable {
                Ok(Value::Null)
            } else {
                Err(EvalError::new("invalid data, got null for schema with nullable=false"))
            };
        }
        let wanted = |what: &str| EvalError::new(format!("invalid data, expected {what}, got {}", kind_of(tree)));
        Ok(match &decl.shape {
            Shape::IntOrString => match (tree.as_i64(), json.text()) {
                (Some(number), _) => Value::Int(number),
                (_, Some(text)) => Value::String(text),
                _ => {
                    let message = "invalid data, expected XIntOrString value to be either a string or integer";
                    return Err(EvalError::new(message));
                }
            },
            Shape::Map(_) | Shape::Object { .. } if tree.is_object() => Value::Map(Map::json(json, Some(decl.clone()))),
            Shape::Map(_) | Shape::Object { .. } => {
                let message = "invalid data, expected a map for the provided schema with type=object";
                return Err(EvalError::new(message));
            }
            Shape::List { .. } if tree.is_array() => Value::List(List::json(json, Some(decl.clone()))),
            Shape::List { .. } => {
                let message = "invalid data, expected an array for the provided schema with type=array";
                return Err(EvalError::new(message));
            }
            Shape::Bool => Value::Bool(tree.as_bool().ok_or_else(|| wanted("bool"))?),
            Shape::Int => Value::Int(tree.as_i64().ok_or_else(|| wanted("int"))?),
            Shape::Double => Value::Double(tree.as_f64().ok_or_else(|| wanted("float"))?),
            Shape::String => Value::String(json.text().ok_or_else(|| wanted("string"))?),
            Shape::Bytes | Shape::Date | Shape::DateTime | Shape::Duration => {
                formatted(tree.as_str().ok_or_else(|| wanted("string"))?, &decl.shape)?
            }
            Shape::Any => Value::Null,
        })
    }

    /// The value of a JSON node without a schema: objects are maps, whole numbers are `int`.
    pub fn from_dynamic_json(json: impl Into<Json>) -> Result<Value, EvalError> {
        let json = json.into();
        Ok(match json.value() {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Tree::String(_) => json.text().map_or(Value::Null, Value::String),
            Tree::Array(_) => Value::List(List::json(json, None)),
            Tree::Object(_) => Value::Map(Map::json(json, None)),
        })
    }

    /// The value as JSON: bytes as base64, moments and durations as strings, an empty optional as null. What an
    /// expression made of JSON's own types comes out as it went in.
    pub fn to_json(&self) -> Result<Tree, EvalError> {
        to_json(self, &mut MAX_JSON_VALUES.clone())
    }
}

fn formatted(text: &str, shape: &Shape) -> Result<Value, EvalError> {
    match shape {
        Shape::Duration => time::parse_open_api_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| EvalError::new(format!("Invalid duration {text}: unable to parse {text} into duration"))),
        Shape::Date => time::parse_date(text)
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::new(format!("Invalid date formatted string {text}: cannot parse {text:?}"))),
        Shape::DateTime => time::parse_open_api_date_time(text)
            .map(Value::Timestamp)
            .ok_or_else(|| {
                EvalError::new(format!(
                    "Invalid date-time formatted string {text}: cannot parse {text:?}"
                ))
            }),
        _ => BASE64
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|error| EvalError::new(format!("Invalid byte formatted string {text}: {error}"))),
    }
}

fn to_json(value: &Value, budget: &mut usize) -> Result<Tree, EvalError> {
    *budget = budget.checked_sub(1).ok_or_else(|| EvalError::too_large("value"))?;
    Ok(match value {
        Value::Null | Value::Optional(None) => Tree::Null,
        Value::Bool(value) => Tree::Bool(*value),
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => (*value).into(),
        Value::Double(value) => serde_json::Number::from_f64(*value)
            .map(Tree::Number)
            .ok_or_else(|| EvalError::new(format!("{value} has no JSON form")))?,
        Value::String(text) => Tree::String((**text).to_owned()),
        Value::Bytes(bytes) => Tree::String(BASE64.encode(bytes)),
        Value::Timestamp(_) | Value::Duration(_) => Tree::String(value.to_string()),
        Value::List(list) => match list.as_json() {
            Some(tree) => tree.clone(),
            None => Tree::Array(
                list.iter()
                    .map(|value| to_json(&value?, budget))
                    .collect::<Result<_, _>>()?,
            ),
        },
        Value::Map(map) => match map.as_json() {
            Some((tree, _)) => tree.clone(),
            None => map_to_json(map, budget)?,
        },
        Value::Struct(value) => {
            let mut object = serde_json::Map::new();
            for (name, value) in &value.fields {
                object.insert((**name).to_owned(), to_json(value, budget)?);
            }
            Tree::Object(object)
        }
        Value::Optional(Some(value)) => to_json(value, budget)?,
        Value::Opaque(value) => match &**value {
            Opaque::Quantity(quantity) => Tree::String(quantity.to_string()),
            Opaque::Ip(address) => Tree::String(address.to_string()),
            Opaque::Cidr(cidr) => Tree::String(cidr.to_string()),
            Opaque::Url(url) => Tree::String(url.to_string()),
            Opaque::Semver(version) => Tree::String(version.to_string()),
            Opaque::Format(_) | Opaque::Authorizer(_) => return Err(no_json(value.type_of())),
        },
        Value::Type(_) | Value::Host(_) => return Err(no_json(value.type_of())),
    })
}

fn no_json(ty: crate::types::Type) -> EvalError {
    EvalError::new(format!("values of type {ty} have no JSON form"))
}

fn map_to_json(map: &Map, budget: &mut usize) -> Result<Tree, EvalError> {
    let mut object = serde_json::Map::new();
    for (key, value) in map.entries()? {
        let name = match key {
            Key::String(text) => (*text).to_owned(),
            other => other.value().to_string(),
        };
        object.insert(name, to_json(&value, budget)?);
    }
    Ok(Tree::Object(object))
}
