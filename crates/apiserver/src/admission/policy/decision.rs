//! What a policy's expressions say of a request (upstream `policy/validating/validator.go`).

use super::definition::{Policy, Validation};
use crate::admission::expressions::{self, Inputs, Outcome, RUNTIME_BUDGET};
use crate::admission::webhook::FailurePolicy;

/// The longest message an expression may make.
const LONGEST_MESSAGE_BYTES: usize = 5 * 1024;

/// What one validation comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    pub denied: bool,
    /// Whether it could not be evaluated.
    pub failed: bool,
    pub message: String,
    pub reason: String,
}

/// What becomes of one audit annotation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Annotation {
    Publish {
        key: String,
        value: String,
    },
    Exclude,
    /// It could not be evaluated, and the policy must not fail.
    Error(String),
}

/// All that a policy says with one set of parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Evaluated {
    pub decisions: Vec<Decision>,
    pub annotations: Vec<Annotation>,
}

impl Evaluated {
    fn failed(policy: &Policy, message: String) -> Evaluated {
        Evaluated {
            decisions: vec![failed(policy, message)],
            annotations: Vec::new(),
        }
    }
}

/// A decision that stands for an error: the failure policy decides.
fn failed(policy: &Policy, message: String) -> Decision {
    Decision {
        denied: policy.failure == FailurePolicy::Fail,
        failed: true,
        message,
        reason: String::new(),
    }
}

/// Evaluates a validating policy.
pub(super) fn evaluate(policy: &Policy, inputs: &Inputs) -> Evaluated {
    match policy.conditions.check(&policy.variables, inputs, policy.failure) {
        Err(message) => return Evaluated::failed(policy, message),
        Ok(false) => return Evaluated::default(),
        Ok(true) => {}
    }
    let mut budget = RUNTIME_BUDGET;
    let validations: Vec<Option<&_>> = policy.validations.iter().map(Some).collect();
    let results = match expressions::evaluate(&validations, &policy.variables, inputs, &mut budget) {
        Ok(results) => results,
        Err(message) => return Evaluated::failed(policy, message),
    };
    let without_authorizer = inputs.without_authorizer();
    let messages: Vec<Option<&_>> = policy
        .about
        .iter()
        .map(|about| about.message_expression.as_ref())
        .collect();
    let messages = expressions::evaluate(&messages, &policy.variables, &without_authorizer, &mut budget);
    let decisions = results.iter().enumerate().map(|(index, result)| {
        let message = messages.as_ref().map(|messages| messages.get(index));
        decide(policy, index, result, message)
    });
    let decisions = decisions.collect();
    let mut budget = RUNTIME_BUDGET;
    let annotations: Vec<Option<&_>> = policy.annotations.iter().map(Some).collect();
    match expressions::evaluate(&annotations, &policy.variables, &without_authorizer, &mut budget) {
        Err(message) => Evaluated::failed(policy, message),
        Ok(results) => Evaluated {
            decisions,
            annotations: results
                .iter()
                .enumerate()
                .map(|(index, result)| annotation(policy, index, result))
                .collect(),
        },
    }
}

fn decide(policy: &Policy, index: usize, result: &Outcome, message: Result<Option<&Outcome>, &String>) -> Decision {
    let value = match result {
        Outcome::Error(error) => return failed(policy, error.clone()),
        Outcome::Value(value) => value,
        Outcome::Absent => return failed(policy, String::new()),
    };
    if let Err(error) = message {
        return failed(policy, format!("failed messageExpression: {error}"));
    }
    if expressions::is_true(value) {
        return Decision {
            denied: false,
            failed: false,
            message: String::new(),
            reason: String::new(),
        };
    }
    let about = &policy.about[index];
    let reason = if about.reason.is_empty() {
        "Invalid"
    } else {
        &about.reason
    };
    Decision {
        denied: true,
        failed: false,
        message: said(about, policy.validations[index].text(), message.ok().flatten()),
        reason: reason.to_owned(),
    }
}

/// What a refusal says: by the message's expression, else by its text, else the expression.
fn said(about: &Validation, expression: &str, message: Option<&Outcome>) -> String {
    if let Some(Outcome::Value(value)) = message
        && let Some(text) = expressions::as_text(value)
    {
        let text = text.trim();
        if !text.is_empty() && text.len() <= LONGEST_MESSAGE_BYTES && !text.contains('\n') {
            return text.to_owned();
        }
    }
    if about.message.is_empty() {
        format!("failed expression: {}", expression.trim())
    } else {
        about.message.trim().to_owned()
    }
}

fn annotation(policy: &Policy, index: usize, result: &Outcome) -> Annotation {
    let value = match result {
        Outcome::Absent => return Annotation::Exclude,
        Outcome::Error(_) if policy.failure == FailurePolicy::Ignore => return Annotation::Exclude,
        Outcome::Error(error) => return Annotation::Error(error.clone()),
        Outcome::Value(value) => value,
    };
    if expressions::is_null(value) {
        return Annotation::Exclude;
    }
    let Some(text) = expressions::as_text(value) else {
        return Annotation::Error(format!(
            "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
            policy.annotations[index].text(),
            expressions::type_name(value)
        ));
    };
    match text.trim() {
        "" => Annotation::Exclude,
        text => Annotation::Publish {
            key: policy.annotation_keys[index].clone(),
            value: text.to_owned(),
        },
    }
}
