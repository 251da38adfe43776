//! fjall, configured to be small, behind the few operations that the engine needs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot};

use super::{CommitPoint, Faults};
use crate::Error;

const BLOCK_CACHE_BYTES: u64 = 4 << 20;
const MEMTABLE_BYTES: u64 = 4 << 20;
/// The least that fjall takes; a journal is dropped once all of it was flushed.
const JOURNALS_BYTES: u64 = 64 << 20;
/// What has to fit on a disk that was full before writing is tried again.
const PROBE_BYTES: usize = 1 << 20;

struct Open {
    database: Database,
    records: Keyspace,
}

/// Why a commit failed.
pub(super) enum CommitError {
    /// There was no space, or it cannot be known: [`Disk::reopen`] may help.
    Full,
    /// The disk failed.
    Failed(String),
}

/// The open database; can be closed and opened again under its users.
pub(super) struct Disk {
    path: PathBuf,
    faults: Option<Arc<dyn Faults>>,
    /// A std lock is right: no lock is held across an await, and writers only swap the database
    /// after a failure.
    open: RwLock<Result<Open, Error>>,
}

impl Disk {
    pub(super) fn open(path: &Path, faults: Option<Arc<dyn Faults>>) -> Result<Self, Error> {
        let open = Open::new(path)?;
        Ok(Self {
            path: path.to_owned(),
            faults,
            open: RwLock::new(Ok(open)),
        })
    }

    /// A consistent view of all records. Later commits wait for it only while reopening.
    pub(super) fn view(&self) -> Result<View<'_>, Error> {
        let open = self.open.read().expect("no holder of this lock panics");
        let snapshot = match open.as_ref() {
            Ok(open) => open.database.snapshot(),
            Err(error) => return Err(error.clone()),
        };
        Ok(View { open, snapshot })
    }

    /// Applies the changes as one; on disk when it returns if `durable`.
    pub(super) fn commit(&self, changes: Changes, durable: bool) -> Result<(), CommitError> {
        self.fault(CommitPoint::BeforeWrite)?;
        {
            let open = self.open.read().expect("no holder of this lock panics");
            let Ok(open) = open.as_ref() else {
                return Err(CommitError::Full);
            };
            let mode = if durable {
                PersistMode::SyncData
            } else {
                PersistMode::Buffer
            };
            let mut batch =
                OwnedWriteBatch::with_capacity(open.database.clone(), changes.0.len()).durability(Some(mode));
            for (key, value) in changes.0 {
                match value {
                    Some(value) => batch.insert(&open.records, key, value),
                    None => batch.remove(&open.records, key),
                }
            }
            batch.commit().map_err(|error| classify(&error))?;
        }
        self.fault(CommitPoint::AfterWrite)
    }

    fn fault(&self, point: CommitPoint) -> Result<(), CommitError> {
        match &self.faults {
            Some(faults) => faults.at(point).map_err(|error| classify_io(&error)),
            None => Ok(()),
        }
    }

    /// Closes and opens the database after a failed commit, once there is space again. What was
    /// committed is there; of the failed commit all or nothing.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        self.probe().map_err(|_| Error::Full {
            path: self.path.clone(),
        })?;
        let mut open = self.open.write().expect("no holder of this lock panics");
        // Closed first: it holds a lock file.
        *open = Err(Error::Closed);
        *open = Open::new(&self.path);
        open.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn probe(&self) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            faults.at(CommitPoint::BeforeWrite)?;
        }
        let path = self.path.join("probe");
        let written =
            std::fs::write(&path, vec![0x5a; PROBE_BYTES]).and_then(|()| std::fs::File::open(&path)?.sync_all());
        std::fs::remove_file(&path).and(written)
    }
}

impl Open {
    fn new(path: &Path) -> Result<Self, Error> {
        let database = Database::builder(path)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_cached_files(Some(64))
            .max_journaling_size(JOURNALS_BYTES)
            // One: with more, the first spins while another one compacts.
            .worker_threads(1)
            .open()
            .map_err(storage("open the database"))?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let records = database
            .keyspace("records", options)
            .map_err(storage("open the records"))?;
        Ok(Self { database, records })
    }
}

/// Writes to be applied as one, in order.
#[derive(Default)]
pub(super) struct Changes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Changes {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((key, Some(value)));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.0.push((key, None));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A consistent view of the records.
pub(super) struct View<'a> {
    open: RwLockReadGuard<'a, Result<Open, Error>>,
    snapshot: Snapshot,
}

impl View<'_> {
    fn records(&self) -> &Keyspace {
        &self
            .open
            .as_ref()
            .expect("a view is only made of an open database")
            .records
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<fjall::Slice>, Error> {
        self.snapshot.get(self.records(), key).map_err(storage("read a record"))
    }

    /// The records with keys in `start..end`, in order.
    pub(super) fn scan(&self, start: Vec<u8>, end: Vec<u8>) -> impl Iterator<Item = Result<Record, Error>> {
        let items = self.snapshot.range(self.records(), start..end);
        items.map(|item| item.into_inner().map_err(storage("read records")))
    }

    /// The last record with a key in `start..end`.
    pub(super) fn last(&self, start: Vec<u8>, end: Vec<u8>) -> Result<Option<Record>, Error> {
        let item = self.snapshot.range(self.records(), start..end).next_back();
        item.map(|item| item.into_inner().map_err(storage("read records")))
            .transpose()
    }
}

/// A record's key and value.
pub(super) type Record = (fjall::Slice, fjall::Slice);

fn storage(operation: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |error| Error::Storage {
        operation,
        reason: reason(&error),
    }
}

fn reason(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        fjall::Error::Storage(error) => error.to_string(),
        error => error.to_string(),
    }
}

fn classify(error: &fjall::Error) -> CommitError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => classify_io(error),
        // A background flush failed; the usual cause is a full disk, which the probe finds out.
        fjall::Error::Poisoned => CommitError::Full,
        error => CommitError::Failed(reason(error)),
    }
}

fn classify_io(error: &io::Error) -> CommitError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => CommitError::Full,
        _ => CommitError::Failed(error.to_string()),
    }
}
