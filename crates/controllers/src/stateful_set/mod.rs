//! StatefulSets: pods with names, storage and an order (upstream `pkg/controller/statefulset`).

mod claims;
mod identity;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Rounding;
use k8s_openapi::api::apps::v1::{ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use crate::claim::{claim, claimants};
use crate::controller::{Controller, Trigger, own_key};
use crate::history::{History, REVISION_HASH, Recorded};
use crate::object::{is_deleting, name, namespace};
use crate::plan::{Action, Plan, Reference, Step};
use crate::pod::{available_in, is_ready, phase};
use crate::portion::portion;
use crate::{Key, Turn, World};
use identity::{ordinal_of, parent_of};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    account: "statefulset-controller",
    triggers: &[
        Trigger::StatefulSet(own_key),
        Trigger::Pod(keys_of_pod),
        Trigger::ControllerRevision(keys_of_revision),
        Trigger::PersistentVolumeClaim(keys_of_claim),
    ],
    reconcile,
};

/// Label of a revision that holds the hash of its data.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

fn selector(set: &StatefulSet) -> Option<&LabelSelector> {
    Some(&set.spec.selector)
}

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    claimants(world.stateful_sets(), selector, old, new)
}

fn keys_of_revision(world: &dyn World, old: Option<&ControllerRevision>, new: Option<&ControllerRevision>) -> Vec<Key> {
    claimants(world.stateful_sets(), selector, old, new)
}

/// The sets whose templates may have made a claim: one that is going must be gone before its pod can come.
fn keys_of_claim(
    world: &dyn World,
    old: Option<&PersistentVolumeClaim>,
    new: Option<&PersistentVolumeClaim>,
) -> Vec<Key> {
    let Some(claim) = new.or(old) else { return Vec::new() };
    let sets = world.stateful_sets().list(namespace(claim)).into_iter();
    let makers = sets.filter(|set| {
        claims::templates(set).any(|t| name(claim).starts_with(&format!("{}-{}-", name(t), name(&**set))))
    });
    makers.map(|set| Key::of(&*set)).collect()
}

/// A StatefulSet and what there is of it.
struct Sync<'a> {
    world: &'a dyn World,
    set: &'a StatefulSet,
    turn: &'a Turn,
    current: Revised,
    update: Revised,
}

/// A revision's name and its template.
struct Revised {
    name: String,
    template: PodTemplateSpec,
}

/// A place in the order.
enum Replica {
    There(Arc<Pod>),
    Missing(Box<Pod>),
}

/// Whether later replicas have their turn now.
#[derive(PartialEq)]
enum Flow {
    On,
    Wait,
}

/// Brings the pods one by one (or all at once, if the set says so) to what they should be.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = world.stateful_sets().get(&key.namespace, &key.name) else {
        return plan;
    };
    let member = |pod: &Pod| parent_of(pod) == Some(name(&*set));
    let pods = claim(&*set, &set.spec.selector, world.pods(), member, &mut plan);
    let recorded = Recorded {
        owner: &*set,
        selector: &set.spec.selector,
        template: &set.spec.template,
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
        hash_label: HASH_LABEL,
    };
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    // Numbers below zero are corrupted, and say nothing about which pods are wanted.
    if is_deleting(&*set) || set.spec.replicas.is_some_and(|count| count < 0) || start.is_some_and(|at| at < 0) {
        return plan;
    }
    let Ok(history) = recorded.history(world, &mut plan) else {
        let collisions = recorded.collisions.unwrap_or(0) + 1;
        plan.act(Action::patch_status_version(
            &*set,
            json!({"status": {"collisionCount": collisions}}),
        ));
        return plan;
    };
    let sync = Sync::new(world, &set, turn, &history);
    sync.sync(&pods, &mut plan);
    sync.report(&pods, &mut plan);
    let mut in_use: BTreeSet<&str> = pods.iter().filter_map(|pod| revision_of(pod)).collect();
    in_use.extend([sync.current.name.as_str(), sync.update.name.as_str()]);
    history.truncate_unused(set.spec.revision_history_limit.unwrap_or(10), &in_use, &mut plan);
    plan
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_HASH).map(String::as_str)
}

fn is_healthy(pod: &Pod) -> bool {
    phase(pod) == "Running" && is_ready(pod) && !is_deleting(pod)
}

