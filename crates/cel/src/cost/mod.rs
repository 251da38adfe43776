//! What expressions cost: estimated from their text and the sizes that values can have, and counted while they are
//! evaluated. Both by cel-go's rules (checker/cost.go, interpreter/runtimecost.go, ext/*.go) with Kubernetes' own
//! (k8s.io/apiserver/pkg/cel/library/cost.go).

mod calls;
mod estimate;
mod runtime;

pub(crate) use estimate::estimate;
pub(crate) use runtime::call_cost;

use crate::types::Type;

/// Knows how large values can be.
pub trait SizeHints {
    /// The size of what lies at a path: a variable, then field names, `@items`, `@keys`, `@values`; the path is empty
    /// where a value comes from no variable, so that only its type can tell.
    fn size(&self, path: &[String], ty: &Type) -> Option<SizeEstimate>;
}

/// Knows no size, so that whatever is not in the expression's text can be unboundedly large.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHints;

impl SizeHints for NoHints {
    fn size(&self, _: &[String], _: &Type) -> Option<SizeEstimate> {
        None
    }
}

/// Between which numbers of characters, bytes, elements or entries a size lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeEstimate {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

/// Between which numbers a cost lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostEstimate {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

const IDENT: u64 = 1;
const LIST: u64 = 10;
const MAP: u64 = 30;
const STRUCT: u64 = 40;
/// Of each character of a string that is walked.
const STRING_FACTOR: f64 = 0.1;
/// Of each character of a pattern, for each unit of the string's cost.
const REGEX_FACTOR: f64 = 0.25;

/// A product, rounded up.
fn scale(value: u64, factor: f64) -> u64 {
    let product = (value as f64 * factor).ceil();
    // A float that does not fit saturates.
    product as u64
}

impl SizeEstimate {
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    /// Exactly one size.
    pub const fn fixed(size: u64) -> Self {
        Self { min: size, max: size }
    }

    fn add(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn by(self, factor: f64) -> CostEstimate {
        CostEstimate {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }

    fn by_cost(self, cost: CostEstimate) -> CostEstimate {
        CostEstimate {
            min: self.min.saturating_mul(cost.min),
            max: self.max.saturating_mul(cost.max),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl CostEstimate {
    /// Exactly one cost.
    pub const fn fixed(cost: u64) -> Self {
        Self { min: cost, max: cost }
    }

    /// The cost of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    /// The cost of as many times as something has elements.
    pub fn times(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn by(self, factor: f64) -> Self {
        Self {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}
