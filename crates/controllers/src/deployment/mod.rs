//! Deployments: rolling from one pod template to the next (upstream `pkg/controller/deployment`).

mod condition;
mod progress;
mod revision;
mod rollout;
mod scale;
mod sets;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use crate::claim::{claim, claimants};
use crate::controller::{Controller, Trigger, own_key};
use crate::diff::merge_patch;
use crate::object::{controller_of, is_deleting, namespace, selects_everything};
use crate::plan::{Action, Plan, Reference};
use crate::{Key, Turn, World};
use sets::Sets;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    account: "deployment-controller",
    triggers: &[
        Trigger::Deployment(own_key),
        Trigger::ReplicaSet(keys_of_set),
        Trigger::Pod(keys_of_pod),
    ],
    reconcile,
};

fn selector(deployment: &Deployment) -> Option<&LabelSelector> {
    Some(&deployment.spec.selector)
}

fn keys_of_set(world: &dyn World, old: Option<&ReplicaSet>, new: Option<&ReplicaSet>) -> Vec<Key> {
    claimants(world.deployments(), selector, old, new)
}

/// A Recreate deployment waits for the last old pod to be gone.
fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let (Some(pod), None) = (old, new) else {
        return Vec::new();
    };
    let set = controller_of(pod)
        .filter(|owner| owner.kind == "ReplicaSet")
        .and_then(|owner| world.replica_sets().get(namespace(pod), &owner.name));
    let deployment = set
        .as_ref()
        .and_then(|set| controller_of(&**set))
        .filter(|owner| owner.kind == "Deployment");
    deployment
        .map(|owner| Key::new(namespace(pod), owner.name.as_str()))
        .into_iter()
        .collect()
}

/// A deployment on its way through one turn. `status` and `sets` are what they shall become.
struct Sync<'a> {
    world: &'a dyn World,
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    replicas: i32,
    status: DeploymentStatus,
    /// The revision that the deployment shall carry.
    revision: Option<String>,
    sets: Sets,
    turn: &'a Turn,
}

/// Moves a deployment one step on: replica sets to be created, scaled and removed, and its status.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(deployment) = world.deployments().get(&key.namespace, &key.name) else {
        return plan;
    };
    let spec = &deployment.spec;
    if selects_everything(&spec.selector) {
        return refuse_to_select_all(&deployment);
    }
    // A number below zero is corrupted, and says nothing about how many are wanted.
    if spec.replicas.is_some_and(|count| count < 0) {
        return plan;
    }
    let claimed = claim(&*deployment, &spec.selector, world.replica_sets(), |_| true, &mut plan);
    let mut sync = Sync {
        world,
        deployment: &deployment,
        spec,
        replicas: spec.replicas.unwrap_or(1),
        status: deployment.status.clone().unwrap_or_default(),
        revision: None,
        sets: Sets::new(claimed, &spec.template),
        turn,
    };
    sync.run(&mut plan);
    let own = sync.own_writes();
    if !sync.sets.is_creating() {
        sync.sets.emit(&deployment, &mut plan);
        plan.last.extend(own);
    } else if turn.failure.is_some() {
        own.into_iter().for_each(|action| plan.act(action));
        sync.sets.emit(&deployment, &mut plan);
    } else {
        // That the set was created is said only once it was.
        sync.sets.emit(&deployment, &mut plan);
        own.into_iter().for_each(|action| plan.act(action));
    }
    plan
}

fn refuse_to_select_all(deployment: &Deployment) -> Plan {
    let mut plan = Plan::nothing();
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    if observed < deployment.metadata.generation {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.act(Action::event(Reference::to(deployment), "SelectingAll", message).warning());
        let status = json!({"status": {"observedGeneration": deployment.metadata.generation}});
        plan.finally(Action::patch_status(deployment, status));
    }
    plan
}

impl Sync<'_> {
    fn run(&mut self, plan: &mut Plan) {
        if is_deleting(self.deployment) {
            self.status = self.calculated_status();
            return;
        }
        self.note_pause();
        let paused = self.spec.paused == Some(true);
        if paused || self.is_scaling_event() {
            self.sync_revision(false, plan);
            self.scale_proportionally();
            if paused {
                self.clean_up(plan);
            }
            self.status = self.calculated_status();
            return;
        }
        let strategy = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref());
        if strategy == Some("Recreate") {
            self.roll_recreate(plan);
        } else {
            self.roll_rolling(plan);
        }
        self.status = self.rollout_status();
        if let Some(after) = self.progress_check_in() {
            plan.look_again(after);
        }
    }

    /// The deployment's own part: its status, and its revision annotation, which goes with the status,
    /// since an annotation written otherwise counts as a new generation.
    fn own_writes(&self) -> Option<Action> {
        let mut body = api::Map::new();
        let annotation = crate::object::annotation(self.deployment, revision::REVISION);
        if let Some(revision) = self
            .revision
            .as_deref()
            .filter(|revision| annotation != Some(*revision))
        {
            body.insert(
                "metadata".to_owned(),
                json!({"annotations": {revision::REVISION: revision}}),
            );
        }
        let old = self.deployment.status.clone().unwrap_or_default();
        if let Some(status) = merge_patch(&old, &self.status) {
            body.insert("status".to_owned(), status);
        }
        (!body.is_empty()).then(|| Action::patch_status(self.deployment, body.into()))
    }
}

#[cfg(test)]
mod tests;
