//! The rules about objects that are functions of their arguments: what completes, checks, marks and removes them. The
//! verbs apply them to what is stored; the fault simulation to a world in memory.

pub use crate::codec::{complete, normalize};
pub use crate::verbs::delete::{Decision, decide};
pub use crate::verbs::metadata::{dedup_owner_references, ensure_namespace, validate, validate_update};
pub use crate::verbs::options::{DeleteOptions, Propagation};
pub use crate::verbs::update::{deletes, generation_moves, keep_metadata, prepare_part, put_back};
