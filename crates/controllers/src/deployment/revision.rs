//! The new replica set, revisions and their history (upstream `sync.go`, `deployment_util.go`).

use api::hash::{fnv1a_32, safe_encode_string};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::sets::{Set, same_template};
use super::{Sync, condition};
use crate::object::{annotation, controller_reference, is_controlled_by, is_deleting, name, namespace, uid};
use crate::plan::{Action, Plan};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// About 100 revisions.
const HISTORY_CHARACTERS: usize = 2000;

/// Annotations of the deployment that its replica sets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The revision that a set carries; 0 if none.
fn revision_of(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

impl Sync<'_> {
    /// Brings the new set's annotations and the deployment's revision up to date, and, if `create`,
    /// adds the new set if there is none.
    pub(super) fn sync_revision(&mut self, create: bool, plan: &mut Plan) {
        let newest = self.sets.old().map(|old| revision_of(&old.set)).max().unwrap_or(0);
        let revision = newest.saturating_add(1);
        let min_ready = self.spec.min_ready_seconds;
        let inherited = self.inherited_annotations();
        if let Some(new) = self.sets.new_set_mut() {
            sync_annotations(new, &inherited, revision);
            let spec = &mut new.set.spec;
            if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                spec.min_ready_seconds = min_ready;
            }
            self.revision = annotation(&new.set, REVISION).map(str::to_owned);
            let message = format!("Found new replica set \"{}\"", name(&new.set));
            if self.has_progress_deadline() && condition::get(&self.status, condition::PROGRESSING).is_none() {
                self.set_progressing("True", "FoundNewReplicaSet", message);
            }
        } else if create {
            self.create_new_set(revision, plan);
        }
    }

    fn create_new_set(&mut self, revision: i64, plan: &mut Plan) {
        let mut set = self.new_set();
        if let Some(holder) = self.world.replica_sets().get(namespace(self.deployment), name(&set)) {
            let same = holder
                .spec
                .template
                .as_ref()
                .is_some_and(|template| same_template(template, &self.spec.template));
            if !same || !is_controlled_by(&*holder, uid(self.deployment)) {
                self.status.collision_count = Some(self.status.collision_count.unwrap_or(0) + 1);
            }
            // The name is free under the next collision count, or when the holder has been claimed.
            plan.look_again(jiff::SignedDuration::from_millis(10));
            return;
        }
        let inherited = self.inherited_annotations();
        set.spec.replicas = Some(0);
        self.sets.create(set);
        let replicas = self.new_set_replicas();
        let (desired, most) = (
            self.replicas.to_string(),
            (self.replicas + self.max_surge()).to_string(),
        );
        let Some(new) = self.sets.new_set_mut() else { return };
        new.set_replicas(replicas);
        sync_annotations(new, &inherited, revision);
        new.annotate(DESIRED_REPLICAS, &desired);
        new.annotate(MAX_REPLICAS, &most);
        let name = name(&new.set).to_owned();
        self.revision = Some(revision.to_string());
        if !self.has_progress_deadline() {
            return;
        }
        match self
            .turn
            .failure
            .as_ref()
            .filter(|failure| failure.resource == "replicasets")
        {
            Some(failure) => {
                let message = format!("Failed to create new replica set \"{name}\": {}", failure.message);
                self.set_progressing("False", "ReplicaSetCreateError", message);
            }
            None => {
                let message = format!("Created new replica set \"{name}\"");
                self.set_progressing("True", "NewReplicaSetCreated", message);
            }
        }
    }

    fn new_set(&self) -> ReplicaSet {
        let hash = template_hash(&self.spec.template, self.status.collision_count);
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector
            .match_labels
            .get_or_insert_default()
            .insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", name(self.deployment))),
                namespace: Some(namespace(self.deployment).to_owned()),
                owner_references: Some(vec![controller_reference(self.deployment)]),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: None,
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        }
    }

    fn inherited_annotations(&self) -> Vec<(String, String)> {
        let all = self.deployment.metadata.annotations.iter().flatten();
        let inherited = all.filter(|(key, _)| !NOT_INHERITED.contains(&key.as_str()));
        inherited.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Removes old sets beyond the history limit.
    pub(super) fn clean_up(&self, plan: &mut Plan) {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let mut old: Vec<&Set> = self.sets.old().filter(|old| !is_deleting(&old.set)).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|old| revision_of(&old.set));
        for old in old.into_iter().take(surplus) {
            let observed = old.set.status.as_ref().and_then(|status| status.observed_generation);
            let settled = old.set.metadata.generation.unwrap_or(0) <= observed.unwrap_or(0);
            if old.replicas() == 0 && old.actual() == 0 && settled {
                plan.act(Action::delete(&old.set));
            }
        }
    }
}

fn sync_annotations(set: &mut Set, inherited: &[(String, String)], revision: i64) {
    for (key, value) in inherited {
        set.annotate(key, value);
    }
    let old = annotation(&set.set, REVISION).map(str::to_owned);
    let old_number = match &old {
        None => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            Err(_) if text.is_empty() => 0,
            Err(_) => return,
        },
    };
    if old_number >= revision {
        return;
    }
    set.annotate(REVISION, &revision.to_string());
    if let Some(old) = old {
        let history = annotation(&set.set, REVISION_HISTORY).unwrap_or("").to_owned();
        if let Some(history) = extended_history(&history, &old) {
            set.annotate(REVISION_HISTORY, &history);
        }
    }
}

fn extended_history(history: &str, old: &str) -> Option<String> {
    let mut revisions: Vec<&str> = history.split(',').filter(|text| !text.is_empty()).collect();
    revisions.push(old);
    while revisions.len() > 1 && revisions.join(",").len() > HISTORY_CHARACTERS {
        revisions.remove(0);
    }
    let history = revisions.join(",");
    (history.len() <= HISTORY_CHARACTERS).then_some(history)
}

/// The `pod-template-hash`: any value that is stable for a template will do, since the new set is
/// found by comparing templates. Ours hashes the canonical JSON, with upstream's hash and encoding.
fn template_hash(template: &k8s_openapi::api::core::v1::PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(template).expect("generated types have string keys");
    if let Some(collisions) = collisions {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    safe_encode_string(&fnv1a_32(&bytes).to_string())
}
