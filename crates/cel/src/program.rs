//! Compiled expressions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::activation::Activation;
use crate::check::Checked;
use crate::cost::{CostEstimate, SizeHints, estimate};
use crate::error::EvalError;
use crate::eval::{Plan, run};
use crate::types::Type;
use crate::value::Value;

/// An expression that was parsed and checked. Cheap to clone, and shared between threads.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    source: Arc<str>,
    checked: Checked,
    plan: Plan,
}

impl Program {
    pub(crate) fn new(source: &str, checked: Checked, plan: Plan) -> Self {
        Self(Arc::new(Inner {
            source: source.into(),
            checked,
            plan,
        }))
    }

    /// The expression's text.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The type of the value.
    pub fn output_type(&self) -> &Type {
        self.0.checked.ty(self.0.checked.ast.root)
    }

    /// What an evaluation costs at least and at most.
    pub fn cost_estimate(&self, hints: &dyn SizeHints) -> CostEstimate {
        estimate(&self.0.checked, hints)
    }

    /// Evaluates it, and says what it cost. It fails when it would cost more than the limit.
    pub fn evaluate(&self, activation: &Activation, cost_limit: u64) -> Result<(Value, u64), EvalError> {
        run(&self.0.plan, activation, cost_limit)
    }

    /// The environment's variables that it uses (not those of its comprehensions).
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.0.checked.variables
    }

    /// The functions that it calls, by name (not operators and macros).
    pub fn functions(&self) -> &BTreeSet<String> {
        &self.0.checked.functions
    }

    /// The fields that it reads of the environment's variables, as paths from a variable; each path's beginnings are
    /// there too.
    pub fn paths(&self) -> &BTreeSet<Vec<String>> {
        &self.0.checked.paths
    }

    /// Whether it uses a variable, such as `oldSelf`.
    pub fn uses(&self, variable: &str) -> bool {
        self.0.checked.variables.contains(variable)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Program({:?})", self.source())
    }
}
