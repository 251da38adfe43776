//! Making and stopping the pod's sandbox.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use podlife::decide::SANDBOX;

use super::{Done, Worker, sandbox_config};
use crate::context::Context;
use crate::recorder::Type;
use crate::volumes;

impl Worker {
    pub(super) fn make_sandbox(&mut self, attempt: u32) {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.ctx
                .recorder
                .pod(&self.pod, Type::Normal, "SandboxChanged", message);
        }
        self.memory.sandbox_busy = true;
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        self.spawn(async move { Done::Sandbox(make(&ctx, &pod, attempt).await) });
    }

    pub(super) fn stop_sandboxes(&mut self, ids: Vec<String>) {
        self.memory.sandbox_busy = true;
        let ctx = self.ctx.clone();
        self.spawn(async move {
            for id in ids {
                if let Err(error) = ctx.runtime().stop_pod_sandbox(&id).await {
                    return Done::Sandbox(Err(error.to_string()));
                }
            }
            Done::Sandbox(Ok(()))
        });
    }

    pub(super) fn sandbox_done(&mut self, result: Result<(), String>, now: Timestamp) {
        self.memory.sandbox_busy = false;
        match result {
            Ok(()) => {
                self.sandbox.failures = 0;
                self.memory.not_before.remove(SANDBOX);
                self.volumes.made = true;
            }
            Err(error) => {
                tracing::warn!(error, uid = self.uid, "the pod's sandbox failed; will retry");
                self.memory.not_before.insert(SANDBOX.into(), self.sandbox.failed(now));
            }
        }
    }
}

async fn make(ctx: &Arc<Context>, pod: &Pod, attempt: u32) -> Result<(), String> {
    let Some(spec) = pod.spec.as_ref() else {
        return Err("the pod has no spec".into());
    };
    volumes::make_folder(ctx.pod_dir(pod).root()).map_err(|error| error.to_string())?;
    if let Err(error) = volumes::ensure(ctx, pod).await {
        ctx.recorder.pod(pod, Type::Warning, "FailedMount", error.to_string());
        return Err(error.to_string());
    }
    let config = sandbox_config::build(ctx, pod, spec, attempt);
    if let Err(error) = ctx.runtime().run_pod_sandbox(config).await {
        let message = format!("Failed to create pod sandbox: {}", with_sources(&error));
        ctx.recorder
            .pod(pod, Type::Warning, "FailedCreatePodSandBox", message.clone());
        return Err(message);
    }
    Ok(())
}

/// The error and what it came from.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        source = inner.source();
    }
    out
}
