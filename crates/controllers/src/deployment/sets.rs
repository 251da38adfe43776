//! The replica sets of a deployment, as they are and as they shall be.

use std::cmp::Ordering;
use std::sync::Arc;

use api::Value;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::json;

use super::revision::POD_TEMPLATE_HASH;
use crate::diff::merge_patch;
use crate::object::{created, name};
use crate::plan::{Action, Plan, Reference};

/// One replica set.
pub(super) struct Set {
    /// As it was seen; `None` if it is to be created.
    seen: Option<Arc<ReplicaSet>>,
    /// As it shall be.
    pub(super) set: ReplicaSet,
}

impl Set {
    /// Wanted pods.
    pub(super) fn replicas(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(1)
    }

    pub(super) fn set_replicas(&mut self, replicas: i32) {
        self.set.spec.replicas = Some(replicas);
    }

    /// Pods that exist.
    pub(super) fn actual(&self) -> i32 {
        self.set.status.as_ref().map_or(0, |status| status.replicas)
    }

    pub(super) fn available(&self) -> i32 {
        self.set
            .status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
    }

    pub(super) fn ready(&self) -> i32 {
        self.set
            .status
            .as_ref()
            .and_then(|status| status.ready_replicas)
            .unwrap_or(0)
    }

    pub(super) fn terminating(&self) -> i32 {
        self.set
            .status
            .as_ref()
            .and_then(|status| status.terminating_replicas)
            .unwrap_or(0)
    }

    pub(super) fn is_active(&self) -> bool {
        self.replicas() > 0
    }

    /// Writes the annotation; whether that changes anything.
    pub(super) fn annotate(&mut self, key: &str, value: &str) -> bool {
        let annotations = self.set.metadata.annotations.get_or_insert_default();
        let changes = annotations.get(key).is_none_or(|old| old != value);
        if changes {
            annotations.insert(key.to_owned(), value.to_owned());
        }
        changes
    }
}

/// All replica sets of a deployment, oldest first.
pub(super) struct Sets {
    pub(super) all: Vec<Set>,
    /// The one with the deployment's template.
    new: Option<usize>,
}

impl Sets {
    pub(super) fn new(claimed: Vec<Arc<ReplicaSet>>, template: &PodTemplateSpec) -> Self {
        let mut all: Vec<Set> = claimed
            .into_iter()
            .map(|seen| Set {
                set: (*seen).clone(),
                seen: Some(seen),
            })
            .collect();
        all.sort_by(|a, b| older_first(&a.set, &b.set));
        let new = all.iter().position(|set| {
            let theirs = set.set.spec.template.as_ref();
            theirs.is_some_and(|theirs| same_template(theirs, template))
        });
        Self { all, new }
    }

    pub(super) fn new_set(&self) -> Option<&Set> {
        self.new.map(|index| &self.all[index])
    }

    pub(super) fn new_set_mut(&mut self) -> Option<&mut Set> {
        self.new.map(|index| &mut self.all[index])
    }

    pub(super) fn old(&self) -> impl DoubleEndedIterator<Item = &Set> {
        let new = self.new;
        self.all
            .iter()
            .enumerate()
            .filter(move |(index, _)| Some(*index) != new)
            .map(|(_, set)| set)
    }

    pub(super) fn old_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        let new = self.new;
        self.all
            .iter_mut()
            .enumerate()
            .filter(move |(index, _)| Some(*index) != new)
            .map(|(_, set)| set)
    }

    /// Adds the new set, to be created.
    pub(super) fn create(&mut self, set: ReplicaSet) {
        self.all.push(Set { seen: None, set });
        self.new = Some(self.all.len() - 1);
    }

    /// Whether a set is to be created.
    pub(super) fn is_creating(&self) -> bool {
        self.all.iter().any(|set| set.seen.is_none())
    }

    /// Wanted pods of all sets.
    pub(super) fn replicas(&self) -> i32 {
        self.all.iter().map(Set::replicas).sum()
    }

    pub(super) fn available(&self) -> i32 {
        self.all.iter().map(Set::available).sum()
    }

    /// Adds what turns the sets into what they shall be: the creation, growth, and then shrinking.
    pub(super) fn emit(&self, deployment: &Deployment, plan: &mut Plan) {
        for set in self.all.iter().filter(|set| set.seen.is_none()) {
            let failure = format!("Failed to create new replica set \"{}\": {{error}}", name(&set.set));
            let action = Action::create(&set.set);
            let told = action.telling_failure(Reference::to(deployment), "ReplicaSetCreateError", failure);
            plan.act(match set.replicas() {
                0 => told,
                replicas => told.telling(Reference::to(deployment), SCALING, scaled("up", &set.set, 0, replicas)),
            });
        }
        let mut changed: Vec<(&Set, &Arc<ReplicaSet>)> = self
            .all
            .iter()
            .filter_map(|set| Some((set, set.seen.as_ref()?)))
            .collect();
        changed.sort_by_key(|(set, seen)| set.replicas() <= wanted(seen));
        for (set, seen) in changed {
            if let Some(action) = update(deployment, set, seen) {
                plan.act(action);
            }
        }
    }
}

const SCALING: &str = "ScalingReplicaSet";

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn scaled(direction: &str, set: &ReplicaSet, from: i32, to: i32) -> String {
    format!("Scaled {direction} replica set {} from {from} to {to}", name(set))
}

fn update(deployment: &Deployment, set: &Set, seen: &ReplicaSet) -> Option<Action> {
    let (old, new) = (wanted(seen), set.replicas());
    let mut body = api::Map::new();
    if let Some(annotations) = merge_patch(&seen.metadata.annotations, &set.set.metadata.annotations) {
        body.insert("metadata".to_owned(), json!({"annotations": annotations}));
    }
    let min_ready = |set: &ReplicaSet| set.spec.min_ready_seconds;
    let mut spec = api::Map::new();
    if old != new {
        spec.insert("replicas".to_owned(), new.into());
    }
    if min_ready(seen) != min_ready(&set.set) {
        spec.insert("minReadySeconds".to_owned(), min_ready(&set.set).unwrap_or(0).into());
    }
    if !spec.is_empty() {
        body.insert("spec".to_owned(), Value::Object(spec));
    }
    if body.is_empty() {
        return None;
    }
    let action = Action::patch_version(seen, Value::Object(body));
    if old == new {
        return Some(action);
    }
    let direction = if new > old { "up" } else { "down" };
    Some(action.telling(Reference::to(deployment), SCALING, scaled(direction, seen, old, new)))
}

/// By age, then by name.
pub(super) fn older_first(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    created(a).cmp(&created(b)).then_with(|| name(a).cmp(name(b)))
}

/// Equal but for the hash label (`EqualIgnoreHash`).
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let without_hash = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(metadata) = &mut template.metadata {
            if let Some(labels) = &mut metadata.labels {
                labels.remove(POD_TEMPLATE_HASH);
            }
            metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
            metadata.annotations = metadata
                .annotations
                .take()
                .filter(|annotations| !annotations.is_empty());
            metadata.creation_timestamp = None;
        }
        template.metadata = template
            .metadata
            .take()
            .filter(|metadata| *metadata != Default::default());
        template
    };
    without_hash(a) == without_hash(b)
}
