//! The object types that expressions can use.

use std::sync::Arc;

use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Struct, Text, Value};

/// Knows object types and their fields.
pub trait TypeProvider: Send + Sync + std::fmt::Debug {
    /// Whether there is an object type of this name.
    fn has_type(&self, name: &str) -> bool;

    /// The type of a field, by its name in expressions, if the type has it.
    fn field_type(&self, name: &str, field: &str) -> Option<Type>;

    /// Whether expressions may make values of the type (`Name{field: …}`).
    fn can_construct(&self, _name: &str) -> bool {
        false
    }

    /// Makes a value of the type.
    fn construct(&self, name: &str, _fields: Vec<(Text, Value)>) -> Result<Value, EvalError> {
        Err(EvalError::new(format!("unknown type '{name}'")))
    }
}

/// The types of MutatingAdmissionPolicy: `Object` and everything below it, whose fields are dynamic, and `JSONPatch`
/// (k8s.io/apiserver/pkg/cel/mutation).
#[derive(Debug, Default)]
pub struct MutationTypes;

impl MutationTypes {
    /// The name of the root of apply configurations.
    pub const OBJECT: &str = "Object";
    /// The name of one operation of a JSON patch.
    pub const JSON_PATCH: &str = "JSONPatch";

    fn is_object(name: &str) -> bool {
        name.strip_prefix(Self::OBJECT)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl TypeProvider for MutationTypes {
    fn has_type(&self, name: &str) -> bool {
        name == Self::JSON_PATCH || Self::is_object(name)
    }

    fn field_type(&self, name: &str, field: &str) -> Option<Type> {
        match (name, field) {
            (Self::JSON_PATCH, "op" | "path" | "from") => Some(Type::String),
            (Self::JSON_PATCH, "value") => Some(Type::Dyn),
            (Self::JSON_PATCH, _) => None,
            _ => Self::is_object(name).then_some(Type::Dyn),
        }
    }

    fn can_construct(&self, name: &str) -> bool {
        self.has_type(name)
    }

    fn construct(&self, name: &str, fields: Vec<(Text, Value)>) -> Result<Value, EvalError> {
        if name == Self::JSON_PATCH {
            for (field, value) in &fields {
                if matches!(&**field, "op" | "path" | "from") && !matches!(value, Value::String(_)) {
                    let ty = value.type_of();
                    return Err(EvalError::new(format!(
                        "unexpected type {ty} for JSONPatchType '{field}' field"
                    )));
                }
            }
        }
        Ok(Value::Struct(Arc::new(Struct {
            name: name.into(),
            fields,
        })))
    }
}
