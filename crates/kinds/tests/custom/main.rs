//! Custom resources, through HTTP requests in process: what upstream's
//! `test/e2e/apimachinery/{crd_*,custom_resource_definition}.go` and its integration tests show.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod aggregation;
mod definitions;
mod discovery;
mod encodings;
mod harness;
mod objects;
mod subresources;
mod versions;
mod webhook;
