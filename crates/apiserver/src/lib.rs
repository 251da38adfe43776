//! The API server: generic verbs over descriptors of kinds.
//!
//! ```text
//!   serve (TLS, HTTP/1.1, HTTP/2) ─┐
//!   InProcess (same process) ──────┴► ApiServer::handle
//!     authn ─► audit ─► flow control ─► authz ─► route ─┬► verbs ─► admission ─► persist ─► store
//!                              ├► verbs (reads, watches) ◄─ cache ◄─ store
//!                              ├► subresource (scale, binding, eviction, token, connections)
//!                              ├► reviews (asked, not stored)
//!                              └► non_resource (discovery, OpenAPI, health, metrics)
//! ```
//!
//! # Invariants
//! - No code here is about one kind, except admission plugins, authorizers and actions that upstream
//!   has for it by name. Everything else is derived from a [`Kind`].
//! - Every object is written by `verbs::persist`: one transaction that compares the object's revision
//!   and its claims on unique values. What was answered is durable.
//! - Nobody is trusted by where they are: components in this process are users, and RBAC applies.
//! - A refusal is decided on everything that was acknowledged before it.
//!
//! # What it does not know
//! Which kinds exist (`kinds`), what controllers do, and how objects are laid out on disk (`store`).

mod admission;
mod aggregation;
mod allocate;
pub mod audit;
mod authn;
mod authz;
pub mod body;
pub mod cache;
mod call;
mod codec;
mod component_status;
mod compress;
mod custom;
mod discovery;
mod endpoints;
mod flow_control;
mod health;
mod hook;
pub mod kind;
mod metrics;
mod negotiate;
mod non_resource;
mod openapi;
mod patch;
mod request;
mod resource;
mod respond;
mod reviews;
mod route;
pub mod rules;
mod serve;
mod server;
mod spans;
mod state;
mod subresource;
pub mod usage;
mod user;
mod verbs;
mod version;

pub use admission::{Admission, AdmissionError, expression_errors};
pub use aggregation::FrontProxy;
pub use allocate::{Pool, Values};
pub use authn::token_keys::{KeyError, ServiceAccountConfig};
pub use body::Body;
pub use custom::definition_errors as rule_errors;
pub use flow_control::flow_control_defaults;
pub use health::Endpoints;
pub use kind::Kind;
pub use server::{ApiServer, Config, InProcess, Limits, Peer, StartError};
pub use spans::{TracingError, TracingOptions};
pub use user::UserInfo;
