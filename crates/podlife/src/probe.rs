//! Probes, stepped from outside (pkg/kubelet/prober/worker.go).
//!
//! One [`Prober`] is for one kind of probe of one container id.
//!
//! A container is never probed in its very first moment: upstream's kubelet, which hears of it later, does not either.
//! Until a readiness probe has passed once it is tried more often than its period says, at growing distances, so that
//! a container which is up after a second does not wait for the whole period. A failure means nothing then.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Probe;

use crate::observed::ProbeResult;

/// The first moment, in which nothing is probed.
const SETTLE: SignedDuration = SignedDuration::from_millis(500);

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Gates the others; failure kills.
    Startup,
    /// Failure kills.
    Liveness,
    /// Decides about traffic.
    Readiness,
}

impl Kind {
    /// As in messages of events.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    /// The verdict before the first probe.
    pub fn initial(self) -> ProbeResult {
        match self {
            Kind::Startup => ProbeResult::Unknown,
            Kind::Liveness => ProbeResult::Success,
            Kind::Readiness => ProbeResult::Failure,
        }
    }
}

/// What holds around a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// The container's startup probe passed, or it has none.
    pub started: bool,
    /// The pod is being deleted.
    pub deleted: bool,
}

/// The state of one probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Prober {
    kind: Kind,
    period: SignedDuration,
    timeout: SignedDuration,
    success_threshold: i32,
    failure_threshold: i32,
    next: Timestamp,
    last: Option<ProbeResult>,
    run: i32,
    verdict: ProbeResult,
    held: bool,
    /// Distance of the next attempt, while it is less than the period.
    gap: SignedDuration,
}

impl Prober {
    /// Of a container that started then. `verdict`: what was reported of it before, if it is adopted.
    pub fn new(kind: Kind, probe: &Probe, started_at: Timestamp, verdict: Option<ProbeResult>) -> Prober {
        let positive = |value: Option<i32>, default: i32| value.filter(|n| *n > 0).unwrap_or(default);
        let delay = SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0))).max(SETTLE);
        Prober {
            kind,
            period: SignedDuration::from_secs(i64::from(positive(probe.period_seconds, 10))),
            timeout: SignedDuration::from_secs(i64::from(positive(probe.timeout_seconds, 1))),
            success_threshold: positive(probe.success_threshold, 1),
            failure_threshold: positive(probe.failure_threshold, 3),
            next: started_at.saturating_add(delay).unwrap_or(Timestamp::MAX),
            last: None,
            run: 0,
            verdict: verdict.unwrap_or(kind.initial()),
            held: false,
            gap: SETTLE,
        }
    }

    /// Which probe.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> SignedDuration {
        self.timeout
    }

    /// The verdict.
    pub fn verdict(&self) -> ProbeResult {
        self.verdict
    }

    /// When to probe next; `None`: not before something around it changes.
    pub fn next(&self, around: Around) -> Option<Timestamp> {
        let off = match self.kind {
            Kind::Startup => around.started || around.deleted,
            Kind::Liveness => !around.started || around.deleted,
            Kind::Readiness => !around.started,
        };
        (!off && !self.held).then_some(self.next)
    }

    /// Takes an attempt's outcome; the new verdict, if it changed. An outcome of `Unknown` (the attempt itself went
    /// wrong) counts for nothing.
    pub fn observe(&mut self, outcome: ProbeResult, now: Timestamp) -> Option<ProbeResult> {
        let distance = self.distance(outcome);
        let due = self.next.saturating_add(distance).unwrap_or(Timestamp::MAX);
        self.next = if due > now {
            due
        } else {
            now.saturating_add(distance).unwrap_or(Timestamp::MAX)
        };
        if outcome == ProbeResult::Unknown {
            return None;
        }
        if self.last == Some(outcome) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(outcome);
            self.run = 1;
        }
        let threshold = if outcome == ProbeResult::Success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < threshold {
            return None;
        }
        if outcome == ProbeResult::Failure && self.kind != Kind::Readiness {
            self.held = true;
        }
        let changed = self.verdict != outcome;
        self.verdict = outcome;
        changed.then_some(outcome)
    }

    fn distance(&mut self, outcome: ProbeResult) -> SignedDuration {
        let never_passed = self.verdict != ProbeResult::Success && outcome != ProbeResult::Success;
        if self.kind != Kind::Readiness || !never_passed || self.gap >= self.period {
            self.gap = self.period;
            return self.period;
        }
        self.gap = (self.gap * 2).min(self.period);
        self.gap
    }
}
