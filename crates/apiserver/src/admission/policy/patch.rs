//! What a mutation's expression makes, applied to an object
//! (upstream `policy/mutating/patch/{json_patch,smd}.go`).

use api::{Status, Value};

use super::definition::PatchType;
use crate::admission::Attributes;
use crate::admission::expressions::{self, Expression, Inputs, Outcome, RUNTIME_BUDGET, Variables};
use crate::admission::json_patch_words::words;
use crate::admission::matching::Match;

/// Why an object could not be changed.
#[derive(Debug)]
pub(super) enum PatchError {
    /// The failure policy decides.
    Message(String),
    /// The request fails whatever the policy says.
    Status(Status),
}

/// A change of an object.
#[derive(Debug)]
pub(super) enum Patch {
    Json(Value),
    Apply(Value),
}

/// Evaluates a mutation.
///
/// # Errors
/// If the expression does not compile, fails, or makes something else.
pub(super) fn make(
    kind: PatchType,
    expression: &Expression,
    variables: &Variables,
    inputs: &Inputs,
) -> Result<Patch, PatchError> {
    if let Some(error) = expression.compile_error() {
        return Err(PatchError::Message(error.to_owned()));
    }
    let mut budget = RUNTIME_BUDGET;
    let results = expressions::evaluate(&[Some(expression)], variables, inputs, &mut budget);
    let result = results.map_err(PatchError::Message)?.into_iter().next();
    let value = match result {
        Some(Outcome::Value(value)) => value,
        Some(Outcome::Error(error)) => return Err(PatchError::Message(error)),
        Some(Outcome::Absent) | None => return Err(PatchError::Message(String::new())),
    };
    let mismatch = |why: String| PatchError::Message(format!("type mismatch: {why}"));
    match kind {
        PatchType::JsonPatch => {
            expressions::check_names_in_patches(&value).map_err(mismatch)?;
            let unusable = |why: String| {
                PatchError::Message(format!(
                    "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}"
                ))
            };
            Ok(Patch::Json(expressions::to_json(&value).map_err(unusable)?))
        }
        PatchType::ApplyConfiguration => {
            expressions::check_names(&value).map_err(mismatch)?;
            let unusable = |why: String| PatchError::Message(format!("invalid return type: {why}"));
            Ok(Patch::Apply(expressions::to_json(&value).map_err(unusable)?))
        }
    }
}

/// The object after the patch, as the matched version has it.
///
/// # Errors
/// If the patch does not fit the object.
pub(super) fn apply(
    attributes: &Attributes<'_>,
    matched: &Match,
    object: &Value,
    patch: Patch,
) -> Result<Value, PatchError> {
    let patched = match patch {
        Patch::Json(operations) => {
            let internal = |error: serde_json::Error| PatchError::Message(error.to_string());
            let operations: json_patch::Patch = serde_json::from_value(operations).map_err(internal)?;
            let mut patched = object.clone();
            match json_patch::patch(&mut patched, &operations) {
                Ok(()) => patched,
                // A failed test means: not here.
                Err(error) if matches!(error.kind, json_patch::PatchErrorKind::TestFailed) => return Ok(object.clone()),
                Err(error) => {
                    return Err(PatchError::Message(format!(
                        "JSON Patch: {}",
                        words(&error, &operations, object)
                    )));
                }
            }
        }
        Patch::Apply(mut configuration) => {
            for field in ["apiVersion", "kind"] {
                configuration[field] = object.get(field).cloned().unwrap_or_default();
            }
            let wrong = |why: String| PatchError::Message(format!("error applying patch: {why}"));
            let ty = matched
                .object_type(attributes)
                .ok_or_else(|| wrong("type converter must not be nil".to_owned()))?;
            let decoded = schema::codec::decode_json(ty, &crate::codec::to_json(&configuration))
                .map_err(|error| wrong(format!("failed to convert patch object to typed object: {error}")))?;
            if let Some(unknown) = decoded.strict.first() {
                return Err(wrong(format!(
                    "failed to convert patch object to typed object: {unknown}"
                )));
            }
            let atomic = schema::managed::atomics(ty, &configuration);
            if !atomic.is_empty() {
                return Err(wrong(format!(
                    "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
                    atomic.join(", ")
                )));
            }
            schema::managed::merge(ty, object, &configuration)
        }
    };
    let completed = matched.complete(attributes, &patched);
    completed.map_err(|error| PatchError::Status(Status::internal(error)))
}
