//! How many volumes CSI drivers attach to a node (upstream plugins/nodevolumelimits).

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Volume as PodVolume};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use serde_json::Value;

use super::volume_restrictions::uses;
use crate::framework::{
    Action, Code, Context, Event, Filter, Plugin, Point, PreFilter, Registration, Rejection, Resource,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{
    Claim, CsiNode, Driver, PodClaim, Source, Storage, claims, in_tree_driver, inline_volume, uses_claims,
};

/// The plugin.
pub(super) struct NodeVolumeLimits;

/// A volume that counts: its driver, and what tells it from others of the driver.
type Counted = (String, String);

struct Limits {
    pod: Arc<PodInfo>,
    storage: Arc<Storage>,
}

/// The driver that counts for an in-tree plugin on a node.
fn driver_there(plugin: &str, node: Option<&CsiNode>) -> Option<&'static str> {
    let node = node?;
    let (driver, everywhere) = in_tree_driver(plugin)?;
    (everywhere || node.migrated.iter().any(|migrated| migrated == plugin)).then_some(driver)
}

/// A claim's volume, as it counts on a node (upstream `getCSIDriverInfo`).
fn counted(storage: &Storage, claim: &Claim, node: Option<&CsiNode>) -> Option<Counted> {
    if let Some(volume) = storage.volume(&claim.volume) {
        return match &volume.source {
            Source::Csi { driver, handle } => Some((driver.clone(), handle.clone())),
            Source::InTree { plugin, handle } => Some((driver_there(plugin, node)?.to_owned(), handle.clone())),
            Source::Other => None,
        };
    }
    // Not made yet: it counts for the driver that will make it. No handle has this form.
    let class = storage.class(&claim.class)?;
    let driver = match in_tree_driver(&class.provisioner) {
        Some(_) => driver_there(&class.provisioner, node)?,
        None => &class.provisioner,
    };
    (!driver.is_empty()).then(|| (driver.to_owned(), format!("\0{}", claim.key())))
}

fn inline(volume: &PodVolume, node: Option<&CsiNode>) -> Option<Counted> {
    let (plugin, handle) = inline_volume(volume)?;
    Some((driver_there(plugin, node)?.to_owned(), handle))
}

/// The volumes of a pod that count on a node (upstream `filterAttachableVolumes`).
fn volumes_of(
    storage: &Storage,
    pod: &PodInfo,
    node: Option<&CsiNode>,
    into: &mut HashMap<Counted, ()>,
) -> Result<(), Rejection> {
    let inlined = pod.shape.volumes.iter().filter_map(|volume| inline(volume, node));
    into.extend(inlined.map(|counted| (counted, ())));
    for claim in claims(pod) {
        let name = claim.name(pod);
        let namespace = &*pod.key.namespace;
        let Some(known) = storage.claim(namespace, &name) else {
            let reason = format!("looking up PVC {namespace}/{name}: persistentvolumeclaim {name:?} not found");
            return Err(Rejection::with(Code::Unresolvable, vec![reason]));
        };
        if matches!(claim, PodClaim::Made(_)) && known.controller != *pod.key.uid {
            return Err(Rejection::error(super::volume_binding::not_owner(known, pod)));
        }
        into.extend(counted(storage, known, node).map(|counted| (counted, ())));
    }
    Ok(())
}

