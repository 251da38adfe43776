//! The scheduling queue (upstream pkg/scheduler/backend/queue): who is tried next.
//!
//! A pod is in exactly one place: active (tried as soon as it comes first), backing off (until a
//! time), unschedulable (until an event that may help it), or gated. A pod that is being tried is in
//! none; events that come meanwhile are remembered, so that none is lost between the try and the
//! return.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::framework::Profile;
use crate::pod::{PodInfo, PodKey};
use crate::verdict::Verdict;

/// First back-off (upstream `podInitialBackoffSeconds`).
const INITIAL_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
/// Longest back-off (upstream `podMaxBackoffSeconds`).
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// Pods wait for an event no longer than this (upstream
/// `DefaultPodMaxInUnschedulablePodsDuration`).
const MAX_UNSCHEDULABLE: SignedDuration = SignedDuration::from_mins(5);

/// Something that may make pods schedulable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterEvent {
    /// A node came.
    NodeAdded,
    /// A node changed: labels, taints, allocatable, cordon.
    NodeUpdated,
    /// A bound pod went or shrank, or an assumed one was given up.
    PodRemoved,
    /// A bound pod came or its labels changed.
    PodAdded,
}

impl ClusterEvent {
    /// Whether it is about a node.
    #[must_use]
    pub fn is_node(self) -> bool {
        matches!(self, ClusterEvent::NodeAdded | ClusterEvent::NodeUpdated)
    }
}

/// A pod in the queue.
#[derive(Debug, Clone)]
struct Waiting {
    pod: Arc<PodInfo>,
    /// When it first came: ties among equal priorities.
    since: Timestamp,
    attempts: u32,
    place: Place,
    verdict: Option<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Timestamp),
    Unschedulable(Timestamp),
    Gated,
    InFlight { events_before: u64 },
}

/// Order of the active queue: priority, then age (upstream PrioritySort), then name.
type ActiveKey = (std::cmp::Reverse<i32>, Timestamp, PodKey);

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<PodKey, Waiting>,
    active: BTreeSet<ActiveKey>,
    backoff: BTreeSet<(Timestamp, PodKey)>,
    /// How many events there were, and the last number of each kind.
    events: u64,
    last_of_kind: BTreeMap<ClusterEvent, u64>,
}

impl Queue {
    /// A pending pod came or changed. A pod that waits keeps its place in line; one that could not be
    /// placed is tried again, because the change may be what it needed.
    pub fn set(&mut self, pod: Arc<PodInfo>, profile: &Profile, now: Timestamp) {
        let key = pod.key.clone();
        let gated = profile.gate(&pod).is_some();
        let Some(mut waiting) = self.take(&key) else {
            let waiting = Waiting {
                pod,
                since: now,
                attempts: 0,
                place: Place::Active,
                verdict: None,
            };
            return self.put(waiting, if gated { Place::Gated } else { Place::Active });
        };
        let spec_changed =
            waiting.pod.pod.spec != pod.pod.spec || waiting.pod.pod.metadata.labels != pod.pod.metadata.labels;
        waiting.pod = pod;
        let place = match waiting.place {
            place @ Place::InFlight { .. } => place,
            _ if gated => Place::Gated,
            Place::Gated => Place::Active,
            Place::Unschedulable(_) if spec_changed => self.after_backoff(&waiting, now),
            place => place,
        };
        self.put(waiting, place);
    }

    /// A pod went, or was bound.
    pub fn remove(&mut self, key: &PodKey) {
        self.take(key);
    }

    /// The pod to try next; it counts as in flight until [`Queue::done`] or [`Queue::failed`].
    pub fn pop(&mut self, now: Timestamp) -> Option<Arc<PodInfo>> {
        self.wake_by_time(now);
        let (_, _, key) = self.active.pop_first()?;
        let events_before = self.events;
        let waiting = self.pods.get_mut(&key).expect("the active queue holds known pods");
        waiting.attempts += 1;
        waiting.place = Place::InFlight { events_before };
        Some(waiting.pod.clone())
    }

    /// The pod was placed.
    pub fn done(&mut self, key: &PodKey) {
        self.take(key);
    }

    /// No node could take the pod: it waits for an event that may help, unless one came meanwhile.
    pub fn failed(&mut self, key: &PodKey, verdict: Verdict, profile: &Profile, now: Timestamp) {
        let Some(mut waiting) = self.take(key) else { return };
        let missed = match waiting.place {
            Place::InFlight { events_before } => self.missed_event(events_before, &verdict, profile),
            _ => false,
        };
        waiting.verdict = Some(verdict);
        let place = if missed {
            self.after_backoff(&waiting, now)
        } else {
            Place::Unschedulable(now)
        };
        self.put(waiting, place);
    }

