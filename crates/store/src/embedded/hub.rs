//! The watches: events from the writer to queues, one for each watch.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::Shared;
use super::read;
use crate::engine::{BoxFuture, ProgressRequester, WatchSource};
use crate::{Batch, Error, Event, WatchError};

/// The bytes that a watch may lag behind, besides the number of events.
const QUEUE_BYTES: usize = 64 << 20;
/// The revisions that are read from history at once.
const REPLAY_REVISIONS: usize = 256;

/// All watches of the engine.
pub(super) struct Hub {
    /// Everything up to here was queued.
    dispatched: AtomicI64,
    /// A std mutex is right: held for the queueing of one batch, never across an await.
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    queues: Vec<Arc<Queue>>,
    closed: bool,
}

/// What one watch has not been given yet.
struct Queue {
    prefix: String,
    from: i64,
    limit: usize,
    state: Mutex<QueueState>,
    notify: Notify,
}

#[derive(Default)]
struct QueueState {
    events: Vec<Event>,
    bytes: usize,
    /// The revision up to which there may be events that were not taken: of the newest in
    /// `events`, or of the history that has to be read first.
    pending_through: i64,
    /// The progress that was asked for.
    progress: i64,
    end: Option<WatchEnd>,
    /// The watch was dropped.
    gone: bool,
}

enum WatchEnd {
    Lagged,
    Closed,
}

impl Hub {
    pub(super) fn new(revision: i64) -> Self {
        Self {
            dispatched: AtomicI64::new(revision),
            watches: Mutex::default(),
        }
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().expect("no holder of this lock panics")
    }

    /// Queues the events of the revisions up to `revision`.
    pub(super) fn dispatch(&self, revision: i64, events: &[Event]) {
        let mut watches = self.watches();
        watches.queues.retain(|queue| queue.push(revision, events));
        self.dispatched.store(revision, Ordering::SeqCst);
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        let mut watches = self.watches();
        watches.closed = true;
        for queue in watches.queues.drain(..) {
            queue.state().end.get_or_insert(WatchEnd::Closed);
            queue.notify.notify_one();
        }
    }

    /// A watch from revision `from` on (0: from now on).
    pub(super) fn watch(shared: &Arc<Shared>, prefix: &str, from: i64, limit: usize) -> Result<Watch, WatchError> {
        let hub = &shared.hub;
        let mut watches = hub.watches();
        if watches.closed {
            return Err(WatchError::Closed);
        }
        let dispatched = hub.dispatched.load(Ordering::SeqCst);
        let from = if from == 0 { dispatched + 1 } else { from };
        let compacted = shared.compacted.load(Ordering::SeqCst);
        if from <= compacted {
            return Err(WatchError::Compacted(compacted));
        }
        let replay = (from <= dispatched).then(|| Replay {
            shared: Arc::clone(shared),
            next: from,
            through: dispatched,
        });
        let state = QueueState {
            pending_through: if replay.is_some() { dispatched } else { 0 },
            ..QueueState::default()
        };
        let queue = Arc::new(Queue {
            prefix: prefix.to_owned(),
            from,
            limit,
            state: Mutex::new(state),
            notify: Notify::new(),
        });
        watches.queues.push(Arc::clone(&queue));
        let progress = Arc::new(Progress {
            hub: Arc::clone(hub),
            queue,
        });
        Ok(Watch {
            progress,
            replay,
            delivered: from - 1,
            failed: None,
        })
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Queues what concerns this watch; false if the watch is over.
    fn push(&self, revision: i64, events: &[Event]) -> bool {
        let wanted = |event: &&Event| event.revision() >= self.from && event.key().starts_with(&self.prefix);
        let mut state = self.state();
        if state.gone {
            return false;
        }
        let before = state.events.len();
        state.events.extend(events.iter().filter(wanted).cloned());
        if state.events.len() == before {
            return true;
        }
        state.bytes += state.events[before..].iter().map(Event::weight).sum::<usize>();
        state.pending_through = revision;
        let lagged = state.events.len() > self.limit || state.bytes > QUEUE_BYTES;
        if lagged {
            state.events = Vec::new();
            state.end = Some(WatchEnd::Lagged);
        }
        self.notify.notify_one();
        !lagged
    }
}

struct Progress {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
}

impl ProgressRequester for Progress {
    fn request(&self) {
        let dispatched = self.hub.dispatched.load(Ordering::SeqCst);
        self.queue.state().progress = dispatched;
        self.queue.notify.notify_one();
    }

