//! Pods and containers on this machine, behind the verbs of the CRI.
//!
//! [`Runtime`] is the seam between the node and whatever runs containers. The messages in [`cri`] carry the names and
//! meanings of the CRI's (`runtime.v1`), as plain structs.
//!
//! Does not know: the Kubernetes API, pods' restart policies, probes, volumes. A container that ended stays ended: who
//! wants another creates another.
//!
//! [`EmbeddedRuntime`] is the one that needs nothing else on the machine: see `embedded`, `shim` and `image`. A program
//! that opens it must call [`shim_main`] first thing in `main` when it is started as `<program> shim …`.

mod beneath;
mod cgroup;
pub mod config;
pub mod cri;
mod doctor;
mod embedded;
mod fd_passing;
mod image;
pub mod project_quota;
mod records;
mod shim;
mod wire;

pub use config::*;
pub use cri::*;
pub use doctor::{Check, Verdict, doctor};
pub use embedded::{EmbeddedRuntime, ResetScope, live_pods, reset};
pub use image::HELLO_IMAGE;
pub use shim::shim_main;
