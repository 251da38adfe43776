//! Volumes that pods have by claims (`pkg/kubelet/volumemanager/populator` finds them, `pkg/volume/local` and
//! `pkg/volume/hostpath` mount them).
//!
//! What a volume shows is bound into the pod's own folder, so that from there on it is like any other volume: nothing
//! but that folder must be known to start a container or to clean up.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume};

use super::{VolumeError, blocking, fs_group, host_path, io_error, make_folder, ownership};
use crate::context::Context;
use crate::machine::Machine;
use crate::paths::PodDir;

/// Why a claim cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("failed to fetch PVC from API server: {0}")]
    Claim(String),
    #[error("failed to fetch PV {name} from API server: {why}")]
    Volume { name: String, why: String },
    #[error("PVC is not bound")]
    NotBound,
    #[error("PVC is being deleted")]
    Deleted,
    #[error("PVC was not created for the pod (pod is not owner)")]
    NotOwned,
    #[error("the volume {0} is bound to another claim")]
    Elsewhere(String),
}

/// The claim that a volume is, if it is one.
pub(crate) fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    volume.ephemeral.as_ref().map(|_| format!("{pod_name}-{}", volume.name))
}

/// Where a volume of mode Block is linked.
pub(crate) fn device_link(dir: &PodDir, name: &str) -> PathBuf {
    dir.root().join("volumeDevices").join("kubernetes.io~claim").join(name)
}

/// Makes the volume visible at `target`, unless it is.
pub(super) async fn ensure(
    ctx: &Arc<Context>,
    pod: &Pod,
    spec: &PodSpec,
    volume: &Volume,
    target: PathBuf,
) -> Result<(), VolumeError> {
    let machine = &*ctx.config.machine;
    let link = device_link(&ctx.pod_dir(pod), &volume.name);
    if link.is_symlink() || is_mounted(machine, &target)? {
        return Ok(());
    }
    let claim = claim_name(pod, volume).unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let found = find(ctx, pod, namespace, &claim, volume.ephemeral.is_some()).await;
    let found = found.map_err(|source| VolumeError::Claim {
        claim: format!("{namespace}/{claim}"),
        source,
    })?;
    let read_only = volume
        .persistent_volume_claim
        .as_ref()
        .is_some_and(|source| source.read_only == Some(true));
    let ownership = fs_group(spec).map(|group| ownership::Wish {
        group,
        read_only,
        only_if_root_differs: spec
            .security_context
            .as_ref()
            .and_then(|context| context.fs_group_change_policy.as_deref())
            == Some("OnRootMismatch"),
    });
    let ctx = ctx.clone();
    blocking(move || show(&*ctx.config.machine, &found, &target, &link, ownership)).await
}

fn is_mounted(machine: &dyn Machine, target: &Path) -> Result<bool, VolumeError> {
    let parent = target.parent().unwrap_or(target);
    let points = machine
        .mounts_below(parent)
        .map_err(io_error("list mounts below", parent))?;
    Ok(points.iter().any(|point| point == target))
}

/// The volume that a claim of the pod is bound to.
async fn find(
    ctx: &Context,
    pod: &Pod,
    namespace: &str,
    name: &str,
    ephemeral: bool,
) -> Result<PersistentVolume, ClaimError> {
    let claim = ctx.client().of::<PersistentVolumeClaim>().get(namespace, name).await;
    let claim = claim.map_err(|error| ClaimError::Claim(error.report()))?;
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let ours = |uid: &str| Some(uid) == pod.metadata.uid.as_deref();
    if ephemeral && !owners.any(|owner| owner.controller == Some(true) && ours(&owner.uid)) {
        return Err(ClaimError::NotOwned);
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(ClaimError::Deleted);
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let Some(volume) = volume.filter(|_| phase == Some("Bound")) else {
        return Err(ClaimError::NotBound);
    };
    let found = ctx.client().of::<PersistentVolume>().get("", volume).await;
    let found = found.map_err(|error| ClaimError::Volume {
        name: volume.to_owned(),
        why: error.report(),
    })?;
    let holder = found.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if holder.and_then(|holder| holder.uid.as_ref()) != claim.metadata.uid.as_ref() {
        return Err(ClaimError::Elsewhere(volume.to_owned()));
    }
    Ok(found)
}

fn show(
    machine: &dyn Machine,
    volume: &PersistentVolume,
    target: &Path,
    link: &Path,
    ownership: Option<ownership::Wish>,
) -> Result<(), VolumeError> {
    let spec = volume.spec.clone().unwrap_or_default();
    let block = spec.volume_mode.as_deref() == Some("Block");
    let (path, is_local) = if let Some(local) = &spec.local {
        (PathBuf::from(&local.path), true)
    } else if let Some(host) = &spec.host_path {
        host_path::check(host)?;
        (PathBuf::from(&host.path), false)
    } else {
        return Err(VolumeError::Unsupported(super::foreign_volume(&spec)));
    };
    let found = fs::metadata(&path).map_err(io_error("look at", &path))?;
    let problem = |problem| {
        Err(VolumeError::HostPath {
            path: path.to_string_lossy().into_owned(),
            problem,
        })
    };
    if block {
        if !found.file_type().is_block_device() {
            return problem("is not a block device");
        }
        make_folder(link.parent().unwrap_or(link))?;
        return std::os::unix::fs::symlink(&path, link).map_err(io_error("link", link));
    }
    if found.file_type().is_block_device() {
        return problem("is a block device: file systems on them are not mounted here; use volumeMode Block");
    }
    if spec.mount_options.is_some_and(|options| !options.is_empty()) {
        return problem("has mount options, which folders do not have here");
    }
    if let Some(wish) = ownership.filter(|_| is_local) {
        ownership::change(&path, &wish).map_err(io_error("change the group of", &path))?;
    }
    if found.is_dir() {
        make_folder(target)?;
    } else {
        make_folder(target.parent().unwrap_or(target))?;
        fs::File::create(target).map_err(io_error("make file", target))?;
    }
    machine.bind(&path, target).map_err(io_error("bind", target))
}
