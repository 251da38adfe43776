//! Real packets through real rules, in network namespaces of their own. Needs root and a kernel
//! with nf_tables, conntrack, bridge and veth; fails without.
#![allow(clippy::unwrap_used)]

mod foreign;
mod pods;
mod services;
mod world;
