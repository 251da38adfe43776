//! The writer thread: takes all waiting transactions, commits them as one, answers them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::compaction::Compaction;
use super::disk::{Changes, CommitError};
use super::expiry::Expiry;
use super::high_water::HighWater;
use super::recent::{Current, Recent};
use super::txn::{self, Lookup};
use super::{Options, Shared, newest_revision, read};
use crate::{Clock, Error, Event, KeyValue, Op, Txn, TxnResponse};

/// How much goes into one commit.
const BATCH_TXNS: usize = 512;
const BATCH_BYTES: usize = 8 << 20;

/// The way back to the caller.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Request {
    Txn(Txn, Answer<TxnResponse>),
    Compact(i64, Answer<()>),
    ExpireDue(Answer<usize>),
}

pub(super) struct Command {
    pub(super) request: Request,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Whether commits work.
enum Health {
    Good,
    /// No space was left at that time.
    Full(Instant),
    /// The disk failed.
    ReadOnly(String),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) compaction: Compaction,
    pub(super) expiry: Expiry,
    /// The revision of the last commit.
    pub(super) revision: i64,
    recent: Recent,
    health: Health,
    full_retry: Duration,
    high_water: HighWater,
}

/// A transaction that was evaluated and waits for the commit.
struct Evaluated {
    answer: Answer<TxnResponse>,
    response: TxnResponse,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: Options,
        high_water: HighWater,
        revision: i64,
    ) -> Result<Self, Error> {
        let compaction = Compaction::new(&shared, &options)?;
        let expiry = Expiry::new(&shared)?;
        Ok(Self {
            shared,
            clock: options.clock,
            compaction,
            expiry,
            revision,
            recent: Recent::new(revision),
            health: Health::Good,
            full_retry: options.full_retry,
            high_water,
        })
    }

    /// Runs until all senders are gone.
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let _close = CloseOnExit(Arc::clone(&self.shared));
        loop {
            let first = match self.next_wakeup() {
                None => commands.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(wait) => commands.recv_timeout(wait),
            };
            match first {
                Ok(first) => self.handle(first, commands),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.high_water.note(self.revision);
                    return;
                }
            }
            if self.expiry.is_due(self.clock.now_ms())
                && let Err(error) = self.expire_due()
            {
                tracing::warn!(%error, "cannot delete expired keys");
            }
            if matches!(self.health, Health::Good) {
                self.compact_some();
            }
        }
    }

    /// When there is something to do without a command; none while the store is idle.
    fn next_wakeup(&self) -> Option<Duration> {
        if self.compaction.has_backlog() && matches!(self.health, Health::Good) {
            return Some(Duration::ZERO);
        }
        self.expiry.wait(self.clock.now_ms())
    }

    fn handle(&mut self, first: Command, commands: &mpsc::Receiver<Command>) {
        let mut txns = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command.request {
                Request::Txn(txn, answer) => {
                    bytes += weight(&txn);
                    txns.push((txn, answer, command._permit));
                }
                Request::Compact(revision, answer) => {
                    // A caller that went away does not want to know.
                    let _ = answer.send(self.compact(revision));
                }
                Request::ExpireDue(answer) => {
                    let _ = answer.send(self.expire_due());
                }
            }
            if txns.len() < BATCH_TXNS && bytes < BATCH_BYTES {
                next = commands.try_recv().ok();
            }
        }
        if !txns.is_empty() {
            self.run_txns(txns);
        }
    }

    fn run_txns(&mut self, txns: Vec<(Txn, Answer<TxnResponse>, OwnedSemaphorePermit)>) {
        if let Err(error) = self.ensure_writable() {
            for (_, answer, _) in txns {
                let _ = answer.send(Err(error.clone()));
            }
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut revision = self.revision;
        let mut evaluated = Vec::with_capacity(txns.len());
        let mut all_events = Vec::new();
        let mut changes = Changes::default();
        for (txn, answer, _permit) in txns {
            let mut state = Current {
                shared: &self.shared,
                recent: &self.recent,
            };
            let outcome = match txn::evaluate(txn, revision + 1, now_ms, &mut state) {
                Ok(outcome) => outcome,
                Err(error) => {
                    let _ = answer.send(Err(error));
                    continue;
                }
            };
            if !outcome.events.is_empty() {
                revision += 1;
                txn::write(&outcome.events, now_ms, &mut changes);
                self.recent.apply(&outcome.events, now_ms);
                all_events.extend(outcome.events);
            }
            let response = TxnResponse {
                succeeded: outcome.succeeded,
                revision,
                results: outcome.results,
            };
            evaluated.push(Evaluated { answer, response });
        }
        let committed = self.commit(revision, all_events, changes);
        for Evaluated { answer, response } in evaluated {
            let _ = answer.send(committed.clone().map(|()| response));
        }
        self.recent.trim(now_ms);
    }

    /// Commits changes and tells the watches and readers of them.
    pub(super) fn commit(&mut self, revision: i64, events: Vec<Event>, changes: Changes) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.shared.disk.commit(changes, true) {
            self.recent.clear(self.revision);
            return Err(self.failed(error));
        }
        self.expiry.note(&events);
        self.publish(revision, &events);
        Ok(())
    }

    fn publish(&mut self, revision: i64, events: &[Event]) {
        self.revision = revision;
        self.shared.hub.dispatch(revision, events);
        self.shared.revision.send_replace(revision);
        self.high_water.advance(revision);
    }

    pub(super) fn failed(&mut self, error: CommitError) -> Error {
        match error {
            CommitError::Full => {
                if matches!(self.health, Health::Good) {
                    tracing::error!(path = %self.shared.path.display(), "the disk is full: writes are refused until there is space");
                }
                self.health = Health::Full(Instant::now());
            }
            CommitError::Failed(reason) => {
                tracing::error!(path = %self.shared.path.display(), reason, "the disk failed: writes are refused");
                self.health = Health::ReadOnly(reason);
            }
        }
        self.refusal()
    }

    fn refusal(&self) -> Error {
        let path = self.shared.path.clone();
        match &self.health {
            Health::ReadOnly(reason) => Error::ReadOnly {
                path,
                reason: reason.clone(),
            },
            Health::Good | Health::Full(_) => Error::Full { path },
        }
    }

    /// After a full disk: opens the database again if there is space by now.
    pub(super) fn ensure_writable(&mut self) -> Result<(), Error> {
        match self.health {
            Health::Good => return Ok(()),
            Health::Full(since) if since.elapsed() >= self.full_retry => {}
            Health::Full(_) | Health::ReadOnly(_) => return Err(self.refusal()),
        }
        if let Err(error) = self.recover() {
            tracing::debug!(%error, "writing does not work yet");
            self.health = Health::Full(Instant::now());
            return Err(self.refusal());
        }
        tracing::info!("there is space again: writes are accepted");
        self.health = Health::Good;
        Ok(())
    }

    fn recover(&mut self) -> Result<(), Error> {
        self.shared.disk.reopen()?;
        // The failed commit may have reached the disk: then it has happened.
        let compacted = self.shared.compacted.load(Ordering::SeqCst);
        let revision = newest_revision(&self.shared.disk, compacted)?;
        if revision > self.revision {
            let (events, _) = read::events(&self.shared.disk.view()?, "", self.revision + 1, revision, usize::MAX)?;
            self.expiry.note(&events);
            self.publish(revision, &events);
            self.recent.clear(revision);
        }
        Ok(())
    }
}

/// Ends the watches however the writer ends.
struct CloseOnExit(Arc<Shared>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        self.0.hub.close();
    }
}

fn weight(txn: &Txn) -> usize {
    let values = txn.success.iter().map(|op| match op {
        Op::Put { value, .. } => value.len(),
        Op::Delete { .. } | Op::Get { .. } => 0,
    });
    values.sum::<usize>() + 256
}

impl Writer {
    /// The newest state of a key.
    pub(super) fn lookup(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        Current {
            shared: &self.shared,
            recent: &self.recent,
        }
        .lookup(key)
    }

    /// Takes up changes that did not come from a transaction.
    pub(super) fn remember(&mut self, events: &[Event]) {
        let now_ms = self.clock.now_ms();
        self.recent.apply(events, now_ms);
        self.recent.trim(now_ms);
    }
}
