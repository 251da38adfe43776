//! After a pod's end: what it left is removed, then the API is told that it may go.

use std::sync::Arc;

use client::{DeleteParams, Preconditions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Done, Retry, Worker, observe};
use crate::context::Context;
use crate::volumes;

/// How much is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Volumes. Containers and logs stay for people to look at.
    Finished,
    /// Everything.
    Deleted,
}

/// How far the cleaning is.
#[derive(Default)]
pub(super) struct End {
    cleaned: Option<Level>,
    pub busy: bool,
    deleted: bool,
    retry: Retry,
}

impl End {
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.retry.not_before
    }

    pub fn cleaned(&mut self, level: Level, result: Result<(), String>, now: Timestamp) {
        self.busy = false;
        match result {
            Ok(()) => {
                self.cleaned = self.cleaned.max(Some(level));
                self.retry = Retry::default();
            }
            Err(error) => {
                tracing::warn!(error, "cannot remove what a pod left; will retry");
                self.retry.failed(now);
            }
        }
    }

    pub fn deleted(&mut self, result: Result<(), String>, now: Timestamp) {
        self.busy = false;
        match result {
            Ok(()) => self.deleted = true,
            Err(error) => {
                tracing::warn!(error, "cannot delete an ended pod; will retry");
                self.retry.failed(now);
            }
        }
    }
}

impl Worker {
    /// Nothing of the pod is left, here or in the API.
    pub(super) fn is_over(&self) -> bool {
        !self.present && self.end.cleaned == Some(Level::Deleted)
    }

    pub(super) fn clean_up(&mut self) {
        let now = self.now();
        let level = if self.pod.metadata.deletion_timestamp.is_some() {
            Level::Deleted
        } else {
            Level::Finished
        };
        if self.end.busy || self.volumes.busy || self.end.retry.waits(now) {
            return;
        }
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        if self.end.cleaned < Some(level) {
            self.end.busy = true;
            let uid = self.uid.clone();
            self.spawn(async move {
                Done::Cleaned {
                    level,
                    result: remove(&ctx, &pod, &uid, level).await,
                }
            });
        } else if level == Level::Deleted && self.present && !self.end.deleted && self.publishing.is_settled() {
            self.end.busy = true;
            self.spawn(async move { Done::Deleted(delete(&ctx, &pod).await) });
        }
    }
}

async fn remove(ctx: &Arc<Context>, pod: &Pod, uid: &str, level: Level) -> Result<(), String> {
    let dir = ctx.pod_dir(pod);
    if level == Level::Deleted {
        let sandboxes = observe::sandboxes(ctx, uid).await.map_err(|error| error.to_string())?;
        for sandbox in sandboxes {
            ctx.runtime()
                .remove_pod_sandbox(&sandbox.id)
                .await
                .map_err(|error| error.to_string())?;
        }
    }
    let ctx = ctx.clone();
    volumes::blocking(move || {
        volumes::tear_down(&*ctx.config.machine, &dir)?;
        if level == Level::Deleted {
            volumes::remove_tree(dir.root())?;
        }
        Ok(())
    })
    .await
    .map_err(|error| error.to_string())
}

async fn delete(ctx: &Context, pod: &Pod) -> Result<(), String> {
    let meta = &pod.metadata;
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    let (namespace, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    match ctx.client().of::<Pod>().delete(namespace, name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error.report()),
    }
}
