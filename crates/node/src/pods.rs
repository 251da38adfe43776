//! Which pods are this node's: a worker for each, and an end for what no pod owns.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use runtime::{ContainerFilter, PodSandboxFilter, PodSandboxStatus, RuntimeEvent};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::paths::PodDir;
use crate::worker::Worker;
use crate::{labels, paths, volumes};

/// Gives every pod of the node its worker, until the node stops.
pub(crate) async fn dispatch(ctx: Arc<Context>, tracker: TaskTracker) {
    tokio::select! {
        () = ctx.pods.synced() => {}
        () = ctx.stop.cancelled() => return,
    }
    let mut changes = ctx.pods.subscribe();
    let mut events = ctx.runtime().events();
    let mut owners = Owners::default();
    while let Some(change) = changes.try_next() {
        apply(&ctx, &tracker, change);
    }
    remove_orphans(&ctx, &tracker).await;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            change = changes.next() => apply(&ctx, &tracker, change),
            event = events.next() => match event {
                Some(RuntimeEvent::Resync) => {
                    ctx.workers.pulse_all();
                    remove_orphans(&ctx, &tracker).await;
                }
                Some(event) => owners.tell(&ctx, &event).await,
                None => return tracing::error!("the runtime's events ended"),
            },
        }
    }
}

fn apply(ctx: &Arc<Context>, tracker: &TaskTracker, change: client::Change<Pod>) {
    let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone();
    if let Some(old) = &change.old
        && change.new.as_ref().map(uid) != Some(uid(old))
    {
        ctx.workers.tell(old, false);
    }
    let Some(new) = &change.new else { return };
    if let Some(signal) = ctx.workers.tell(new, true) {
        tracker.spawn(Worker::new(ctx.clone(), signal).run());
    }
}

/// Which pod a sandbox belongs to.
#[derive(Default)]
struct Owners(HashMap<String, String>);

impl Owners {
    async fn tell(&mut self, ctx: &Context, event: &RuntimeEvent) {
        let Some(sandbox) = event.sandbox_id() else { return };
        if !self.0.contains_key(sandbox) {
            match ctx.runtime().pod_sandbox_status(sandbox).await {
                Ok(status) => drop(self.0.insert(sandbox.to_string(), status.metadata.uid)),
                // Gone already: whoever removed it knows.
                Err(_) => return,
            }
        }
        if let Some(uid) = self.0.get(sandbox) {
            ctx.workers.pulse(uid);
        }
        if matches!(event, RuntimeEvent::SandboxRemoved { .. }) {
            self.0.remove(sandbox);
        }
    }
}

/// Ends sandboxes and removes folders of pods that the API does not have.
async fn remove_orphans(ctx: &Arc<Context>, tracker: &TaskTracker) {
    let sandboxes = match ctx.runtime().list_pod_sandboxes(PodSandboxFilter::default()).await {
        Ok(sandboxes) => sandboxes,
        Err(error) => return tracing::warn!(%error, "cannot list sandboxes; orphans stay until the next start"),
    };
    let known: BTreeSet<String> = ctx
        .pods
        .list()
        .iter()
        .filter_map(|pod| pod.metadata.uid.clone())
        .collect();
    let is_orphan = |uid: &str| !known.contains(uid) && !ctx.workers.has(uid);
    let mut orphans: HashMap<String, Orphan> = HashMap::new();
    for sandbox in sandboxes {
        // A sandbox without the node's label is somebody else's.
        let Some(uid) = sandbox.labels.get(labels::POD_UID).cloned() else {
            continue;
        };
        if is_orphan(&uid) {
            orphans.entry(uid).or_default().sandboxes.push(sandbox);
        }
    }
    for folder in std::fs::read_dir(ctx.pods_dir()).into_iter().flatten().flatten() {
        let path = folder.path();
        if let Some(uid) = paths::uid_of(&path).filter(|uid| is_orphan(uid)) {
            orphans.entry(uid).or_default().folders.push(path);
        }
    }
    for (uid, orphan) in orphans {
        tracing::info!(uid, "removing what is left of a pod that does not exist any more");
        let ctx = ctx.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = ctx.stop.cancelled() => {}
                () = orphan.end(&ctx, &uid) => {}
            }
        });
    }
}

#[derive(Default)]
struct Orphan {
    sandboxes: Vec<PodSandboxStatus>,
    folders: Vec<PathBuf>,
}

impl Orphan {
    async fn end(&self, ctx: &Arc<Context>, uid: &str) {
        let mut delay = Duration::from_secs(1);
        while let Err(error) = self.try_end(ctx).await {
            tracing::warn!(error, uid, "cannot remove an orphaned pod; will retry");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(60));
        }
    }

    async fn try_end(&self, ctx: &Arc<Context>) -> Result<(), String> {
        for sandbox in &self.sandboxes {
            stop_containers(ctx, &sandbox.id).await?;
            ctx.runtime()
                .remove_pod_sandbox(&sandbox.id)
                .await
                .map_err(|error| error.to_string())?;
        }
        let (ctx, folders) = (ctx.clone(), self.folders.clone());
        volumes::blocking(move || {
            for folder in folders {
                let dir = PodDir::at(folder);
                volumes::tear_down(&*ctx.config.machine, &dir)?;
                volumes::remove_tree(dir.root())?;
            }
            Ok(())
        })
        .await
        .map_err(|error| error.to_string())
    }
}

/// All at once, each with the grace that its pod asked for.
async fn stop_containers(ctx: &Context, sandbox_id: &str) -> Result<(), String> {
    let filter = ContainerFilter {
        sandbox_id: Some(sandbox_id.to_string()),
        state: Some(runtime::ContainerState::Running),
        ..ContainerFilter::default()
    };
    let running = ctx
        .runtime()
        .list_containers(filter)
        .await
        .map_err(|error| error.to_string())?;
    let stops = running.iter().map(|container| {
        let grace = container
            .annotations
            .get(labels::GRACE)
            .and_then(|text| text.parse().ok())
            .unwrap_or(30u64);
        ctx.runtime().stop_container(&container.id, Duration::from_secs(grace))
    });
    let results = futures_util::future::join_all(stops).await;
    results
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(|error| error.to_string())
}
