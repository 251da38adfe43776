//! The vocabulary of the Kubernetes API: names of kinds, metadata, `Status`, field errors,
//! quantities, selectors, label syntax, times.
//!
//! An object is a [`Value`] tree throughout. This crate knows the syntax that all kinds share; it
//! knows no kind, no schema, no transport and no clock.
//!
//! Invariants: readers of objects never fail on malformed input, they read it as absent; every
//! message that a client may see has upstream's wording; nothing here does I/O.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cron;
pub mod field;
pub mod fields;
pub mod hash;
pub mod labels;
pub mod meta;
pub mod quantity;
pub mod time;
pub mod validate;

mod int_or_string;
mod names;
mod status;

pub use int_or_string::{IntOrString, Rounding, ScaleError};
pub use names::{GroupKind, GroupResource, GroupVersion, Gvk, Gvr, ParseGroupVersionError};
pub use quantity::Quantity;
pub use serde_json::{Map, Value};
pub use status::{Cause, Details, ListMeta, Status, reason};
