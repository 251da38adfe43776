//! A node against an API and a runtime of the tests' own.
#![allow(clippy::unwrap_used)]

mod api;
mod hollow;
mod machine;
mod pods;
mod runtime;
mod server;
mod volumes;
mod world;
