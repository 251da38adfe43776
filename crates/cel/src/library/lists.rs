//! The `lists` extension (cel-go's ext/lists.go) and Kubernetes' own lists
//! (k8s.io/apiserver/pkg/cel/library/lists.go).

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::function::Functions;
use crate::limits::MAX_LIST_LENGTH;
use crate::value::{Fuel, List, Value};

use super::std::add;

fn list(arguments: &[Value]) -> Result<&List, EvalError> {
    match arguments.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, EvalError> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let failed = |why: String| Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")));
    if *start < 0 || *end < 0 {
        return failed("negative indexes not supported".to_owned());
    }
    if start > end {
        return failed("start index must be less than or equal to end index".to_owned());
    }
    if (list.len() as u64) < *end as u64 {
        return failed(format!("list is length {}", list.len()));
    }
    let values: Result<Vec<Value>, _> = (*start as usize..*end as usize)
        .filter_map(|index| list.get(index))
        .collect();
    Ok(Value::list(values?))
}

fn flatten(list: &List, depth: i64, into: &mut Vec<Value>) -> Result<(), EvalError> {
    for value in list.iter() {
        match value? {
            Value::List(nested) if depth > 0 => flatten(&nested, depth - 1, into)?,
            other if into.len() >= MAX_LIST_LENGTH => {
                drop(other);
                return Err(EvalError::too_large("list"));
            }
            other => into.push(other),
        }
    }
    Ok(())
}

fn flattened(arguments: &[Value]) -> Result<Value, EvalError> {
    let depth = match arguments.get(1) {
        Some(Value::Int(depth)) => *depth,
        None => 1,
        _ => return Err(EvalError::no_such_overload()),
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut values = Vec::new();
    flatten(list(arguments)?, depth, &mut values)?;
    Ok(Value::list(values))
}

fn sorted_by(arguments: &[Value]) -> Result<Value, EvalError> {
    let [Value::List(list), Value::List(keys)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    if list.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let mut pairs: Vec<(Value, Value)> = keys.values()?.into_iter().zip(list.values()?).collect();
    if let Some((first, _)) = pairs.first() {
        let ty = first.type_of();
        if first.compare(first).is_err() {
            return Err(EvalError::new("list elements must be comparable"));
        }
        if pairs.iter().any(|(key, _)| key.type_of() != ty) {
            return Err(EvalError::new("list elements must have the same type"));
        }
    }
    pairs.sort_by(|(one, _), (two, _)| one.compare(two).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, value)| value).collect()))
}

fn sorted(arguments: &[Value]) -> Result<Value, EvalError> {
    let list = Value::List(list(arguments)?.clone());
    sorted_by(&[list.clone(), list])
}

fn distinct(arguments: &[Value]) -> Result<Value, EvalError> {
    let mut values: Vec<Value> = Vec::new();
    let mut fuel = Fuel::new();
    'elements: for value in list(arguments)?.iter() {
        let value = value?;
        for seen in &values {
            if value.equals_within(seen, &mut fuel)? {
                continue 'elements;
            }
        }
        values.push(value);
    }
    Ok(Value::list(values))
}

fn range(arguments: &[Value]) -> Result<Value, EvalError> {
    match arguments {
        [Value::Int(end)] if *end > MAX_LIST_LENGTH as i64 => Err(EvalError::too_large("list")),
        [Value::Int(end)] => Ok(Value::list((0..*end).map(Value::Int).collect())),
        _ => Err(EvalError::no_such_overload()),
    }
}

const COMPARABLE: &[&str] = &[
    "int",
    "uint",
    "double",
    "bool",
    "duration",
    "timestamp",
    "string",
    "bytes",
];

/// The name of a comparable type in the identifiers of the `lists` extension.
fn long_name(name: &str) -> &str {
    match name {
        "duration" => "google.protobuf.Duration",
        "timestamp" => "google.protobuf.Timestamp",
        _ => name,
    }
}

