//! Pod specs, which pods and every workload's template share.

pub mod containers;
pub mod defaults;
pub mod env;
pub mod probes;
pub mod qos;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod spec;
pub mod volumes;

#[cfg(test)]
mod tests;
