//! The scheduling queue (upstream pkg/scheduler/backend/queue): who is tried next.
//!
//! A pod is in exactly one place: active (tried as soon as it comes first), backing off (until a
//! time), unschedulable (until an event that may help it), or gated. A pod that is being tried or bound
//! is in none; events that come meanwhile are remembered, so that none is lost between the try and
//! the return.

mod flight;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::framework::Event;
use crate::pod::{PodInfo, PodKey};
use crate::verdict::Verdict;
use flight::Flight;

/// How long pods wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// First back-off (upstream `podInitialBackoffSeconds`).
    pub initial_backoff: SignedDuration,
    /// Longest back-off (upstream `podMaxBackoffSeconds`).
    pub max_backoff: SignedDuration,
    /// Pods wait for an event no longer than this (upstream
    /// `DefaultPodMaxInUnschedulablePodsDuration`).
    pub max_unschedulable: SignedDuration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            initial_backoff: SignedDuration::from_secs(1),
            max_backoff: SignedDuration::from_secs(10),
            max_unschedulable: SignedDuration::from_mins(5),
        }
    }
}

/// Whether an event may let in a pod that these plugins turned down.
pub trait Hints {
    /// Asks the plugin.
    fn may_help(&self, plugin: &'static str, pod: &PodInfo, event: &Event) -> bool;
}

impl<F: Fn(&'static str, &PodInfo, &Event) -> bool> Hints for F {
    fn may_help(&self, plugin: &'static str, pod: &PodInfo, event: &Event) -> bool {
        self(plugin, pod, event)
    }
}

/// Stands for the plugins when there was no node to turn the pod down: only a node helps.
pub const NO_NODES: &str = "";

/// Stands for all extenders among the plugins that turn pods down: anything may help.
pub const EXTENDER: &str = "Extender";

/// A pod in the queue.
#[derive(Debug, Clone)]
struct Waiting {
    pod: Arc<PodInfo>,
    number: u64,
    /// When it first came.
    first: Timestamp,
    /// When it was last queued anew: ties among equal priorities.
    since: Timestamp,
    attempts: u32,
    unschedulable: u32,
    errors: u32,
    place: Place,
    verdict: Option<Arc<Verdict>>,
    rejected_by: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Backoff {
        until: Timestamp,
        after_error: bool,
    },
    Unschedulable,
    Gated,
    InFlight {
        events_before: u64,
    },
    /// It has a node: whatever goes wrong now, it is tried again, and events do not matter.
    Binding,
}

/// A pod that was popped.
#[derive(Debug, Clone)]
pub struct Popped {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// How often it has been tried, this time included.
    pub attempts: u32,
    /// When it first came.
    pub first: Timestamp,
}

/// Where pods came from and went, for the counters: queue, event.
pub type Incoming = (&'static str, &'static str);

/// The queue.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    patience: Patience,
    pods: HashMap<PodKey, Waiting>,
    numbers: u64,
    /// Priority, then age (upstream PrioritySort).
    active: BTreeMap<(Reverse<i32>, Timestamp, u64), PodKey>,
    backoff: BTreeMap<(Timestamp, u64), PodKey>,
    unschedulable: BTreeMap<(Timestamp, u64), PodKey>,
    gated: HashSet<PodKey>,
    /// Unschedulable pods by what turned them down.
    by_plugin: HashMap<&'static str, HashSet<PodKey>>,
    flight: Flight,
    last_verdict: Option<Arc<Verdict>>,
    incoming: HashMap<Incoming, u64>,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(patience: Patience) -> Queue {
        Queue {
            patience,
            ..Queue::default()
        }
    }

    /// A pending pod came, or changed in ways of no consequence; `gated` keeps it out. A pod that waits
    /// keeps its place in line.
    pub fn set(&mut self, pod: Arc<PodInfo>, gated: bool, now: Timestamp) {
        let key = pod.key.clone();
        let Some(mut waiting) = self.take(&key) else {
            self.numbers += 1;
            let waiting = Waiting {
                pod,
                number: self.numbers,
                first: now,
                since: now,
                attempts: 0,
                unschedulable: 0,
                errors: 0,
                place: Place::Active,
                verdict: None,
                rejected_by: Vec::new(),
            };
            let place = if gated { Place::Gated } else { Place::Active };
            return self.put(waiting, place, "PodAdd");
        };
        waiting.pod = pod;
        let place = match waiting.place {
            place @ (Place::InFlight { .. } | Place::Binding) => place,
            _ if gated => Place::Gated,
            Place::Gated => Place::Active,
            place => place,
        };
        self.put(waiting, place, "PodUpdate");
    }

    /// The pod itself changed so that it may be schedulable now.
    pub fn reconsider(&mut self, key: &PodKey, now: Timestamp) {
        if matches!(self.pods.get(key), Some(waiting) if waiting.place == Place::Unschedulable) {
            self.release(key, "PodUpdate", now);
        }
    }

    /// A pod went, or was bound.
    pub fn remove(&mut self, key: &PodKey) {
        self.take(key);
    }

