//! Resource quotas: what an object uses, which quotas it counts against, whether it may.
//!
//! ```text
//!   object ─► Evaluator ─► usage ──┬─► check (admission): may it, and what is used then
//!   quota  ─► Quota ───────────────┘
//!   all objects of a namespace ─► Tally (controller): what is used in truth
//! ```
//!
//! # Invariants
//! - Exact arithmetic on [`api::Quantity`]; names of resources are upstream's (`pkg/quota/v1`).
//! - A resource that no evaluator matches is never charged, and a quota's `used` only ever has the
//!   names that its `hard` has.
//! - `check` and `Tally` use the same evaluators, so what admission adds is what the controller finds.
//!
//! # What it does not know
//! Where quotas and objects are kept, how concurrent charges are ordered (the API server compares and
//! swaps), and when to count anew (the controller does).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod amounts;
mod charge;
mod device_claim;
mod evaluator;
mod pod;
pub mod pod_resources;
mod scope;
mod service;
mod tally;
mod volume_claim;

pub use amounts::Amounts;
pub use charge::{Limited, Quota, Request, check};
pub use evaluator::{Evaluator, Operation, count_name};
pub use pod::is_terminal_or_gone;
pub use scope::Requirement;
pub use tally::Tally;

use api::Value;

/// What stands at a dotted path.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, field| value.get(field))
}

/// The text at a dotted path, or empty.
pub(crate) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The list at a dotted path, or empty.
pub(crate) fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
