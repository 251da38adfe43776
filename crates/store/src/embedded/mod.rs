//! The embedded engine: one directory, one writer thread, fjall underneath.
//!
//! ```text
//!   txn ──► commands ──► writer: evaluate many ─► one commit ─► hub.dispatch ─► revision ─► answers
//!   get, range, replay ──► a view of the records
//! ```
//!
//! # Invariants
//! - Only the writer thread commits. A revision is visible to reads and watches after its commit.
//! - History goes in this order: the compacted revision is raised for readers, then the records
//!   are removed; so a reader that takes its view first and checks second never sees a hole.

mod compaction;
mod disk;
mod expiry;
mod fill;
mod high_water;
mod hub;
mod layout;
mod lock;
mod read;
mod recent;
mod txn;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::engine::{BoxFuture, Engine, WatchSource};
use crate::{Clock, Error, KeyValue, Range, RangeResponse, SystemClock, Txn, TxnResponse, WatchError};
use disk::{Changes, Disk};
pub(crate) use fill::fill;
use high_water::HighWater;
use hub::Hub;
use writer::{Command, Writer};

/// Commands that may wait for the writer; more callers wait for their turn.
const COMMANDS: usize = 4096;

/// How the embedded engine runs.
#[derive(Clone)]
pub struct Options {
    /// How long history is kept at least, unless `max_history` is reached.
    pub retention: Duration,
    /// How many revisions of history are kept at most (roughly).
    pub max_history: usize,
    /// How many events a watch may lag behind before it is ended.
    pub watch_queue: usize,
    /// How long writes are refused without another look after the disk was found full.
    pub full_retry: Duration,
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
            full_retry: Duration::from_millis(500),
            clock: Arc::new(SystemClock),
            faults: None,
        }
    }
}

/// A moment of a commit at which a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// Before anything is written; also when space is probed for after a failure.
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

/// What the writer and the readers share.
struct Shared {
    path: PathBuf,
    disk: Disk,
    hub: Arc<Hub>,
    revision: watch::Sender<i64>,
    compacted: AtomicI64,
    _lock: lock::DirLock,
    /// Of a temporary store; removed after `disk` was closed, as fields drop in order.
    _temporary: Option<tempfile::TempDir>,
}

