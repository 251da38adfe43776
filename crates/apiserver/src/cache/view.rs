//! The state at a revision.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::Entry;

/// Objects by key; cloning shares all of it.
pub(super) type Objects = RedBlackTreeMapSync<Arc<str>, Arc<Entry>>;

/// The exact state at a revision.
#[derive(Clone)]
pub(super) struct View {
    pub(super) revision: i64,
    pub(super) objects: Objects,
}

impl View {
    pub(super) fn empty() -> Self {
        Self {
            revision: 0,
            objects: Objects::new_sync(),
        }
    }

    /// The same state, known to be unchanged up to a later revision.
    pub(super) fn known_through(mut self, revision: i64) -> Self {
        self.revision = self.revision.max(revision);
        self
    }
}
