//! Opening the runtime: what is on disk and in the kernel becomes what is in memory, or is removed.
//!
//! A sandbox whose record says Ready, of this boot, with a living shim, is taken over as it is. One whose shim is dead,
//! or that is of an earlier boot, is stopped. One that was being made or removed is removed. So are control groups and
//! shims that belong to no sandbox that is known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;
use tokio::sync::broadcast;

use super::sandbox::{is_complete, lost_exit, netns_of, shim_cgroup};
use super::shim_client::kill_shim;
use super::{Container, EVENT_BACKLOG, EmbeddedRuntime, Inner, KILL_PATIENCE, Life, Sandbox, lock};
use crate::cgroup::Cgroups;
use crate::image::{ImageStore, PullOptions, Puller};
use crate::records::{
    self, ContainerDir, ContainerRecord, ExitRecord, Layout, Phase, RunRecord, SandboxDir, SandboxRecord, ShimRecord,
    WritableLayer, boot_id, is_id, list_ids, make_private_dir, process_alive,
};
use crate::{AttachedSandbox, Result, RuntimeConfig, RuntimeError};

/// Takes the data directory's lock.
pub(super) fn lock_data_dir(dir: &Path) -> Result<Flock<fs::File>> {
    make_private_dir(dir)?;
    let path = dir.join("lock");
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(RuntimeError::io("create", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => RuntimeError::InUse { path: dir.to_owned() },
        error => RuntimeError::io("lock", &path)(error.into()),
    })
}

pub(super) async fn open(config: RuntimeConfig) -> Result<EmbeddedRuntime> {
    if !nix::unistd::geteuid().is_root() {
        return Err(RuntimeError::Unsupported {
            what: "running containers",
            message: "it needs root; run skiff as root".to_owned(),
        });
    }
    let lock_file = lock_data_dir(&config.data_dir)?;
    let layout = Layout {
        root: config.data_dir.clone(),
    };
    make_private_dir(&layout.sandboxes())?;
    make_private_dir(&layout.images())?;
    let cgroups = Cgroups::detect()?;
    let boot_id = boot_id()?;
    let layering = probe_layering(&config, &layout, &boot_id).await?;
    let images = ImageStore::open(layout.images(), config.shim_exe.clone(), config.image_limits, layering)?;
    let options = PullOptions {
        insecure_registries: config.insecure_registries.clone(),
        certificate_dirs: config.certificate_dirs.clone(),
        observer: config.pull_observer.clone(),
    };
    let puller = Puller::new(images.clone(), options);
    let inner = Arc::new(Inner {
        config,
        layout,
        boot_id,
        cgroups,
        images,
        puller,
        events: broadcast::Sender::new(EVENT_BACKLOG),
        sandboxes: Mutex::new(HashMap::new()),
        cgroup_parents: tokio::sync::Mutex::new(()),
        _lock: lock_file,
    });
    recover(&inner).await?;
    Ok(EmbeddedRuntime { inner })
}

/// Whether overlays can be had. Asked once a boot.
async fn probe_layering(config: &RuntimeConfig, layout: &Layout, boot_id: &str) -> Result<WritableLayer> {
    let known = layout.images().join("layering.json");
    if let Ok(Some((boot, layering))) = records::read::<(String, WritableLayer)>(&known)
        && boot == boot_id
    {
        return Ok(layering);
    }
    let probe = layout.images().join("probe");
    make_private_dir(&probe)?;
    let output = Command::new(&config.shim_exe)
        .args(["shim", "overlay"])
        .arg(&probe)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(RuntimeError::io("start", &config.shim_exe))?;
    // It is rebuilt by the next probe if it cannot be removed now.
    let _ = fs::remove_dir_all(&probe);
    let layering = if output.status.success() {
        WritableLayer::Overlay
    } else {
        let reason = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        tracing::warn!(
            reason,
            "overlays cannot be had here; images are copied for each container"
        );
        WritableLayer::Copy
    };
    // A store is of one kind: layers of the other could not be used.
    let before = records::read::<(String, WritableLayer)>(&known).ok().flatten();
    if before.is_some_and(|(_, before)| before != layering) {
        let _ = fs::remove_dir_all(layout.images().join("layers"));
    }
    records::write(&known, &(boot_id.to_owned(), layering))?;
    Ok(layering)
}

