//! Conditions of a deployment.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

use super::Sync;
use crate::object::seconds;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";
pub(super) const PAUSED: &str = "DeploymentPaused";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(super) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";

/// A condition.
pub(super) fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some(kind))
}

/// Its reason, or empty.
pub(super) fn reason(condition: &DeploymentCondition) -> &str {
    condition.reason.as_deref().unwrap_or("")
}

/// A condition as of now.
pub(super) fn new(
    kind: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        last_update_time: Some(seconds(now)),
        last_transition_time: Some(seconds(now)),
    }
}

/// Puts a condition, unless one of its type has the same status and reason.
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let kind = condition.type_.clone().unwrap_or_default();
    if let Some(current) = get(status, &kind) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(condition);
}

/// Removes a condition.
pub(super) fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

impl Sync<'_> {
    pub(super) fn has_progress_deadline(&self) -> bool {
        self.spec
            .progress_deadline_seconds
            .is_some_and(|seconds| seconds != i32::MAX)
    }

    pub(super) fn set_progressing(&mut self, status: &str, reason: &str, message: String) {
        set(
            &mut self.status,
            new(PROGRESSING, status, reason, message, self.turn.now),
        );
    }

    /// Pausing and resuming show in the Progressing condition, so that a long pause is not taken
    /// for a lack of progress.
    pub(super) fn note_pause(&mut self) {
        if !self.has_progress_deadline() {
            return;
        }
        let current = get(&self.status, PROGRESSING).map(reason);
        if current == Some(TIMED_OUT) {
            return;
        }
        let was_paused = current == Some(PAUSED);
        match (self.spec.paused == Some(true), was_paused) {
            (true, false) => self.set_progressing("Unknown", PAUSED, "Deployment is paused".to_owned()),
            (false, true) => self.set_progressing("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()),
            _ => {}
        }
    }
}
