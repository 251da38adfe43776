//! Values: scalars, lists, maps, objects, and trees of JSON that are looked into lazily.

mod convert;
mod equal;
mod json;
mod list;
mod map;
mod show;

use std::sync::Arc;

pub use json::{Json, Text};
pub use list::List;
pub use map::{Key, Map};

use crate::authorizer::AuthorizerValue;
use crate::error::EvalError;
use crate::library::format::NamedFormat;
use crate::library::network::Cidr;
use crate::library::semver::Semver;
use crate::library::url::Url;
use crate::time::Timestamp;
use crate::types::Type;

pub(crate) use equal::{Fuel, add_lists};

/// A value of an expression. Cheap to clone: whatever is large is shared.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`
    Null,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Text),
    /// `bytes`
    Bytes(Arc<[u8]>),
    /// A moment.
    Timestamp(Timestamp),
    /// A span of time in nanoseconds, as Go's `time.Duration`.
    Duration(i64),
    /// `list`
    List(List),
    /// `map`, and objects of the API.
    Map(Map),
    /// An object that an expression made.
    Struct(Arc<Struct>),
    /// `type`
    Type(Type),
    /// `optional_type`
    Optional(Option<Arc<Value>>),
    /// A value that only functions look into.
    Opaque(Arc<Opaque>),
    /// An object whose fields the host gives when they are asked for.
    Host(Arc<dyn HostObject>),
}

/// An object made by an expression (`Name{field: …}`).
#[derive(Debug)]
pub struct Struct {
    /// The type's name.
    pub name: Arc<str>,
    /// Fields in the order they were given.
    pub fields: Vec<(Text, Value)>,
}

impl Struct {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields
            .iter()
            .rev()
            .find(|(field, _)| &**field == name)
            .map(|(_, value)| value)
    }
}

/// Values of Kubernetes' libraries.
#[derive(Debug)]
pub enum Opaque {
    /// `quantity('1Gi')`
    Quantity(api::Quantity),
    /// `ip('::1')`
    Ip(std::net::IpAddr),
    /// `cidr('10.0.0.0/8')`
    Cidr(Cidr),
    /// `url('https://example.com')`
    Url(Url),
    /// `semver('1.2.3')`
    Semver(Semver),
    /// `format.dns1123Label()`
    Format(&'static NamedFormat),
    /// Everything that starts at the variable `authorizer`.
    Authorizer(AuthorizerValue),
}

/// An object whose fields the host gives when they are asked for, such as the variables of an admission policy, which
/// are evaluated on first use.
pub trait HostObject: Send + Sync + std::fmt::Debug {
    /// The name of its type.
    fn type_name(&self) -> &str;
    /// A field's value; none when there is no such field.
    fn field(&self, name: &str) -> Option<Result<Value, EvalError>>;
    /// Whether the field is there, without evaluating it.
    fn has_field(&self, name: &str) -> bool {
        self.field(name).is_some()
    }
}

impl Value {
    /// A string.
    pub fn string(text: impl Into<Text>) -> Self {
        Value::String(text.into())
    }

    /// A list.
    pub fn list(values: Vec<Value>) -> Self {
        Value::List(List::from(values))
    }

    /// A map from strings.
    pub fn map<K: Into<Text>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Value::Map(Map::from_entries(
            entries.into_iter().map(|(key, value)| (Key::String(key.into()), value)),
        ))
    }

    /// An optional with a value.
    pub fn some(value: Value) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    /// An optional without a value.
    pub fn none() -> Self {
        Value::Optional(None)
    }

    pub(crate) fn opaque(value: Opaque) -> Self {
        Value::Opaque(Arc::new(value))
    }

    /// The bool, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The type of the value, as `type(value)` has it: lists and maps without parameters.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Struct(value) => Type::Object(value.name.clone()),
            Value::Type(_) => Type::Type(None),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Opaque(value) => value.type_of(),
            Value::Host(value) => Type::object(value.type_name()),
        }
    }

    /// The size that costs are computed from: characters, bytes, elements or entries, else 1
    /// (`actualSize` in cel-go's interpreter/runtimecost.go).
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Value::Optional(Some(value)) => value.cost_size(),
            _ => self.sized().unwrap_or(1),
        }
    }

    /// The size of a value that has one.
    pub(crate) fn sized(&self) -> Option<u64> {
        Some(match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Opaque(value) => match &**value {
                Opaque::Ip(address) => {
                    if address.is_ipv4() {
                        4
                    } else {
                        16
                    }
                }
                Opaque::Cidr(cidr) => u64::from(cidr.prefix.div_ceil(8)),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Whether it is the zero value of its type (`optional.ofNonZeroValue`).
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Int(value) | Value::Duration(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Timestamp(_) | Value::Type(_) | Value::Host(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Map(map) => map.is_empty(),
            Value::Struct(value) => value.fields.is_empty(),
            Value::Optional(value) => value.is_none(),
            Value::Opaque(_) => false,
        }
    }
}

impl Opaque {
    fn type_of(&self) -> Type {
        match self {
            Opaque::Quantity(_) => Type::object("kubernetes.Quantity"),
            Opaque::Ip(_) => Type::opaque("net.IP"),
            Opaque::Cidr(_) => Type::opaque("net.CIDR"),
            Opaque::Url(_) => Type::object("kubernetes.URL"),
            Opaque::Semver(_) => Type::object("kubernetes.Semver"),
            Opaque::Format(_) => Type::object("kubernetes.NamedFormat"),
            Opaque::Authorizer(value) => value.type_of(),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::string(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::string(text)
    }
}
