//! The types of expressions and how they are written in messages.

use std::fmt;
use std::sync::Arc;

/// The type of a CEL expression. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Checked at run time only.
    Dyn,
    /// The type of an expression that has an error; nothing is reported about it again.
    Error,
    /// The type of `null`.
    Null,
    /// `bool`
    Bool,
    /// `int`, 64 bits, signed.
    Int,
    /// `uint`, 64 bits, unsigned.
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// A moment, as `google.protobuf.Timestamp`.
    Timestamp,
    /// A span of time, as `google.protobuf.Duration`.
    Duration,
    /// A list and its elements' type.
    List(Arc<Type>),
    /// A map, its keys' and its values' type.
    Map(Arc<(Type, Type)>),
    /// A type as a value; the parameter is the type it denotes, where that is known.
    Type(Option<Arc<Type>>),
    /// A type that only functions look into, such as `net.IP` or `optional_type`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// An object type of the type provider, by name.
    Object(Arc<str>),
    /// A type parameter of a function's signature, or a free variable of the checker.
    Param(Arc<str>),
}

/// The name of the type of optional values.
pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    /// `list(element)`
    pub fn list(element: Type) -> Self {
        Type::List(Arc::new(element))
    }

    /// `map(key, value)`
    pub fn map(key: Type, value: Type) -> Self {
        Type::Map(Arc::new((key, value)))
    }

    /// An object type of the type provider.
    pub fn object(name: &str) -> Self {
        Type::Object(name.into())
    }

    /// An opaque type without parameters.
    pub fn opaque(name: &str) -> Self {
        Type::Opaque(name.into(), [].into())
    }

    /// `optional_type(of)`
    pub fn optional(of: Type) -> Self {
        Type::Opaque(OPTIONAL.into(), [of].into())
    }

    /// A type parameter, for signatures.
    pub fn param(name: &str) -> Self {
        Type::Param(name.into())
    }

    /// The type of a type's value: `type(of)`.
    pub fn type_of(of: Type) -> Self {
        Type::Type(Some(Arc::new(of)))
    }

    /// What an optional type holds.
    pub fn optional_of(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, of) if &**name == OPTIONAL => of.first(),
            _ => None,
        }
    }

    /// Whether it is `dyn`.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    /// Whether it is the type of an expression in error.
    pub fn is_error(&self) -> bool {
        matches!(self, Type::Error)
    }

    /// The name a value of this type has for `type(value)`, e.g. `list`.
    pub fn runtime_name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Error => "error",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Type(_) => "type",
            Type::Opaque(name, _) | Type::Object(name) | Type::Param(name) => name,
        }
    }

    /// Types directly inside this one.
    pub(crate) fn parameters(&self) -> Vec<&Type> {
        match self {
            Type::List(element) => vec![element],
            Type::Map(entry) => vec![&entry.0, &entry.1],
            Type::Type(Some(of)) => vec![of],
            Type::Opaque(_, of) => of.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// How many types it is made of, counted until `limit`: types share their parts, so that a short expression can
    /// have a type that is exponentially large when it is walked.
    pub(crate) fn weight(&self, limit: usize) -> usize {
        let mut total = 1;
        for part in self.parameters() {
            if total >= limit {
                break;
            }
            total += part.weight(limit - total);
        }
        total
    }
}

impl fmt::Display for Type {
    /// As cel-go's `FormatCELType` (checker/format.go).
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Type::Error => "!error!",
            Type::Null => "null",
            Type::Timestamp => "timestamp",
            Type::Duration => "duration",
            _ => self.runtime_name(),
        };
        out.write_str(name)?;
        let parameters = self.parameters();
        if parameters.is_empty() {
            return Ok(());
        }
        out.write_str("(")?;
        for (index, parameter) in parameters.iter().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            write!(out, "{parameter}")?;
        }
        out.write_str(")")
    }
}
