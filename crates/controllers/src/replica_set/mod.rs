//! ReplicaSets: as many pods as wanted (upstream `pkg/controller/replicaset`).

pub(crate) mod rank;
mod status;

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::claim::{claim, claimants};
use crate::controller::{Controller, Trigger, own_key};
use crate::object::{controller_of, controller_reference, is_controlled_by, is_deleting, name, namespace, uid};
use crate::plan::{Action, Plan, Reference, Step};
use crate::pod::{available_in, is_active, is_terminal};
use crate::{Key, Object, Turn, World};

/// At most this many pods are created or deleted in a turn.
const BURST: usize = 500;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    account: "replicaset-controller",
    triggers: &[Trigger::ReplicaSet(own_key), Trigger::Pod(keys_of_pod)],
    reconcile,
};

fn selector(set: &ReplicaSet) -> Option<&LabelSelector> {
    Some(&set.spec.selector)
}

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    claimants(world.replica_sets(), selector, old, new)
}

/// Brings the number of a set's pods to what its spec says, and its status to what there is.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    match world.replica_sets().get(&key.namespace, &key.name) {
        Some(set) => sync(world, &*set, &set, turn),
        None => Plan::nothing(),
    }
}

/// The same for `owner`, which is the set itself or is seen as one.
pub(crate) fn sync<O: Object>(world: &dyn World, owner: &O, set: &ReplicaSet, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let spec = &set.spec;
    let pods = claim(owner, &spec.selector, world.pods(), is_active, &mut plan);
    // A number below zero is corrupted, and says nothing about how many are wanted.
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).ok();
    if let Some(wanted) = wanted.filter(|_| !is_deleting(owner)) {
        if pods.len() < wanted {
            create(owner, set, (wanted - pods.len()).min(BURST), &mut plan);
        } else if pods.len() > wanted {
            let related = related_pods(world, set);
            delete(
                owner,
                &pods,
                &related,
                (pods.len() - wanted).min(BURST),
                turn,
                &mut plan,
            );
        }
    }
    let counts_terminating = O::KIND == <ReplicaSet as k8s_openapi::Resource>::KIND;
    let terminating = world.pods().owned_by(uid(owner)).into_iter();
    let terminating =
        terminating.filter(|pod| is_controlled_by(&**pod, uid(owner)) && is_deleting(&**pod) && !is_terminal(pod));
    if let Some(patch) = status::patch(set, &pods, counts_terminating.then(|| terminating.count()), turn) {
        plan.finally(Action::patch_status(owner, patch));
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let waiting = pods.iter().filter_map(|pod| available_in(pod, min_ready, turn.now));
    if let Some(soonest) = waiting.filter(|left| *left > SignedDuration::ZERO).min() {
        plan.look_again(soonest);
    }
    plan
}

fn create<O: Object>(owner: &O, set: &ReplicaSet, count: usize, plan: &mut Plan) {
    let Some(pod) = pod_of(owner, set) else {
        return;
    };
    let action = Action::create(&pod)
        .telling(Reference::to(owner), "SuccessfulCreate", "Created pod: {name}")
        .or_telling("FailedCreate", "Error creating: {error}");
    plan.steps.push(Step::SlowStart(vec![action; count]));
}

/// The pod that a set's template describes (`GetPodFromTemplate`).
fn pod_of<O: Object>(owner: &O, set: &ReplicaSet) -> Option<Pod> {
    let template = set.spec.template.as_ref()?;
    let metadata = template.metadata.clone().unwrap_or_default();
    Some(Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(owner))),
            namespace: Some(namespace(owner).to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    })
}

fn delete<O: Object>(owner: &O, pods: &[Arc<Pod>], related: &[Arc<Pod>], count: usize, turn: &Turn, plan: &mut Plan) {
    let mut pods = pods.to_vec();
    if count < pods.len() {
        rank::order_for_deletion(&mut pods, related, turn.now);
    }
    let delete = |pod: &Arc<Pod>| {
        Action::delete(&**pod)
            .telling(
                Reference::to(owner),
                "SuccessfulDelete",
                format!("Deleted pod: {}", name(&**pod)),
            )
            .or_telling("FailedDelete", "Error deleting: {error}")
    };
    plan.steps
        .push(Step::All(pods.iter().take(count).map(delete).collect()));
}

/// The pods of all sets of the same owner (`getIndirectlyRelatedPods`).
fn related_pods(world: &dyn World, set: &ReplicaSet) -> Vec<Arc<Pod>> {
    let siblings = match controller_of(set) {
        Some(owner) => world.replica_sets().owned_by(&owner.uid),
        None => Vec::new(),
    };
    let mut uids: Vec<String> = siblings.iter().map(|sibling| uid(&**sibling).to_owned()).collect();
    if uids.is_empty() {
        uids.push(uid(set).to_owned());
    }
    uids.iter().flat_map(|owner| world.pods().owned_by(owner)).collect()
}

#[cfg(test)]
mod tests;