/// Declares the extension.
pub(super) fn declare(functions: &mut Functions) {
    functions.native("slice", "list_slice", ".(list(T),int,int):list(T)", slice);
    functions.native("flatten", "list_flatten", ".(list(list(T))):list(T)", flattened);
    functions.native("flatten", "list_flatten_int", ".(list(dyn),int):list(dyn)", flattened);
    for name in COMPARABLE {
        let long = long_name(name);
        functions.native(
            "sort",
            format!("list_{long}_sort"),
            &format!(".(list({name})):list({name})"),
            sorted,
        );
        let signature = format!(".(list(T),list({name})):list(T)");
        functions.native(
            "@sortByAssociatedKeys",
            format!("list_{long}_sortByAssociatedKeys"),
            &signature,
            sorted_by,
        );
    }
    functions.native("lists.range", "lists_range", "(int):list(int)", range);
    functions.native("reverse", "list_reverse", ".(list(T)):list(T)", |a| {
        let mut values = list(a)?.values()?;
        values.reverse();
        Ok(Value::list(values))
    });
    functions.native("distinct", "list_distinct", ".(list(T)):list(T)", distinct);
}

fn is_sorted(arguments: &[Value]) -> Result<Value, EvalError> {
    let mut previous: Option<Value> = None;
    for value in list(arguments)?.iter() {
        let value = value?;
        if let Some(previous) = &previous
            && previous.compare(&value)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(value);
    }
    Ok(Value::Bool(true))
}

fn extreme(arguments: &[Value], name: &str, wanted: Ordering) -> Result<Value, EvalError> {
    let mut result: Option<Value> = None;
    for value in list(arguments)?.iter() {
        let value = value?;
        match &result {
            Some(best) if best.compare(&value)? != wanted => {}
            _ => result = Some(value),
        }
    }
    result.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn sum(arguments: &[Value], zero: Value) -> Result<Value, EvalError> {
    let mut total = zero;
    for value in list(arguments)?.iter() {
        total = add(&[total, value?])?;
    }
    Ok(total)
}

fn position(arguments: &[Value], last: bool) -> Result<Value, EvalError> {
    let [Value::List(list), item] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let mut fuel = Fuel::new();
    let mut found = -1;
    for (index, value) in list.iter().enumerate() {
        if value?.equals_within(item, &mut fuel)? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn includes(arguments: &[Value]) -> Result<Value, EvalError> {
    match arguments {
        [Value::List(list), item] => {
            let mut fuel = Fuel::new();
            for value in list.iter() {
                if value?.equals_within(item, &mut fuel)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [value, item] => value.equals(item).map(Value::Bool),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Declares Kubernetes' own functions.
pub(super) fn declare_kubernetes(functions: &mut Functions) {
    for name in COMPARABLE {
        let to = |result: &str| format!(".(list({name})):{result}");
        functions.native(
            "isSorted",
            format!("list_{name}_is_sorted_bool"),
            &to("bool"),
            is_sorted,
        );
        functions.native("max", format!("list_{name}_max_{name}"), &to(name), |a| {
            extreme(a, "max", Ordering::Less)
        });
        functions.native("min", format!("list_{name}_min_{name}"), &to(name), |a| {
            extreme(a, "min", Ordering::Greater)
        });
    }
    functions.native("sum", "list_int_sum_int", ".(list(int)):int", |a| sum(a, Value::Int(0)));
    functions.native("sum", "list_uint_sum_uint", ".(list(uint)):uint", |a| {
        sum(a, Value::Uint(0))
    });
    functions.native("sum", "list_double_sum_double", ".(list(double)):double", |a| {
        sum(a, Value::Double(0.0))
    });
    functions.native("sum", "list_duration_sum_duration", ".(list(duration)):duration", |a| {
        sum(a, Value::Duration(0))
    });
    functions.native("indexOf", "list_a_index_of_int", ".(list(A),A):int", |a| {
        position(a, false)
    });
    functions.native("lastIndexOf", "list_a_last_index_of_int", ".(list(A),A):int", |a| {
        position(a, true)
    });
    functions.native("includes", "list_includes_dyn_dyn", ".(dyn,dyn):bool", includes);
}
