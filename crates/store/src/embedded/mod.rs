//! The embedded engine.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::{Clock, Error, SystemClock};

/// How the embedded engine runs.
#[derive(Clone)]
pub struct Options {
    /// How long history is kept at least, unless `max_history` is reached.
    pub retention: Duration,
    /// How many revisions of history are kept at most.
    pub max_history: usize,
    /// How many events a watch may lag behind before it is ended.
    pub watch_queue: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Failures to inject; none by default.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(300),
            max_history: 100_000,
            watch_queue: 16_384,
            clock: Arc::new(SystemClock),
            faults: None,
        }
    }
}

/// A moment of a commit at which a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// Before anything is written.
    BeforeWrite,
    /// After the batch is on disk, before the engine knows.
    AfterWrite,
}

/// Makes commits fail on purpose.
pub trait Faults: Send + Sync + 'static {
    /// Called at each point of each commit.
    ///
    /// # Errors
    /// The failure to pretend.
    fn at(&self, point: CommitPoint) -> io::Result<()>;
}

pub(crate) fn open(_dir: &Path, _options: Options) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::Closed)
}

pub(crate) fn open_temporary(_options: Options) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::Closed)
}
