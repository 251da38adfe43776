//! Admission policies: CEL expressions in the cluster's own objects
//! (upstream `admission/plugin/policy`).
//!
//! ```text
//!   definition ─ policies and bindings, parsed and compiled once a revision
//!   invocation ─ which (policy, binding, parameters) a request meets
//!   decision   ─ what a validating policy's expressions say, as a pure function
//!   validating ─ refusals, warnings, audit annotations
//!   mutating   ─ patches, one after the other
//! ```

mod decision;
mod definition;
mod errors;
mod invocation;
mod mutating;
mod params;
mod patch;
mod status;
mod type_schema;
mod validating;

pub use errors::expression_errors;
pub(super) use mutating::MutatingPolicies;
pub(crate) use status::run as watch_status;
pub(super) use validating::ValidatingPolicies;
