//! What is kept of a key between its turns.

use std::collections::BTreeMap;

use controllers::{Failure, Plan, Turn};
use jiff::Timestamp;

use crate::execute::Outcome;
use crate::expectation::Expectation;

/// What is kept of a key between its turns; losing it costs a refused write.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What the caches must show before the next turn.
    pub expectations: Vec<Expectation>,
    failure: Option<Failure>,
    memo: Option<Timestamp>,
    notes: BTreeMap<String, Timestamp>,
}

impl Memory {
    /// What a plan asks to keep.
    pub fn of(plan: &Plan) -> Self {
        Self {
            memo: plan.memo,
            notes: plan.notes.clone(),
            ..Self::default()
        }
    }

    /// The circumstances of the next turn.
    pub fn turn(self, now: Timestamp) -> Turn {
        Turn {
            now,
            failure: self.failure,
            memo: self.memo,
            notes: self.notes,
        }
    }

    /// With what became of the plan; none if there is nothing to keep.
    pub fn after(self, outcome: Outcome) -> Option<Self> {
        let memory = Self {
            expectations: outcome.expectations,
            failure: outcome.failure,
            ..self
        };
        let nothing = memory.expectations.is_empty()
            && memory.failure.is_none()
            && memory.memo.is_none()
            && memory.notes.is_empty();
        (!nothing).then_some(memory)
    }
}
