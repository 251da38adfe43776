//! The API server: generic verbs over descriptors of kinds.

mod admission;
mod allocate;
mod authn;
mod authz;
pub mod body;
pub mod cache;
mod call;
mod codec;
mod discovery;
mod health;
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
mod serve;
mod server;
mod state;
mod subresource;
pub mod user;
mod verbs;
mod version;

pub use allocate::{Pool, Values};
pub use authn::token_keys::{KeyError, ServiceAccountConfig};
pub use body::Body;
pub use health::Endpoints;
pub use kind::Kind;
pub use server::{ApiServer, Config, InProcess, Peer};
pub use user::UserInfo;
