//! Service proxy rules as a pure function.
//!
//! ```text
//! Services + EndpointSlices + ProxyConfig --ruleset()--> Ruleset --diff()--> Changes
//!                                                           \----trace()---> Outcome
//! ```
//!
//! [`ruleset`] turns what the API says into one typed nftables table an address family; [`diff`]
//! says which operations turn one ruleset into another, in an order that one atomic nf_tables batch
//! accepts; [`trace()`] runs a virtual packet through a ruleset, so that tests need no kernel.
//!
//! Invariants:
//! - A packet of a new connection costs a fixed number of map look-ups, whatever the number of
//!   services or endpoints. Packets of known connections are handled by conntrack alone.
//! - The same input gives the same ruleset; `diff` of a ruleset with itself is empty.
//! - The semantics are those of upstream's `pkg/proxy` (topology.go, nftables/proxier.go).
//!
//! It knows nothing of netlink, of clocks or of where the objects come from; the `net` crate
//! encodes and applies what is computed here.
#![warn(missing_docs)]

mod compile;
mod config;
mod diff;
mod endpoint;
mod health;
mod ruleset;
mod service;
mod trace;

pub use compile::ruleset;
pub use config::{NodePortAddresses, ProxyConfig};
pub use diff::{Change, Changes, diff};
pub use health::{HealthCheck, health_checks};
pub use ruleset::{
    Base, Chain, ChainKind, Data, DataType, Direction, Dnat, Family, Hook, Key, KeyType, Match, Presence, Protocol,
    Reject, Rule, Ruleset, Selector, Set, SetMode, Side, Statement, Sticky, Table, TableId, UdpServices, Verdict,
};
pub use trace::{Origin, Outcome, Packet, trace};
