//! The same requests to two API servers, and what is different in their answers.
//!
//! A [`Seed`](seeds::Seed) is a valid object of one kind. From it and the schema follow hundreds of
//! faulty and unusual objects ([`mutate`]): each field left out, of another type, of bad values, twice
//! in a list; fields that the seed does not set, set to nonsense. Each is sent as a create, an update and,
//! where the kind has one, an update of its status, all as dry runs. [`script`]s are hand-written
//! sequences for what depends on earlier requests: patches, apply, lists, watches, tables, discovery.
//!
//! [`run`] sends them and reduces each answer to an [`Outcome`](outcome::Outcome), from which names,
//! times and addresses are taken out. What upstream answered is kept in `data/expected`, recorded from
//! v1.28 for fields that both versions have; `data/accepted.txt` lists the answers that differ on
//! purpose, and why.
//!
//! Invariants: the corpus is the same at every run; nothing here knows how requests travel.
//!
//! What it does not know: which side of a difference is right.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accepted;
pub mod corpus;
pub mod expected;
pub mod mutate;
pub mod outcome;
pub mod request;
pub mod run;

pub mod script;
pub mod seeds;
mod since;
mod values;

pub use request::{Answer, Request, Server};
pub use since::absent_fields;