    /// The pod to try next; it counts as in flight until [`Queue::remove`], [`Queue::failed`] or
    /// [`Queue::retry`]. With nobody active, the pod whose back-off ends first is tried early, unless
    /// it backs off from an error (upstream `SchedulerPopFromBackoffQ`).
    pub fn pop(&mut self, now: Timestamp) -> Option<Popped> {
        self.wake_by_time(now);
        let key = match self.active.pop_first() {
            Some((_, key)) => key,
            None => {
                let early = |key: &&PodKey| matches!(self.pods[*key].place, Place::Backoff { after_error: false, .. });
                let key = self.backoff.values().find(early)?.clone();
                if let Some(waiting) = self.take(&key) {
                    self.pods.insert(key.clone(), waiting);
                }
                key
            }
        };
        let events_before = self.flight.begin();
        let waiting = self.pods.get_mut(&key).expect("the active queue holds known pods");
        waiting.attempts += 1;
        waiting.place = Place::InFlight { events_before };
        Some(Popped {
            pod: waiting.pod.clone(),
            attempts: waiting.attempts,
            first: waiting.first,
        })
    }

    /// A popped pod has its node: events need not be kept for it any longer, however long its binding takes.
    pub fn binding(&mut self, key: &PodKey) {
        if let Some(waiting) = self.pods.get_mut(key)
            && let Place::InFlight { events_before } = waiting.place
        {
            waiting.place = Place::Binding;
            self.flight.end(events_before);
        }
    }

    /// No node could take the pod: it waits for an event that may help, unless one came meanwhile.
    /// Returns whether the verdict says something new.
    pub fn failed(&mut self, key: &PodKey, verdict: Verdict, hints: &dyn Hints, now: Timestamp) {
        let Some(mut waiting) = self.take(key) else { return };
        waiting.rejected_by = match verdict.node_count {
            0 => vec![NO_NODES],
            _ => verdict.plugins(),
        };
        waiting.verdict = Some(self.shared(verdict));
        waiting.since = now;
        waiting.unschedulable += 1;
        waiting.errors = 0;
        let missed = match waiting.place {
            Place::InFlight { events_before } => self.flight.since(events_before).any(|event| {
                waiting
                    .rejected_by
                    .iter()
                    .copied()
                    .any(|plugin| hints.may_help(plugin, &waiting.pod, event))
            }),
            _ => false,
        };
        let place = if missed {
            self.after_backoff(&waiting, now)
        } else {
            Place::Unschedulable
        };
        self.put(waiting, place, "ScheduleAttemptFailure");
    }

    /// One verdict for all pods in a row that get the same.
    fn shared(&mut self, verdict: Verdict) -> Arc<Verdict> {
        match &self.last_verdict {
            Some(last) if **last == verdict => last.clone(),
            _ => self.last_verdict.insert(Arc::new(verdict)).clone(),
        }
    }

    /// Placing failed for a reason outside the cluster's state (an API error): tried again after a
    /// back-off.
    pub fn retry(&mut self, key: &PodKey, now: Timestamp) {
        let Some(mut waiting) = self.take(key) else { return };
        waiting.since = now;
        waiting.errors += 1;
        let until = now + self.backoff_for(waiting.errors);
        let place = Place::Backoff {
            until,
            after_error: true,
        };
        self.put(waiting, place, "ScheduleAttemptFailure");
    }

    /// Tells of an event: pods that it may help are tried again. `plugins` are those that want to hear
    /// of it.
    pub fn wake(&mut self, event: &Event, plugins: &[&'static str], hints: &dyn Hints, now: Timestamp) {
        self.flight.note(event);
        if self.unschedulable.is_empty() {
            return;
        }
        let mut helped: Vec<PodKey> = Vec::new();
        for plugin in plugins {
            let Some(keys) = self.by_plugin.get(plugin) else {
                continue;
            };
            let pods = keys
                .iter()
                .filter(|key| hints.may_help(plugin, &self.pods[*key].pod, event));
            helped.extend(pods.cloned());
        }
        for key in helped {
            if matches!(self.pods.get(&key), Some(waiting) if waiting.place == Place::Unschedulable) {
                self.release(&key, event.resource.name(), now);
            }
        }
    }

    fn release(&mut self, key: &PodKey, why: &'static str, now: Timestamp) {
        let Some(waiting) = self.take(key) else { return };
        let place = self.after_backoff(&waiting, now);
        self.put(waiting, place, why);
    }

    /// Gated pods, for asking again what gates them.
    #[must_use]
    pub fn gated(&self) -> Vec<Arc<PodInfo>> {
        self.gated.iter().map(|key| self.pods[key].pod.clone()).collect()
    }

    /// When [`Queue::pop`] may have something that it has not now; `None` when only an event helps.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let backoff = self.backoff.first_key_value().map(|((until, _), _)| *until);
        let leftover = self.unschedulable.first_key_value();
        let leftover = leftover.map(|((since, _), _)| *since + self.patience.max_unschedulable);
        leftover.into_iter().chain(backoff).min()
    }

