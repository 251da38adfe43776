//! Runs what the pure crates decide: controllers, the garbage collector, the scheduler.
//!
//! ```text
//!   caches ──change──► triggers ──key──► Queue ──► (last writes seen?) ──► reconcile ──► Plan
//!      ▲                                   ▲                                              │
//!      └──────────── API server ◄──────────┼───────────── execute ◄───────────────────────┘
//!                                          └── retry with backoff, look again later
//! ```
//!
//! # Invariants
//! - A queue holds keys, never events. A key never runs twice at once, and not before the caches
//!   have seen what its last plan wrote (or a bounded time has passed).
//! - Whatever fails is tried again, later each time; nothing is tried in a fixed rhythm.
//! - A panic of a controller costs one turn of one key.
//!
//! # What it does not know
//! What any controller decides. It sees the cluster through the API only, as each controller's own
//! identity.

mod agenda;
mod autoscale;
mod execute;
mod expectation;
mod garbage;
mod hands;
mod heartbeat;
mod keys;
mod leader;
mod memory;
mod metadata;
mod queue;
mod rewrite;
mod runner;
mod scales;
mod scheduling;
mod selection;
mod start;
mod volume_disk;
mod world;

pub use agenda::Agenda;
pub use execute::{Executor, Outcome};
pub use expectation::{Expectation, PATIENCE};
pub use hands::{Hands, Live, Place};
pub use keys::Keys;
pub use leader::{LeaderElection, Leadership, Terms};
pub use memory::Memory;
pub use queue::Queue;
pub use scheduling::SchedulerHandle;
pub use selection::{GARBAGE_COLLECTOR, OFF_BY_DEFAULT, Selection, UnknownController};
pub use start::{Candidacy, Driver, Identity, Options, keys_of_contents, looks_at_contents, needs_keys};
pub use volume_disk::{DiskError, LocalDisk, VolumeDisk};
