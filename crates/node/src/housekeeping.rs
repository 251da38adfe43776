//! What has no event of its own: disks that fill up, logs that grow, dead containers that pile up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use podlife::reclaim::{self, ImagePolicy, ImageUse};
use podlife::spec;
use runtime::{ContainerFilter, ContainerState, ContainerStatus, Image};

use crate::context::Context;
use crate::labels;
use crate::recorder::Type;

/// How often disks and logs are looked at (upstream: every 10 s logs, every minute containers, every 5 min images).
const EVERY: Duration = Duration::from_secs(30);
/// A log is rotated above this, bytes.
const MAX_LOG: u64 = 10 << 20;
/// Logs kept of a container, the current one among them.
const MAX_LOGS: usize = 5;

/// Runs until the node stops.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let containers = match ctx.runtime().list_containers(ContainerFilter::default()).await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::warn!(%error, "cannot list containers; will retry");
                continue;
            }
        };
        rotate_logs(&ctx, &containers).await;
        remove_dead(&ctx, &containers).await;
        if let Err(error) = remove_images(&ctx, &containers, &mut seen).await {
            tracing::warn!(error, "cannot remove images");
            ctx.recorder.node(Type::Warning, "ImageGCFailed", error);
        }
    }
}

/// Removes all that nobody uses: containers that ended of pods that ended, and images.
pub(crate) async fn remove_unused(ctx: &Context) {
    let Ok(containers) = ctx.runtime().list_containers(ContainerFilter::default()).await else {
        return;
    };
    let ended: HashSet<String> = ctx
        .pods
        .list()
        .iter()
        .filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        })
        .filter_map(|pod| pod.metadata.uid.clone())
        .collect();
    remove_dead(ctx, &containers).await;
    for container in &containers {
        let of_ended = container
            .labels
            .get(labels::POD_UID)
            .is_some_and(|uid| ended.contains(uid));
        if of_ended && container.state == ContainerState::Exited {
            remove_container(ctx, &container.id, &container.log_path).await;
        }
    }
    let containers = ctx.runtime().list_containers(ContainerFilter::default()).await;
    let (Ok(containers), Ok(all)) = (containers, ctx.runtime().list_images().await) else {
        return;
    };
    let uses = image_uses(ctx, &containers, &all, &mut Seen::default());
    for id in reclaim::unused_images(&uses) {
        tracing::info!(image = id, "removing an unused image: the disk is nearly full");
        if let Err(error) = ctx.runtime().remove_image(&id).await {
            tracing::warn!(%error, image = id, "cannot remove an image");
        }
    }
}

async fn remove_container(ctx: &Context, id: &str, log: &Path) {
    match ctx.runtime().remove_container(id).await {
        Ok(()) => remove_logs(log),
        Err(error) => tracing::warn!(%error, container = id, "cannot remove a dead container"),
    }
}

async fn rotate_logs(ctx: &Context, containers: &[ContainerStatus]) {
    for container in containers.iter().filter(|c| c.state == ContainerState::Running) {
        let path = &container.log_path;
        if !std::fs::metadata(path).is_ok_and(|meta| meta.len() > MAX_LOG) {
            continue;
        }
        let rotated = match rotate(path, ctx.clock.now()) {
            Ok(rotated) => rotated,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot rotate a log");
                continue;
            }
        };
        if let Err(error) = ctx.runtime().reopen_container_log(&container.id).await {
            tracing::warn!(%error, path = %path.display(), "cannot reopen a log; putting it back");
            let _ = std::fs::rename(rotated, path);
        }
    }
}

/// Renames the log and removes the oldest of its predecessors.
fn rotate(path: &Path, now: Timestamp) -> std::io::Result<PathBuf> {
    let mut name = path.as_os_str().to_os_string();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    let rotated = PathBuf::from(name);
    std::fs::rename(path, &rotated)?;
    let (Some(folder), Some(stem)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(rotated);
    };
    let prefix = format!("{stem}.");
    let entries = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let is_older = |p: &PathBuf| {
        p.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with(&prefix))
    };
    let mut older: Vec<PathBuf> = entries.filter(is_older).collect();
    older.sort();
    let surplus = (older.len() + 1).saturating_sub(MAX_LOGS);
    for path in older.iter().take(surplus) {
        std::fs::remove_file(path)?;
    }
    Ok(rotated)
}

