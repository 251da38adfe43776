//! Values that must be unique in the cluster, such as service addresses and node ports.
//!
//! A pool is a set of values. Each value in use is a claim: one key in the store, naming the
//! object that holds it. Claims are written and removed in the same transaction as the object, so
//! they can neither leak nor be given twice, whatever dies and however many servers there are. At
//! start the claims are compared with the objects and mended.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Value, field};
use ipnet::IpNet;

/// One value of one pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The pool's name, as configured (see `Config::pools`).
    pub pool: String,
    /// The canonical text of the value: `10.96.0.10`, or a port number such as `30080` (one claim
    /// whatever the protocols: a service may use it for several).
    pub value: String,
}

/// Why a value cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// It is in use; says what: `IP`, `port`.
    #[error("provided {0} is already allocated")]
    Allocated(String),
    /// It is outside of the pool; the pool's own wording of what is valid.
    #[error("{0}")]
    OutOfRange(String),
    /// Nothing is left.
    #[error("range is full")]
    Full,
    /// No pool of that name is configured.
    #[error("no pool {0} is configured")]
    NoPool(String),
    /// The store did not answer.
    #[error("{0}")]
    Store(String),
}

/// Hands out values; given to [`FillFn`]. What is asked for is held back until the write is done.
pub trait Pick: Send {
    /// A free value of the pool, away from the part meant for static use while that lasts.
    fn any(&mut self, pool: &str) -> Result<String, PickError>;
    /// Exactly this value; succeeds too if the object's old version holds it.
    fn exact(&mut self, pool: &str, value: &str) -> Result<(), PickError>;
    /// Whether a pool of that name is configured.
    fn has_pool(&self, pool: &str) -> bool;
}

/// The values an object holds (used to release, and to mend at start).
pub type HeldClaimsFn = Arc<dyn Fn(&Value) -> BTreeSet<Claim> + Send + Sync>;
/// Completes (new, old, pick) before validation: asks `pick` for what the object wants and writes
/// it into the object. Called again from the same input if the transaction meets a conflict.
pub type FillFn = Arc<dyn Fn(&mut Value, Option<&Value>, &mut dyn Pick) -> Vec<field::Error> + Send + Sync>;

/// Makes the object that stands for a claim of a holder.
pub type ClaimObjectFn = Arc<dyn Fn(&Claim, &Value) -> Value + Send + Sync>;
/// Group and plural of a resource, and the networks that one of its objects announces.
pub type Networks = (&'static str, &'static str, fn(&Value) -> Vec<IpNet>);

/// Claims that clients see as objects: the name is the value.
#[derive(Clone)]
pub struct ClaimObjects {
    /// The pools whose claims are objects.
    pub pools: &'static [&'static str],
    /// The group of the objects' resource.
    pub group: &'static str,
    /// The plural of the objects' resource, which is cluster-scoped and stored in its own version.
    pub plural: &'static str,
    /// The label, `key=value`, of those objects that this server makes and removes.
    pub managed_by: String,
    /// Makes one.
    pub object: ClaimObjectFn,
    /// Where more networks for the pools are announced.
    pub networks: Option<Networks>,
}

impl ClaimObjects {
    /// What the objects' keys in the store begin with.
    pub(crate) fn prefix(&self) -> String {
        crate::resource::prefix(self.group, self.plural)
    }
}

/// The allocation hook of a kind.
#[derive(Clone)]
pub struct Allocation {
    /// What an object holds.
    pub held: HeldClaimsFn,
    /// Fills in what a new or changed object needs.
    pub fill: FillFn,
    /// Which claims are objects of their own.
    pub objects: Option<ClaimObjects>,
}
