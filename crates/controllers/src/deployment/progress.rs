//! Status and progress (upstream `progress.go`, `sync.go`).

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

use super::Sync;
use super::condition::{
    AVAILABLE, NEW_SET_AVAILABLE, PROGRESSING, REPLICA_FAILURE, TIMED_OUT, get, new, reason, remove, set,
};
use super::sets::Set;
use crate::object::name;

impl Sync<'_> {
    /// The status as the sets have it (`calculateStatus`).
    pub(super) fn calculated_status(&self) -> DeploymentStatus {
        let sum = |of: fn(&Set) -> i32| self.sets.all.iter().map(of).sum::<i32>();
        let nonzero = |count: i32| Some(count).filter(|count| *count != 0);
        let available = sum(Set::available);
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: nonzero(sum(Set::actual)),
            updated_replicas: nonzero(self.sets.new_set().map_or(0, Set::actual)),
            ready_replicas: nonzero(sum(Set::ready)),
            available_replicas: nonzero(available),
            unavailable_replicas: nonzero((sum(Set::replicas) - available).max(0)),
            terminating_replicas: Some(sum(Set::terminating)),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
        };
        let (value, reason, message) = if available >= self.replicas - self.max_unavailable() {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        set(&mut status, new(AVAILABLE, value, reason, message, self.turn.now));
        status
    }

    /// The status during a rollout, with its progress.
    pub(super) fn rollout_status(&self) -> DeploymentStatus {
        let mut status = self.calculated_status();
        if !self.has_progress_deadline() {
            remove(&mut status, PROGRESSING);
        }
        let current = get(&self.status, PROGRESSING);
        let settled = status.replicas == status.updated_replicas
            && current.is_some_and(|current| reason(current) == NEW_SET_AVAILABLE);
        if self.has_progress_deadline() && !settled {
            self.estimate_progress(&mut status, current);
        }
        match self.replica_failure() {
            Some(failure) => set(&mut status, failure),
            None => remove(&mut status, REPLICA_FAILURE),
        }
        status
    }

    fn estimate_progress(&self, status: &mut DeploymentStatus, current: Option<&DeploymentCondition>) {
        let subject = match self.sets.new_set() {
            Some(new) => format!("ReplicaSet \"{}\"", name(&new.set)),
            None => format!("Deployment \"{}\"", name(self.deployment)),
        };
        let condition =
            |value, reason, what: &str| new(PROGRESSING, value, reason, format!("{subject} {what}"), self.turn.now);
        if self.is_complete(status) {
            set(
                status,
                condition("True", NEW_SET_AVAILABLE, "has successfully progressed."),
            );
        } else if self.has_progressed(status) {
            let mut progressing = condition("True", "ReplicaSetUpdated", "is progressing.");
            if let Some(current) = current.filter(|current| current.status.as_deref() == Some("True")) {
                progressing.last_transition_time = current.last_transition_time.clone();
            }
            remove(status, PROGRESSING);
            set(status, progressing);
        } else if self.has_timed_out(status) {
            set(status, condition("False", TIMED_OUT, "has timed out progressing."));
        }
    }

    /// Whether the rollout has ended.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let all = |count: Option<i32>| count.unwrap_or(0) == self.replicas;
        all(status.updated_replicas)
            && all(status.replicas)
            && all(status.available_replicas)
            && status.observed_generation >= self.deployment.metadata.generation
    }

    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let before = self.deployment.status.clone().unwrap_or_default();
        let number = |count: Option<i32>| count.unwrap_or(0);
        let old = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
        number(status.updated_replicas) > number(before.updated_replicas)
            || old(status) < old(&before)
            || number(status.ready_replicas) > number(before.ready_replicas)
            || number(status.available_replicas) > number(before.available_replicas)
    }

    fn has_timed_out(&self, status: &DeploymentStatus) -> bool {
        match get(status, PROGRESSING) {
            None => false,
            Some(current) if reason(current) == NEW_SET_AVAILABLE => false,
            Some(current) if reason(current) == TIMED_OUT => true,
            Some(current) => self
                .deadline_left(current)
                .is_some_and(|left| left < SignedDuration::ZERO),
        }
    }

    fn deadline_left(&self, progressing: &DeploymentCondition) -> Option<SignedDuration> {
        let deadline = SignedDuration::from_secs(self.spec.progress_deadline_seconds?.into());
        let since = self.turn.now.duration_since(progressing.last_update_time.as_ref()?.0);
        Some(deadline - since)
    }

    /// When to look whether the deadline has passed.
    pub(super) fn progress_check_in(&self) -> Option<SignedDuration> {
        let current = get(&self.status, PROGRESSING)?;
        if !self.has_progress_deadline() || self.is_complete(&self.status) || reason(current) == TIMED_OUT {
            return None;
        }
        let left = self.deadline_left(current)?;
        Some(left.max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
    }

    /// The failure of a set's pods, the new set's first.
    fn replica_failure(&self) -> Option<DeploymentCondition> {
        let sets = self.sets.new_set().into_iter().chain(self.sets.old());
        let mut conditions = sets
            .flat_map(|set| set.set.status.iter())
            .flat_map(|status| status.conditions.iter().flatten());
        let failure = conditions.find(|condition| condition.type_.as_deref() == Some(REPLICA_FAILURE))?;
        Some(DeploymentCondition {
            type_: failure.type_.clone(),
            status: failure.status.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            last_transition_time: failure.last_transition_time.clone(),
            last_update_time: failure.last_transition_time.clone(),
        })
    }
}