    fn caught_up(&self, applied: i64) -> Option<i64> {
        // Read first: whatever came up to it is in the queue by now.
        let dispatched = self.hub.dispatched.load(Ordering::SeqCst);
        let state = self.queue.state();
        let running = state.end.is_none() && !state.gone;
        (running && state.pending_through <= applied).then_some(dispatched.max(applied))
    }
}

/// History that a watch reads before its queue.
struct Replay {
    shared: Arc<Shared>,
    next: i64,
    through: i64,
}

/// One watch.
pub(super) struct Watch {
    progress: Arc<Progress>,
    replay: Option<Replay>,
    delivered: i64,
    failed: Option<WatchError>,
}

impl Watch {
    async fn next_batch(&mut self) -> Result<Batch, WatchError> {
        while let Some(replay) = &mut self.replay {
            let (events, through) = replay.read(&self.progress.queue.prefix).await?;
            // Only now, so that a cancelled call has lost nothing.
            replay.next = through + 1;
            let finished = through >= replay.through;
            if finished {
                self.replay = None;
            }
            self.delivered = through;
            if finished || !events.is_empty() {
                return Ok(Batch {
                    revision: through,
                    events,
                });
            }
        }
        loop {
            let notified = self.progress.queue.notify.notified();
            if let Some(result) = self.progress.queue.take(self.delivered) {
                let batch = result?;
                self.delivered = batch.revision;
                return Ok(batch);
            }
            notified.await;
        }
    }
}

impl Queue {
    fn take(&self, delivered: i64) -> Option<Result<Batch, WatchError>> {
        let mut state = self.state();
        if !state.events.is_empty() {
            let events = std::mem::take(&mut state.events);
            state.bytes = 0;
            return Some(Ok(Batch {
                revision: state.pending_through,
                events,
            }));
        }
        match state.end {
            Some(WatchEnd::Lagged) => return Some(Err(WatchError::Lagged { delivered })),
            Some(WatchEnd::Closed) => return Some(Err(WatchError::Closed)),
            None => {}
        }
        let progress = std::mem::take(&mut state.progress);
        (progress > delivered).then(|| {
            Ok(Batch {
                revision: progress,
                events: Vec::new(),
            })
        })
    }
}

impl Replay {
    async fn read(&self, prefix: &str) -> Result<(Vec<Event>, i64), WatchError> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_owned());
        let (next, through) = (self.next, self.through);
        let read = tokio::task::spawn_blocking(move || {
            let view = shared.disk.view()?;
            // Checked after the view was taken: what it lacks was compacted before.
            let compacted = shared.compacted.load(Ordering::SeqCst);
            if next <= compacted {
                return Err(Error::Compacted(compacted));
            }
            read::events(&view, &prefix, next, through, REPLAY_REVISIONS)
        });
        match read.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Error::Compacted(compacted))) => Err(WatchError::Compacted(compacted)),
            Ok(Err(error)) => Err(WatchError::Read(error)),
            Err(_) => Err(WatchError::Closed),
        }
    }
}

impl WatchSource for Watch {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch, WatchError>> {
        Box::pin(async move {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let result = self.next_batch().await;
            if let Err(error) = &result {
                self.failed = Some(error.clone());
                self.replay = None;
            }
            result
        })
    }

    fn progress_requester(&self) -> Arc<dyn ProgressRequester> {
        Arc::clone(&self.progress) as Arc<dyn ProgressRequester>
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.progress.queue.state();
        state.gone = true;
        state.events = Vec::new();
    }
}
