//! Attaches volumes of CSI drivers to the nodes whose pods use them, by VolumeAttachments that the drivers' attachers
//! act on, and detaches them again (upstream `pkg/controller/volume/attachdetach`, `pkg/volume/csi/csi_attacher.go`).
//! A key is a node.

mod desired;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::json;

use super::{claim_ref, claims_of_pod, tell};
use crate::controller::{Controller, Trigger};
use crate::object::{gvr_of, is_deleting, name, namespace};
use crate::plan::{Action, Plan, Reference, Verb};
use crate::pod::{is_terminal, node_name};
use crate::world::{BY_NODE, BY_VOLUME_CLAIM};
use crate::{Key, Turn, World};
use desired::{Wanted, wanted};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "persistentvolume-attach-detach-controller",
    account: "attachdetach-controller",
    triggers: &[
        Trigger::Pod(keys_of_pod),
        Trigger::VolumeAttachment(keys_of_attachment),
        Trigger::Node(keys_of_node),
        Trigger::PersistentVolumeClaim(keys_of_claim),
        Trigger::PersistentVolume(keys_of_volume),
    ],
    reconcile,
};

/// A node that is not ready, and does not say that it has unmounted a volume, loses it after this.
const PATIENCE: SignedDuration = SignedDuration::from_mins(6);
const PREFIX: &str = "kubernetes.io/csi/";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

fn node_key(name: &str) -> Vec<Key> {
    if name.is_empty() {
        Vec::new()
    } else {
        vec![Key::new("", name)]
    }
}

fn keys_of_pod(_: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let state = |pod: &Pod| (node_name(pod).to_owned(), is_terminal(pod));
    let Some(pod) = new.or(old) else { return Vec::new() };
    if claims_of_pod(pod).is_empty() || old.map(state) == new.map(state) {
        return Vec::new();
    }
    node_key(node_name(pod))
}

/// The node; when an attachment is gone, all nodes that wait for its volume.
fn keys_of_attachment(world: &dyn World, old: Option<&VolumeAttachment>, new: Option<&VolumeAttachment>) -> Vec<Key> {
    let Some(attachment) = new.or(old) else {
        return Vec::new();
    };
    let mut keys = node_key(&attachment.spec.node_name);
    let volume = attachment.spec.source.persistent_volume_name.as_deref().unwrap_or("");
    if new.is_none()
        && let Some(volume) = world.persistent_volumes().get("", volume)
        && let Some((namespace, claim, _)) = claim_ref(&volume)
    {
        keys.extend(users(world, namespace, claim));
    }
    keys
}

/// Heartbeats change nothing here.
fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let Some(node) = new.or(old) else { return Vec::new() };
    let state = |node: &Node| {
        let status = node.status.clone().unwrap_or_default();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        (status.volumes_in_use, status.volumes_attached, taints, is_ready(node))
    };
    if old.map(state) == new.map(state) || world.volume_attachments().by_index(BY_NODE, name(node)).is_empty() {
        return Vec::new();
    }
    vec![Key::of(node)]
}

fn users(world: &dyn World, namespace: &str, claim: &str) -> Vec<Key> {
    let pods = world.pods().by_index(BY_VOLUME_CLAIM, &format!("{namespace}/{claim}"));
    pods.iter().flat_map(|pod| node_key(node_name(pod))).collect()
}

fn keys_of_claim(
    world: &dyn World,
    old: Option<&PersistentVolumeClaim>,
    new: Option<&PersistentVolumeClaim>,
) -> Vec<Key> {
    let Some(claim) = new.or(old) else { return Vec::new() };
    users(world, namespace(claim), name(claim))
}

fn keys_of_volume(world: &dyn World, old: Option<&PersistentVolume>, new: Option<&PersistentVolume>) -> Vec<Key> {
    let Some(volume) = new.or(old) else { return Vec::new() };
    let csi = volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some());
    match claim_ref(volume).filter(|_| csi) {
        Some((namespace, claim, _)) => users(world, namespace, claim),
        None => Vec::new(),
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Attaches what pods of the node use, detaches what they do not, tells the node what it has.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let wanted = wanted(world, &key.name);
    let node = world.nodes().get("", &key.name);
    let there = world.volume_attachments().by_index(BY_NODE, &key.name);
    let mut attached = BTreeMap::new();
    let mut detach = Vec::new();
    for attachment in &there {
        match wanted.get(name(&**attachment)) {
            Some(volume) => {
                if attachment.status.as_ref().is_some_and(|status| status.attached) && !is_deleting(&**attachment) {
                    attached.insert(volume.unique_name(), Some(volume));
                }
                tell_failure(volume, attachment, turn, &mut plan);
            }
            None => {
                let Some(unique) = unique_name(world, attachment) else {
                    continue;
                };
                if is_deleting(&**attachment) {
                    continue;
                }
                if may_detach(node.as_deref(), &unique, name(&**attachment), turn, &mut plan) {
                    detach.push(attachment.clone());
                } else {
                    attached.insert(unique, None);
                }
            }
        }
    }
    // The node must know that a volume goes before it goes.
    if let Some(node) = &node {
        tell_node(node, &attached, &mut plan);
    }
    for attachment in detach {
        plan.act(Action::delete(&*attachment));
    }
    if node.is_some() {
        for (called, volume) in &wanted {
            if !there.iter().any(|attachment| name(&**attachment) == called) {
                attach(world, &key.name, called, volume, turn, &mut plan);
            }
        }
    }
    plan
}

