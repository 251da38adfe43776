//! The fault simulation: all controllers, the garbage collector, the scheduler and hollow nodes in a world in memory,
//! under random histories of users, while at every write something may go wrong.
//!
//! ```text
//!   seed ─► history ─► users ─┐
//!           hollow nodes ─────┼─► Server (rules of the API server, strategies of the kinds) ─► Store (all versions)
//!   Actor: sight (revisions that lag) ─► mind ─► Plan ─► driver::Executor ─► SimHands (faults) ─┘      │
//!      ▲                                                                                               │
//!      └───────────────────────────────────────── events ◄─────────────────────────────────────────────┘
//! ```
//!
//! # Invariants
//! - A run follows from its seed, history and spared faults alone: no clock, no threads, no order of hash maps.
//! - What production decides is not written twice: controllers come from their table, plans are executed by
//!   `driver::Executor`, queues and memory are `driver`'s, objects are completed, checked and deleted by the API server's
//!   rules and the kinds' strategies.
//! - Laws are checked at every write ([`law`]); in the end the state must be that of the same history without faults.
//!
//! # What it does not know
//! HTTP, authentication, storage on disk, real containers.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod actor;
mod admission;
pub mod fault;
pub mod hands;
pub mod history;
pub mod hollow;
pub mod law;
pub mod mind;
pub mod registry;
pub mod rng;
pub mod run;
pub mod sched;
pub mod server;
pub mod shrink;
pub mod store;
pub mod summary;
pub mod user;
pub mod view;
pub mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use history::Deed;
use run::{Ended, Run, Settings};

/// What is tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The seed of everything.
    pub settings: Settings,
    /// What users do.
    pub history: Vec<Deed>,
}

/// What came of a trial.
#[derive(Debug)]
pub struct Verdict {
    /// What is wrong; nothing if all is well.
    pub wrong: Vec<String>,
    /// The run with faults.
    pub with: Ended,
}

/// Writes of a thousand that go wrong, by seed: few, some, many.
const RATES: [u64; 3] = [5, 20, 80];

impl Trial {
    /// The trial of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = rng::Rng::new(seed, 8);
        let deeds = 12 + rng.below(30);
        let settings = Settings {
            seed,
            per_mille: *rng.pick(&RATES),
            ..Settings::default()
        };
        Self {
            settings,
            history: history::history(seed, deeds),
        }
    }

    /// Runs the history without faults and with them, and compares.
    pub fn run(&self) -> Verdict {
        let calm = Settings {
            per_mille: 0,
            trace: false,
            ..self.settings.clone()
        };
        let without = Run::history(&calm, &self.history);
        if !without.violations.is_empty() {
            let calm = Settings {
                trace: self.settings.trace,
                ..calm
            };
            let without = if calm.trace {
                Run::history(&calm, &self.history)
            } else {
                without
            };
            let wrong = without
                .violations
                .iter()
                .map(|what| format!("without faults: {what}"))
                .collect();
            return Verdict { wrong, with: without };
        }
        let with = Run::history(&self.settings, &self.history);
        let mut wrong = with.violations.clone();
        if wrong.is_empty() {
            wrong = summary::difference(&with.summary, &without.summary);
        }
        Verdict { wrong, with }
    }
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Seeds that failed, with what was wrong first.
    pub failed: Vec<(u64, String)>,
    /// Seeds that ran.
    pub seeds: u64,
    /// Writes of the runs with faults.
    pub writes: u64,
    /// What went wrong in them.
    pub faults: u64,
}

/// Runs seeds from `first` on, so many at once; until the first failure, unless `keep_going`.
pub fn campaign(first: u64, seeds: u64, threads: u64, keep_going: bool) -> Campaign {
    let (next, stop) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut mine = Campaign::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds || stop.load(Ordering::Relaxed) > 0 && !keep_going {
                return mine;
            }
            let verdict = Trial::of(first + index).run();
            mine.seeds += 1;
            mine.writes += verdict.with.writes;
            mine.faults += verdict.with.faults.len() as u64;
            if let Some(wrong) = verdict.wrong.into_iter().next() {
                stop.fetch_add(1, Ordering::Relaxed);
                mine.failed.push((first + index, wrong));
            }
        }
    };
    let mut whole = Campaign::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let part = worker.join().expect("seeds do not panic");
            whole.failed.extend(part.failed);
            whole.seeds += part.seeds;
            whole.writes += part.writes;
            whole.faults += part.faults;
        }
    });
    whole.failed.sort();
    whole
}
