//! Jobs: pods that run to completion (upstream `pkg/controller/job`).
//!
//! A pod that ended is counted exactly once, whatever happens: it carries a finalizer, its UID (or its index) goes into
//! the status first, then the finalizer goes, and only when it is seen to be gone is the UID turned into a number. Each
//! of these steps follows from what the turn before it left in the API.

mod backoff;
mod finish;
mod indexes;
mod manage;
mod pods;
mod policy;
mod track;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use crate::claim::{claim_with, claimants};
use crate::controller::{Controller, Trigger, own_key};
use crate::object::{controller_of, is_controlled_by, name, namespace, uid};
use crate::plan::{Action, Plan, Reference, Step};
use crate::pod::is_active;
use crate::{Key, Turn, World};
use indexes::Indexes;
use pods::is_tracked;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "job-controller",
    account: "job-controller",
    triggers: &[Trigger::Job(own_key), Trigger::Pod(keys_of_pod)],
    reconcile,
};

/// What holds a pod until it is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const MANAGED_BY: &str = "kubernetes.io/job-controller";
/// Names a pod that no Job controls; no Job's name has a slash.
const STRAY: &str = "pod/";

fn selector(job: &Job) -> Option<&LabelSelector> {
    job.spec.as_ref()?.selector.as_ref()
}

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let mut keys = claimants(world.jobs(), selector, old, new);
    if let Some(pod) = new.filter(|pod| is_tracked(pod) && controller_of(*pod).is_none()) {
        keys.push(Key::new(namespace(pod), format!("{STRAY}{}", name(pod))));
    }
    keys
}

/// How a Job ended: the type of the condition that says so.
pub(crate) fn finished(job: &Job) -> Option<&str> {
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let ended = conditions.find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    ended.map(|condition| condition.type_.as_str())
}

/// A Job and what there is of it.
struct Sync<'a> {
    job: &'a Job,
    spec: JobSpec,
    turn: &'a Turn,
    pods: Vec<Arc<Pod>>,
    active: Vec<Arc<Pod>>,
    /// As it will be written.
    status: JobStatus,
    /// Those that the status as it is has, and those that ended since.
    succeeded_indexes: Indexes,
    failed_indexes: Option<Indexes>,
    succeeded: i32,
    failed: i32,
    /// By index, the failed pod that stays until its replacement is there.
    held: BTreeMap<i32, Arc<Pod>>,
}

/// Starts, counts and ends.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    if let Some(pod) = key.name.strip_prefix(STRAY) {
        let pod = world.pods().get(&key.namespace, pod);
        let stray = pod.filter(|pod| controller_of(&**pod).is_none());
        release(stray.into_iter(), &mut plan);
        return plan;
    }
    let Some(job) = world.jobs().get(&key.namespace, &key.name) else {
        let pods = world.pods().list(&key.namespace).into_iter();
        let orphans =
            pods.filter(|pod| controller_of(&**pod).is_some_and(|owner| owner.kind == "Job" && owner.name == key.name));
        release(orphans, &mut plan);
        return plan;
    };
    let Some(spec) = job
        .spec
        .clone()
        .filter(|spec| spec.managed_by.as_deref().is_none_or(|by| by == MANAGED_BY))
    else {
        return plan;
    };
    if finished(&job).is_some() {
        let pods = world.pods().owned_by(uid(&*job)).into_iter();
        release(pods.filter(|pod| is_controlled_by(&**pod, uid(&*job))), &mut plan);
        return plan;
    }
    if !matches!(spec.completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed")) {
        if turn.memo.is_none() {
            let message = "Skipped Job sync because completion mode is unknown";
            plan.act(Action::event(Reference::to(&*job), "UnknownCompletionMode", message).warning());
        }
        plan.memo = Some(turn.now);
        return plan;
    }
    let Some(selector) = &spec.selector else {
        return plan;
    };
    // Numbers below zero are corrupted: no server takes them. They end no pods.
    let numbers = [spec.parallelism, spec.completions, spec.backoff_limit];
    if numbers.into_iter().flatten().any(|number| number < 0) {
        return plan;
    }
    let pods = claim_with(&*job, selector, world.pods(), |_| true, Some(FINALIZER), &mut plan);
    let sync = Sync::new(&job, spec.clone(), turn, pods);
    sync.sync(&mut plan);
    plan
}

/// Removes the finalizer from pods that nobody will count.
fn release(pods: impl Iterator<Item = Arc<Pod>>, plan: &mut Plan) {
    let releases: Vec<Action> = pods
        .filter(|pod| is_tracked(pod))
        .map(|pod| without_finalizer(&pod))
        .collect();
    if !releases.is_empty() {
        plan.steps.push(Step::All(releases));
    }
}

fn without_finalizer(pod: &Pod) -> Action {
    let left: Vec<&String> = pod
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|held| *held != FINALIZER)
        .collect();
    let left = if left.is_empty() { json!(null) } else { json!(left) };
    Action::patch_version(pod, json!({"metadata": {"finalizers": left}}))
}

impl<'a> Sync<'a> {
    fn new(job: &'a Job, spec: JobSpec, turn: &'a Turn, pods: Vec<Arc<Pod>>) -> Self {
        let active = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let mut sync = Self {
            job,
            spec,
            turn,
            pods,
            active,
            status: job.status.clone().unwrap_or_default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            succeeded: 0,
            failed: 0,
            held: BTreeMap::new(),
        };
        sync.settle_counted();
        sync.count();
        sync
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(i32::MAX)
    }

    /// Whether a pod of an indexed Job has an index that counts.
    fn is_valid(&self, pod: &Pod) -> bool {
        !self.is_indexed() || pods::index_of(pod).is_some_and(|index| index < self.completions())
    }

    fn is_terminating(pod: &Pod) -> bool {
        crate::object::is_deleting(pod) && !crate::pod::is_terminal(pod)
    }
}

#[cfg(test)]
mod tests;
