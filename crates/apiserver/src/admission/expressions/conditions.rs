//! Match conditions of webhooks and policies (upstream `plugin/webhook/matchconditions`).

use api::Value;
use api::field::{Error, Path};

use super::{Compiler, Expression, Inputs, Outcome, Returns, Variables, evaluate, is_false};
use crate::admission::webhook::FailurePolicy;

/// Conditions that must all be true.
#[derive(Default)]
pub(in crate::admission) struct Conditions(Vec<Expression>);

impl Conditions {
    /// Reads and compiles `matchConditions`.
    pub fn read(object: &Value, compiler: &Compiler) -> Conditions {
        let list = object.get("matchConditions").and_then(Value::as_array);
        let texts = list
            .into_iter()
            .flatten()
            .map(|c| c.get("expression").and_then(Value::as_str).unwrap_or(""));
        Conditions(texts.map(|text| compiler.compile(text, Returns::Bool)).collect())
    }

    /// The errors of those that do not compile; `path` is the list's.
    pub fn errors(&self, path: &Path) -> Vec<Error> {
        let conditions = self.0.iter().enumerate();
        conditions
            .filter_map(|(index, condition)| condition.error(&path.index(index).child("expression")))
            .collect()
    }

    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false decides, whatever others do; an error counts as the failure
    /// policy says.
    ///
    /// # Errors
    /// What could not be evaluated.
    pub fn check(&self, variables: &Variables, inputs: &Inputs, failure: FailurePolicy) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let failed = |message: String| match failure {
            FailurePolicy::Fail => Err(message),
            FailurePolicy::Ignore => Ok(false),
        };
        let mut budget = cel::limits::RUNTIME_COST_BUDGET_MATCH_CONDITIONS;
        let conditions: Vec<Option<&Expression>> = self.0.iter().map(Some).collect();
        let results = match evaluate(&conditions, variables, inputs, &mut budget) {
            Ok(results) => results,
            Err(message) => return failed(message),
        };
        let mut errors: Vec<String> = Vec::new();
        for result in results {
            match result {
                Outcome::Value(value) if is_false(&value) => return Ok(false),
                Outcome::Value(_) | Outcome::Absent => {}
                Outcome::Error(error) if errors.contains(&error) => {}
                Outcome::Error(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => failed(one.clone()),
            many => failed(format!("[{}]", many.join(", "))),
        }
    }
}
