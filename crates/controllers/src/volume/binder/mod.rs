//! Binds claims to volumes (upstream `pkg/controller/volume/persistentvolume`). A claim's key has a namespace, a
//! volume's has none.

mod claim;
mod matching;
mod provision;
mod reclaim;
mod recycle;
#[cfg(test)]
mod tests;
mod volume;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{annotation, claim_ref, claims_of_pod, class_of_volume, volume_name};
use crate::controller::{Controller, Trigger};
use crate::object::{name, namespace};
use crate::world::{BY_VOLUME_CLAIM, BY_WISH, View};
use crate::{Key, Object, Plan, Turn, World};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "persistentvolume-binder-controller",
    account: "persistent-volume-binder",
    triggers: &[
        Trigger::PersistentVolumeClaim(keys_of_claim),
        Trigger::PersistentVolume(keys_of_volume),
        Trigger::StorageClass(keys_of_class),
        Trigger::Pod(keys_of_pod),
    ],
    reconcile,
};

/// Decides about a claim or a volume.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    if key.namespace.is_empty() {
        volume::reconcile(world, &key.name, turn)
    } else {
        claim::reconcile(world, key, turn)
    }
}

fn all<K: Object>(view: &dyn View<K>, index: &'static str, value: &str) -> impl Iterator<Item = Key> {
    let found = view.by_index(index, value);
    found.into_iter().map(|object| Key::of(&*object))
}

/// The claim, the volumes it names and those that are for it.
fn keys_of_claim(
    world: &dyn World,
    old: Option<&PersistentVolumeClaim>,
    new: Option<&PersistentVolumeClaim>,
) -> Vec<Key> {
    let mut keys = Vec::new();
    for claim in [old, new].into_iter().flatten() {
        keys.push(Key::of(claim));
        if !volume_name(claim).is_empty() {
            keys.push(Key::new("", volume_name(claim)));
        }
        let path = format!("{}/{}", namespace(claim), name(claim));
        keys.extend(all(world.persistent_volumes(), BY_VOLUME_CLAIM, &path));
    }
    keys.sort();
    keys.dedup();
    keys
}

/// The volume, the claim it is for, and the claims that could have it.
fn keys_of_volume(world: &dyn World, old: Option<&PersistentVolume>, new: Option<&PersistentVolume>) -> Vec<Key> {
    let mut keys = Vec::new();
    for volume in [old, new].into_iter().flatten() {
        keys.push(Key::of(volume));
        if let Some((namespace, name, _)) = claim_ref(volume) {
            keys.push(Key::new(namespace, name));
        }
    }
    let claims = world.persistent_volume_claims();
    if let Some(volume) = new {
        keys.extend(all(claims, BY_WISH, &format!("volume:{}", name(volume))));
        if claim_ref(volume).is_none() {
            keys.extend(all(claims, BY_WISH, &format!("class:{}", class_of_volume(volume))));
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

/// Claims of the class, and those without one: it may be the default.
fn keys_of_class(world: &dyn World, old: Option<&StorageClass>, new: Option<&StorageClass>) -> Vec<Key> {
    let Some(class) = new.or(old) else { return Vec::new() };
    let claims = world.persistent_volume_claims();
    let mut keys: Vec<Key> = all(claims, BY_WISH, &format!("class:{}", name(class))).collect();
    keys.extend(all(claims, BY_WISH, "class:"));
    keys
}

/// Claims that wait for a pod to be scheduled, and the volumes of pods that recycle them.
fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new.or(old) else { return Vec::new() };
    if let Some(volume) = name(pod).strip_prefix(recycle::PREFIX)
        && namespace(pod) == recycle::NAMESPACE
    {
        return vec![Key::new("", volume)];
    }
    let changed = |pod: &Pod| (crate::pod::node_name(pod).to_owned(), crate::pod::is_terminal(pod));
    if old.map(changed) == new.map(changed) {
        return Vec::new();
    }
    let mut keys = Vec::new();
    for path in claims_of_pod(pod) {
        let Some((namespace, claim)) = path.split_once('/') else {
            continue;
        };
        let Some(found) = world.persistent_volume_claims().get(namespace, claim) else {
            // What is left of it may be recycled now.
            keys.extend(all(world.persistent_volumes(), BY_VOLUME_CLAIM, &path));
            continue;
        };
        if annotation(&*found, super::BIND_COMPLETED).is_none() {
            keys.push(Key::of(&*found));
        }
    }
    keys
}
