//! The scheduler's decisions, pure: which node a pod goes to, and why it goes nowhere.
//!
//! ```text
//! events ──► Queue (active, backoff, unschedulable) ──pop──► schedule(&Cluster, &Pod, &Profile)
//!    └─────► Cluster (nodes with what is requested on them)          │
//!                   ▲───────────── assume(pod, node) ◄── Placement ──┤
//!                                                        Verdict  ◄──┘ (kept for each pending pod)
//! ```
//!
//! A plugin is one file in `plugins/` and one line in [`plugins::registry`]; names, weights and messages
//! are upstream's (pkg/scheduler/framework/plugins). See docs/scheduler.md.
//!
//! Guarantees: the same cluster, pod, start node and random number give the same placement; a second
//! pod is decided on a cluster that already holds the first, assumed one.
//!
//! Does not know: the API, threads, clocks, randomness. Times and random numbers are arguments.

pub mod cluster;
pub mod config;
pub mod cycle;
pub mod explain;
pub mod framework;
pub mod index;
pub mod intern;
pub mod labels;
pub mod metrics;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resources;
pub mod scheduler;
pub mod shape;
pub mod storage;
pub mod verdict;
pub mod verdicts;

pub use cluster::Cluster;
pub use framework::Profile;
pub use pod::{PodInfo, PodKey};
pub use scheduler::{Outcome, Scheduler};
pub use verdict::Verdict;

#[cfg(test)]
mod testing;
