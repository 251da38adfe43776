//! Pod specs, which pods and every workload's template share.

pub mod annotations;
pub mod containers;
pub mod defaults;
pub mod env;
pub mod mounts;
pub mod probes;
pub mod projected;
pub mod qos;
pub mod resources;
pub mod scheduling;
pub mod security;
pub mod spec;
pub mod volume_sources;
pub mod volumes;
pub mod warnings;
pub mod windows;

#[cfg(test)]
mod tests;
