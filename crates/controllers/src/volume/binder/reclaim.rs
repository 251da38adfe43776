//! What becomes of a volume without a claim (`reclaimVolume`).

use k8s_openapi::api::core::v1::PersistentVolume;

use super::super::{MIGRATED_TO, PROVISIONED_BY, phase_of, policy_of, spec_of};
use super::recycle;
use super::volume::phase;
use crate::object::{annotation, name};
use crate::plan::{Plan, Reference};
use crate::{Turn, World};

/// Does what the reclaim policy says, as far as it is not somebody else's work.
pub(super) fn reclaim(world: &dyn World, volume: &PersistentVolume, turn: &Turn, plan: &mut Plan) {
    if annotation(volume, MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
        return;
    }
    match policy_of(volume) {
        "Retain" => {}
        "Recycle" => recycle::recycle(world, volume, turn, plan),
        "Delete" => {
            if let Some(problem) = nobody_deletes(volume) {
                fail(volume, "VolumeFailedDelete", &problem, plan);
            }
        }
        _ => {
            let text = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            fail(volume, "VolumeUnknownReclaimPolicy", text, plan);
        }
    }
}

/// Marks the volume as one that a person must look at.
pub(super) fn fail(volume: &PersistentVolume, reason: &'static str, text: &str, plan: &mut Plan) {
    if phase_of(volume) != "Failed" {
        let about = Reference::to(volume);
        plan.act(phase(volume, "Failed", text).telling(about, reason, text).warning());
    }
}

/// Why no provisioner will delete the storage, if none will. Controllers touch no disk: unlike upstream's they delete
/// no folder below `/tmp` either.
fn nobody_deletes(volume: &PersistentVolume) -> Option<String> {
    let unknown = |problem: &str| {
        let name = name(volume);
        Some(format!(
            "error getting deleter volume plugin for volume {name:?}: {problem}"
        ))
    };
    match annotation(volume, PROVISIONED_BY) {
        Some(builtin) if builtin.starts_with("kubernetes.io/") => {
            unknown(&format!("no volume plugin matched name: {builtin}"))
        }
        Some(provisioner) if !provisioner.is_empty() => None,
        _ => match spec_of(volume).host_path {
            Some(source) if !source.path.starts_with("/tmp/") => Some(format!(
                "host_path deleter only supports /tmp/.+ but received provided {}",
                source.path
            )),
            _ => unknown("no deletable volume plugin matched"),
        },
    }
}