/// Of each name of each pod the newest dead container stays.
async fn remove_dead(ctx: &Context, containers: &[ContainerStatus]) {
    let mut pods: BTreeMap<&str, Vec<podlife::Container>> = BTreeMap::new();
    for container in containers {
        let Some(uid) = container.labels.get(labels::POD_UID) else {
            continue;
        };
        pods.entry(uid).or_default().push(plain(container));
    }
    for list in pods.values_mut() {
        list.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then(b.restart_count.cmp(&a.restart_count))
        });
        for id in reclaim::dead_containers(list) {
            if let Some(container) = containers.iter().find(|c| c.id == id) {
                remove_container(ctx, &id, &container.log_path).await;
            }
        }
    }
}

fn remove_logs(log: &Path) {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        if found == name || found.starts_with(&format!("{name}.")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn plain(container: &ContainerStatus) -> podlife::Container {
    podlife::Container {
        id: container.id.clone(),
        name: container.name.clone(),
        sandbox_id: container.sandbox_id.clone(),
        state: match container.state {
            ContainerState::Exited => podlife::ContainerState::Exited,
            ContainerState::Running => podlife::ContainerState::Running,
            ContainerState::Created => podlife::ContainerState::Created,
            ContainerState::Unknown => podlife::ContainerState::Unknown,
        },
        created_at: container.created_at,
        started_at: container.started_at,
        finished_at: container.finished_at,
        exit_code: container.exit_code,
        reason: String::new(),
        message: String::new(),
        image: container.image.clone(),
        image_id: container.image_ref.clone(),
        restart_count: container.attempt as i32,
        hash: 0,
        user: None,
    }
}

/// When images were first seen and last used, as far as this agent knows.
#[derive(Default)]
struct Seen(HashMap<String, (Timestamp, Timestamp)>);

fn image_uses(ctx: &Context, containers: &[ContainerStatus], all: &[Image], seen: &mut Seen) -> Vec<ImageUse> {
    let now = ctx.clock.now();
    let mut used: HashSet<&str> = containers.iter().map(|c| c.image_id.as_str()).collect();
    used.extend(containers.iter().map(|c| c.image.as_str()));
    // What a pod is about to start is in use as well.
    let pods = ctx.pods.list();
    let specs = pods.iter().filter_map(|pod| pod.spec.as_ref());
    let wanted: HashSet<String> = specs
        .flat_map(|s| spec::containers(s).into_iter().filter_map(|(_, c)| c.image))
        .collect();
    seen.0.retain(|id, _| all.iter().any(|image| image.id == *id));
    all.iter()
        .map(|image| {
            let names = || image.repo_tags.iter().chain(&image.repo_digests);
            let in_use =
                used.contains(image.id.as_str()) || names().any(|n| used.contains(n.as_str()) || wanted.contains(n));
            let (detected, last_used) = seen.0.entry(image.id.clone()).or_insert((now, Timestamp::UNIX_EPOCH));
            if in_use {
                *last_used = now;
            }
            ImageUse {
                id: image.id.clone(),
                size: image.size_bytes,
                detected: *detected,
                last_used: *last_used,
                in_use,
                pinned: image.pinned,
            }
        })
        .collect()
}

async fn remove_images(ctx: &Context, containers: &[ContainerStatus], seen: &mut Seen) -> Result<(), String> {
    let all = ctx.runtime().list_images().await.map_err(|error| error.to_string())?;
    let uses = image_uses(ctx, containers, &all, seen);
    let disk = ctx.runtime().image_fs_info().await.map_err(|error| error.to_string())?;
    for id in reclaim::images(
        &uses,
        disk.capacity_bytes,
        disk.available_bytes,
        ImagePolicy::default(),
        ctx.clock.now(),
    ) {
        tracing::info!(image = id, "removing an unused image: the disk is filling up");
        ctx.runtime()
            .remove_image(&id)
            .await
            .map_err(|error| format!("cannot remove image {id}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_a_few() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        for second in 0..8 {
            std::fs::write(&log, second.to_string()).unwrap();
            rotate(&log, Timestamp::from_second(1_700_000_000 + second).unwrap()).unwrap();
        }
        let mut texts: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        texts.sort();
        assert_eq!(texts, ["4", "5", "6", "7"]);
    }
}
