//! The cluster's DNS zone as a pure function of services and endpoint slices.
//!
//! [`Zone`] is built from objects and kept up to date object by object; [`answer`] looks a name up.
//! Names, records and the difference between "no such name" and "no such record" follow the
//! Kubernetes DNS specification 1.1 and CoreDNS's `kubernetes` plugin (`pods insecure`).
//!
//! Invariants:
//! - A zone that was updated step by step answers as one built from the final objects.
//! - An update costs as much as the object it is about, a query as much as its answer.
//!
//! It knows nothing of packets, sockets, upstream resolvers or caching.
#![warn(missing_docs)]

mod answer;
mod record;
mod zone;

pub use answer::answer;
pub use record::{Answer, Record, RecordData, RecordType};
pub use zone::{Zone, ZoneConfig};
