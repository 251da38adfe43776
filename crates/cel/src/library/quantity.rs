//! `quantity` (k8s.io/apiserver/pkg/cel/library/quantity.go).

use std::cmp::Ordering;

use api::Quantity;

use crate::error::EvalError;
use crate::function::Functions;
use crate::value::{Opaque, Value};

fn parse(arguments: &[Value]) -> Result<Result<Quantity, String>, EvalError> {
    match arguments {
        [Value::String(text)] => Ok(text.parse::<Quantity>().map_err(|error| error.to_string())),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn quantity(value: Option<&Value>) -> Result<&Quantity, EvalError> {
    match value {
        Some(Value::Opaque(value)) => match &**value {
            Opaque::Quantity(quantity) => Ok(quantity),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn order(arguments: &[Value]) -> Result<Ordering, EvalError> {
    Ok(quantity(arguments.first())?.cmp(quantity(arguments.get(1))?))
}

fn combine(arguments: &[Value], with: fn(&Quantity, &Quantity) -> Quantity) -> Result<Value, EvalError> {
    let one = quantity(arguments.first())?;
    let sum = match arguments.get(1) {
        Some(Value::Int(number)) => with(
            one,
            &Quantity::from_value(*number, api::quantity::Format::DecimalExponent),
        ),
        other => with(one, quantity(other)?),
    };
    Ok(Value::opaque(Opaque::Quantity(sum)))
}

/// The whole number that a quantity is, if it is one that fits.
fn integer(quantity: &Quantity) -> Option<i64> {
    let value = quantity.value();
    (quantity.is_whole() && *quantity == Quantity::from_value(value, quantity.format())).then_some(value)
}

/// Declares `quantity` and its functions.
pub(super) fn declare(functions: &mut Functions) {
    const OF: &str = "kubernetes.Quantity";
    let of = |result: &str| format!(".({OF}):{result}");
    let two = |result: &str| format!(".({OF},{OF}):{result}");
    functions.native("quantity", "string_to_quantity", &format!("(string):{OF}"), |a| {
        parse(a)?
            .map(|quantity| Value::opaque(Opaque::Quantity(quantity)))
            .map_err(EvalError::new)
    });
    functions.native("isQuantity", "is_quantity_string", "(string):bool", |a| {
        Ok(Value::Bool(parse(a)?.is_ok()))
    });
    functions.native("sign", "quantity_sign", &format!("({OF}):int"), |a| {
        Ok(Value::Int(quantity(a.first())?.signum().into()))
    });
    functions.native("isGreaterThan", "quantity_is_greater_than", &two("bool"), |a| {
        Ok(Value::Bool(order(a)?.is_gt()))
    });
    functions.native("isLessThan", "quantity_is_less_than", &two("bool"), |a| {
        Ok(Value::Bool(order(a)?.is_lt()))
    });
    functions.native("compareTo", "quantity_compare_to", &two("int"), |a| {
        Ok(Value::Int(order(a)? as i64))
    });
    functions.native("asApproximateFloat", "quantity_get_float", &of("double"), |a| {
        Ok(Value::Double(quantity(a.first())?.to_f64()))
    });
    functions.native("asInteger", "quantity_get_int", &of("int"), |a| {
        integer(quantity(a.first())?)
            .map(Value::Int)
            .ok_or_else(|| EvalError::new("cannot convert value to integer"))
    });
    functions.native("isInteger", "quantity_is_integer", &of("bool"), |a| {
        Ok(Value::Bool(integer(quantity(a.first())?).is_some()))
    });
    functions.native("add", "quantity_add", &two(OF), |a| combine(a, Quantity::add));
    functions.native("add", "quantity_add_int", &format!(".({OF},int):{OF}"), |a| {
        combine(a, Quantity::add)
    });
    functions.native("sub", "quantity_sub", &two(OF), |a| combine(a, Quantity::sub));
    functions.native("sub", "quantity_sub_int", &format!(".({OF},int):{OF}"), |a| {
        combine(a, Quantity::sub)
    });
}