impl<'a> Sync<'a> {
    fn new(world: &'a dyn World, set: &'a StatefulSet, turn: &'a Turn, history: &History) -> Self {
        let update = Revised {
            name: name(&history.current).to_owned(),
            template: set.spec.template.clone(),
        };
        let named = set
            .status
            .as_ref()
            .and_then(|status| status.current_revision.as_deref())
            .unwrap_or("");
        let known = history.old.iter().find(|revision| name(&***revision) == named);
        let current = known.and_then(|revision| {
            let template = History::template_of(revision)?;
            Some(Revised {
                name: named.to_owned(),
                template,
            })
        });
        let current = current.unwrap_or_else(|| Revised {
            name: update.name.clone(),
            template: update.template.clone(),
        });
        Self {
            world,
            set,
            turn,
            current,
            update,
        }
    }

    fn rolling_update(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        self.set.spec.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    fn is_rolling(&self) -> bool {
        let strategy = self
            .set
            .spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref());
        strategy.unwrap_or("RollingUpdate") == "RollingUpdate"
    }

    /// One after the other (`OrderedReady`), or all at once (`Parallel`).
    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn start(&self) -> i32 {
        self.set
            .spec
            .ordinals
            .as_ref()
            .and_then(|ordinals| ordinals.start)
            .unwrap_or(0)
    }

