//! The `sets` extension (cel-go's ext/sets.go).

use crate::error::EvalError;
use crate::function::Functions;
use crate::value::{Fuel, List, Value};

/// Whether each element of one list is in the other.
fn contains(list: &List, sublist: &List, fuel: &mut Fuel) -> Result<bool, EvalError> {
    'elements: for value in sublist.iter() {
        let value = value?;
        for other in list.iter() {
            if other?.equals_within(&value, fuel)? {
                continue 'elements;
            }
        }
        return Ok(false);
    }
    Ok(true)
}

fn two(arguments: &[Value]) -> Result<(&List, &List), EvalError> {
    match arguments {
        [Value::List(one), Value::List(two)] => Ok((one, two)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Declares the functions.
pub(super) fn declare(functions: &mut Functions) {
    let signature = "(list(T),list(T)):bool";
    functions.native("sets.contains", "list_sets_contains_list", signature, |a| {
        let (one, two) = two(a)?;
        contains(one, two, &mut Fuel::new()).map(Value::Bool)
    });
    functions.native("sets.equivalent", "list_sets_equivalent_list", signature, |a| {
        let (one, two) = two(a)?;
        let fuel = &mut Fuel::new();
        Ok(Value::Bool(contains(one, two, fuel)? && contains(two, one, fuel)?))
    });
    functions.native("sets.intersects", "list_sets_intersects_list", signature, |a| {
        let (one, two) = two(a)?;
        let fuel = &mut Fuel::new();
        for value in one.iter() {
            let value = value?;
            for other in two.iter() {
                if other?.equals_within(&value, fuel)? {
                    return Ok(Value::Bool(true));
                }
            }
        }
        Ok(Value::Bool(false))
    });
}
