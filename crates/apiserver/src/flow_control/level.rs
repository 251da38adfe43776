//! A priority level: its seats, and the requests that wait for them.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::dealer;
use super::limits::{Limits, Wish};
use super::queues::Queues;

/// What becomes of requests beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// They are never limited.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait.
    Queue { queues: usize, hand: usize, longest: usize },
}

/// A priority level. The same one goes on under a changed configuration.
pub(super) struct Level {
    pub name: Arc<str>,
    /// A mutex of parking_lot: held for a few steps, never across an await.
    state: Mutex<State>,
    this: Weak<Level>,
}

struct State {
    beyond: Beyond,
    limits: Limits,
    /// The seats it has now, with what it lends and borrows.
    current: u32,
    queues: Queues<oneshot::Sender<Seat>>,
    demand: Demand,
    dispatched: u64,
    rejected: u64,
    timed_out: u64,
}

/// What a level needed over a time.
#[derive(Default)]
struct Demand {
    since: Option<Instant>,
    now: f64,
    /// Integrals of the demand and of its square.
    sum: f64,
    squares: f64,
    seconds: f64,
    most: f64,
    smoothed: f64,
}

/// A demand that has gone is remembered for a while (`seatDemandSmoothingCoefficient`).
const SMOOTHING: f64 = 0.977;

impl Demand {
    fn set(&mut self, now: Instant, demand: u32) {
        if let Some(since) = self.since {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            self.seconds += seconds;
            self.sum += self.now * seconds;
            self.squares += self.now * self.now * seconds;
        }
        self.since = Some(now);
        self.now = f64::from(demand);
        self.most = self.most.max(self.now);
    }

    /// Begins a new period; the high-water mark and the smoothed demand of the last one.
    fn reset(&mut self) -> (f64, f64) {
        let average = if self.seconds > 0.0 {
            self.sum / self.seconds
        } else {
            self.now
        };
        let variance = if self.seconds > 0.0 {
            self.squares / self.seconds - average * average
        } else {
            0.0
        };
        let envelope = average + variance.max(0.0).sqrt();
        self.smoothed = envelope.max(SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope);
        let most = self.most;
        (self.sum, self.squares, self.seconds, self.most) = (0.0, 0.0, 0.0, self.now);
        (most, self.smoothed)
    }
}

/// Seats that a request holds; dropping frees them.
pub(super) struct Seat {
    level: Arc<Level>,
    queue: Option<usize>,
    width: u32,
    began: Instant,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.level.state.lock();
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        let current = state.current;
        state.queues.finish(self.queue, self.width, seconds, now, current);
        self.level.dispatch(state, now);
    }
}

/// What happens to a request that finds no free seat at first.
pub(super) enum Arrival {
    Seated(Seat),
    Queued(InQueue),
    /// For this reason.
    Rejected(&'static str),
}

/// A place in a queue.
pub(super) struct InQueue {
    pub queue_length: usize,
    pub seat: Place,
}

/// Gives the seat when it is the request's turn; dropping it leaves the queue.
pub(super) struct Place {
    level: Arc<Level>,
    id: u64,
    seat: oneshot::Receiver<Seat>,
}

impl Future for Place {
    type Output = Result<Seat, oneshot::error::RecvError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        std::pin::Pin::new(&mut self.seat).poll(context)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A seat that was given meanwhile drops with the receiver and is free again.
        if !self.seat.is_terminated() {
            let mut state = self.level.state.lock();
            let before = state.queues.waiting();
            state.queues.forget(self.id);
            if state.queues.waiting() < before {
                state.timed_out += 1;
                self.level.dispatch(state, Instant::now());
            }
        }
    }
}

impl Level {
    pub fn new(name: &str, beyond: Beyond, limits: Limits) -> Arc<Level> {
        let now = Instant::now();
        let queues = match beyond {
            Beyond::Queue { queues, .. } => queues,
            _ => 0,
        };
        Arc::new_cyclic(|this| Level {
            name: name.into(),
            this: this.clone(),
            state: Mutex::new(State {
                beyond,
                limits,
                current: limits.nominal,
                queues: Queues::new(queues, now),
                demand: Demand::default(),
                dispatched: 0,
                rejected: 0,
                timed_out: 0,
            }),
        })
    }