    fn wanted(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1)
    }

    fn is_in_range(&self, ordinal: i32) -> bool {
        (self.start()..self.start().saturating_add(self.wanted())).contains(&ordinal)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        available_in(pod, min_ready, self.turn.now).is_some_and(|left| left.is_zero())
    }

    fn sync(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        let mut condemned: Vec<&Arc<Pod>> = Vec::new();
        let mut there = std::collections::BTreeMap::new();
        for pod in pods {
            match ordinal_of(pod) {
                Some(ordinal) if self.is_in_range(ordinal) => {
                    there.insert(ordinal, pod.clone());
                }
                Some(_) => condemned.push(pod),
                None => {}
            }
        }
        condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal_of(pod)));
        let ordinals = self.start()..self.start().saturating_add(self.wanted());
        let replicas: Vec<Replica> = ordinals
            .map(|ordinal| match there.remove(&ordinal) {
                Some(pod) => Replica::There(pod),
                None => Replica::Missing(Box::new(self.new_pod(ordinal))),
            })
            .collect();
        if self.each_replica(&replicas, plan) == Flow::Wait {
            return;
        }
        for pod in &condemned {
            self.align_claims(pod, plan);
        }
        if self.each_condemned(&replicas, &condemned, plan) == Flow::Wait || !self.is_rolling() {
            return;
        }
        let replicas: Vec<&Arc<Pod>> = replicas
            .iter()
            .filter_map(|replica| match replica {
                Replica::There(pod) => Some(pod),
                Replica::Missing(_) => None,
            })
            .collect();
        self.roll_out(&replicas, plan);
    }

    /// The pod that is missing at a place: of the old revision below the partition (`newVersionedStatefulSetPod`).
    fn new_pod(&self, ordinal: i32) -> Pod {
        let below = match self.rolling_update() {
            None => self
                .set
                .status
                .as_ref()
                .and_then(|status| status.current_replicas)
                .unwrap_or(0),
            Some(rolling) => rolling.partition.unwrap_or(0),
        };
        let revised = if self.is_rolling() && ordinal < self.start().saturating_add(below) {
            &self.current
        } else {
            &self.update
        };
        identity::new_pod(self.set, &revised.template, &revised.name, ordinal)
    }

    fn each_replica(&self, replicas: &[Replica], plan: &mut Plan) -> Flow {
        let mut creations = Vec::new();
        let mut flow = Flow::On;
        for replica in replicas {
            let next = match replica {
                Replica::Missing(pod) => self.create(pod, &mut creations, plan),
                Replica::There(pod) => self.tend(pod, plan),
            };
            if next == Flow::Wait {
                flow = Flow::Wait;
                if self.is_ordered() {
                    break;
                }
            }
        }
        if !creations.is_empty() {
            plan.steps.push(Step::SlowStart(creations));
        }
        // Set after set is only held up when it is ordered; a parallel one goes on to what is condemned.
        if self.is_ordered() { flow } else { Flow::On }
    }

    fn create(&self, pod: &Pod, creations: &mut Vec<Action>, plan: &mut Plan) -> Flow {
        if claims::is_stale(self.world, self.set, pod) || !self.make_claims(pod, plan) {
            return Flow::Wait;
        }
        creations.push(self.told(Action::create(pod), "Create", name(pod)));
        Flow::Wait
    }

    /// What a pod that is there needs (`processReplica`).
    fn tend(&self, pod: &Arc<Pod>, plan: &mut Plan) -> Flow {
        if matches!(phase(pod), "Failed" | "Succeeded") {
            if !is_deleting(&**pod) {
                plan.act(self.delete(pod));
            }
            return Flow::Wait;
        }
        if phase(pod) == "Pending" {
            self.make_claims(pod, plan);
        }
        if is_deleting(&**pod) || !is_healthy(pod) || !self.is_available(pod) {
            if let Some(left) = available_in(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.turn.now)
                && left.is_positive()
            {
                plan.look_again(left);
            }
            if self.is_ordered() {
                return Flow::Wait;
            }
        }
        self.align_claims(pod, plan);
        if let Some(patch) = identity::mismatch(pod) {
            plan.act(self.told(Action::patch(&**pod, patch), "Update", name(&**pod)));
        }
        Flow::On
    }

    /// Takes away what is too much, the highest first (`processCondemned`).
    fn each_condemned(&self, replicas: &[Replica], condemned: &[&Arc<Pod>], plan: &mut Plan) -> Flow {
        let unhealthy_replica = replicas.iter().any(|replica| match replica {
            Replica::There(pod) => !is_healthy(pod),
            Replica::Missing(_) => true,
        });
        let first_unhealthy = if unhealthy_replica {
            None
        } else {
            condemned
                .iter()
                .rev()
                .find(|pod| !is_healthy(pod))
                .map(|pod| name(&***pod))
        };
        let mut flow = Flow::On;
        for pod in condemned {
            if is_deleting(&***pod) {
                if self.is_ordered() {
                    return Flow::Wait;
                }
                continue;
            }
            let fine = is_healthy(pod) && self.is_available(pod);
            if self.is_ordered() && !fine && first_unhealthy != Some(name(&***pod)) {
                return Flow::Wait;
            }
            plan.act(self.delete(pod));
            flow = Flow::Wait;
            if self.is_ordered() {
                return flow;
            }
        }
        if self.is_ordered() { flow } else { Flow::On }
    }

    /// Deletes old pods above the partition, the highest first: one when all above it are well, or as many as may be
    /// unavailable (`updateStatefulSetAfterInvariantEstablished`).
    fn roll_out(&self, replicas: &[&Arc<Pod>], plan: &mut Plan) {
        let partition = self.rolling_update().and_then(|rolling| rolling.partition).unwrap_or(0);
        let first = self.start().saturating_add(partition);
        let candidates = || {
            replicas
                .iter()
                .rev()
                .filter(|pod| ordinal_of(pod).is_some_and(|ordinal| ordinal >= first))
        };
        let is_old = |pod: &Pod| revision_of(pod) != Some(self.update.name.as_str());
        let limit = self
            .rolling_update()
            .and_then(|rolling| rolling.max_unavailable.as_ref());
        let Some(limit) = limit else {
            for pod in candidates() {
                if is_old(pod) && !is_deleting(&***pod) {
                    plan.act(self.delete(pod));
                    return;
                }
                if !is_healthy(pod) || !self.is_available(pod) {
                    return;
                }
            }
            return;
        };
        let limit = portion(Some(limit), self.wanted(), Rounding::Down).max(1);
        let missing = usize::try_from(self.wanted())
            .unwrap_or(0)
            .saturating_sub(replicas.len());
        let is_well = |pod: &Pod| is_healthy(pod) && self.is_available(pod);
        let unavailable = replicas.iter().filter(|pod| !is_well(pod)).count() + missing;
        let mut budget = usize::try_from(limit).unwrap_or(0).saturating_sub(unavailable);
        for pod in candidates().filter(|pod| is_old(pod) && !is_deleting(&****pod)) {
            // One that does not serve anyway costs nothing.
            if is_well(pod) {
                if budget == 0 {
                    continue;
                }
                budget -= 1;
            }
            plan.act(self.delete(pod));
        }
    }

    fn delete(&self, pod: &Pod) -> Action {
        self.told(Action::delete(pod), "Delete", name(pod))
    }

    /// With upstream's events (`recordPodEvent`).
    fn told(&self, action: Action, verb: &'static str, pod: &str) -> Action {
        let (success, failure) = match verb {
            "Create" => ("SuccessfulCreate", "FailedCreate"),
            "Update" => ("SuccessfulUpdate", "FailedUpdate"),
            _ => ("SuccessfulDelete", "FailedDelete"),
        };
        let what = format!("{} Pod {pod} in StatefulSet {}", verb.to_lowercase(), name(self.set));
        action
            .telling(Reference::to(self.set), success, format!("{what} successful"))
            .or_telling(failure, format!("{what} failed error: {{error}}"))
    }
}

#[cfg(test)]
mod tests;