/// How `node.status` names what an attachment is about; none if that is no volume of ours.
fn unique_name(world: &dyn World, attachment: &VolumeAttachment) -> Option<String> {
    let volume = attachment.spec.source.persistent_volume_name.as_deref()?;
    let volume = world.persistent_volumes().get("", volume)?;
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    Some(format!("{PREFIX}{}^{}", source.driver, source.volume_handle))
}

fn may_detach(node: Option<&Node>, unique: &str, called: &str, turn: &Turn, plan: &mut Plan) -> bool {
    let Some(node) = node else { return true };
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.as_ref());
    if is_out_of_service(node) || !in_use.into_iter().flatten().any(|used| used == unique) {
        return true;
    }
    if is_ready(node) {
        return false;
    }
    let since = turn.notes.get(called).copied().unwrap_or(turn.now);
    plan.notes.insert(called.to_owned(), since);
    let left = PATIENCE - turn.now.duration_since(since);
    if left.is_positive() {
        plan.look_again(left);
    }
    !left.is_positive()
}

/// Lists the volumes in the node's status; what is not CSI's there is not ours.
fn tell_node(node: &Node, attached: &BTreeMap<String, Option<&Wanted>>, plan: &mut Plan) {
    let known = node.status.as_ref().and_then(|status| status.volumes_attached.clone());
    let known = known.unwrap_or_default();
    let is_known = |unique: &str| known.iter().any(|volume| volume.name == unique);
    let mut all: Vec<_> = known
        .iter()
        .filter(|volume| !volume.name.starts_with(PREFIX) || attached.contains_key(&volume.name))
        .map(|volume| json!({"name": volume.name, "devicePath": volume.device_path}))
        .collect();
    let fresh: Vec<_> = attached.iter().filter(|(unique, _)| !is_known(unique)).collect();
    if fresh.is_empty() && all.len() == known.len() {
        return;
    }
    all.extend(
        fresh
            .iter()
            .map(|(unique, _)| json!({"name": unique, "devicePath": ""})),
    );
    plan.act(Action::patch_status(node, json!({"status": {"volumesAttached": all}})));
    for (_, volume) in fresh {
        let Some(volume) = volume else { continue };
        let text = format!("AttachVolume.Attach succeeded for volume {:?} ", volume.volume);
        for pod in &volume.pods {
            plan.act(Action::event(
                Reference::to(&**pod),
                "SuccessfulAttachVolume",
                text.clone(),
            ));
        }
    }
}

fn tell_failure(volume: &Wanted, attachment: &VolumeAttachment, turn: &Turn, plan: &mut Plan) {
    let status = attachment.status.as_ref().filter(|status| !status.attached);
    let Some(error) = status.and_then(|status| status.attach_error.as_ref()) else {
        return;
    };
    let message = error.message.as_deref().unwrap_or("");
    let text = format!("AttachVolume.Attach failed for volume {:?} : {message}", volume.volume);
    for pod in &volume.pods {
        tell(plan, turn, Reference::to(&**pod), true, "FailedAttachVolume", &text);
    }
}

fn attach(world: &dyn World, node: &str, called: &str, volume: &Wanted, turn: &Turn, plan: &mut Plan) {
    if !volume.shared {
        let elsewhere = |other: &Arc<VolumeAttachment>| {
            other.spec.node_name != node && other.spec.source.persistent_volume_name.as_deref() == Some(&volume.volume)
        };
        if world.volume_attachments().list("").iter().any(elsewhere) {
            return tell_multi_attach(world, node, volume, turn, plan);
        }
    }
    plan.act(Action::new(Verb::Create {
        resource: gvr_of::<VolumeAttachment>(),
        namespace: String::new(),
        object: json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {"name": called},
            "spec": {
                "attacher": volume.driver,
                "nodeName": node,
                "source": {"persistentVolumeName": volume.volume},
            },
        }),
        if_absent: true,
    }));
}

/// `reportMultiAttachError`: names of pods in other namespaces are not told.
fn tell_multi_attach(world: &dyn World, node: &str, volume: &Wanted, turn: &Turn, plan: &mut Plan) {
    let others: Vec<Arc<Pod>> = volume
        .claims
        .iter()
        .flat_map(|claim| world.pods().by_index(BY_VOLUME_CLAIM, claim))
        .filter(|pod| !node_name(pod).is_empty() && node_name(pod) != node && !is_terminal(pod))
        .collect();
    for pod in &volume.pods {
        let (near, far): (Vec<_>, Vec<_>) = others
            .iter()
            .partition(|other| namespace(&***other) == namespace(&**pod));
        let mut near: Vec<&str> = near.iter().map(|other| name(&***other)).collect();
        near.sort_unstable();
        let problem = match (near.is_empty(), far.len()) {
            (true, 0) => {
                "Volume is already exclusively attached to one node and can't be attached to another".to_owned()
            }
            (true, count) => format!("Volume is already used by {count} pod(s) in different namespaces"),
            (false, 0) => format!("Volume is already used by pod(s) {}", near.join(", ")),
            (false, count) => format!(
                "Volume is already used by pod(s) {} and {count} pod(s) in different namespaces",
                near.join(", ")
            ),
        };
        let text = format!("Multi-Attach error for volume {:?} {problem}", volume.volume);
        tell(plan, turn, Reference::to(&**pod), true, "FailedAttachVolume", &text);
    }
}
