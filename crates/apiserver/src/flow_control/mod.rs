//! API priority and fairness: who gets served when there is more to do than the server takes on at a time
//! (KEP-1040; upstream `apiserver/pkg/util/flowcontrol`).
//!
//! ```text
//!   request ─► schema (first FlowSchema that matches) ─► level ─┬► seats free: serve at once
//!                                                               └► queues, fair among flows ─► serve, or 429
//! ```
//!
//! # Invariants
//! - A request holds its seats from when it is let in until its [`Ticket`] is dropped: for a watch until it has
//!   begun, for anything else until it is answered.
//! - Without contention a request costs one match of its FlowSchema and one short lock; there is no task and no timer.
//! - Levels lend seats that they do not use. That is decided when a request finds its level full, at most once a
//!   second, while upstream looks every ten seconds: nothing runs while nobody waits.
//!
//! # What it does not know
//! What requests do.

mod config;
mod dealer;
mod defaults;
mod estimate;
mod level;
mod limits;
mod queues;
mod schema;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;

pub(crate) use config::follow;
pub use defaults::defaults as flow_control_defaults;
pub(crate) use estimate::seats;

use config::Config;
use level::{Arrival, Seat};
use schema::Digest;

use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The longest wait in a queue: a quarter of a request's time.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Seats are lent anew at most this often.
const LENDING_PERIOD: Duration = Duration::from_secs(1);

/// Where a request belongs.
pub(crate) struct Class {
    pub schema: Arc<str>,
    /// As a header's value.
    pub schema_uid: Option<HeaderValue>,
    pub level: Arc<str>,
    /// As a header's value.
    pub level_uid: Option<HeaderValue>,
    numbers: Numbers,
}

/// The series that every request of a class moves, looked up once.
struct Numbers {
    dispatched: Arc<Counter>,
    executing: Arc<Gauge>,
    executing_seats: Arc<Gauge>,
    execution: Arc<Histogram>,
    watch_execution: Arc<Histogram>,
    seats: Arc<Histogram>,
}

impl Class {
    fn new(schema: &str, schema_uid: &str, level: &str, level_uid: &str, metrics: &Metrics) -> Class {
        let names = [schema, level];
        Class {
            numbers: Numbers {
                dispatched: metrics.flow_dispatched.of(&names),
                executing: metrics.flow_executing.of(&names),
                executing_seats: metrics.flow_executing_seats.of(&[level]),
                execution: metrics.flow_execution.of(&[schema, level, "regular"]),
                watch_execution: metrics.flow_execution.of(&[schema, level, "watch"]),
                seats: metrics.flow_seats.of(&names),
            },
            schema: schema.into(),
            schema_uid: HeaderValue::from_str(schema_uid).ok(),
            level: level.into(),
            level_uid: HeaderValue::from_str(level_uid).ok(),
        }
    }
}

impl std::fmt::Debug for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.schema, self.level)
    }
}

/// A request that is being served; dropping it frees its seats.
pub(crate) struct Ticket {
    _seat: Option<Seat>,
    pub class: Arc<Class>,
    /// How long it waited in a queue.
    pub waited: Duration,
    began: Instant,
    is_watch: bool,
    seats: i64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let numbers = &self.class.numbers;
        numbers.executing.add(-1);
        numbers.executing_seats.add(-self.seats);
        let execution = if self.is_watch {
            &numbers.watch_execution
        } else {
            &numbers.execution
        };
        execution.observe_time(self.began.elapsed());
    }
}

/// A request that is not served.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub class: Arc<Class>,
    /// Seconds after which the client may try again.
    pub retry_after: u32,
}

/// The server's priority and fairness.
pub(crate) struct FlowControl {
    config: ArcSwap<Config>,
    /// All seats of the server.
    total: u32,
    metrics: Arc<Metrics>,
    /// When seats were lent last.
    lent: Mutex<Option<Instant>>,
}

impl FlowControl {
    /// With so many seats in all, and upstream's default objects until others are known.
    pub fn new(total: u32, metrics: Arc<Metrics>) -> FlowControl {
        let config = Config::new(&defaults::defaults(), total, None, &metrics);
        let control = FlowControl {
            config: ArcSwap::from_pointee(config),
            total,
            metrics,
            lent: Mutex::new(None),
        };
        control.show_limits();
        control
    }

