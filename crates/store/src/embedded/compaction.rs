//! The end of history: old revisions are dropped, little by little, along with other writes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::Changes;
use super::layout::{self, LogRecord};
use super::writer::Writer;
use super::{Options, Shared};
use crate::Error;

/// The revisions that are dropped at once.
const CHUNK: usize = 256;
/// How often the age of history is looked at, in time and revisions; only when something is written.
const LOOK_EVERY_MS: i64 = 30_000;
const LOOK_EVERY_REVISIONS: i64 = 1_000;

/// What is dropped, and how far it has come.
pub(super) struct Compaction {
    retention_ms: i64,
    max_history: i64,
    /// Log records before this revision are gone.
    cursor: i64,
    /// The revision that was asked to be compacted.
    wanted: i64,
    looked_at_ms: i64,
    looked_at_revision: i64,
    more: bool,
}

impl Compaction {
    pub(super) fn new(shared: &Shared, options: &Options) -> Result<Self, Error> {
        let first = shared
            .disk
            .view()?
            .scan(layout::log_key(0), layout::log_key(i64::MAX))
            .next()
            .transpose()?;
        let cursor = first.map_or(Ok(0), |(key, _)| layout::parse_log_key(&key))?;
        let retention_ms = |retention: Duration| i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        Ok(Self {
            retention_ms: retention_ms(options.retention),
            max_history: i64::try_from(options.max_history).unwrap_or(i64::MAX),
            cursor,
            wanted: shared.compacted.load(Ordering::SeqCst),
            looked_at_ms: 0,
            looked_at_revision: 0,
            // An earlier run may have left some.
            more: true,
        })
    }

    /// Whether there is more to drop right away.
    pub(super) fn has_backlog(&self) -> bool {
        self.more
    }

    fn should_look(&self, now_ms: i64, revision: i64) -> bool {
        self.more
            || revision - self.looked_at_revision >= LOOK_EVERY_REVISIONS
            || (revision != self.looked_at_revision && (now_ms - self.looked_at_ms).abs() >= LOOK_EVERY_MS)
    }
}

impl Writer {
    /// Compacts at `revision` for readers and watches; the records go as time allows.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        self.ensure_writable()?;
        let compacted = self.shared.compacted.load(Ordering::SeqCst);
        if revision > self.revision {
            return Err(Error::Future {
                requested: revision,
                current: self.revision,
            });
        }
        if revision <= compacted {
            return Err(Error::Compacted(compacted));
        }
        let mut changes = Changes::default();
        changes.put(layout::META_COMPACTED.to_vec(), revision.to_be_bytes().to_vec());
        self.commit(self.revision, Vec::new(), changes)?;
        self.shared.compacted.store(revision, Ordering::SeqCst);
        self.compaction.wanted = revision;
        self.compaction.more = true;
        Ok(())
    }

    /// Drops some of what is too old.
    pub(super) fn compact_some(&mut self) {
        let now_ms = self.clock.now_ms();
        if !self.compaction.should_look(now_ms, self.revision) {
            return;
        }
        self.compaction.looked_at_ms = now_ms;
        self.compaction.looked_at_revision = self.revision;
        if let Err(error) = self.drop_chunk(now_ms) {
            self.compaction.more = false;
            tracing::warn!(%error, "cannot drop old revisions");
        }
    }

    fn drop_chunk(&mut self, now_ms: i64) -> Result<(), Error> {
        let too_many = self.revision.saturating_sub(self.compaction.max_history);
        let wanted = self.compaction.wanted.max(too_many);
        let old_ms = now_ms.saturating_sub(self.compaction.retention_ms);
        let mut changes = Changes::default();
        let mut last = 0;
        let mut dropped = 0;
        self.compaction.more = false;
        for record in self
            .shared
            .disk
            .view()?
            .scan(layout::log_key(self.compaction.cursor), layout::log_key(i64::MAX))
        {
            let (key, value) = record?;
            let revision = layout::parse_log_key(&key)?;
            let log = LogRecord::parse(&value)?;
            if revision > wanted && log.time_ms > old_ms {
                break;
            }
            if dropped == CHUNK {
                self.compaction.more = true;
                break;
            }
            for change in &log.changes {
                if change.prev_revision != 0 {
                    changes.remove(layout::data_key(&change.key, change.prev_revision));
                }
                if change.deleted {
                    changes.remove(layout::data_key(&change.key, revision));
                }
            }
            changes.remove(key.to_vec());
            last = revision;
            dropped += 1;
        }
        if dropped == 0 {
            return Ok(());
        }
        let compacted = last.max(self.shared.compacted.load(Ordering::SeqCst));
        changes.put(layout::META_COMPACTED.to_vec(), compacted.to_be_bytes().to_vec());
        // Readers first; see the invariants of this module's parent.
        self.shared.compacted.store(compacted, Ordering::SeqCst);
        // It need not be durable: after a crash it is done again.
        self.shared
            .disk
            .commit(changes, false)
            .map_err(|error| self.failed(error))?;
        self.compaction.cursor = last + 1;
        Ok(())
    }
}