    /// Goes on with another configuration.
    pub fn configure(&self, beyond: Beyond, limits: Limits) {
        let mut state = self.state.lock();
        if state.limits != limits {
            state.current = limits.nominal;
        }
        state.beyond = beyond;
        state.limits = limits;
        if let Beyond::Queue { queues, .. } = beyond {
            state.queues.grow(queues);
        }
        self.dispatch(state, Instant::now());
    }

    pub fn is_exempt(&self) -> bool {
        self.state.lock().beyond == Beyond::Exempt
    }

    pub fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    pub fn current_limit(&self) -> u32 {
        self.state.lock().current
    }

    /// What the level wishes for, by its demand since the last time; nothing if it is exempt.
    pub fn wish(&self, now: Instant) -> Option<Wish> {
        let mut state = self.state.lock();
        if state.beyond == Beyond::Exempt {
            return None;
        }
        let demand = state.queues.demand();
        state.demand.set(now, demand);
        let (most, smoothed) = state.demand.reset();
        let limits = state.limits;
        // Never less than it keeps, nor than it needed of its own.
        let least = f64::from(limits.least).max(most.min(f64::from(limits.nominal)));
        Some(Wish {
            least,
            most: f64::from(limits.most),
            target: least.max(smoothed),
        })
    }

    /// Sets what it has now.
    pub fn set_current(&self, seats: u32, now: Instant) {
        let mut state = self.state.lock();
        state.current = seats.max(1);
        self.dispatch(state, now);
    }

    fn seat(&self, queue: Option<usize>, width: u32, began: Instant) -> Option<Seat> {
        Some(Seat {
            level: self.this.upgrade()?,
            queue,
            width,
            began,
        })
    }

    /// Seats that are free now, if nobody waits for them.
    pub fn try_seat(&self, width: u32, now: Instant) -> Option<Seat> {
        let mut state = self.state.lock();
        let current = state.current;
        if !state.queues.seat_at_once(width, current) {
            return None;
        }
        state.dispatched += 1;
        let demand = state.queues.demand();
        state.demand.set(now, demand);
        drop(state);
        self.seat(None, width, now)
    }

    /// Seats, a place in a queue, or a refusal.
    pub fn arrive(&self, flow: u64, width: u32, now: Instant) -> Arrival {
        if let Some(seat) = self.try_seat(width, now) {
            return Arrival::Seated(seat);
        }
        let mut state = self.state.lock();
        let Beyond::Queue { queues, hand, longest } = state.beyond else {
            state.rejected += 1;
            return Arrival::Rejected("concurrency-limit");
        };
        let Some(level) = self.this.upgrade() else {
            return Arrival::Rejected("cancelled");
        };
        let hand = dealer::deal(flow, queues, hand);
        let (sender, receiver) = oneshot::channel();
        let current = state.current;
        let Some((id, queue_length)) = state.queues.enqueue(&hand, width, longest, sender, now, current) else {
            state.rejected += 1;
            return Arrival::Rejected("queue-full");
        };
        let demand = state.queues.demand();
        state.demand.set(now, demand);
        // Seats may have become free since they were asked for.
        self.dispatch(state, now);
        let seat = Place {
            level,
            id,
            seat: receiver,
        };
        Arrival::Queued(InQueue { queue_length, seat })
    }

    /// Gives free seats to whoever is next.
    fn dispatch(&self, mut state: MutexGuard<'_, State>, now: Instant) {
        let mut given = Vec::new();
        let current = state.current;
        while let Some((queue, waiting)) = state.queues.next(now, current) {
            state.dispatched += 1;
            if let Some(seat) = self.seat(Some(queue), waiting.width, now) {
                given.push((waiting.place, seat));
            }
        }
        let demand = state.queues.demand();
        state.demand.set(now, demand);
        // A seat that nobody takes any more is freed when it drops, which needs the lock.
        drop(state);
        for (place, seat) in given {
            drop(place.send(seat));
        }
    }

    /// A line for people.
    pub fn dump(&self) -> String {
        let state = self.state.lock();
        let queues = &state.queues;
        format!(
            "{}, {}, {}, false, {}, {}, {}, {}, {}, 0",
            self.name,
            queues.active(),
            queues.demand() == 0,
            queues.waiting(),
            queues.in_use(),
            state.dispatched,
            state.rejected,
            state.timed_out
        )
    }
}
