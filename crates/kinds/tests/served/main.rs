//! What a server of all built-in kinds serves, over its HTTP face.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod conversion;
mod discovery;
mod document;
mod harness;
mod policy;