    /// Takes over new FlowSchemas and PriorityLevelConfigurations.
    fn configure(&self, objects: &[api::Value]) {
        let next = Config::new(objects, self.total, Some(&self.config.load()), &self.metrics);
        self.config.store(Arc::new(next));
        self.show_limits();
    }

    /// Lets a request in, at once or after a wait; `seats` is asked only where seats are limited.
    pub async fn admit(
        &self,
        info: &RequestInfo,
        user: &UserInfo,
        deadline: Duration,
        seats: impl Fn() -> u32,
    ) -> Result<Ticket, Rejected> {
        let config = self.config.load_full();
        let digest = Digest { info, user };
        let (schema, level) = config.classify(&digest);
        let class = schema.class.clone().expect("a configuration in force has classes");
        if level.is_exempt() {
            return Ok(Self::ticket(info, class, None, Duration::ZERO, 1));
        }
        let width = seats().clamp(1, estimate::MOST_SEATS);
        class.numbers.seats.observe(f64::from(width));
        let flow = schema.flow_hash(&digest);
        let began = Instant::now();
        if let Some(seat) = level.try_seat(width, began) {
            return Ok(Self::ticket(info, class, Some(seat), Duration::ZERO, width));
        }
        self.lend(&config, began);
        let waiting = match level.arrive(flow, width, began) {
            Arrival::Seated(seat) => return Ok(Self::ticket(info, class, Some(seat), Duration::ZERO, width)),
            Arrival::Rejected(reason) => return Err(self.reject(class, reason)),
            Arrival::Queued(waiting) => waiting,
        };
        let names = [&*class.schema, &*class.level];
        let length = waiting.queue_length as f64;
        self.metrics.flow_queue_length.of(&names).observe(length);
        let queued = self.metrics.flow_queued.of(&names);
        let in_queue = self.metrics.inqueue.of(&[crate::metrics::request_kind(info)]);
        queued.add(1);
        in_queue.add(1);
        let patience = deadline.min(LONGEST_WAIT);
        let seat = tokio::time::timeout(patience, waiting.seat).await;
        queued.add(-1);
        in_queue.add(-1);
        let waited = began.elapsed();
        let seated = if matches!(seat, Ok(Ok(_))) { "true" } else { "false" };
        self.metrics
            .flow_wait
            .of(&[seated, &class.schema, &class.level])
            .observe_time(waited);
        match seat {
            Ok(Ok(seat)) => Ok(Self::ticket(info, class, Some(seat), waited, width)),
            // The place in the queue is given up by dropping it.
            _ => Err(self.reject(class, "time-out")),
        }
    }

    fn ticket(info: &RequestInfo, class: Arc<Class>, seat: Option<Seat>, waited: Duration, seats: u32) -> Ticket {
        let seats = i64::from(seats);
        class.numbers.dispatched.inc();
        class.numbers.executing.add(1);
        class.numbers.executing_seats.add(seats);
        Ticket {
            _seat: seat,
            class,
            waited,
            began: Instant::now(),
            is_watch: info.verb == "watch",
            seats,
        }
    }

    fn reject(&self, class: Arc<Class>, reason: &'static str) -> Rejected {
        self.metrics
            .flow_rejected
            .of(&[&class.schema, &class.level, reason])
            .inc();
        Rejected { class, retry_after: 1 }
    }

    /// Lends seats between levels by what they needed since the last time.
    fn lend(&self, config: &Config, now: Instant) {
        let mut lent = self.lent.lock();
        if lent.is_some_and(|at| now.duration_since(at) < LENDING_PERIOD) {
            return;
        }
        *lent = Some(now);
        config.lend(self.total, now);
        drop(lent);
        self.show_limits();
    }

    fn show_limits(&self) {
        for level in self.config.load().levels() {
            let name = [&*level.name];
            let limits = level.limits();
            self.metrics.flow_nominal.of(&name).set(limits.nominal.into());
            self.metrics.flow_lower.of(&name).set(limits.least.into());
            self.metrics.flow_upper.of(&name).set(limits.most.into());
            self.metrics.flow_limit.of(&name).set(level.current_limit().into());
        }
    }

    /// What `/debug/api_priority_and_fairness/dump_priority_levels` shows.
    pub fn dump_levels(&self) -> String {
        let mut text = String::from(
            "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n",
        );
        for level in self.config.load().levels() {
            text.push_str(&level.dump());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests;
