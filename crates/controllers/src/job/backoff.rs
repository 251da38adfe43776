//! Failed pods are replaced ever later (upstream `backoff_utils.go`).

use jiff::{SignedDuration, Timestamp};

use super::Sync;
use super::pods::{all_failures_before, finished_at, is_tracked};
use crate::object::uid;
use crate::plan::Plan;
use crate::pod::phase;

const FIRST: i64 = 10;
const LAST: i64 = 600;
/// Longer memory does not make the wait longer.
const REMEMBERED: usize = 8;

fn left(failures: i32, last: Timestamp, now: Timestamp) -> SignedDuration {
    if failures <= 0 {
        return SignedDuration::ZERO;
    }
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(10);
    let wait = SignedDuration::from_secs((FIRST << doublings).min(LAST));
    (wait - now.duration_since(last)).max(SignedDuration::ZERO)
}

impl Sync<'_> {
    /// The failures since the last success, by pod, kept in the plan's notes; how long a new pod must wait for them.
    pub(super) fn backoff(&self, plan: &mut Plan) -> SignedDuration {
        let tracked = || self.pods.iter().filter(|pod| is_tracked(pod) && self.is_valid(pod));
        let success = tracked()
            .filter(|pod| phase(pod) == "Succeeded")
            .map(|pod| finished_at(pod))
            .max();
        let mut failures = self.turn.notes.clone();
        failures.extend(
            tracked()
                .filter(|pod| self.is_failed(pod))
                .map(|pod| (uid(&**pod).to_owned(), finished_at(pod))),
        );
        failures.retain(|_, at| success.is_none_or(|success| *at > success));
        while failures.len() > REMEMBERED {
            let oldest = failures.iter().min_by_key(|(_, at)| **at).map(|(uid, _)| uid.clone());
            oldest.and_then(|uid| failures.remove(&uid));
        }
        let last = failures.values().max().copied().unwrap_or(self.turn.now);
        let count = i32::try_from(failures.len()).unwrap_or(i32::MAX);
        plan.notes = failures;
        left(count, last, self.turn.now)
    }

    /// How long an index must wait for its failed pod's replacement.
    pub(super) fn index_backoff(&self, index: i32) -> SignedDuration {
        match self.held.get(&index) {
            Some(pod) => left(
                all_failures_before(pod).saturating_add(1),
                finished_at(pod),
                self.turn.now,
            ),
            None => SignedDuration::ZERO,
        }
    }
}
