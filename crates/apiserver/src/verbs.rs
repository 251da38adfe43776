//! The verbs, over any kind.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod metadata;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod persist;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;
