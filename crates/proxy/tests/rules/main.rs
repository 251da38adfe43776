//! Virtual packets through rulesets, and differences applied to a strict model of the kernel.
#![allow(clippy::unwrap_used)]

mod build;
mod differences;
mod packets;
