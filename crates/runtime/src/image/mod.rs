//! Images: references, pulling, importing, unpacking, and the store.
//!
//! ```text
//! registry ──pull──┐
//! tar file ─import─┴─> archive ──unpack (a process)──> layer folder ──> store ──> containers' overlays
//! ```
//!
//! Does not know: containers, except that some pin layers; when images should be pulled or removed.

mod copy;
mod digest;
mod extract;
mod hello;
mod import;
mod listeners;
mod manifest;
mod protocol;
mod pull;
mod reference;
mod roots;
mod store;
mod unpack;

pub(crate) use copy::copy_tree;
pub use hello::HELLO_IMAGE;
pub(crate) use pull::{PullOptions, Puller};
pub(crate) use store::{ImageStore, Pins, filesystem_usage};
pub(crate) use unpack::{probe_overlay_main, unpack_main};
