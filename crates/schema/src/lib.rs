//! What is known of every field of every type, and what follows from it.
//!
//! One model, [`Schema`], holds JSON names, protobuf numbers, merge kinds and keys, defaults and
//! enumerations. The built-in types of Kubernetes v1.37 come from a data file ([`builtin`]); custom
//! resources build the same model at run time ([`model::Builder`]). Everything else in the crate is
//! a function of a type handle ([`TypeRef`]) and a tree (`serde_json::Value`).
//!
//! Invariants: no I/O, no clock, no randomness; hostile input gives an error, never a panic or
//! unbounded recursion; nothing here knows verbs, storage or users.
//!
//! What it does not know: validation beyond shape (that is `kinds`), imperative defaults
//! (`SetDefaults_*` upstream, also `kinds`), conversion between versions.

pub mod codec;
pub mod defaults;
pub mod docs;
pub mod managed;
pub mod model;
pub mod openapi;
pub mod patch;
mod shape;
pub mod structural;

use std::sync::{Arc, LazyLock};

pub use docs::Docs;
pub use model::{Field, List, Map, Schema, Shape, Struct, TypeDef, TypeId, TypeRef};
pub use shape::{normalize, prune};

const BUILTIN: &[u8] = include_bytes!("../data/builtin.bin");

/// The built-in types of Kubernetes v1.37.
pub fn builtin() -> &'static Arc<Schema> {
    static SCHEMA: LazyLock<Arc<Schema>> =
        LazyLock::new(|| Arc::new(Schema::from_bytes(BUILTIN).expect("the committed data is whole: a test reads it")));
    &SCHEMA
}
