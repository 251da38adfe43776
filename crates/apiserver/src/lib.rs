//! The API server: generic verbs over descriptors of kinds.

mod admission;
mod allocate;
pub mod body;
pub mod cache;
mod call;
mod codec;
pub mod kind;
mod negotiate;
mod patch;
mod request;
mod resource;
mod respond;
mod route;
mod server;
mod state;
pub mod user;
mod verbs;

pub use allocate::{Pool, Values};
pub use body::Body;
pub use kind::Kind;
pub use server::{ApiServer, Config, Peer};
pub use user::UserInfo;
