//! Values as texts in messages (Go's `%v` of cel-go's values).

use std::fmt;

use super::Value;
use crate::time;

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => out.write_str("null"),
            Value::Bool(value) => value.fmt(out),
            Value::Int(value) => value.fmt(out),
            Value::Uint(value) => value.fmt(out),
            Value::Double(value) => out.write_str(&time::format_double(*value)),
            Value::String(text) => text.fmt(out),
            Value::Bytes(bytes) => out.write_str(&String::from_utf8_lossy(bytes)),
            Value::Timestamp(value) => out.write_str(&time::format_timestamp(*value)),
            Value::Duration(value) => out.write_str(&time::format_duration(*value)),
            Value::List(list) => {
                out.write_str("[")?;
                for (index, value) in list.iter().take(MAX_SHOWN).enumerate() {
                    if index > 0 {
                        out.write_str(", ")?;
                    }
                    match value {
                        Ok(value) if !value.is_container() => value.fmt(out)?,
                        Ok(value) => out.write_str(value.type_of().runtime_name())?,
                        Err(error) => error.fmt(out)?,
                    }
                }
                out.write_str("]")
            }
            Value::Map(_) | Value::Struct(_) | Value::Optional(_) | Value::Opaque(_) | Value::Host(_) => {
                out.write_str(self.type_of().runtime_name())
            }
            Value::Type(ty) => out.write_str(ty.runtime_name()),
        }
    }
}

/// Elements of a list that are shown.
const MAX_SHOWN: usize = 64;

impl Value {
    fn is_container(&self) -> bool {
        matches!(self, Value::List(_) | Value::Map(_) | Value::Struct(_))
    }
}
