//! Which volume a claim gets (`findBestMatchForClaim`, `FindMatchingVolume`, `checkVolumeSatisfyClaim`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, Node, NodeAffinity, PersistentVolume, PersistentVolumeClaim, PodSpec};

use super::super::{capacity_of, class_of_claim, class_of_volume, is_for, phase_of, request_of};
use crate::World;
use crate::object::{is_deleting, name, namespace, selects};
use crate::world::BY_VOLUME_CLAIM;

/// Which volumes may be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice<'a> {
    /// Free ones, too.
    Any,
    /// Only one that is reserved for the claim: the scheduler chooses among free ones.
    Reserved,
    /// Those that can be reached from this node.
    On(&'a Node),
}

/// The best volume: one that is reserved for the claim, else the smallest of those with the fewest surplus access modes.
pub(super) fn find(
    world: &dyn World,
    claim: &PersistentVolumeClaim,
    choice: Choice<'_>,
) -> Option<Arc<PersistentVolume>> {
    let volumes = world.persistent_volumes();
    let mut candidates = volumes.by_index(BY_VOLUME_CLAIM, &format!("{}/{}", namespace(claim), name(claim)));
    if !matches!(choice, Choice::Reserved) {
        candidates.extend(volumes.by_index(BY_VOLUME_CLAIM, &format!("free:{}", class_of_claim(claim))));
    }
    let size = request_of(claim);
    candidates.retain(|volume| {
        !is_deleting(&**volume)
            && capacity_of(volume).is_some_and(|capacity| capacity >= size)
            && mode_of_volume(volume) == mode_of_claim(claim)
            && attributes_of_volume(volume) == attributes_of_claim(claim)
            && has_modes(volume, claim)
            && (is_for(volume, claim) || is_free_for(volume, claim))
            && match choice {
                Choice::On(node) => is_reached_from(volume, node),
                Choice::Any | Choice::Reserved => true,
            }
    });
    candidates.into_iter().min_by(|a, b| {
        let order = |volume: &PersistentVolume| (modes(volume), !is_for(volume, claim));
        order(a)
            .cmp(&order(b))
            .then_with(|| capacity_of(a).cmp(&capacity_of(b)))
            .then_with(|| name(&**a).cmp(name(&**b)))
    })
}

/// `CheckNodeAffinity`.
fn is_reached_from(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.clone()) else {
        return true;
    };
    let asked = PodSpec {
        affinity: Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(required),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        }),
        ..PodSpec::default()
    };
    let labels = node.metadata.labels.clone().unwrap_or_default();
    placement::RequiredTerms::of(&asked).matches(name(node), &labels)
}

/// Free to be taken by anyone.
fn is_free_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    super::claim_ref(volume).is_none()
        && phase_of(volume) == "Available"
        && class_of_volume(volume) == class_of_claim(claim)
        && selector.is_none_or(|selector| selects(selector, volume.metadata.labels.as_ref()))
}

/// Why a claim cannot have the volume that it names.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if is_deleting(volume) {
        return Some(format!("the volume is marked for deletion {:?}", name(volume)));
    }
    let too_small = capacity_of(volume).is_none_or(|capacity| capacity < request_of(claim));
    let problem = if too_small {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of_claim(claim) {
        "storageClassName does not match"
    } else if attributes_of_volume(volume) != attributes_of_claim(claim) {
        "volumeAttributesClassName does not match"
    } else if mode_of_volume(volume) != mode_of_claim(claim) {
        "incompatible volumeMode"
    } else if !has_modes(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(problem.to_owned())
}

/// How many ways there are to mount a volume.
fn modes(volume: &PersistentVolume) -> usize {
    let mut modes = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.access_modes.clone())
        .unwrap_or_default();
    modes.sort();
    modes.dedup();
    modes.len()
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    let wants = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    let has = has.unwrap_or_default();
    wants.unwrap_or_default().iter().all(|mode| has.contains(mode))
}

/// `Filesystem` or `Block`.
pub(super) fn mode_of_volume(volume: &PersistentVolume) -> &str {
    let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    mode.unwrap_or("Filesystem")
}

/// `Filesystem` or `Block`.
pub(super) fn mode_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    mode.unwrap_or("Filesystem")
}

fn attributes_of_volume(volume: &PersistentVolume) -> &str {
    let class = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    class.unwrap_or("")
}

fn attributes_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let class = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    class.unwrap_or("")
}
