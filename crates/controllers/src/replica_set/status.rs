//! A set's status.

use std::sync::Arc;

use api::Value;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::Turn;
use crate::diff::merge_patch;
use crate::object::{has_labels, seconds};
use crate::pod::{available_in, is_ready};

const FAILURE: &str = "ReplicaFailure";

/// The patch of the status subresource; `None` when the status is right.
pub(super) fn patch(set: &ReplicaSet, pods: &[Arc<Pod>], terminating: Option<usize>, turn: &Turn) -> Option<Value> {
    let old = set.status.clone().unwrap_or_default();
    let mut new = calculate(set, pods, terminating, turn);
    new.observed_generation = set.metadata.generation;
    merge_patch(&old, &new).map(|status| json!({"status": status}))
}

fn calculate(set: &ReplicaSet, pods: &[Arc<Pod>], terminating: Option<usize>, turn: &Turn) -> ReplicaSetStatus {
    let mut status = set.status.clone().unwrap_or_default();
    let spec = &set.spec;
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let wanted_labels = template
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let count = |counts: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
    };
    let nonzero = |count: i32| Some(count).filter(|count| *count != 0);
    status.replicas = count(&|_| true);
    status.fully_labeled_replicas = nonzero(count(&|pod| has_labels(&wanted_labels, pod.metadata.labels.as_ref())));
    status.ready_replicas = nonzero(count(&is_ready));
    status.available_replicas = nonzero(count(&|pod| {
        available_in(pod, min_ready, turn.now) == Some(SignedDuration::ZERO)
    }));
    status.terminating_replicas = terminating.map(|count| i32::try_from(count).unwrap_or(i32::MAX));

    let wanted = i64::from(spec.replicas.unwrap_or(1));
    let reason = match i64::from(status.replicas) - wanted {
        ..0 => "FailedCreate",
        0 => "",
        _ => "FailedDelete",
    };
    let failed = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_.as_deref() == Some(FAILURE));
    match &turn.failure {
        Some(failure) if !failed && failure.resource == "pods" => {
            status.conditions.get_or_insert_default().push(ReplicaSetCondition {
                type_: Some(FAILURE.to_owned()),
                status: Some("True".to_owned()),
                last_transition_time: Some(seconds(turn.now)),
                reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
                message: Some(failure.message.clone()),
            });
        }
        None if failed => {
            let conditions = status.conditions.get_or_insert_default();
            conditions.retain(|condition| condition.type_.as_deref() != Some(FAILURE));
            if conditions.is_empty() {
                status.conditions = None;
            }
        }
        _ => {}
    }
    status
}
