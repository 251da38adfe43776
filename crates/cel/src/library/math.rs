//! The `math` extension in version 2 (cel-go's ext/math.go).

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::function::{Functions, Native};
use crate::value::Value;

type Outcome = Result<Value, EvalError>;

fn extreme(arguments: &[Value], name: &str, wanted: Ordering) -> Outcome {
    let values: Vec<Value> = match arguments {
        [Value::List(list)] => list.values()?,
        _ => arguments.to_vec(),
    };
    let failed = || EvalError::new(format!("no such overload: {name}"));
    let mut result: Option<Value> = None;
    for value in values {
        if !matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_)) {
            return Err(failed());
        }
        match &result {
            Some(best) if best.compare(&value)? != wanted => {}
            _ => result = Some(value),
        }
    }
    result.ok_or_else(|| EvalError::new(format!("{name}(list) argument must not be empty")))
}

fn on_double(arguments: &[Value], make: fn(f64) -> Value) -> Outcome {
    match arguments {
        [Value::Double(value)] => Ok(make(*value)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn on_bits(arguments: &[Value], make: fn(u64, u64) -> u64) -> Outcome {
    match arguments {
        [Value::Int(one), Value::Int(two)] => Ok(Value::Int(make(*one as u64, *two as u64) as i64)),
        [Value::Uint(one), Value::Uint(two)] => Ok(Value::Uint(make(*one, *two))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn shift(arguments: &[Value], name: &str, make: fn(u64, u32) -> Option<u64>) -> Outcome {
    let Some(Value::Int(bits)) = arguments.get(1) else {
        return Err(EvalError::no_such_overload());
    };
    if *bits < 0 {
        return Err(EvalError::new(format!("{name}() negative offset: {bits}")));
    }
    let bits = u32::try_from(*bits).unwrap_or(u32::MAX);
    match arguments.first() {
        Some(Value::Int(value)) => Ok(Value::Int(make(*value as u64, bits).unwrap_or(0) as i64)),
        Some(Value::Uint(value)) => Ok(Value::Uint(make(*value, bits).unwrap_or(0))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn absolute(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(value)] => value
            .checked_abs()
            .map(Value::Int)
            .ok_or_else(|| EvalError::new("integer overflow")),
        [value @ Value::Uint(_)] => Ok(value.clone()),
        [Value::Double(value)] => Ok(Value::Double(value.abs())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn sign(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(value)] => Ok(Value::Int(value.signum())),
        [Value::Uint(value)] => Ok(Value::Uint((*value).min(1))),
        [Value::Double(value)] if value.is_nan() => Ok(Value::Double(*value)),
        [Value::Double(value)] => Ok(Value::Double(if *value == 0.0 { 0.0 } else { value.signum() })),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn sqrt(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(value)] => Ok(Value::Double((*value as f64).sqrt())),
        [Value::Uint(value)] => Ok(Value::Double((*value as f64).sqrt())),
        [Value::Double(value)] => Ok(Value::Double(value.sqrt())),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Rounds halves away from zero.
fn round(value: f64) -> Value {
    Value::Double(value.round())
}

/// Declares the extension; `math.least` and `math.greatest` are macros.
pub(super) fn declare(functions: &mut Functions) {
    let extremes: [(&'static str, &str, Native); 2] = [
        ("math.@min", "min", |a| extreme(a, "math.@min", Ordering::Greater)),
        ("math.@max", "max", |a| extreme(a, "math.@max", Ordering::Less)),
    ];
    let numbers = ["double", "int", "uint"];
    for (name, id, native) in extremes {
        for one in numbers {
            functions.native(name, format!("math_@{id}_{one}"), &format!("({one}):{one}"), native);
            functions.native(
                name,
                format!("math_@{id}_list_{one}"),
                &format!("(list({one})):{one}"),
                native,
            );
            for two in numbers {
                let result = if one == two { one } else { "dyn" };
                functions.native(
                    name,
                    format!("math_@{id}_{one}_{two}"),
                    &format!("({one},{two}):{result}"),
                    native,
                );
            }
        }
    }
    let doubles: [(&'static str, &'static str, &str, Native); 7] = [
        ("math.ceil", "math_ceil_double", "double", |a| {
            on_double(a, |it| Value::Double(it.ceil()))
        }),
        ("math.floor", "math_floor_double", "double", |a| {
            on_double(a, |it| Value::Double(it.floor()))
        }),
        ("math.round", "math_round_double", "double", |a| on_double(a, round)),
        ("math.trunc", "math_trunc_double", "double", |a| {
            on_double(a, |it| Value::Double(it.trunc()))
        }),
        ("math.isInf", "math_isInf_double", "bool", |a| {
            on_double(a, |it| Value::Bool(it.is_infinite()))
        }),
        ("math.isNaN", "math_isNaN_double", "bool", |a| {
            on_double(a, |it| Value::Bool(it.is_nan()))
        }),
        ("math.isFinite", "math_isFinite_double", "bool", |a| {
            on_double(a, |it| Value::Bool(it.is_finite()))
        }),
    ];
    for (name, id, result, native) in doubles {
        functions.native(name, id, &format!("(double):{result}"), native);
    }
    for number in numbers {
        let same = format!("({number}):{number}");
        functions.native("math.abs", format!("math_abs_{number}"), &same, absolute);
        functions.native("math.sign", format!("math_sign_{number}"), &same, sign);
        functions.native(
            "math.sqrt",
            format!("math_sqrt_{number}"),
            &format!("({number}):double"),
            sqrt,
        );
    }
    for number in ["int", "uint"] {
        let two = format!("({number},{number}):{number}");
        let by = format!("({number},int):{number}");
        functions.native("math.bitAnd", format!("math_bitAnd_{number}_{number}"), &two, |a| {
            on_bits(a, |x, y| x & y)
        });
        functions.native("math.bitOr", format!("math_bitOr_{number}_{number}"), &two, |a| {
            on_bits(a, |x, y| x | y)
        });
        functions.native("math.bitXor", format!("math_bitXor_{number}_{number}"), &two, |a| {
            on_bits(a, |x, y| x ^ y)
        });
        functions.native(
            "math.bitNot",
            format!("math_bitNot_{number}_{number}"),
            &format!("({number}):{number}"),
            |a| match a {
                [Value::Int(value)] => Ok(Value::Int(!value)),
                [Value::Uint(value)] => Ok(Value::Uint(!value)),
                _ => Err(EvalError::no_such_overload()),
            },
        );
        functions.native(
            "math.bitShiftLeft",
            format!("math_bitShiftLeft_{number}_int"),
            &by,
            |a| shift(a, "math.bitShiftLeft", u64::checked_shl),
        );
        functions.native(
            "math.bitShiftRight",
            format!("math_bitShiftRight_{number}_int"),
            &by,
            |a| shift(a, "math.bitShiftRight", u64::checked_shr),
        );
    }
}