async fn recover(inner: &Arc<Inner>) -> Result<()> {
    let mut kept = Vec::new();
    let mut lost = Vec::new();
    let mut leftovers = Vec::new();
    for id in list_ids(&inner.layout.sandboxes())? {
        let dir = inner.layout.sandbox(&id);
        let record = match records::read::<SandboxRecord>(&dir.record()) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(sandbox = %id, %error, "removing a sandbox whose record cannot be read");
                None
            }
        };
        match record.filter(|record| record.id == id) {
            Some(record) if matches!(record.phase, Phase::Ready | Phase::Stopped) => {
                let shim = alive(&dir).filter(|_| record.phase == Phase::Ready && record.boot_id == inner.boot_id);
                match (record.phase, shim) {
                    (Phase::Ready, Some(shim)) => kept.push((dir, record, Some(shim))),
                    (Phase::Ready, None) => lost.push((dir, record)),
                    _ => kept.push((dir, record, None)),
                }
            }
            record => leftovers.push((dir, record)),
        }
    }
    kill_unknown_shims(inner, &kept);
    // What is removed must be dead before the network forgets it, and the network is told before anything is asked of it.
    for (dir, record) in lost {
        let record = stop_lost(inner, &dir, record).await?;
        kept.push((dir, record, None));
    }
    for (dir, record) in &leftovers {
        let cgroups = leftover_cgroups(inner, dir, record.as_ref())?;
        inner.end_processes(alive(dir), cgroups).await?;
    }
    let attached: Vec<AttachedSandbox> = kept
        .iter()
        .filter_map(|(_, record, shim)| {
            let netns = netns_of((*shim)?);
            record.network_attached.then(|| AttachedSandbox {
                id: record.id.clone(),
                ips: record.ips.clone(),
                netns,
            })
        })
        .collect();
    let network = &inner.config.network;
    network
        .retain(&attached)
        .await
        .map_err(|source| RuntimeError::Network {
            id: "(all)".to_owned(),
            source,
        })?;
    for (dir, _) in leftovers {
        let path = dir.path.clone();
        Inner::blocking(move || records::remove_tree(&path)).await?;
    }
    let mut watched = Vec::new();
    for (dir, record, shim) in kept {
        let sandbox = Arc::new(Sandbox::new(dir, record, shim));
        load_containers(inner, &sandbox).await?;
        lock(&inner.sandboxes).insert(sandbox.id.clone(), sandbox.clone());
        if shim.is_some() {
            watched.push(sandbox);
        }
    }
    remove_unknown_cgroups(inner).await?;
    inner.images.collect_layers();
    for sandbox in watched {
        inner.watch(sandbox);
    }
    Ok(())
}

/// The shim of a sandbox, if it is alive.
fn alive(dir: &SandboxDir) -> Option<ShimRecord> {
    let shim: ShimRecord = records::read(&dir.shim_record()).ok().flatten()?;
    process_alive(shim.pid, shim.start_time).then_some(shim)
}

/// Stops a sandbox whose shim is dead. Its network is taken down by `retain`.
async fn stop_lost(inner: &Inner, dir: &SandboxDir, mut record: SandboxRecord) -> Result<SandboxRecord> {
    tracing::warn!(sandbox = %record.id, "a pod's shim is gone; the pod is stopped");
    let cgroups = leftover_cgroups(inner, dir, Some(&record))?;
    inner.end_processes(None, cgroups).await?;
    for id in list_ids(&dir.containers())? {
        let container = dir.container(&id);
        let ran = container.running().exists();
        if ran && !container.exit().exists() {
            records::write(&container.exit(), &lost_exit())?;
        }
    }
    record.phase = Phase::Stopped;
    record.network_attached = false;
    records::write(&dir.record(), &record)?;
    Ok(record)
}

fn leftover_cgroups(inner: &Inner, dir: &SandboxDir, record: Option<&SandboxRecord>) -> Result<Vec<String>> {
    let ids = list_ids(&dir.containers())?;
    Ok(match record {
        Some(record) => ids
            .iter()
            .map(|id| format!("{}/{id}", record.config.cgroup_parent))
            .collect(),
        // The record is lost: the ids tell which groups they are.
        None => inner
            .cgroups
            .descendants(&inner.config.cgroup_root)
            .into_iter()
            .filter(|path| ids.iter().any(|id| path.ends_with(id.as_str())))
            .collect(),
    })
}

/// Shims that were started, but whose sandbox is not one that is kept.
fn kill_unknown_shims(inner: &Inner, kept: &[(SandboxDir, SandboxRecord, Option<ShimRecord>)]) {
    let known: BTreeSet<i32> = kept
        .iter()
        .filter_map(|(_, _, shim)| shim.map(|shim| shim.pid))
        .collect();
    for shim in shims_below(&inner.layout.sandboxes()) {
        if !known.contains(&shim.pid) {
            kill_shim(Some(shim));
        }
    }
}

