//! Deleting namespaces with all that is in them (upstream
//! `pkg/controller/namespace/deletion/namespaced_resources_deleter.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::diff::merge_patch;
use crate::object::{is_deleting, seconds};
use crate::plan::{Action, Plan, Target, Verb};
use crate::{Contents, Key, Turn, World};

const FINALIZER: &str = "kubernetes";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    account: "namespace-controller",
    triggers: &[Trigger::Namespace(own_key)],
    reconcile,
};

/// Whether it takes no new content.
pub(crate) fn is_terminating(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    is_deleting(namespace) || phase == Some("Terminating")
}

/// Deletes what is in a namespace that is being deleted, pods first, then lets it go. The driver
/// also runs this whenever something in such a namespace changes.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(namespace) = world.namespaces().get("", &key.name) else {
        return plan;
    };
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.clone())
        .unwrap_or_default();
    if !is_deleting(&*namespace) || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return plan;
    }
    let contents = world.contents(&key.name);
    let old = namespace.status.clone().unwrap_or_default();
    let new = status(&old, &contents, turn);
    if let Some(status) = merge_patch(&old, &new) {
        plan.act(Action::patch_status(&*namespace, json!({"status": status})));
    }
    let pods_remain = contents.remaining.iter().any(|remaining| is_pods(&remaining.resource));
    let due = |resource: &api::Gvr| !pods_remain || is_pods(resource);
    for remaining in contents.remaining.iter().filter(|remaining| remaining.untouched > 0) {
        if due(&remaining.resource) {
            plan.act(delete_all(&remaining.resource, &key.name));
        }
    }
    if contents.remaining.is_empty() && contents.discovery_failure.is_none() {
        for resource in &contents.unwatched {
            plan.act(delete_all(resource, &key.name));
        }
        plan.act(Action::new(Verb::FinalizeNamespace {
            target: Target::version_of(&*namespace),
            empty_of: contents.resources.clone(),
            finalizers: finalizers
                .into_iter()
                .filter(|finalizer| finalizer != FINALIZER)
                .collect(),
        }));
    }
    plan
}

fn is_pods(resource: &api::Gvr) -> bool {
    resource.group.is_empty() && resource.resource == "pods"
}

fn delete_all(resource: &api::Gvr, namespace: &str) -> Action {
    Action::new(Verb::DeleteAll {
        resource: resource.clone(),
        namespace: namespace.to_owned(),
    })
}

fn status(old: &NamespaceStatus, contents: &Contents, turn: &Turn) -> NamespaceStatus {
    let mut status = old.clone();
    status.phase = Some("Terminating".to_owned());
    let mut set = |kind: &str, bad: Option<(&str, String)>, good: (&str, &str)| {
        let (value, reason, message) = match bad {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good.0, good.1.to_owned()),
        };
        set_condition(&mut status, kind, value, reason, message, turn);
    };
    let discovery = contents
        .discovery_failure
        .clone()
        .map(|message| ("DiscoveryFailed", message));
    let discovered = ("ResourcesDiscovered", "All resources successfully discovered");
    set("NamespaceDeletionDiscoveryFailure", discovery, discovered);
    let parsed = ("ParsedGroupVersions", "All legacy kube types successfully parsed");
    set("NamespaceDeletionGroupVersionParsingFailure", None, parsed);
    let failure = turn.failure.as_ref().filter(|failure| failure.resource != "namespaces");
    let failure = failure.map(|failure| ("ContentDeletionFailed", failure.message.clone()));
    let deleted = (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    );
    set("NamespaceDeletionContentFailure", failure, deleted);
    set(
        "NamespaceContentRemaining",
        remaining(contents),
        ("ContentRemoved", "All content successfully removed"),
    );
    let finished = ("ContentHasNoFinalizers", "All content-preserving finalizers finished");
    set("NamespaceFinalizersRemaining", waiting(contents), finished);
    status
}

fn remaining(contents: &Contents) -> Option<(&'static str, String)> {
    let mut parts: Vec<String> = contents
        .remaining
        .iter()
        .map(|r| {
            format!(
                "{}.{} has {} resource instances",
                r.resource.resource, r.resource.group, r.count
            )
        })
        .collect();
    parts.sort();
    (!parts.is_empty()).then(|| {
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", parts.join(", ")),
        )
    })
}

fn waiting(contents: &Contents) -> Option<(&'static str, String)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in contents.remaining.iter().flat_map(|remaining| &remaining.finalizers) {
        *counts.entry(finalizer).or_default() += count;
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let message = format!(
        "Some content in the namespace has finalizers remaining: {}",
        parts.join(", ")
    );
    (!parts.is_empty()).then_some(("SomeFinalizersRemain", message))
}

fn set_condition(status: &mut NamespaceStatus, kind: &str, value: &str, reason: &str, message: String, turn: &Turn) {
    let conditions = status.conditions.get_or_insert_default();
    let mut new = NamespaceCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(seconds(turn.now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        None => conditions.push(new),
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
    }
}

#[cfg(test)]
mod tests;