    /// Placing failed for a reason outside the cluster's state (an API error): tried again after a
    /// back-off.
    pub fn retry(&mut self, key: &PodKey, now: Timestamp) {
        let Some(waiting) = self.take(key) else { return };
        let place = self.after_backoff(&waiting, now);
        self.put(waiting, place);
    }

    /// Tells of an event: pods that it may help are tried again.
    pub fn wake(&mut self, event: ClusterEvent, profile: &Profile, now: Timestamp) {
        self.events += 1;
        self.last_of_kind.insert(event, self.events);
        let helped: Vec<PodKey> = self
            .pods
            .iter()
            .filter(|(_, waiting)| matches!(waiting.place, Place::Unschedulable(_)))
            .filter(|(_, waiting)| may_help(waiting.verdict.as_ref(), profile, event))
            .map(|(key, _)| key.clone())
            .collect();
        for key in helped {
            self.retry(&key, now);
        }
    }

    /// When [`Queue::pop`] may have something that it has not now; `None` when only an event helps.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let leftover = self.pods.values().filter_map(|waiting| match waiting.place {
            Place::Unschedulable(since) => Some(since + MAX_UNSCHEDULABLE),
            _ => None,
        });
        leftover.chain(backoff).min()
    }

    /// What the last try of a pending pod found.
    #[must_use]
    pub fn verdict(&self, key: &PodKey) -> Option<&Verdict> {
        self.pods.get(key)?.verdict.as_ref()
    }

    /// How many pods wait: active, backing off, unschedulable, gated.
    #[must_use]
    pub fn lengths(&self) -> [usize; 4] {
        let mut lengths = [0; 4];
        for waiting in self.pods.values() {
            match waiting.place {
                Place::Active => lengths[0] += 1,
                Place::Backoff(_) => lengths[1] += 1,
                Place::Unschedulable(_) => lengths[2] += 1,
                Place::Gated => lengths[3] += 1,
                Place::InFlight { .. } => {}
            }
        }
        lengths
    }

    fn missed_event(&self, before: u64, verdict: &Verdict, profile: &Profile) -> bool {
        let since = self.last_of_kind.iter().filter(|(_, number)| **number > before);
        since
            .into_iter()
            .any(|(event, _)| may_help(Some(verdict), profile, *event))
    }

    fn wake_by_time(&mut self, now: Timestamp) {
        while let Some((until, key)) = self.backoff.first().cloned()
            && until <= now
        {
            let waiting = self.take(&key).expect("the backoff queue holds known pods");
            self.put(waiting, Place::Active);
        }
        let stale = |waiting: &Waiting| matches!(waiting.place, Place::Unschedulable(since) if since + MAX_UNSCHEDULABLE <= now);
        let stale: Vec<PodKey> = self
            .pods
            .iter()
            .filter(|(_, w)| stale(w))
            .map(|(key, _)| key.clone())
            .collect();
        for key in stale {
            let waiting = self.take(&key).expect("just listed");
            self.put(waiting, Place::Active);
        }
    }

    fn after_backoff(&self, waiting: &Waiting, now: Timestamp) -> Place {
        if waiting.attempts == 0 {
            return Place::Active;
        }
        let doubled = INITIAL_BACKOFF * 2_i32.pow(waiting.attempts.saturating_sub(1).min(10));
        Place::Backoff(now + doubled.min(MAX_BACKOFF))
    }

    fn take(&mut self, key: &PodKey) -> Option<Waiting> {
        let waiting = self.pods.remove(key)?;
        match waiting.place {
            Place::Active => {
                self.active.remove(&active_key(&waiting));
            }
            Place::Backoff(until) => {
                self.backoff.remove(&(until, key.clone()));
            }
            _ => {}
        }
        Some(waiting)
    }

    fn put(&mut self, mut waiting: Waiting, place: Place) {
        waiting.place = place;
        match place {
            Place::Active => {
                self.active.insert(active_key(&waiting));
            }
            Place::Backoff(until) => {
                self.backoff.insert((until, waiting.pod.key.clone()));
            }
            _ => {}
        }
        self.pods.insert(waiting.pod.key.clone(), waiting);
    }
}

fn active_key(waiting: &Waiting) -> ActiveKey {
    (
        std::cmp::Reverse(waiting.pod.priority()),
        waiting.since,
        waiting.pod.key.clone(),
    )
}

fn may_help(verdict: Option<&Verdict>, profile: &Profile, event: ClusterEvent) -> bool {
    match verdict {
        Some(verdict) if !verdict.nodes.is_empty() => profile.wakes(verdict.plugins(), event),
        // Nothing was there to turn the pod down: only a node helps.
        _ => event.is_node(),
    }
}

#[cfg(test)]
mod tests;
