//! DaemonSets: a pod on every node that allows it (upstream `pkg/controller/daemon`).

mod pods;
mod rollout;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use crate::claim::{claim, claimants};
use crate::controller::{Controller, Trigger, own_key};
use crate::history::{History, REVISION_HASH, Recorded};
use crate::object::{controller_of, is_deleting, name, selects_everything};
use crate::plan::{Action, Plan, Reference, Step};
use crate::pod::{available_in, is_ready, is_terminal, phase};
use crate::{Key, Turn, World};

/// At most this many pods are created or deleted in a turn.
const BURST: usize = 250;
/// A failed pod is replaced after this, and after twice as long each time.
const FIRST_BACKOFF: i64 = 1;
/// But never after longer.
const LAST_BACKOFF: i64 = 15 * 60;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    account: "daemon-set-controller",
    triggers: &[
        Trigger::DaemonSet(own_key),
        Trigger::Pod(keys_of_pod),
        Trigger::Node(keys_of_node),
        Trigger::ControllerRevision(keys_of_revision),
    ],
    reconcile,
};

fn selector(set: &DaemonSet) -> Option<&LabelSelector> {
    Some(&set.spec.selector)
}

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    claimants(world.daemon_sets(), selector, old, new)
}

/// A new revision that is owned is most likely the set's own work, and waits for its next turn (upstream `addHistory`).
fn keys_of_revision(world: &dyn World, old: Option<&ControllerRevision>, new: Option<&ControllerRevision>) -> Vec<Key> {
    if old.is_none() && new.is_some_and(|new| !is_deleting(new) && controller_of(new).is_some()) {
        return Vec::new();
    }
    claimants(world.daemon_sets(), selector, old, new)
}

/// The sets that a node's change makes come or go.
fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let verdict = |node: Option<&Node>, set: &DaemonSet| node.map(|node| pods::verdict(set, node)).unwrap_or_default();
    let sets = world.daemon_sets().list("").into_iter();
    let concerned = sets.filter(|set| verdict(old, set) != verdict(new, set));
    concerned.map(|set| Key::of(&*set)).collect()
}

/// A DaemonSet and what there is of it.
struct Sync<'a> {
    set: &'a DaemonSet,
    turn: &'a Turn,
    nodes: Vec<Arc<Node>>,
    /// Pods by the node they are for, oldest first.
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    hash: String,
}

/// Brings a pod to every node that should have one, replaces old ones, and tells the status.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(set) = world.daemon_sets().get(&key.namespace, &key.name) else {
        return plan;
    };
    if selects_everything(&set.spec.selector) {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        if turn.memo.is_none() {
            plan.act(Action::event(Reference::to(&*set), "SelectingAll", message).warning());
        }
        plan.memo = Some(turn.now);
        return plan;
    }
    if is_deleting(&*set) {
        return plan;
    }
    let recorded = Recorded {
        owner: &*set,
        selector: &set.spec.selector,
        template: &set.spec.template,
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
        hash_label: REVISION_HASH,
    };
    let Ok(history) = recorded.history(world, &mut plan) else {
        let collisions = recorded.collisions.unwrap_or(0) + 1;
        plan.act(Action::patch_status_version(
            &*set,
            json!({"status": {"collisionCount": collisions}}),
        ));
        return plan;
    };
    let pods = claim(&*set, &set.spec.selector, world.pods(), |_| true, &mut plan);
    let labels = history.current.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(REVISION_HASH)).cloned();
    let sync = Sync {
        set: &set,
        turn,
        nodes: world.nodes().list(""),
        by_node: by_node(&pods),
        hash: hash.unwrap_or_else(|| name(&history.current).to_owned()),
    };
    sync.sync(&mut plan);
    sync.clean_up(&history, &pods, &mut plan);
    sync.report(&mut plan);
    plan
}

/// Pods that have ended and are going are nobody's business any more.
fn by_node(all: &[Arc<Pod>]) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in all.iter().filter(|pod| !(is_terminal(pod) && is_deleting(&***pod))) {
        if let Some(node) = pods::target_node(pod) {
            by_node.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|pod| (crate::pod::node_name(pod).is_empty(), crate::object::created(&**pod)));
    }
    by_node
}

/// What is to be done in this turn.
#[derive(Debug, Default)]
struct Changes {
    create_on: Vec<String>,
    delete: Vec<Arc<Pod>>,
}

