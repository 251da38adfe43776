//! The volumes of a pod: made before its sandbox, kept up to date while it runs, taken away with it.
//!
//! [`ensure`] may be called as often as one likes: it does what is missing.

mod atomic;
mod claim;
mod host_path;
mod ownership;
mod payload;
mod sub_path;
mod token;

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeSpec, Pod, PodSpec, Volume};

use crate::context::Context;
use crate::machine::Machine;
use crate::paths::PodDir;

pub(crate) use claim::device_link;
pub(crate) use sub_path::resolve as resolve_sub_path;
pub(crate) use token::Tokens;

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("references non-existent {kind} key: {key}")]
    NoKey { kind: &'static str, key: String },
    #[error("path \"{0}\" leads out of the volume")]
    BadPath(String),
    #[error(transparent)]
    Field(#[from] podlife::fields::FieldError),
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("hostPath type check failed: {path} {problem}")]
    HostPath { path: String, problem: &'static str },
    #[error(
        "volumes of type {0} are not supported by this node; use emptyDir, hostPath, local, configMap, secret, projected or downwardAPI"
    )]
    Unsupported(&'static str),
    #[error("{operation} {}: {source}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("error processing PVC {claim}: {source}")]
    Claim { claim: String, source: claim::ClaimError },
    #[error("the task that writes files broke off")]
    Broken,
}

pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_path_buf();
    move |source| VolumeError::Io {
        operation,
        path,
        source,
    }
}

/// A volume that is not there, by name.
#[derive(Debug)]
pub(crate) struct MountError {
    pub volume: String,
    pub source: VolumeError,
}

impl std::error::Error for MountError {}

impl std::fmt::Display for MountError {
    /// A volume that is not known yet is told of in other words than one that cannot be mounted.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { volume, source } = self;
        match source {
            VolumeError::Claim { .. } => write!(
                f,
                "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process \
                 volumes=[{volume}]: {source}"
            ),
            _ => write!(f, "MountVolume.SetUp failed for volume \"{volume}\" : {source}"),
        }
    }
}

/// Makes what is missing of the pod's volumes and brings the others up to date. Answers when to call it again at the
/// latest (tokens run out).
pub(crate) async fn ensure(ctx: &Arc<Context>, pod: &Pod) -> Result<Option<Timestamp>, MountError> {
    let Some(spec) = pod.spec.as_ref() else { return Ok(None) };
    let mut again: Option<Timestamp> = None;
    for volume in spec.volumes.iter().flatten() {
        let due = one(ctx, pod, spec, volume).await.map_err(|source| MountError {
            volume: volume.name.clone(),
            source,
        })?;
        again = match (again, due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok(again)
}

async fn one(ctx: &Arc<Context>, pod: &Pod, spec: &PodSpec, volume: &Volume) -> Result<Option<Timestamp>, VolumeError> {
    let dir = ctx.pod_dir(pod);
    let target = host_folder(&dir, volume)?;
    if let Some(empty) = &volume.empty_dir {
        let in_memory = empty.medium.as_deref() == Some("Memory");
        let limit = empty
            .size_limit
            .as_ref()
            .map(podlife::amount::value)
            .into_iter()
            // No more than the pod could fill.
            .chain(podlife::resources::pod_cgroup(spec).memory_limit)
            .filter_map(|n| u64::try_from(n).ok().filter(|n| *n > 0))
            .min();
        let (ctx, group) = (ctx.clone(), fs_group(spec));
        return blocking(move || empty_dir(&ctx, &target, in_memory, limit, group))
            .await
            .map(|()| None);
    }
    if let Some(host) = volume.host_path.clone() {
        return blocking(move || host_path::check(&host)).await.map(|()| None);
    }
    if claim::claim_name(pod, volume).is_some() {
        return claim::ensure(ctx, pod, spec, volume, target).await.map(|()| None);
    }
    let (files, again) = payload::of(ctx, pod, spec, volume).await?;
    let secret = volume.secret.is_some() || volume.projected.is_some();
    let (ctx, group) = (ctx.clone(), fs_group(spec));
    blocking(move || {
        make_folder(&target)?;
        if secret {
            tmpfs(&*ctx.config.machine, &target, None)?;
        }
        atomic::write(&*ctx.config.machine, &target, &files, group)
    })
    .await?;
    Ok(again)
}

/// Where a volume is on the host.
pub(crate) fn host_folder(dir: &PodDir, volume: &Volume) -> Result<PathBuf, VolumeError> {
    let name = &volume.name;
    let kind = if volume.empty_dir.is_some() {
        "empty-dir"
    } else if let Some(host) = &volume.host_path {
        return Ok(PathBuf::from(&host.path));
    } else if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        "claim"
    } else if volume.config_map.is_some() {
        "configmap"
    } else if volume.secret.is_some() {
        "secret"
    } else if volume.projected.is_some() {
        "projected"
    } else if volume.downward_api.is_some() {
        "downward-api"
    } else {
        return Err(VolumeError::Unsupported(foreign_kind(volume)));
    };
    Ok(dir.volume(kind, name))
}

fn foreign_kind(volume: &Volume) -> &'static str {
    if volume.csi.is_some() {
        "csi"
    } else if volume.nfs.is_some() {
        "nfs"
    } else if volume.iscsi.is_some() {
        "iscsi"
    } else if volume.image.is_some() {
        "image"
    } else {
        "other than the below"
    }
}

