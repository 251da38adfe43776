//! Which devices satisfy claims on a node: the structured allocator of dynamic resource allocation (upstream
//! `staging/src/k8s.io/dynamic-resource-allocation/structured`).
//!
//! ```text
//!   resource slices ─► pools of this node ─┐
//!   device classes ────────────────────────┼─► search ─► one allocation a claim, or none
//!   claims, devices in use ────────────────┘
//! ```
//!
//! # Invariants
//! - The first solution in a fixed order is taken: pools by driver and name, slices by name, devices as they are listed.
//! - A device that is in use is given again only to requests with admin access.
//! - The search ends: it takes at most [`STEPS`] steps.
//!
//! # What it does not know
//! Nodes (who asks tells whether a node selector selects one), pods, and who writes the allocation. Devices that several
//! claims may share by capacity are given to one claim; devices with binding conditions are not given at all.

mod attribute;
mod outcome;
mod pool;
mod request;
mod search;
mod selector;
mod slice;
mod taint;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Value;

pub use attribute::Attribute;
pub use search::STEPS;
pub use selector::Selectors;
pub use slice::{Device, DeviceId, Slice};
pub use taint::{Taint, tolerated};

/// The node that devices are looked for.
pub trait Node {
    /// Its name.
    fn name(&self) -> &str;
    /// Whether a node selector (`v1.NodeSelector`) selects it.
    fn selected_by(&self, selector: &Value) -> bool;
}

/// What there is to allocate from.
pub struct Stock<'s> {
    /// All slices of the cluster.
    pub slices: &'s [Arc<Slice>],
    /// A device class by its name.
    pub class: &'s dyn Fn(&str) -> Option<Arc<Value>>,
    /// Devices in use.
    pub allocated: &'s BTreeSet<DeviceId>,
    /// Compiled selectors, kept between searches.
    pub selectors: &'s Selectors,
}

/// Allocations for all claims (as `status.allocation`), or none if the node cannot satisfy them.
///
/// # Errors
/// A claim cannot be understood, or a selector fails on a device: no other node will do better.
pub fn allocate(node: &dyn Node, claims: &[&Value], stock: &Stock<'_>) -> Result<Option<Vec<Value>>, String> {
    search::Search::new(node, claims, stock)?.run()
}
