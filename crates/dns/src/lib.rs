//! The cluster's DNS server: names of the cluster from a `dnszone::Zone`, everything else from the
//! host's resolvers.
//!
//! ```text
//!   ZoneEvent channel --> zone keeper --> Zone (shared)
//!   UDP / TCP packet  --> Responder --+-> answer from the zone, at once
//!                                     +-> Forwarder: cache, else upstream (UDP, then TCP)
//! ```
//!
//! Invariants:
//! - No packet makes a panic, and none makes the server hold more than a fixed amount of work:
//!   queries being forwarded, TCP connections and cached answers are all bounded.
//! - Until the zone has been filled once, cluster names are SERVFAIL, never "no such name".
//! - Queries are never forwarded to an address this server listens on.
//!
//! It does not know the Kubernetes API: objects arrive as [`ZoneEvent`]s ([`follow`] makes them from
//! caches). It does not validate DNSSEC and serves no zone transfers.
#![warn(missing_docs)]

mod cache;
mod forward;
mod packet;
mod resolv_conf;
mod respond;
mod server;
mod source;
mod tcp;
mod udp;

pub use forward::Upstream;
pub use server::{DnsError, Server, ServerConfig};
pub use source::{ZoneEvent, ZoneSource, follow};
