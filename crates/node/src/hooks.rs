//! Lifecycle hooks (pkg/kubelet/lifecycle/handlers.go).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::context::Context;
use crate::probes::http;

/// Runs a hook of a running container to its end.
pub(crate) async fn run(
    ctx: &Arc<Context>,
    container: &Container,
    id: &str,
    ips: &[IpAddr],
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = ctx
            .runtime()
            .exec_sync(id, command.clone(), None)
            .await
            .map_err(|error| error.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat())
            .trim()
            .to_string();
        let code = answer.exit_code;
        return Err(format!(
            "Exec lifecycle hook ({command:?}) failed - exit code {code}, message: {output:?}"
        ));
    }
    if let Some(action) = &hook.http_get {
        let target = http::Target::of(action, container, ips.first().copied())?;
        return http::get(&target, "kube-lifecycle/1.37").await.map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).cast_unsigned())).await;
        return Ok(());
    }
    Err("invalid handler: it has neither exec, httpGet nor sleep".into())
}
