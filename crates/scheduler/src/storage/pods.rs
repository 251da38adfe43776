//! The volumes of pods.

use k8s_openapi::api::core::v1::Volume as PodVolume;

use super::objects::aws_volume;
use crate::pod::PodInfo;

/// A claim that a pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodClaim<'p> {
    /// One that the pod names.
    Named(&'p str),
    /// One that is made for the pod's volume of this name.
    Made(&'p str),
}

impl PodClaim<'_> {
    /// The claim's name.
    #[must_use]
    pub fn name(&self, pod: &PodInfo) -> String {
        match self {
            PodClaim::Named(name) => (*name).to_owned(),
            PodClaim::Made(volume) => format!("{}-{volume}", pod.key.name),
        }
    }
}

fn claim_of(volume: &PodVolume) -> Option<PodClaim<'_>> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(PodClaim::Named(&claim.claim_name));
    }
    volume.ephemeral.as_ref().map(|_| PodClaim::Made(&volume.name))
}

/// The claims of a pod, in order.
pub fn claims(pod: &PodInfo) -> impl Iterator<Item = PodClaim<'_>> {
    pod.shape.volumes.iter().filter_map(claim_of)
}

/// Whether the pod uses claims.
#[must_use]
pub fn uses_claims(pod: &PodInfo) -> bool {
    claims(pod).next().is_some()
}

/// The in-tree plugin of a volume in the pod itself whose CSI driver counts it, and what the driver calls it.
#[must_use]
pub fn inline_volume(volume: &PodVolume) -> Option<(&'static str, String)> {
    if let Some(disk) = &volume.aws_elastic_block_store {
        return Some(("kubernetes.io/aws-ebs", aws_volume(&disk.volume_id).to_owned()));
    }
    if let Some(disk) = &volume.gce_persistent_disk {
        let handle = format!("projects/UNSPECIFIED/zones/UNSPECIFIED/disks/{}", disk.pd_name);
        return Some(("kubernetes.io/gce-pd", handle));
    }
    if let Some(disk) = &volume.azure_disk {
        return Some(("kubernetes.io/azure-disk", disk.disk_uri.clone()));
    }
    if let Some(disk) = &volume.cinder {
        return Some(("kubernetes.io/cinder", disk.volume_id.clone()));
    }
    let disk = volume.portworx_volume.as_ref()?;
    Some(("kubernetes.io/portworx-volume", disk.volume_id.clone()))
}
