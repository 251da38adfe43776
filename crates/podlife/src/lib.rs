//! What happens to a pod on its node, as pure functions.
//!
//! ```text
//!  Pod ──┐                      ┌─> PodActions: sandbox, starts, kills, when to look again
//!  RuntimeStatus ──> decide() ──┤
//!  ProbeResults ──┤  Memory ────┘
//!                 └> status() ────> PodStatus
//! ```
//!
//! [`decide`] follows upstream's `computePodActions` (pkg/kubelet/kuberuntime), but is level-triggered: it may be
//! called at any moment with whatever is true then, and [`Memory`] says what was asked for already. A second call
//! with the plan carried out asks for nothing.
//!
//! Invariants:
//! - Containers are told apart by id, sandboxes by id; names serve only to find the spec.
//! - A pod that has begun to end never starts anything again, and its deadline only moves closer.
//! - A pod's phase never leaves `Succeeded` or `Failed`.
//!
//! Does not know: the runtime, the API, files, the clock. Time is an argument.

pub mod admission;
pub mod amount;
pub mod backoff;
pub mod condition;
pub mod container_status;
pub mod decide;
pub mod dns;
pub mod env;
pub mod expand;
pub mod fields;
pub mod hosts;
pub mod init;
pub mod observed;
pub mod phase;
pub mod probe;
pub mod qos;
pub mod reclaim;
pub mod resources;
pub mod restart;
pub mod security;
pub mod service_env;
pub mod shutdown;
pub mod spec;
pub mod status;
pub mod termination_message;

pub use backoff::Backoffs;
pub use decide::{Inputs, Kill, KillReason, Lifecycle, Memory, PodActions, SandboxAction, Start, decide};
pub use observed::{Container, ContainerState, ProbeResult, ProbeResults, RuntimeStatus, Sandbox};
pub use qos::Qos;
pub use shutdown::{Cause, Ending};
pub use spec::Role;
pub use status::{StatusInputs, Waiting, status};

/// Parts of a UTC instant that clients see: whole seconds, as `metav1.Time` carries.
pub fn whole_seconds(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).expect("a timestamp's own second is in range")
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