/// All shims of sandboxes in a folder.
pub(super) fn shims_below(sandboxes: &Path) -> Vec<ShimRecord> {
    let all = shims().into_iter();
    all.filter(|(_, folder)| folder.starts_with(sandboxes))
        .map(|(shim, _)| shim)
        .collect()
}

/// How many pods below a control group are alive, by the data directory of their runtime, be that open or not. Pods
/// under a group of the same name in another cgroup namespace are others.
pub fn live_pods(cgroup_root: &str) -> BTreeMap<PathBuf, usize> {
    let group = shim_cgroup(cgroup_root);
    let is_there = |pid: i32| {
        // Paths are shown as they are from this process's own namespace.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups
            .lines()
            .any(|line| line.splitn(3, ':').nth(2) == Some(group.as_str()))
    };
    let mut pods = BTreeMap::new();
    for (shim, folder) in shims() {
        // …/sandboxes/ID
        if let Some(data_dir) = folder.parent().and_then(Path::parent)
            && is_there(shim.pid)
        {
            *pods.entry(data_dir.to_owned()).or_default() += 1;
        }
    }
    pods
}

/// All shims with their sandboxes' folders, by their command lines.
fn shims() -> Vec<(ShimRecord, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let mut args = line.split(|byte| *byte == 0);
        let is_shim = args.nth(1) == Some(b"shim") && args.next() == Some(b"pod");
        let folder = args.next().map(|arg| Path::new(std::ffi::OsStr::from_bytes(arg)));
        if is_shim
            && let Some(folder) = folder
            && let Some(start_time) = records::process_start_time(pid)
        {
            found.push((ShimRecord { pid, start_time }, folder.to_owned()));
        }
    }
    found
}

async fn load_containers(inner: &Inner, sandbox: &Sandbox) -> Result<()> {
    for id in list_ids(&sandbox.dir.containers())? {
        let dir = sandbox.dir.container(&id);
        let record = records::read::<ContainerRecord>(&dir.record())
            .ok()
            .flatten()
            .filter(|_| is_complete(&dir));
        let Some(record) = record else {
            let parent = lock(&sandbox.state).record.config.cgroup_parent.clone();
            inner.end_processes(None, vec![format!("{parent}/{id}")]).await?;
            let path = dir.path.clone();
            Inner::blocking(move || records::remove_tree(&path)).await?;
            continue;
        };
        let pins = inner.images.pin(record.layers.clone());
        let container = Container::new(dir.clone(), record, life(&dir), pins);
        lock(&sandbox.state).containers.insert(id, Arc::new(container));
    }
    Ok(())
}

fn life(dir: &ContainerDir) -> Life {
    let run = records::read::<RunRecord>(&dir.running()).ok().flatten();
    match (run, records::read::<ExitRecord>(&dir.exit()).ok().flatten()) {
        (run, Some(exit)) => Life::Exited(run, exit),
        (Some(run), None) => Life::Running(run),
        (None, None) => Life::Created,
    }
}

/// Removes groups below the root that belong to nobody.
async fn remove_unknown_cgroups(inner: &Arc<Inner>) -> Result<()> {
    let mut parents = BTreeSet::new();
    let mut containers = BTreeSet::new();
    for sandbox in inner.all_sandboxes() {
        if sandbox.is_ready() {
            parents.insert(lock(&sandbox.state).record.config.cgroup_parent.clone());
        }
        containers.extend(
            sandbox
                .containers()
                .iter()
                .map(|container| lock(&container.record).cgroup.clone()),
        );
    }
    let (root, shims, cgroups) = (
        inner.config.cgroup_root.clone(),
        inner.shim_cgroup(),
        inner.cgroups.clone(),
    );
    Inner::blocking(move || {
        // Each comes before its parent.
        for path in cgroups.descendants(&root) {
            let name = path.rsplit('/').next().unwrap_or("");
            if is_id(name) {
                if !containers.contains(&path) {
                    cgroups.destroy(&path, KILL_PATIENCE)?;
                }
            } else if path != shims && !parents.iter().any(|parent| Path::new(parent).starts_with(&path)) {
                // With something below it, or in it, it stays.
                cgroups.prune(&path, &path);
            }
        }
        Ok(())
    })
    .await
}
