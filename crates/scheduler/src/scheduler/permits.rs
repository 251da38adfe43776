//! Pods on hold: those that wait for permission to be bound, and those whose victims are being evicted.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Placed;
use crate::pod::PodKey;
use crate::verdict::Verdict;

#[derive(Default)]
pub(super) struct Permits {
    parked: HashMap<PodKey, (Placed, Timestamp)>,
    preempting: HashMap<PodKey, Verdict>,
}

impl Permits {
    pub(super) fn park(&mut self, placed: Placed, until: Timestamp) {
        self.parked.insert(placed.pod.key.clone(), (placed, until));
    }

    pub(super) fn unpark(&mut self, key: &PodKey) -> Option<Placed> {
        self.parked.remove(key).map(|(placed, _)| placed)
    }

    pub(super) fn take_all(&mut self) -> Vec<(Placed, Timestamp)> {
        std::mem::take(&mut self.parked).into_values().collect()
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.parked.values().map(|(_, until)| *until).min()
    }

    pub(super) fn preempting(&mut self, key: PodKey, verdict: Verdict) {
        self.preempting.insert(key, verdict);
    }

    pub(super) fn preempted(&mut self, key: &PodKey) -> Option<Verdict> {
        self.preempting.remove(key)
    }
}
