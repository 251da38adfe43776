//! The API server: generic verbs over descriptors of kinds.

pub mod cache;
pub mod kind;
pub mod user;

pub use kind::Kind;
pub use user::UserInfo;
