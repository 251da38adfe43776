//! Killing containers (`killContainer`, pkg/kubelet/kuberuntime/kuberuntime_container.go).

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use podlife::{Kill, shutdown, spec};

use super::{Done, Worker};
use crate::context::Context;
use crate::hooks;
use crate::recorder::Type;

const RETRY: SignedDuration = SignedDuration::from_secs(2);

impl Worker {
    pub(super) fn kill(&mut self, kill: Kill) {
        self.memory.killing.insert(kill.id.clone(), kill.deadline);
        if kill.restart {
            self.memory.restart.insert(kill.id.clone());
        }
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        let ips = self.runtime.active_sandbox().map(|s| s.ips.clone()).unwrap_or_default();
        self.spawn(async move {
            let result = carry_out(&ctx, &pod, &kill, ips).await;
            Done::Killed { id: kill.id, result }
        });
    }

    pub(super) fn killed(&mut self, id: &str, result: Result<(), String>, now: Timestamp) {
        self.memory.killing.remove(id);
        if let Err(error) = result {
            tracing::warn!(
                error,
                uid = self.uid,
                container = id,
                "cannot kill a container; will retry"
            );
            self.ctx.recorder.pod(
                &self.pod,
                Type::Warning,
                "FailedKillPod",
                format!("error killing pod: {error}"),
            );
            self.memory
                .not_before
                .insert(id.to_string(), now.saturating_add(RETRY).unwrap_or(now));
        } else {
            self.memory.not_before.remove(id);
        }
    }
}

async fn carry_out(ctx: &Arc<Context>, pod: &Pod, kill: &Kill, ips: Vec<std::net::IpAddr>) -> Result<(), String> {
    if !kill.hurry {
        ctx.recorder
            .container(pod, &kill.name, Type::Normal, "Killing", kill.message.clone());
        pre_stop(ctx, pod, kill, &ips).await;
    }
    let left = shutdown::remaining(kill.deadline, ctx.clock.now());
    let left = Duration::try_from(left).unwrap_or_default();
    ctx.runtime()
        .stop_container(&kill.id, left)
        .await
        .map_err(|error| error.to_string())
}

/// Runs the hook, for as long as the grace period lasts.
async fn pre_stop(ctx: &Arc<Context>, pod: &Pod, kill: &Kill, ips: &[std::net::IpAddr]) {
    let container = pod
        .spec
        .as_ref()
        .and_then(|s| spec::find(s, &kill.name))
        .map(|(_, container)| container);
    let Some(container) = container else { return };
    let Some(hook) = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref())
    else {
        return;
    };
    let left = ctx.clock.until(kill.deadline);
    match tokio::time::timeout(left, hooks::run(ctx, &container, &kill.id, ips, hook)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(error, container = kill.name, "preStop hook failed");
            ctx.recorder.container(
                pod,
                &kill.name,
                Type::Warning,
                "FailedPreStopHook",
                "PreStopHook failed",
            );
        }
        Err(_) => tracing::debug!(container = kill.name, "preStop hook did not end in the grace period"),
    }
}
