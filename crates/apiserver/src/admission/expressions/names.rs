//! Whether the names of made objects are those of the fields they stand in: `Object.spec{…}` only in
//! `spec` (upstream `cel/mutation/dynamic/objects.go`).

use cel::{MutationTypes, Value};

/// Checks an apply configuration.
///
/// # Errors
/// The first name that does not fit.
pub(in crate::admission) fn check_names(value: &Value) -> Result<(), String> {
    check(MutationTypes::OBJECT, value)
}

/// Checks the values of a JSON patch's operations.
///
/// # Errors
/// The first name that does not fit.
pub(in crate::admission) fn check_names_in_patches(value: &Value) -> Result<(), String> {
    let Value::List(operations) = value else {
        return Err("JSONPatchType.expression should evaluate to array".to_owned());
    };
    for operation in operations.iter() {
        let operation = operation.map_err(|error| error.to_string())?;
        let Value::Struct(made) = &operation else {
            return Err(format!(
                "JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
                operation.type_of()
            ));
        };
        // An operation's value may be any part of an object, but below it names must fit.
        if let Some(Value::Struct(value)) = made.field("value") {
            check(&value.name, &Value::Struct(value.clone()))?;
        }
    }
    Ok(())
}

fn check(path: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Struct(made) => {
            if *made.name != *path {
                return Err(format!(
                    "unexpected type name {}, expected {}, which matches field name path from root Object type",
                    api::field::go_quote(&made.name),
                    api::field::go_quote(path)
                ));
            }
            made.fields
                .iter()
                .try_for_each(|(field, value)| check(&format!("{path}.{}", &**field), value))
        }
        Value::List(list) => list.iter().try_for_each(|item| {
            let item = item.map_err(|error| error.to_string())?;
            check(path, &item)
        }),
        _ => Ok(()),
    }
}
