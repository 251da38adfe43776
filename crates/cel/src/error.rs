//! Why an evaluation failed.

use std::fmt;

/// Why an evaluation gave no value. It prints as cel-go's message alone; the place is beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct EvalError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    message: String,
    position: Option<(i32, i32)>,
    kind: ErrorKind,
    cost: u64,
}

/// What kind of failure it is, for callers that answer differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The expression failed on its data.
    Failed,
    /// The cost limit was reached (or a limit on sizes that stands in for it).
    CostLimit,
}

impl EvalError {
    /// An error with cel-go's wording.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            message: message.into(),
            position: None,
            kind: ErrorKind::Failed,
            cost: 0,
        }))
    }

    pub(crate) fn cost_limit() -> Self {
        let mut error = Self::new("operation cancelled: actual cost limit exceeded");
        error.0.kind = ErrorKind::CostLimit;
        error
    }

    pub(crate) fn too_large(what: &str) -> Self {
        let mut error = Self::new(format!("operation cancelled: {what} too large"));
        error.0.kind = ErrorKind::CostLimit;
        error
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }

    pub(crate) fn no_such_key(key: impl fmt::Display) -> Self {
        Self::new(format!("no such key: {key}"))
    }

    /// Gives it a place, unless it has one: the innermost node that failed is the one to show.
    pub(crate) fn at(mut self, position: (i32, i32)) -> Self {
        self.0.position.get_or_insert(position);
        self
    }

    pub(crate) fn with_cost(mut self, cost: u64) -> Self {
        self.0.cost = cost;
        self
    }

    /// cel-go's message, e.g. `no such key: a`.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Line (from 1) and column (from 0) of the failed part of the expression.
    pub fn position(&self) -> Option<(i32, i32)> {
        self.0.position
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The cost until it failed, to be taken off the budget all the same.
    pub fn cost(&self) -> u64 {
        self.0.cost
    }

    /// Whether the evaluation was stopped, so that no `||` may absorb it.
    pub(crate) fn is_stop(&self) -> bool {
        self.0.kind == ErrorKind::CostLimit
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.message)
    }
}

impl fmt::Debug for EvalError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EvalError({:?}", self.0.message)?;
        if let Some((line, column)) = self.0.position {
            write!(out, " at {line}:{column}")?;
        }
        out.write_str(")")
    }
}

impl std::error::Error for EvalError {}
