//! What everybody in the world shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::fault::Faults;
use crate::server::Server;

/// The shared state. One thread runs the world; the lock is only there because futures may be sent.
pub type Cluster = Arc<Mutex<Shared>>;

/// The server, the faults, and what happened.
pub struct Shared {
    /// The API server.
    pub server: Server,
    /// What goes wrong.
    pub faults: Faults,
    /// Nodes that give no sign of life, and since when.
    pub silent: BTreeMap<String, Timestamp>,
    /// What happened, if anybody wants to read it.
    pub trace: Option<Vec<String>>,
    /// What must not have happened.
    pub violations: Vec<String>,
}

impl Shared {
    /// Writes down what happened.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.server.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:.3} {}", what()));
        }
    }

    /// Writes down what must not happen.
    pub fn violate(&mut self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        self.violations.push(what);
    }
}
