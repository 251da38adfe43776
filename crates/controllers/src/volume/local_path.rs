//! Volumes on a node's own disk: a folder a volume (the built-in provisioner [`PROVISIONER`]).
//!
//! It runs for one node, whose disk the driver works on: it makes the folder and the PersistentVolume when the
//! scheduler has chosen this node for a claim, sets its size, and removes the folder before the volume goes. The
//! protocol is that of external provisioners (`kubernetes-sigs/sig-storage-lib-external-provisioner`).

mod provision;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::expand::{PENDING, has_condition, other_conditions};
use super::{PROVISIONED_BY, capacity_of, claim_ref, granted_to, phase_of, policy_of, spec_of, volume_name};
use crate::controller::{Controller, Trigger, own_key};
use crate::object::{annotation, is_deleting, name};
use crate::plan::{Action, Plan, Reference, Verb};
use crate::{Key, Turn, World};

/// The provisioner, as storage classes name it.
pub const PROVISIONER: &str = "skiff.io/local-path";
/// Holds a volume until its folder is removed.
pub(crate) const FINALIZER: &str = "skiff.io/local-path";
/// On volumes: whether the file system keeps them from growing beyond their size.
pub(crate) const ENFORCED: &str = "skiff.io/size-enforced";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The node that this process makes volumes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalVolumes {
    /// Its name.
    pub node: String,
    /// The folder that holds the volumes' folders.
    pub root: String,
    /// Whether the file system there can limit the size of a folder.
    pub limits: bool,
}

impl LocalVolumes {
    fn path(&self, volume: &str) -> String {
        format!("{}/{volume}", self.root)
    }
}

pub(crate) const CONTROLLER: Controller = Controller {
    name: "local-path-provisioner",
    account: "local-path-provisioner",
    triggers: &[
        Trigger::PersistentVolumeClaim(keys_of_claim),
        Trigger::PersistentVolume(own_key),
    ],
    reconcile,
};

/// The claim, and its volume, which may have to grow.
fn keys_of_claim(_: &dyn World, _: Option<&PersistentVolumeClaim>, new: Option<&PersistentVolumeClaim>) -> Vec<Key> {
    let Some(claim) = new else { return Vec::new() };
    match volume_name(claim) {
        "" => vec![Key::of(claim)],
        volume => vec![Key::new("", volume)],
    }
}

/// Decides about a claim or a volume.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(here) = world.local_volumes() else { return plan };
    if !key.namespace.is_empty() {
        if let Some(claim) = world.persistent_volume_claims().get(&key.namespace, &key.name) {
            provision::provision(world, here, &claim, turn, &mut plan);
        }
    } else if let Some(volume) = world.persistent_volumes().get("", &key.name)
        && is_ours(world, here, &volume)
    {
        keep(world, here, &volume, &mut plan);
    }
    plan
}

/// The value of the label that names this node.
fn hostname(world: &dyn World, here: &LocalVolumes) -> String {
    let node = world.nodes().get("", &here.node);
    let label = |node: &Node| node.metadata.labels.as_ref()?.get(HOSTNAME).cloned();
    node.and_then(|node| label(&node)).unwrap_or_else(|| here.node.clone())
}

/// A volume that was made here. Who writes such a volume by hand cannot have another folder removed.
fn is_ours(world: &dyn World, here: &LocalVolumes, volume: &PersistentVolume) -> bool {
    let spec = spec_of(volume);
    let path = spec.local.map(|source| source.path);
    let terms = spec
        .node_affinity
        .and_then(|affinity| affinity.required)
        .map(|required| required.node_selector_terms);
    let host = hostname(world, here);
    let on_this_node = terms.iter().flatten().any(|term| {
        term.match_expressions.iter().flatten().any(|requirement| {
            requirement.key == HOSTNAME && requirement.values.as_deref() == Some(std::slice::from_ref(&host))
        })
    });
    annotation(volume, PROVISIONED_BY) == Some(PROVISIONER) && path == Some(here.path(name(volume))) && on_this_node
}

fn keep(world: &dyn World, here: &LocalVolumes, volume: &PersistentVolume, plan: &mut Plan) {
    let finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let delete = policy_of(volume) == "Delete";
    let free = matches!(phase_of(volume), "Released" | "Failed");
    let about = Reference::to(volume);
    if is_deleting(volume) {
        // While it is bound, upstream's finalizer holds it as well: pods may still use it.
        if !held || phase_of(volume) == "Bound" {
            return;
        }
        if delete {
            let remove = Action::new(Verb::RemoveVolume {
                name: name(volume).to_owned(),
            });
            plan.act(remove.telling_failure(about, "VolumeFailedDelete", "{error}"));
        }
        return plan.act(with_finalizers(volume, finalizers, false));
    }
    if delete != held {
        plan.act(with_finalizers(volume, finalizers, delete));
    } else if delete && free {
        plan.act(Action::delete(volume));
    } else {
        resize(world, here, volume, plan);
    }
}

fn with_finalizers(volume: &PersistentVolume, mut finalizers: Vec<String>, held: bool) -> Action {
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if held {
        finalizers.push(FINALIZER.to_owned());
    }
    let finalizers = if finalizers.is_empty() {
        Value::Null
    } else {
        json!(finalizers)
    };
    Action::patch_version(volume, json!({"metadata": {"finalizers": finalizers}}))
}

/// Gives the folder the size that the volume has got, and tells its claim.
fn resize(world: &dyn World, here: &LocalVolumes, volume: &PersistentVolume, plan: &mut Plan) {
    let Some((namespace, called, id)) = claim_ref(volume) else {
        return;
    };
    let claim = world.persistent_volume_claims().get(namespace, called);
    let claim = claim.filter(|claim| crate::object::uid(&**claim) == id && volume_name(claim) == name(volume));
    let (Some(claim), Some(capacity)) = (claim, capacity_of(volume)) else {
        return;
    };
    // The controller of expansion has to be done with it.
    if granted_to(&claim).is_none_or(|granted| granted >= capacity) || !has_condition(&claim, PENDING) {
        return;
    }
    let about = Reference::to(&*claim);
    let make = Action::new(Verb::MakeVolume {
        name: name(volume).to_owned(),
        bytes: u64::try_from(capacity.value()).unwrap_or(0),
    });
    plan.act(make.telling_failure(about.clone(), "VolumeResizeFailed", "{error}"));
    let status = json!({"status": {
        "capacity": {"storage": capacity.to_string()},
        "allocatedResourceStatuses": null,
        "conditions": other_conditions(&claim),
    }});
    let text = format!(
        "MountVolume.NodeExpandVolume succeeded for volume {:?} {}",
        name(volume),
        here.node
    );
    plan.act(Action::patch_status(&*claim, status).telling(about, "FileSystemResizeSuccessful", text));
}
