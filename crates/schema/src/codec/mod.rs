//! From bytes to trees by schema, and back.
//!
//! Decoding follows Go: an unknown member is dropped (and reported when strict), `null` equals
//! absence, times, durations and quantities take their canonical form. Field names are compared
//! byte by byte.

mod changes;
pub mod json;
pub mod protobuf;
mod scan;
pub(crate) mod time;
pub mod unknown;
pub mod yaml;

use serde_json::Value;

pub use changes::reshape_changes;
pub use json::{TypeMeta, decode_json, decode_value, repeated_fields, type_meta};
pub use yaml::decode_yaml;

/// A decoded tree and what strict validation holds against its source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Only known members; [`crate::normalize`] gives it the shape that clients see.
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.x"`, … in source order, at most 100.
    pub strict: Vec<String>,
}

/// Why a text is no object of the type. `Display` is upstream's wording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(String),
    /// It is no YAML.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
    /// A value has the wrong JSON type.
    #[error("json: cannot unmarshal {found} into Go {place} of type {wanted}")]
    Type {
        /// What was there: `string`, `number 1.5`, `object`, …
        found: String,
        /// `struct field PodSpec.spec.containers` or `value`.
        place: String,
        /// Go's name of the type that belongs there.
        wanted: String,
    },
    /// A string does not parse as a time, quantity, duration or base64.
    #[error("{0}")]
    Format(String),
    /// Nested deeper than any object should be.
    #[error("exceeded max depth")]
    TooDeep,
}
