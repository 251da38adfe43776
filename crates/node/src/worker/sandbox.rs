//! Making and stopping the pod's sandbox.

use std::sync::Arc;

use api::Gvr;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
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
    if let Some(claim) = unprepared_claim(pod) {
        let message = format!(
            "Failed to prepare dynamic resources: claim {claim}: no driver of dynamic resources is registered on this node"
        );
        let reason = "FailedPrepareDynamicResources";
        ctx.recorder.pod(pod, Type::Warning, reason, message.clone());
        return Err(message);
    }
    if let Err(why) = check_runtime(ctx, spec).await {
        let message = format!("Failed to create pod sandbox: {why}");
        ctx.recorder
            .pod(pod, Type::Warning, "FailedCreatePodSandBox", message.clone());
        return Err(message);
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

/// Handlers of runtime classes: the only runtime there is, by the name that it has elsewhere too.
const HANDLERS: [&str; 3] = ["", "runc", "skiff"];

/// Whether the pod gets the runtime that it asks for.
async fn check_runtime(ctx: &Context, spec: &PodSpec) -> Result<(), String> {
    if let Some(message) = unsupported(spec) {
        return Err(message.into());
    }
    let Some(class) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let classes = Gvr::new("node.k8s.io", "v1", "runtimeclasses");
    let found = ctx.client().dynamic(&classes).get("", class).await;
    let found = found.map_err(|error| format!("cannot read RuntimeClass {class}: {}", error.report()))?;
    let handler = found["handler"].as_str().unwrap_or_default();
    if HANDLERS.contains(&handler) {
        return Ok(());
    }
    Err(format!(
        "failed to get sandbox runtime: no runtime for {handler:?} is configured"
    ))
}

/// What the pod counts on for its safety and would not get.
fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    (spec.host_users == Some(false)).then_some(
        "hostUsers is false, but this node's runtime has no user namespaces; \
         leave hostUsers out to run the pod with the node's users",
    )
}

/// A claim on devices that the pod must not run without. Nothing here talks to drivers, so none is ever prepared.
fn unprepared_claim(pod: &Pod) -> Option<&str> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.as_deref());
    let unneeded = |name: &str| {
        let mut statuses = statuses.unwrap_or_default().iter();
        statuses.any(|status| status.name == name && status.resource_claim_name.is_none())
    };
    let claims = pod.spec.as_ref()?.resource_claims.as_deref()?;
    let claim = claims
        .iter()
        .find(|claim| claim.resource_claim_name.is_some() || !unneeded(&claim.name))?;
    Some(&claim.name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_pod_runs_with_fewer_walls_than_it_asked_for() {
        let spec = |users: Option<bool>| PodSpec {
            host_users: users,
            ..PodSpec::default()
        };
        assert_eq!((unsupported(&spec(None)), unsupported(&spec(Some(true)))), (None, None));
        assert!(unsupported(&spec(Some(false))).is_some_and(|message| message.contains("user namespaces")));
    }

    #[test]
    fn pods_wait_for_their_devices() {
        let pod = |claim: serde_json::Value, status: serde_json::Value| -> Pod {
            let spec = json!({"containers": [], "resourceClaims": [claim]});
            serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": {"resourceClaimStatuses": status}}))
                .expect("a pod")
        };
        let given = json!({"name": "gpu", "resourceClaimName": "c"});
        let made = json!({"name": "gpu", "resourceClaimTemplateName": "t"});
        assert_eq!(unprepared_claim(&Pod::default()), None);
        assert_eq!(unprepared_claim(&pod(given, json!([]))), Some("gpu"));
        let there = json!([{"name": "gpu", "resourceClaimName": "c"}]);
        assert_eq!(unprepared_claim(&pod(made.clone(), there)), Some("gpu"));
        assert_eq!(unprepared_claim(&pod(made, json!([{"name": "gpu"}]))), None);
    }
}
