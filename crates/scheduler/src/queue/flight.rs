//! Events that came while pods were being tried or bound.

use std::collections::{BTreeMap, VecDeque};

use crate::framework::Event;

/// The events since the first pod in flight was popped, numbered.
#[derive(Debug, Clone, Default)]
pub(super) struct Flight {
    events: VecDeque<Event>,
    /// The number of the first event in `events`.
    first: u64,
    /// How many pods were popped when so many events had been.
    begun: BTreeMap<u64, usize>,
}

impl Flight {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// A pod takes off; returns the number of the next event.
    pub(super) fn begin(&mut self) -> u64 {
        let next = self.next();
        self.resume(next);
        next
    }

    /// A pod that was taken out for a moment is back.
    pub(super) fn resume(&mut self, begun: u64) {
        *self.begun.entry(begun).or_default() += 1;
    }

    /// A pod has landed. The events that it waited for are dropped with the next event.
    pub(super) fn end(&mut self, begun: u64) {
        if let Some(count) = self.begun.get_mut(&begun) {
            *count -= 1;
            if *count == 0 {
                self.begun.remove(&begun);
            }
        }
    }

    pub(super) fn note(&mut self, event: &Event) {
        let oldest = self.begun.first_key_value().map_or(self.next(), |(oldest, _)| *oldest);
        while self.first < oldest && self.events.pop_front().is_some() {
            self.first += 1;
        }
        if !self.begun.is_empty() {
            self.events.push_back(event.clone());
        }
    }

    /// The events from `number` on.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = &Event> {
        let skipped = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped)
    }
}
