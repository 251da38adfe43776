//! The server through HTTP requests, in process.

// Awaiting whole requests makes deep types.
#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod admission;
mod allocation;
mod conduct;
mod deletion;
mod discovery;
mod harness;
mod hook_server;
mod identity;
mod laws;
mod limits;
mod lists;
mod mutations;
mod patches;
mod plugins;
mod policies;
mod protocol;
mod proxying;
mod streaming;
mod subresources;
mod tokens;
mod verbs;
mod watches;
mod webhook_targets;
mod webhooks;
