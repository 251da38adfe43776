//! Disks that only one pod may use (upstream plugins/volumerestrictions): claims of mode ReadWriteOncePod in the whole
//! cluster, and old kinds of disks on one node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Volume};

use crate::framework::{
    Action, Code, Context, Event, Filter, Plugin, Point, PreFilter, Registration, Rejection, Resource,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{PodClaim, claims, uses_claims};

/// The plugin.
pub(super) struct VolumeRestrictions;

/// What one pod must not share.
struct Exclusive {
    disks: Vec<Volume>,
    /// Its claims that no other pod may use.
    claims: Vec<String>,
    namespace: Arc<str>,
    /// How many uses of them there are.
    uses: i64,
}

impl Exclusive {
    fn uses_by(&self, pod: &PodInfo) -> i64 {
        if pod.key.namespace != self.namespace {
            return 0;
        }
        let shared = claims(pod).filter(|claim| match claim {
            PodClaim::Named(name) => self.claims.iter().any(|own| own == name),
            PodClaim::Made(_) => false,
        });
        i64::try_from(shared.count()).unwrap_or(i64::MAX)
    }
}

impl Filter for Exclusive {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let held = |disk: &Volume| {
            node.pods
                .iter()
                .any(|pod| pod.shape.volumes.iter().any(|other| clash(disk, other)))
        };
        if self.disks.iter().any(held) {
            return Err(Rejection::unschedulable("node(s) had no available disk"));
        }
        if self.uses > 0 {
            let reason = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
            return Err(Rejection::unschedulable(reason));
        }
        Ok(())
    }

    fn add_pod(&mut self, pod: &PodInfo, _node: &NodeInfo) {
        self.uses += self.uses_by(pod);
    }

    fn remove_pod(&mut self, pod: &PodInfo, _node: &NodeInfo) {
        self.uses -= self.uses_by(pod);
    }
}

fn is_exclusive(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.rbd.is_some()
        || volume.iscsi.is_some()
}

/// Whether two pods with these volumes cannot be on one node (upstream `isVolumeConflict`).
fn clash(one: &Volume, other: &Volume) -> bool {
    let writes = |one: Option<bool>, other: Option<bool>| !(one.unwrap_or(false) && other.unwrap_or(false));
    if let (Some(one), Some(other)) = (&one.gce_persistent_disk, &other.gce_persistent_disk) {
        return one.pd_name == other.pd_name && writes(one.read_only, other.read_only);
    }
    if let (Some(one), Some(other)) = (&one.aws_elastic_block_store, &other.aws_elastic_block_store) {
        return one.volume_id == other.volume_id;
    }
    if let (Some(one), Some(other)) = (&one.iscsi, &other.iscsi) {
        return one.iqn == other.iqn && writes(one.read_only, other.read_only);
    }
    if let (Some(one), Some(other)) = (&one.rbd, &other.rbd) {
        let pool = |pool: &Option<String>| pool.clone().unwrap_or_else(|| "rbd".to_owned());
        return one.monitors.iter().any(|monitor| other.monitors.contains(monitor))
            && pool(&one.pool) == pool(&other.pool)
            && one.image == other.image
            && writes(one.read_only, other.read_only);
    }
    false
}

/// The claims of a pod that no other pod may use.
///
/// # Errors
/// A claim that is not there.
fn exclusive_claims(context: &Context, pod: &PodInfo) -> Result<Vec<String>, Rejection> {
    let mut exclusive = Vec::new();
    for claim in claims(pod) {
        let PodClaim::Named(name) = claim else { continue };
        let Some(known) = context.cluster.storage().claim(&pod.key.namespace, name) else {
            let reason = format!("persistentvolumeclaim {name:?} not found");
            return Err(Rejection::with(Code::Unresolvable, vec![reason]));
        };
        let once = known.modes.iter().any(|mode| mode == "ReadWriteOncePod");
        if once && !exclusive.iter().any(|own| own == name) {
            exclusive.push(name.to_owned());
        }
    }
    Ok(exclusive)
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn watches(&self) -> &'static [Resource] {
        &[Resource::PersistentVolumeClaim]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        uses_claims(pod)
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::AssignedPod, Action::DELETE),
            (Resource::Node, Action::ADD),
            (Resource::PersistentVolumeClaim, Action::ADD),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        match event.resource {
            Resource::AssignedPod => event.pods().0.is_none_or(|gone| frees(gone, pod)),
            Resource::PersistentVolumeClaim => {
                let (_, new) = event.objects::<PersistentVolumeClaim>();
                new.is_none_or(|claim| names(pod, claim))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if pod.shape.volumes.is_empty() {
            return PreFilter::Skip;
        }
        let claims = match exclusive_claims(context, pod) {
            Ok(claims) => claims,
            Err(rejection) => return PreFilter::Reject(rejection),
        };
        let used = claims
            .iter()
            .filter(|name| context.cluster.is_claim_used(&pod.key.namespace, name));
        let uses = i64::try_from(used.count()).unwrap_or(i64::MAX);
        let disks: Vec<Volume> = pod
            .shape
            .volumes
            .iter()
            .filter(|volume| is_exclusive(volume))
            .cloned()
            .collect();
        if disks.is_empty() && claims.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::run(Exclusive {
            disks,
            claims,
            namespace: pod.key.namespace.clone(),
            uses,
        })
    }
}

/// Whether a pod that went held what this pod needs (upstream `isSchedulableAfterPodDeleted`).
fn frees(gone: &PodInfo, pod: &PodInfo) -> bool {
    if gone.key.namespace != pod.key.namespace {
        return false;
    }
    let mut disks = pod.shape.volumes.iter().filter(|volume| is_exclusive(volume));
    let clashes = |disk: &Volume| gone.shape.volumes.iter().any(|other| clash(disk, other));
    let named = |claim: PodClaim<'_>| matches!(claim, PodClaim::Named(_));
    disks.any(clashes) || claims(gone).any(|theirs| named(theirs) && claims(pod).any(|own| own == theirs))
}

/// Whether the pod names the claim itself.
pub(super) fn names(pod: &PodInfo, claim: &PersistentVolumeClaim) -> bool {
    let (namespace, name) = (&claim.metadata.namespace, &claim.metadata.name);
    namespace.as_deref() == Some(&*pod.key.namespace)
        && claims(pod).any(|own| matches!(own, PodClaim::Named(own) if Some(own) == name.as_deref()))
}

/// Whether the pod uses the claim, one that was made for it included.
pub(super) fn uses(pod: &PodInfo, claim: &PersistentVolumeClaim) -> bool {
    let (namespace, name) = (&claim.metadata.namespace, &claim.metadata.name);
    namespace.as_deref() == Some(&*pod.key.namespace)
        && claims(pod).any(|own| Some(own.name(pod).as_str()) == name.as_deref())
}

#[cfg(test)]
mod tests;