struct Embedded {
    shared: Arc<Shared>,
    watch_queue: usize,
    permits: Arc<Semaphore>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

pub(crate) fn open(dir: &Path, options: Options) -> Result<Arc<dyn Engine>, Error> {
    open_in(dir, options, None)
}

pub(crate) fn open_temporary(options: Options) -> Result<Arc<dyn Engine>, Error> {
    let dir = tempfile::Builder::new()
        .prefix("skiff-store-")
        .tempdir()
        .map_err(Error::io("make a temporary directory"))?;
    let path = dir.path().to_owned();
    open_in(&path, options, Some(dir))
}

fn open_in(dir: &Path, options: Options, temporary: Option<tempfile::TempDir>) -> Result<Arc<dyn Engine>, Error> {
    let lock = lock::acquire(dir)?;
    let disk = Disk::open(&dir.join("kv"), options.faults.clone())?;
    let compacted = initialize(&disk)?;
    let revision = newest_revision(&disk, compacted)?;
    let high_water = HighWater::check(dir, revision)?;
    let shared = Arc::new(Shared {
        path: dir.to_owned(),
        disk,
        hub: Arc::new(Hub::new(revision)),
        revision: watch::Sender::new(revision),
        compacted: AtomicI64::new(compacted),
        _lock: lock,
        _temporary: temporary,
    });
    let (sender, receiver) = mpsc::channel();
    let watch_queue = options.watch_queue;
    let writer = Writer::new(Arc::clone(&shared), options, high_water, revision)?;
    let thread = std::thread::Builder::new()
        .name("store".into())
        .spawn(move || writer.run(&receiver));
    let thread = thread.map_err(Error::io("start the writer thread"))?;
    Ok(Arc::new(Embedded {
        shared,
        watch_queue,
        permits: Arc::new(Semaphore::new(COMMANDS)),
        commands: Some(sender),
        writer: Some(thread),
    }))
}

/// Writes the format into a new database, checks it in an old one. Returns the compacted revision.
fn initialize(disk: &Disk) -> Result<i64, Error> {
    let view = disk.view()?;
    match view.get(layout::META_FORMAT)? {
        Some(format) if layout::parse_meta(&format)? == layout::FORMAT => {}
        Some(_) => return Err(Error::Damaged { record: "format" }),
        None => {
            let mut changes = Changes::default();
            changes.put(layout::META_FORMAT.to_vec(), layout::FORMAT.to_be_bytes().to_vec());
            let failed = |_| Error::Storage {
                operation: "write the format",
                reason: "disk full or failed".into(),
            };
            disk.commit(changes, true).map_err(failed)?;
        }
    }
    view.get(layout::META_COMPACTED)?
        .map_or(Ok(0), |record| layout::parse_meta(&record))
}

/// The revision of the newest log record; the store begins at 1.
fn newest_revision(disk: &Disk, compacted: i64) -> Result<i64, Error> {
    let newest = disk.view()?.last(layout::log_key(0), layout::log_key(i64::MAX))?;
    let newest = newest.map_or(Ok(1), |(key, _)| layout::parse_log_key(&key))?;
    Ok(newest.max(compacted))
}

impl Shared {
    fn current(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Reads with a view at `revision` (0: now), which is known to be there.
    fn read_at<T>(
        &self,
        revision: i64,
        read: impl FnOnce(&disk::View<'_>, i64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // Before the view is taken, so that the view has all of it.
        let current = self.current();
        if revision > current {
            return Err(Error::Future {
                requested: revision,
                current,
            });
        }
        let view = self.disk.view()?;
        // After the view was taken: what it lacks was compacted before.
        let compacted = self.compacted.load(Ordering::SeqCst);
        let revision = if revision == 0 {
            current.max(compacted)
        } else {
            revision
        };
        if revision < compacted {
            return Err(Error::Compacted(compacted));
        }
        read(&view, revision)
    }
}

impl Embedded {
    async fn command<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> writer::Request,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let command = Command {
            request: make(answer),
            _permit: permit,
        };
        let commands = self.commands.as_ref().ok_or(Error::Closed)?;
        commands.send(command).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl Engine for Embedded {
    fn revision(&self) -> i64 {
        self.shared.current()
    }

    fn revisions(&self) -> watch::Receiver<i64> {
        self.shared.revision.subscribe()
    }

    fn compacted_revision(&self) -> i64 {
        self.shared.compacted.load(Ordering::SeqCst)
    }

    fn get<'a>(&'a self, key: &'a str, revision: i64) -> BoxFuture<'a, Result<Option<KeyValue>, Error>> {
        // One record, mostly from memory: not worth another thread.
        Box::pin(async move {
            self.shared
                .read_at(revision, |view, at| read::get(view, &key.into(), at))
        })
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse, Error>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let read = move || shared.read_at(range.revision, |view, at| read::range(view, &range, at));
            tokio::task::spawn_blocking(read).await.map_err(|_| Error::Closed)?
        })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(async move {
            txn::check(&txn)?;
            self.command(|answer| writer::Request::Txn(txn, answer)).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: i64) -> BoxFuture<'a, Result<Box<dyn WatchSource>, WatchError>> {
        Box::pin(async move {
            let watch = Hub::watch(&self.shared, prefix, from, self.watch_queue)?;
            Ok(Box::new(watch) as Box<dyn WatchSource>)
        })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.command(move |answer| writer::Request::Compact(revision, answer)))
    }

    fn expire_due(&self) -> BoxFuture<'_, Result<usize, Error>> {
        Box::pin(self.command(writer::Request::ExpireDue))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take() {
            // A panic there has been reported by its hook.
            let _ = writer.join();
        }
    }
}