impl Filter for Limits {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let storage = &*self.storage;
        let csi_node = storage.csi_node(node.name()).map(|known| &**known);
        let mut new = HashMap::new();
        volumes_of(storage, &self.pod, csi_node, &mut new)?;
        for (driver, _) in new.keys() {
            let must = storage.driver(driver).is_some_and(|driver| driver.must_be_there);
            if must && !csi_node.is_some_and(|node| node.limits.contains_key(driver)) {
                let reason = format!("{driver} CSI driver is not installed on the node");
                return Err(Rejection::with(Code::Unschedulable, vec![reason]));
            }
        }
        let limit = |driver: &str| csi_node.and_then(|node| *node.limits.get(driver)?);
        if !new.keys().any(|(driver, _)| limit(driver).is_some()) {
            return Ok(());
        }
        let mut attached = HashMap::new();
        for pod in &node.pods {
            match volumes_of(storage, pod, csi_node, &mut attached) {
                Err(rejection) if rejection.code == Code::Error => return Err(rejection),
                // What cannot be found is not counted.
                _ => {}
            }
        }
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for counted in attached.keys() {
            new.remove(counted);
            *counts.entry(&counted.0).or_default() += 1;
        }
        for attachment in storage.attachments_on(node.name()) {
            let volume = attachment.volume.as_deref().and_then(|name| storage.volume(name));
            let Some(Source::Csi { handle, .. }) = volume.map(|volume| &volume.source) else {
                continue;
            };
            if !attached.contains_key(&(attachment.driver.clone(), handle.clone())) {
                *counts.entry(&attachment.driver).or_default() += 1;
            }
        }
        let mut wanted: HashMap<&str, i64> = HashMap::new();
        for (driver, _) in new.keys() {
            *wanted.entry(driver).or_default() += 1;
        }
        let too_many = |(driver, more): (&&str, &i64)| {
            limit(driver).is_some_and(|limit| counts.get(driver).copied().unwrap_or(0) + more > limit)
        };
        match wanted.iter().any(too_many) {
            true => Err(Rejection::unschedulable("node(s) exceed max volume count")),
            false => Ok(()),
        }
    }
}

fn has_inline(pod: &PodInfo) -> bool {
    pod.shape.volumes.iter().any(|volume| inline_volume(volume).is_some())
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn watches(&self) -> &'static [Resource] {
        &[
            Resource::PersistentVolume,
            Resource::PersistentVolumeClaim,
            Resource::StorageClass,
            Resource::CsiNode,
            Resource::CsiDriver,
            Resource::VolumeAttachment,
        ]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        uses_claims(pod) || has_inline(pod)
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::CsiNode, Action::ADD | Action::UPDATE),
            (Resource::CsiDriver, Action::UPDATE | Action::DELETE),
            (Resource::AssignedPod, Action::DELETE),
            (Resource::PersistentVolumeClaim, Action::ADD),
            (Resource::VolumeAttachment, Action::DELETE),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        match event.resource {
            Resource::CsiNode => match event.objects::<Value>() {
                (Some(old), Some(new)) => is_roomier(&CsiNode::of(old).1, &CsiNode::of(new).1),
                _ => true,
            },
            Resource::CsiDriver => {
                let (old, new) = event.objects::<CSIDriver>();
                let must = |driver: Option<&CSIDriver>| driver.is_some_and(|driver| Driver::of(driver).1.must_be_there);
                must(old) && !must(new)
            }
            Resource::AssignedPod => event.pods().0.is_none_or(|gone| uses_claims(gone) || has_inline(gone)),
            Resource::PersistentVolumeClaim => {
                let (_, new) = event.objects::<PersistentVolumeClaim>();
                new.is_none_or(|claim| uses(pod, claim))
            }
            Resource::VolumeAttachment => {
                let (old, _) = event.objects::<VolumeAttachment>();
                let named = claims(pod).any(|claim| matches!(claim, PodClaim::Named(_)));
                let mut inlined = pod.shape.volumes.iter().filter_map(inline_volume);
                let driver = |plugin: &str| in_tree_driver(plugin).map(|(driver, _)| driver);
                named || inlined.any(|(plugin, _)| old.is_none_or(|old| driver(plugin) == Some(&*old.spec.attacher)))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if !self.concerns(pod) {
            return PreFilter::Skip;
        }
        PreFilter::run(Limits {
            pod: pod.clone(),
            storage: context.cluster.storage().clone(),
        })
    }
}

/// Whether some driver attaches more than it did, or came.
fn is_roomier(old: &CsiNode, new: &CsiNode) -> bool {
    new.limits.iter().any(|(driver, limit)| match old.limits.get(driver) {
        None => true,
        Some(before) => limit.unwrap_or(0) > before.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests;
