//! Functions: their signatures, and what they do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::error::EvalError;
use crate::types::{OPTIONAL, Type};
use crate::value::{Opaque, Value};

/// What an overload does with its arguments; the receiver is the first.
pub(crate) type Native = fn(&[Value]) -> Result<Value, EvalError>;
/// As [`Native`], for a function whose second argument is a regular expression, compiled.
pub(crate) type NativeRegex = fn(&[Value], &Regex) -> Result<Value, EvalError>;

#[derive(Clone, Copy)]
pub(crate) enum Body {
    Native(Native),
    Regex(NativeRegex),
    /// Evaluated by a node of its own.
    Special,
}

pub(crate) struct Overload {
    pub id: Cow<'static, str>,
    pub member: bool,
    pub params: Vec<Type>,
    pub result: Type,
    pub body: Body,
}

pub(crate) struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
}

/// Functions by name.
#[derive(Clone, Default)]
pub(crate) struct Functions(BTreeMap<&'static str, Arc<Function>>);

impl Functions {
    pub fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.0.get(name)
    }

    /// Adds an overload. `signature` is `(params):result`, with a dot in front for one that is called on a receiver;
    /// single capitals are type parameters.
    pub fn add(&mut self, name: &'static str, id: impl Into<Cow<'static, str>>, signature: &str, body: Body) {
        let (params, result) = signature.rsplit_once("):").expect("a signature has a result");
        let member = params.starts_with('.');
        let params = params.trim_start_matches('.').trim_start_matches('(');
        let overload = Overload {
            id: id.into(),
            member,
            params: types(params),
            result: ty(result),
            body,
        };
        let function = self.0.entry(name).or_insert_with(|| {
            Arc::new(Function {
                name,
                overloads: Vec::new(),
            })
        });
        if let Some(function) = Arc::get_mut(function) {
            function.overloads.retain(|other| other.id != overload.id);
            function.overloads.push(overload);
        } else {
            let mut overloads: Vec<Overload> = function.overloads.iter().map(Overload::copy).collect();
            overloads.retain(|other| other.id != overload.id);
            overloads.push(overload);
            *function = Arc::new(Function { name, overloads });
        }
    }

    pub fn native(&mut self, name: &'static str, id: impl Into<Cow<'static, str>>, signature: &str, native: Native) {
        self.add(name, id, signature, Body::Native(native));
    }
}

impl Overload {
    fn copy(&self) -> Self {
        Self {
            id: self.id.clone(),
            member: self.member,
            params: self.params.clone(),
            result: self.result.clone(),
            body: self.body,
        }
    }

    /// Whether the arguments' types at run time are those of the signature.
    pub fn accepts(&self, arguments: &[Value]) -> bool {
        self.params.len() == arguments.len()
            && self
                .params
                .iter()
                .zip(arguments)
                .all(|(param, argument)| accepts(param, argument))
    }
}

fn accepts(param: &Type, value: &Value) -> bool {
    match (param, value) {
        (Type::Dyn | Type::Param(_), _) => true,
        (Type::List(_), Value::List(_)) => true,
        (Type::Map(_), Value::Map(_)) => true,
        (Type::Type(_), Value::Type(_)) => true,
        (Type::Opaque(name, _), Value::Optional(_)) => &**name == OPTIONAL,
        (Type::Opaque(name, _) | Type::Object(name), Value::Opaque(value)) => *opaque_name(value) == **name,
        (Type::Object(name), Value::Struct(value)) => *name == value.name,
        (Type::Object(name), Value::Host(value)) => value.type_name() == &**name,
        // Objects of the API are maps at run time.
        (Type::Object(_), Value::Map(_)) => true,
        (Type::List(_) | Type::Map(_) | Type::Type(_) | Type::Opaque(..) | Type::Object(_), _) => false,
        _ => *param == value.type_of(),
    }
}

fn opaque_name(value: &Opaque) -> &'static str {
    match value {
        Opaque::Quantity(_) => "kubernetes.Quantity",
        Opaque::Ip(_) => "net.IP",
        Opaque::Cidr(_) => "net.CIDR",
        Opaque::Url(_) => "kubernetes.URL",
        Opaque::Semver(_) => "kubernetes.Semver",
        Opaque::Format(_) => "kubernetes.NamedFormat",
        Opaque::Authorizer(value) => value.type_name(),
    }
}

/// Types of a comma-separated list, with nesting.
fn types(text: &str) -> Vec<Type> {
    let mut types = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                types.push(ty(&text[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    if start < text.len() {
        types.push(ty(&text[start..]));
    }
    types
}

fn ty(text: &str) -> Type {
    if let Some((name, inside)) = text.split_once('(') {
        let mut inside = types(inside.strip_suffix(')').expect("a type's brackets close"));
        let last = inside.pop().expect("a type in brackets");
        return match name {
            "list" => Type::list(last),
            "map" => Type::map(inside.pop().expect("a map has two types"), last),
            "optional" => Type::optional(last),
            _ => Type::type_of(last),
        };
    }
    match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "null" => Type::Null,
        "dyn" => Type::Dyn,
        _ if text.len() == 1 => Type::param(text),
        _ if text.starts_with("net.") => Type::opaque(text),
        _ => Type::object(text),
    }
}

impl EvalError {
    /// cel-go's message for a function that has no overload for its arguments.
    pub(crate) fn no_such_overload_of(name: &str, arguments: &[Value]) -> Self {
        let names: Vec<String> = arguments
            .iter()
            .map(|argument| argument.type_of().runtime_name().to_owned())
            .collect();
        EvalError::new(format!("no such overload: {name}({})", names.join(", ")))
    }
}
