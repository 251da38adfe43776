//! The revisions of a pod template, kept as ControllerRevisions (upstream `pkg/controller/history`,
//! `pkg/controller/daemon/update.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Value;
use api::hash::{fnv1_32, safe_encode_string};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::json;
use typed::Decoded;

use crate::claim::claim;
use crate::object::{controller_reference, name, namespace, to_value};
use crate::plan::{Action, Plan};
use crate::{Object, World};

/// The label by which pods and revisions name a revision.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";

/// A template's revisions.
#[derive(Debug)]
pub(crate) struct History {
    /// That of the template as it is now; it may be yet to be created.
    pub current: ControllerRevision,
    /// The others, oldest first.
    pub old: Vec<Arc<ControllerRevision>>,
}

/// What an owner keeps revisions of.
pub(crate) struct Recorded<'a, O> {
    pub owner: &'a O,
    pub selector: &'a LabelSelector,
    pub template: &'a PodTemplateSpec,
    pub collisions: Option<i32>,
    /// The label that holds the hash.
    pub hash_label: &'static str,
}

/// A revision's number.
pub(crate) fn number_of(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

/// The name of the current revision is taken by another's data: the collision count must rise.
#[derive(Debug, PartialEq)]
pub(crate) struct Collision;

/// What a revision holds: a strategic merge patch that brings the template back.
pub(crate) fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = to_value(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn hash_of(data: &Value, collisions: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(data).expect("string keys");
    if let Some(collisions) = collisions {
        bytes.extend_from_slice(collisions.to_string().as_bytes());
    }
    safe_encode_string(&fnv1_32(&bytes).to_string())
}

/// Controllers before v1.34 wrote a null for the time that a template has not; their revisions are still the same.
fn holds(revision: &ControllerRevision, data: &Value) -> bool {
    revision.data.0 == *data || without_nulls(&revision.data.0) == *data
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

impl<O: Object> Recorded<'_, O> {
    /// The revisions as they ought to be, with the steps that make them so. Of several revisions with the same data the
    /// newest stays; one that is current again gets the highest number.
    pub(crate) fn history(&self, world: &dyn World, plan: &mut Plan) -> Result<History, Collision> {
        let data = data_of(self.template);
        let mut all = claim(self.owner, self.selector, world.controller_revisions(), |_| true, plan);
        all.sort_by(|a, b| (a.revision, name(&**a)).cmp(&(b.revision, name(&**b))));
        let (mut same, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|revision| holds(revision, &data));
        let next = old.last().map_or(0, |newest| number_of(newest)) + 1;
        let Some(current) = same.pop() else {
            let current = self.new_revision(data, next);
            if world
                .controller_revisions()
                .get(namespace(self.owner), name(&current))
                .is_some()
            {
                return Err(Collision);
            }
            plan.act(Action::create(&current));
            return Ok(History { current, old });
        };
        for duplicate in same {
            plan.act(Action::delete(&*duplicate));
        }
        let mut current = (*current).clone();
        if number_of(&current) < next {
            plan.act(Action::patch_version(&current, json!({"revision": next})));
            current.revision = Some(next);
        }
        Ok(History { current, old })
    }

    fn new_revision(&self, data: Value, revision: i64) -> ControllerRevision {
        let hash = hash_of(&data, self.collisions);
        let labels = self
            .template
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.clone());
        let mut labels: BTreeMap<String, String> = labels.unwrap_or_default();
        labels.insert(self.hash_label.to_owned(), hash.clone());
        let prefix: String = name(self.owner).chars().take(223).collect();
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{prefix}-{hash}")),
                namespace: Some(namespace(self.owner).to_owned()),
                labels: Some(labels),
                annotations: self.owner.metadata().annotations.clone(),
                owner_references: Some(vec![controller_reference(self.owner)]),
                ..ObjectMeta::default()
            },
            data: RawExtension(data),
            revision: Some(revision),
        }
    }
}

impl History {
    /// Deletes the oldest revisions beyond the limit, but those that are in use.
    pub(crate) fn truncate(&self, limit: i32, in_use: impl Fn(&ControllerRevision) -> bool, plan: &mut Plan) {
        let surplus = self.old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for revision in self.old.iter().filter(|revision| !in_use(revision)).take(surplus) {
            plan.act(Action::delete(&**revision));
        }
    }

    /// Like [`Self::truncate`], but those in use do not count (`truncateHistory` of StatefulSets).
    pub(crate) fn truncate_unused(&self, limit: i32, in_use: &BTreeSet<&str>, plan: &mut Plan) {
        let unused: Vec<_> = self
            .old
            .iter()
            .filter(|revision| !in_use.contains(name(&***revision)))
            .collect();
        let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for revision in unused.into_iter().take(surplus) {
            plan.act(Action::delete(&**revision));
        }
    }

    /// A revision's template, as a patch of it would leave it.
    pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
        let mut template = revision.data.0["spec"]["template"].clone();
        template.as_object_mut()?.remove("$patch");
        PodTemplateSpec::from_tree(&template).ok()
    }
}