fn foreign_volume(spec: &PersistentVolumeSpec) -> &'static str {
    if spec.csi.is_some() {
        "csi"
    } else if spec.nfs.is_some() {
        "nfs"
    } else if spec.iscsi.is_some() {
        "iscsi"
    } else if spec.fc.is_some() {
        "fc"
    } else {
        "other than the below"
    }
}

/// Whether a pod with this volume wants changes of its sources.
pub(crate) fn fs_group(spec: &PodSpec) -> Option<u32> {
    spec.security_context
        .as_ref()
        .and_then(|s| s.fs_group)
        .and_then(|group| u32::try_from(group).ok())
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| VolumeError::Broken)?
}

pub(crate) fn make_folder(path: &Path) -> Result<(), VolumeError> {
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(io_error("make folder", path))
}

/// A file system in memory is sticky, as the kernel makes it and upstream leaves it.
const STICKY: u32 = 0o1000;

fn empty_dir(
    ctx: &Context,
    target: &Path,
    in_memory: bool,
    limit: Option<u64>,
    group: Option<u32>,
) -> Result<(), VolumeError> {
    let machine = &*ctx.config.machine;
    let open_up = |folder: &Path, special: u32| {
        if group.is_some() {
            machine
                .chown(folder, None, group)
                .map_err(io_error("change the group of", folder))?;
        }
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | special))
            .map_err(io_error("change the mode of", folder))
    };
    // Once only: from then on the folder is the pod's, which may have its own mind about who may enter.
    if in_memory {
        if !target.exists() {
            make_folder(target)?;
        }
        return match tmpfs(machine, target, limit)? {
            Tmpfs::New => open_up(target, STICKY),
            Tmpfs::There => Ok(()),
        };
    }
    if target.exists() {
        return Ok(());
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = target.with_file_name(format!(".{name}.new"));
    make_folder(&unfinished)?;
    open_up(&unfinished, 0)?;
    std::fs::rename(&unfinished, target).map_err(io_error("rename to", target))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tmpfs {
    New,
    There,
}

/// Mounts a tmpfs unless one is there.
fn tmpfs(machine: &dyn Machine, target: &Path, limit: Option<u64>) -> Result<Tmpfs, VolumeError> {
    let parent = target.parent().unwrap_or(target);
    let mounted = machine
        .mounts_below(parent)
        .map_err(io_error("list mounts below", parent))?
        .iter()
        .any(|point| point == target);
    if mounted {
        return Ok(Tmpfs::There);
    }
    machine
        .mount_tmpfs(target, limit)
        .map_err(io_error("mount a tmpfs at", target))?;
    Ok(Tmpfs::New)
}

/// Unmounts and removes the folder's volumes. Whatever a volume of type hostPath shows stays untouched.
pub(crate) fn tear_down(machine: &dyn Machine, dir: &PodDir) -> Result<(), VolumeError> {
    for folder in [dir.root().join("volume-subpaths"), dir.volumes()] {
        for point in machine
            .mounts_below(&folder)
            .map_err(io_error("list mounts below", &folder))?
        {
            machine.unmount(&point).map_err(io_error("unmount", &point))?;
        }
        // A mount that is still there must not be emptied: what it shows may belong to somebody else.
        let left = machine
            .mounts_below(&folder)
            .map_err(io_error("list mounts below", &folder))?;
        if let Some(point) = left.first() {
            return Err(io_error("unmount", point)(io::Error::from(io::ErrorKind::ResourceBusy)));
        }
        remove_tree(&folder)?;
    }
    Ok(())
}

/// Removes a folder; one that is not there is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<(), VolumeError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io_error("remove", path)),
    }
}
