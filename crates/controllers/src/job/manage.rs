//! How many pods run (upstream `manageJob`).

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;

use super::Sync;
use super::indexes::Indexes;
use super::pods::index_of;
use crate::plan::{Action, Plan, Reference, Step};
use crate::replica_set::rank::order_for_deletion;

/// At most this many pods are created or deleted in a turn.
const BURST: usize = 500;

impl Sync<'_> {
    fn wanted(&self) -> usize {
        let (active, parallelism) = (
            self.active.len(),
            usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0),
        );
        match self.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => usize::try_from(completions - self.succeeded)
                .unwrap_or(0)
                .min(parallelism),
        }
    }

    /// Creates or deletes, never both. True if it did either.
    pub(super) fn manage(&self, plan: &mut Plan) -> bool {
        let wait = self.backoff(plan);
        let active = self.active.len();
        if self.is_suspended() {
            return self.delete(self.too_many(active), plan);
        }
        let replaced_late = self.only_replaces_failed();
        let terminating = self
            .pods
            .iter()
            .filter(|pod| replaced_late && Self::is_terminating(pod))
            .count();
        let wanted = self.wanted();
        let mut surplus = self.too_many((active + terminating).saturating_sub(wanted));
        surplus.truncate(BURST);
        if !surplus.is_empty() {
            return self.delete(surplus, plan);
        }
        let missing = wanted.saturating_sub(terminating + active).min(BURST);
        if missing == 0 {
            return false;
        }
        let per_index = self.spec.backoff_limit_per_index.is_some();
        if !per_index && !wait.is_zero() {
            plan.look_again(wait);
            return false;
        }
        let new: Vec<Pod> = if self.is_indexed() {
            self.new_indexes(missing, plan)
                .into_iter()
                .map(|index| self.new_pod(Some(index), self.held.get(&index).map(|pod| &**pod)))
                .collect()
        } else {
            vec![self.new_pod(None, None); missing]
        };
        self.create(&new, plan)
    }

    /// The first indexes that nobody works on and whose time has come.
    fn new_indexes(&self, count: usize, plan: &mut Plan) -> Vec<i32> {
        let mut taken = self.succeeded_indexes.clone();
        taken.merge(&self.active.iter().filter_map(|pod| index_of(pod)).collect());
        if self.only_replaces_failed() {
            let terminating = self.pods.iter().filter(|pod| Self::is_terminating(pod));
            taken.merge(&terminating.filter_map(|pod| index_of(pod)).collect::<Indexes>());
        }
        if let Some(failed) = &self.failed_indexes {
            taken.merge(failed);
        }
        let candidates = taken.missing(count, self.completions());
        let (ready, waiting): (Vec<i32>, Vec<i32>) = candidates
            .into_iter()
            .partition(|index| self.index_backoff(*index).is_zero());
        if let Some(soonest) = waiting.iter().map(|index| self.index_backoff(*index)).min() {
            plan.look_again(soonest);
        }
        ready
    }

    fn create(&self, new: &[Pod], plan: &mut Plan) -> bool {
        let about = Reference::to(self.job);
        let creations = new.iter().map(|pod| {
            Action::create(pod)
                .telling(about.clone(), "SuccessfulCreate", "Created pod: {name}")
                .or_telling("FailedCreate", "Error creating: {error}")
        });
        let creations: Vec<Action> = creations.collect();
        let any = !creations.is_empty();
        if any {
            plan.steps.push(Step::SlowStart(creations));
        }
        any
    }

    /// Deletes pods that are too many; they lose their finalizer first, for they are not to be counted.
    fn delete(&self, pods: Vec<Arc<Pod>>, plan: &mut Plan) -> bool {
        if pods.is_empty() {
            return false;
        }
        super::release(pods.iter().cloned(), plan);
        plan.steps.push(Step::All(self.deletions(&pods)));
        true
    }

    /// Active pods to go: those without a valid index, doubles, and then the least useful (`activePodsForRemoval`).
    fn too_many(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let (mut surplus, mut left) = (Vec::new(), Vec::new());
        let mut ordered = self.active.clone();
        order_for_deletion(&mut ordered, &[], self.turn.now);
        if self.is_indexed() {
            let mut seen = Indexes::default();
            for pod in ordered.into_iter().rev() {
                match index_of(&pod).filter(|index| *index < self.completions() && !seen.has(*index)) {
                    Some(index) => {
                        seen.add(index, index);
                        left.push(pod);
                    }
                    None => surplus.push(pod),
                }
            }
            left.reverse();
        } else {
            left = ordered;
        }
        let more = at_least.saturating_sub(surplus.len());
        surplus.extend(left.into_iter().take(more));
        surplus
    }

    /// Time left until the deadline; zero or less when it has passed.
    pub(super) fn deadline_in(&self) -> Option<SignedDuration> {
        let limit = self.spec.active_deadline_seconds.filter(|_| !self.is_suspended())?;
        let started = self.status.start_time.as_ref()?;
        Some(SignedDuration::from_secs(limit) - self.turn.now.duration_since(started.0))
    }
}
