//! Taking and giving up ownership (upstream `pkg/controller/controller_ref_manager.go`).

use std::sync::Arc;

use api::Value;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use serde_json::json;

use crate::object::{
    controller_of, controller_reference, is_deleting, namespace, selects, selects_everything, to_value, uid,
};
use crate::world::{ORPHANS, View};
use crate::{Action, Confirm, Object, Plan, Target};

/// The objects that `owner` manages: those it owns and selects, and orphans it selects, which it
/// adopts. Those it owns and no longer selects are released. An owner that is being deleted neither
/// adopts nor releases.
pub(crate) fn claim<O: Object, K: Object>(
    owner: &O,
    selector: &LabelSelector,
    candidates: &dyn View<K>,
    counts: impl Fn(&K) -> bool,
    plan: &mut Plan,
) -> Vec<Arc<K>> {
    claim_with(owner, selector, candidates, counts, None, plan)
}

/// The same; what is adopted gets a finalizer as well.
pub(crate) fn claim_with<O: Object, K: Object>(
    owner: &O,
    selector: &LabelSelector,
    candidates: &dyn View<K>,
    counts: impl Fn(&K) -> bool,
    finalizer: Option<&str>,
    plan: &mut Plan,
) -> Vec<Arc<K>> {
    let mut claimed = Vec::new();
    for object in candidates.owned_by(uid(owner)) {
        let ours = controller_of(&*object).is_some_and(|controller| controller.uid == uid(owner));
        if !ours || !counts(&object) || namespace(&*object) != namespace(owner) {
            continue;
        }
        if selects(selector, object.metadata().labels.as_ref()) {
            claimed.push(object);
        } else if !is_deleting(owner) {
            plan.act(release(owner, &*object));
        }
    }
    // A selector of everything is an accident: what it would adopt is others' work.
    if is_deleting(owner) || selects_everything(selector) {
        return claimed;
    }
    for orphan in candidates.by_index(ORPHANS, namespace(owner)) {
        let eligible = !is_deleting(&*orphan) && counts(&orphan) && controller_of(&*orphan).is_none();
        if eligible && selects(selector, orphan.metadata().labels.as_ref()) {
            plan.act(adopt(owner, &*orphan, finalizer));
            claimed.push(orphan);
        }
    }
    claimed
}

fn adopt<O: Object, K: Object>(owner: &O, orphan: &K, finalizer: Option<&str>) -> Action {
    let mut owners = owners_without(orphan, uid(owner));
    owners.push(controller_reference(owner));
    let mut patch = owners_patch(&owners);
    let mut finalizers = orphan.metadata().finalizers.clone().unwrap_or_default();
    if let Some(finalizer) = finalizer.filter(|wanted| finalizers.iter().all(|held| held != wanted)) {
        finalizers.push(finalizer.to_owned());
        patch["metadata"]["finalizers"] = json!(finalizers);
    }
    Action::patch_version(orphan, patch).confirmed(Confirm::Alive(Target::of(owner)))
}

fn release<O: Object, K: Object>(owner: &O, object: &K) -> Action {
    Action::patch_version(object, owners_patch(&owners_without(object, uid(owner))))
}

fn owners_without<K: Object>(object: &K, uid: &str) -> Vec<OwnerReference> {
    let owners = object.metadata().owner_references.iter().flatten();
    owners.filter(|owner| owner.uid != uid).cloned().collect()
}

fn owners_patch(owners: &[OwnerReference]) -> Value {
    let owners = if owners.is_empty() {
        Value::Null
    } else {
        to_value(&owners)
    };
    json!({"metadata": {"ownerReferences": owners}})
}

/// Keys of the controllers of one kind whose object changed: its old and new controller, or, for an
/// orphan, all that would adopt it.
pub(crate) fn claimants<C: Object, K: Object>(
    controllers: &dyn View<C>,
    selector: fn(&C) -> Option<&LabelSelector>,
    old: Option<&K>,
    new: Option<&K>,
) -> Vec<crate::Key> {
    let mut keys = Vec::new();
    for object in [old, new].into_iter().flatten() {
        if let Some(owner) = controller_of(object)
            && owner.kind == C::KIND
            && owner.api_version == C::API_VERSION
        {
            let key = crate::Key::new(namespace(object), owner.name.as_str());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    if let Some(orphan) = new.filter(|object| controller_of(*object).is_none() && !is_deleting(*object)) {
        let labels = orphan.metadata().labels.as_ref();
        for controller in controllers.list(namespace(orphan)) {
            if selector(&controller).is_some_and(|s| !selects_everything(s) && selects(s, labels)) {
                keys.push(crate::Key::of(&*controller));
            }
        }
    }
    keys
}
