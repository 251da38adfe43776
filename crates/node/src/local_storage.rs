//! Pods that use more of the disk than they may are evicted (`localStorageEviction`, pkg/kubelet/eviction).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use podlife::reclaim::{StorageUse, is_limited, over_local_storage};

use crate::context::Context;
use crate::{volumes, worker};

/// Nothing tells when files grow (upstream's housekeeping interval).
const EVERY: Duration = Duration::from_secs(10);

/// Runs until the node stops. Looks only at pods with limits.
pub(crate) async fn run(ctx: Arc<Context>) {
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for pod in ctx.pods.list() {
            let limited = pod.spec.as_ref().is_some_and(is_limited);
            let (true, None) = (limited, &pod.metadata.deletion_timestamp) else {
                continue;
            };
            let (found, _) = usage(&ctx, &pod).await;
            let spec = pod.spec.as_ref().expect("it has limits");
            if let (Some(message), Some(uid)) = (over_local_storage(spec, &found), &pod.metadata.uid) {
                tracing::warn!(
                    pod = podlife::spec::display(&pod),
                    message,
                    "evicting a pod: it uses too much of the disk"
                );
                ctx.workers.evict(uid, &message);
            }
        }
    }
}

/// What a pod takes of the disk: bytes, and files.
pub(crate) async fn usage(ctx: &Context, pod: &Pod) -> (StorageUse, StorageUse) {
    let (mut bytes, mut files) = (StorageUse::default(), StorageUse::default());
    let dir = ctx.pod_dir(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    let mut folders: Vec<(String, PathBuf)> = Vec::new();
    for volume in spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| volume.empty_dir.is_some())
    {
        if let Ok(folder) = volumes::host_folder(&dir, volume) {
            folders.push((volume.name.clone(), folder));
        }
    }
    let names = podlife::spec::containers(&spec)
        .into_iter()
        .map(|(_, container)| container.name);
    let logs: Vec<(String, PathBuf)> = names.map(|name| (name.clone(), dir.logs().join(name))).collect();
    if let Ok((volumes, logs)) = tokio::task::spawn_blocking(move || (measure(folders), measure(logs))).await {
        for (name, below) in volumes {
            bytes.volumes.insert(name.clone(), below.bytes);
            files.volumes.insert(name, below.files);
        }
        for (name, below) in logs {
            bytes.containers.insert(name.clone(), below.bytes);
            files.containers.insert(name, below.files);
        }
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    for container in worker::containers(ctx, uid).await.unwrap_or_default() {
        if let Ok(stats) = ctx.runtime().container_stats(&container.id).await {
            let name = container.name;
            *bytes.containers.entry(name.clone()).or_default() += stats.writable_layer_bytes;
            *files.containers.entry(name).or_default() += stats.writable_layer_inodes;
        }
    }
    (bytes, files)
}

fn measure(folders: Vec<(String, PathBuf)>) -> Vec<(String, Below)> {
    folders.into_iter().map(|(name, path)| (name, below(&path))).collect()
}

/// What files and folders take of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Below {
    bytes: u64,
    files: u64,
}

/// What is below the folder; other file systems that are mounted there, and what cannot be seen, are left out.
fn below(path: &Path) -> Below {
    let mut all = Below::default();
    let Ok(top) = path.symlink_metadata() else { return all };
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != top.dev() {
                continue;
            }
            // A file with several names counts once for each, as nobody wins by that.
            all.bytes += found.blocks() * 512;
            all.files += 1;
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(below(&dir.path().join("absent")), Below::default());
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        std::fs::write(dir.path().join("deep/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let found = below(dir.path());
        assert!((100_000..300_000).contains(&found.bytes), "{found:?}");
        assert_eq!(found.files, 3);
    }
}
