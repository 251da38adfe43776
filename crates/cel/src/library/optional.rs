//! Optional values (cel-go's cel/library.go).

use crate::error::EvalError;
use crate::function::{Body, Functions};
use crate::value::{List, Value};

fn value(arguments: &[Value]) -> Result<Value, EvalError> {
    match arguments {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn unwrap(arguments: &[Value]) -> Result<Value, EvalError> {
    let [Value::List(list)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let mut values = Vec::new();
    for value in list.iter() {
        match value? {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            other => return Err(EvalError::new(format!("value {other} is not optional"))),
        }
    }
    Ok(Value::List(List::from(values)))
}

fn element(arguments: &[Value], last: bool) -> Result<Value, EvalError> {
    let [Value::List(list)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let index = if last { list.len().saturating_sub(1) } else { 0 };
    Ok(list.get(index).transpose()?.map_or_else(Value::none, Value::some))
}

/// Declares the functions.
pub(super) fn declare(functions: &mut Functions) {
    functions.native("optional.of", "optional_of", "(V):optional(V)", |a| match a {
        [value] => Ok(Value::some(value.clone())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.native(
        "optional.ofNonZeroValue",
        "optional_ofNonZeroValue",
        "(V):optional(V)",
        |a| match a {
            [value] if value.is_zero() => Ok(Value::none()),
            [value] => Ok(Value::some(value.clone())),
            _ => Err(EvalError::no_such_overload()),
        },
    );
    functions.native(
        "optional.none",
        "optional_none",
        "():optional(V)",
        |_| Ok(Value::none()),
    );
    functions.native("value", "optional_value", ".(optional(V)):V", value);
    functions.native("hasValue", "optional_hasValue", ".(optional(V)):bool", |a| match a {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.native("last", "list_last", ".(list(V)):optional(V)", |a| element(a, true));
    functions.native("first", "list_first", ".(list(V)):optional(V)", |a| element(a, false));
    functions.native(
        "optional.unwrap",
        "optional_unwrap",
        "(list(optional(V))):list(V)",
        unwrap,
    );
    functions.native(
        "unwrapOpt",
        "optional_unwrapOpt",
        ".(list(optional(V))):list(V)",
        unwrap,
    );
    let mut special = |name, id: &'static str, signature| functions.add(name, id, signature, Body::Special);
    special("or", "optional_or_optional", ".(optional(V),optional(V)):optional(V)");
    special("orValue", "optional_orValue_value", ".(optional(V),V):V");
    special("_?._", "select_optional_field", "(dyn,string):optional(V)");
    special("_[?_]", "list_optindex_optional_int", "(list(V),int):optional(V)");
    special(
        "_[?_]",
        "optional_list_optindex_optional_int",
        "(optional(list(V)),int):optional(V)",
    );
    special("_[?_]", "map_optindex_optional_value", "(map(K,V),K):optional(V)");
    special(
        "_[?_]",
        "optional_map_optindex_optional_value",
        "(optional(map(K,V)),K):optional(V)",
    );
    special("_[_]", "optional_list_index_int", "(optional(list(V)),int):optional(V)");
    special("_[_]", "optional_map_index_value", "(optional(map(K,V)),K):optional(V)");
}