impl Sync<'_> {
    fn sync(&self, plan: &mut Plan) {
        let mut changes = Changes::default();
        for node in &self.nodes {
            self.on_node(node, &mut changes, plan);
        }
        let known: Vec<&str> = self.nodes.iter().map(|node| name(&**node)).collect();
        let nowhere = self.by_node.iter().filter(|(node, _)| !known.contains(&node.as_str()));
        let unscheduled = nowhere.flat_map(|(_, pods)| pods.iter().filter(|pod| crate::pod::node_name(pod).is_empty()));
        changes
            .delete
            .extend(unscheduled.filter(|pod| !is_deleting(&***pod)).cloned());
        if changes.create_on.is_empty() && changes.delete.is_empty() && self.is_rolling() {
            changes = self.roll_out();
        }
        self.apply(changes, plan);
    }

    /// What a node needs, whatever revision it runs (`podsShouldBeOnNode`).
    fn on_node(&self, node: &Node, changes: &mut Changes, plan: &mut Plan) {
        let verdict = pods::verdict(self.set, node);
        let there = self.by_node.get(name(node));
        let pods = there.map(Vec::as_slice).unwrap_or_default();
        if verdict.run && there.is_none() {
            changes.create_on.push(name(node).to_owned());
        } else if verdict.stay {
            let running = self.running(node, pods, changes, plan);
            if self.max_surge_is_set() {
                if running.is_empty() && verdict.run {
                    changes.create_on.push(name(node).to_owned());
                } else {
                    self.prune_surge(&running, changes);
                }
            } else {
                changes.delete.extend(running.into_iter().skip(1));
            }
        } else {
            changes
                .delete
                .extend(pods.iter().filter(|pod| !is_deleting(&***pod)).cloned());
        }
    }

    /// The pods that neither ended nor go; those that ended are replaced.
    fn running(&self, node: &Node, pods: &[Arc<Pod>], changes: &mut Changes, plan: &mut Plan) -> Vec<Arc<Pod>> {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !is_deleting(&***pod)) {
            let about = || Reference::to(self.set);
            let (namespace, pod_name) = (crate::object::namespace(&**pod), name(&**pod));
            match phase(pod) {
                "Failed" => {
                    if !self.may_replace(node, pod, plan) {
                        continue;
                    }
                    let node = name(node);
                    let text =
                        format!("Found failed daemon pod {namespace}/{pod_name} on node {node}, will try to kill it");
                    plan.act(Action::event(about(), "FailedDaemonPod", text).warning());
                    changes.delete.push(pod.clone());
                }
                "Succeeded" => {
                    let node = name(node);
                    let text = format!(
                        "Found succeeded daemon pod {namespace}/{pod_name} on node {node}, will try to delete it"
                    );
                    plan.act(Action::event(about(), "SucceededDaemonPod", text));
                    changes.delete.push(pod.clone());
                }
                _ => running.push(pod.clone()),
            }
        }
        running
    }

    /// Whether a node's failed pod has been there for long enough. The note is when the pod before it was created:
    /// pods that follow each other fast wait ever longer.
    fn may_replace(&self, node: &Node, pod: &Pod, plan: &mut Plan) -> bool {
        let (node, now) = (name(node), self.turn.now);
        let created = crate::object::created(pod).unwrap_or(now);
        let before = self.turn.notes.get(node).copied();
        let cycle = before.map_or(0, |before| created.duration_since(before).as_secs());
        let wait = jiff::SignedDuration::from_secs(cycle.saturating_mul(2).clamp(FIRST_BACKOFF, LAST_BACKOFF));
        let left = wait - now.duration_since(created);
        if left.is_positive() {
            plan.look_again(left);
            plan.notes.extend(before.map(|before| (node.to_owned(), before)));
            return false;
        }
        plan.notes.insert(node.to_owned(), created);
        true
    }

    /// Of several pods on a node, an old one may stay beside a new one that is not ready yet.
    fn prune_surge(&self, running: &[Arc<Pod>], changes: &mut Changes) {
        if running.len() <= 1 {
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.iter().partition(|pod| self.has_hash(pod));
        changes.delete.extend(new.iter().skip(1).map(|pod| (*pod).clone()));
        changes.delete.extend(old.iter().skip(1).map(|pod| (*pod).clone()));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!is_ready(old) || self.is_available(new))
        {
            changes.delete.push((*old).clone());
        }
    }

    fn has_hash(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(REVISION_HASH)) == Some(&self.hash)
    }

    /// Whether a pod is of the current template (`IsPodUpdated`).
    fn is_updated(&self, pod: &Pod) -> bool {
        let label = pod
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(pods::TEMPLATE_GENERATION_LABEL));
        self.has_hash(pod) || label.is_some() && label.map(String::as_str) == pods::template_generation(self.set)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        available_in(pod, min_ready, self.turn.now).is_some_and(|left| left.is_zero())
    }

    fn apply(&self, changes: Changes, plan: &mut Plan) {
        let about = Reference::to(self.set);
        let creations = changes.create_on.iter().take(BURST).map(|node| {
            Action::create(&pods::pod_for(self.set, node, &self.hash))
                .telling(about.clone(), "SuccessfulCreate", "Created pod: {name}")
                .or_telling("FailedCreate", "Error creating: {error}")
        });
        let creations = creations.collect::<Vec<_>>();
        if !creations.is_empty() {
            plan.steps.push(Step::SlowStart(creations));
        }
        let deletions = changes.delete.iter().take(BURST).map(|pod| {
            Action::delete(&**pod)
                .telling(
                    about.clone(),
                    "SuccessfulDelete",
                    format!("Deleted pod: {}", name(&**pod)),
                )
                .or_telling("FailedDelete", "Error deleting: {error}")
        });
        let deletions = deletions.collect::<Vec<_>>();
        if !deletions.is_empty() {
            plan.steps.push(Step::All(deletions));
        }
    }

    fn clean_up(&self, history: &History, pods: &[Arc<Pod>], plan: &mut Plan) {
        let hash_of = |labels: Option<&BTreeMap<String, String>>| labels.and_then(|l| l.get(REVISION_HASH)).cloned();
        let live: Vec<String> = pods
            .iter()
            .filter_map(|pod| hash_of(pod.metadata.labels.as_ref()))
            .collect();
        let in_use = |revision: &ControllerRevision| {
            hash_of(revision.metadata.labels.as_ref()).is_some_and(|hash| live.contains(&hash))
        };
        history.truncate(self.set.spec.revision_history_limit.unwrap_or(10), in_use, plan);
    }
}

#[cfg(test)]
mod tests;