    /// What the last try of a pending pod found.
    #[must_use]
    pub fn verdict(&self, key: &PodKey) -> Option<&Arc<Verdict>> {
        self.pods.get(key)?.verdict.as_ref()
    }

    /// How often a pod was tried.
    #[must_use]
    pub fn attempts(&self, key: &PodKey) -> u32 {
        self.pods.get(key).map_or(0, |waiting| waiting.attempts)
    }

    /// A pod that the queue knows, in flight or not.
    #[must_use]
    pub fn pod(&self, key: &PodKey) -> Option<&Arc<PodInfo>> {
        self.pods.get(key).map(|waiting| &waiting.pod)
    }

    /// All pods with the last verdict on each and the name of the queue they are in.
    pub fn pending(&self) -> impl Iterator<Item = (&Arc<PodInfo>, Option<&Arc<Verdict>>, &'static str)> {
        self.pods
            .values()
            .map(|waiting| (&waiting.pod, waiting.verdict.as_ref(), waiting.place.name()))
    }

    /// How many pods wait: active, backing off, unschedulable, gated.
    #[must_use]
    pub fn lengths(&self) -> [usize; 4] {
        [
            self.active.len(),
            self.backoff.len(),
            self.unschedulable.len(),
            self.gated.len(),
        ]
    }

    /// How many pods came into which queue by what.
    #[must_use]
    pub fn incoming(&self) -> &HashMap<Incoming, u64> {
        &self.incoming
    }

    fn wake_by_time(&mut self, now: Timestamp) {
        while let Some(((until, _), key)) = self.backoff.first_key_value()
            && *until <= now
        {
            let key = key.clone();
            let waiting = self.take(&key).expect("the backoff queue holds known pods");
            self.put(waiting, Place::Active, "BackoffComplete");
        }
        while let Some(((since, _), key)) = self.unschedulable.first_key_value()
            && *since + self.patience.max_unschedulable <= now
        {
            let key = key.clone();
            self.release(&key, "UnschedulableTimeout", now);
        }
    }

    fn backoff_for(&self, failures: u32) -> SignedDuration {
        let doubled = self.patience.initial_backoff * 2_i32.pow(failures.saturating_sub(1).min(16));
        doubled.min(self.patience.max_backoff)
    }

    /// Back-off counts from the failure, not from the event.
    fn after_backoff(&self, waiting: &Waiting, now: Timestamp) -> Place {
        let until = waiting.since + self.backoff_for(waiting.unschedulable);
        if waiting.unschedulable == 0 || until <= now {
            return Place::Active;
        }
        Place::Backoff {
            until,
            after_error: false,
        }
    }

    fn take(&mut self, key: &PodKey) -> Option<Waiting> {
        let waiting = self.pods.remove(key)?;
        match waiting.place {
            Place::Active => {
                self.active.remove(&waiting.active_key());
            }
            Place::Backoff { until, .. } => {
                self.backoff.remove(&(until, waiting.number));
            }
            Place::Unschedulable => {
                self.unschedulable.remove(&(waiting.since, waiting.number));
                for plugin in &waiting.rejected_by {
                    if let Some(keys) = self.by_plugin.get_mut(plugin) {
                        keys.remove(key);
                    }
                }
            }
            Place::Gated => {
                self.gated.remove(key);
            }
            Place::InFlight { events_before } => self.flight.end(events_before),
            Place::Binding => {}
        }
        Some(waiting)
    }

    fn put(&mut self, mut waiting: Waiting, place: Place, why: &'static str) {
        let key = waiting.pod.key.clone();
        if waiting.place != place || why == "PodAdd" {
            *self.incoming.entry((place.name(), why)).or_default() += 1;
        }
        waiting.place = place;
        match place {
            Place::Active => {
                self.active.insert(waiting.active_key(), key.clone());
            }
            Place::Backoff { until, .. } => {
                self.backoff.insert((until, waiting.number), key.clone());
            }
            Place::Unschedulable => {
                self.unschedulable.insert((waiting.since, waiting.number), key.clone());
                for plugin in &waiting.rejected_by {
                    self.by_plugin.entry(plugin).or_default().insert(key.clone());
                }
            }
            Place::Gated => {
                self.gated.insert(key.clone());
            }
            Place::InFlight { events_before } => self.flight.resume(events_before),
            Place::Binding => {}
        }
        self.pods.insert(key, waiting);
    }
}

impl Waiting {
    fn active_key(&self) -> (Reverse<i32>, Timestamp, u64) {
        (Reverse(self.pod.priority()), self.since, self.number)
    }
}

impl Place {
    /// The queue's name in metrics.
    fn name(self) -> &'static str {
        match self {
            Place::Active => "active",
            Place::Backoff { .. } => "backoff",
            Place::Unschedulable => "unschedulable",
            Place::Gated => "gated",
            Place::InFlight { .. } => "inflight",
            Place::Binding => "binding",
        }
    }
}

#[cfg(test)]
mod tests;
