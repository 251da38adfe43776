//! Starting containers, one after the other (`startContainer`, pkg/kubelet/kuberuntime/kuberuntime_container.go).

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use podlife::decide::backoff_key;
use podlife::{Start, Waiting, spec};
use tokio_util::sync::CancellationToken;

use super::sandbox::with_sources;
use super::{Done, Failure, Worker, container_config, image};
use crate::context::Context;
use crate::recorder::Type;
use crate::{hooks, volumes};

/// What could not be configured is tried again after this, if nothing it refers to changes before.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// A pull that failed shows as back-off after this.
const SHOW_ERROR: SignedDuration = SignedDuration::from_secs(2);

struct Job {
    start: Start,
    container: Container,
    backoff: Option<image::PullBackoff>,
    /// As the status tells what went before; the runtime may know nothing of it any more.
    told_count: i32,
}

struct Starter {
    ctx: Arc<Context>,
    pod: Arc<Pod>,
    sandbox_id: String,
    pod_ips: Vec<std::net::IpAddr>,
    cancel: CancellationToken,
}

impl Worker {
    pub(super) fn start(&mut self, starts: &[Start], now: Timestamp) {
        let pod_spec = self.spec();
        let Some(sandbox) = self.runtime.active_sandbox() else {
            return;
        };
        let (sandbox_id, sandbox_ips) = (sandbox.id.clone(), sandbox.ips.clone());
        let mut jobs = Vec::new();
        for start in starts {
            let Some((_, container)) = spec::find(&pod_spec, &start.name) else {
                continue;
            };
            if let (Some(after), Some(count)) = (start.after, start.restart_count)
                && self.noted.insert(start.name.clone(), count) != Some(count)
            {
                self.memory.backoffs.next(&backoff_key(&container), after, now);
            }
            let image = container.image.clone().unwrap_or_default();
            let backoff = self.image_errors.get(&image).and_then(|(failed, error)| {
                let (_, until) = self.image_backoffs.in_force(&image, *failed, now)?;
                Some(image::PullBackoff {
                    until,
                    last_error: error.clone(),
                })
            });
            self.memory.starting.insert(start.name.clone());
            jobs.push(Job {
                start: start.clone(),
                told_count: told_count(&self.previous, &start.name),
                container,
                backoff,
            });
        }
        let cancel = CancellationToken::new();
        self.starting = Some(cancel.clone());
        let host_network = spec::host_network(&pod_spec);
        let starter = Starter {
            pod_ips: if host_network {
                self.ctx.config.ips.clone()
            } else {
                sandbox_ips
            },
            ctx: self.ctx.clone(),
            pod: self.pod.clone(),
            sandbox_id,
            cancel,
        };
        let report = self.report.clone();
        self.spawn(async move {
            for job in jobs {
                if starter.cancel.is_cancelled() {
                    break;
                }
                let result = starter.run(&job).await;
                let _ = report.send(Done::Started {
                    name: job.start.name,
                    result,
                });
            }
            Done::Starts
        });
    }

    pub(super) fn started(&mut self, name: &str, result: Result<(), Failure>, now: Timestamp) {
        self.memory.starting.remove(name);
        let Err(failure) = result else {
            self.waiting.remove(name);
            self.memory.not_before.remove(name);
            return;
        };
        if failure.reason.is_empty() {
            return; // cancelled
        }
        tracing::debug!(
            reason = failure.reason,
            message = failure.message,
            container = name,
            "container not started"
        );
        let why = Waiting {
            reason: failure.reason.into(),
            message: failure.message.clone(),
        };
        self.waiting.insert(name.to_string(), why);
        let delay = if failure.pull { SHOW_ERROR } else { RETRY };
        if failure.pull {
            let image = spec::find(&self.spec(), name)
                .and_then(|(_, c)| c.image)
                .unwrap_or_default();
            self.image_backoffs.next(&image, now, now);
            self.image_errors.insert(image, (now, failure.message));
        }
        let until = failure
            .until
            .unwrap_or_else(|| now.saturating_add(delay).unwrap_or(now));
        self.memory.not_before.insert(name.to_string(), until);
    }
}

impl Starter {
    async fn run(&self, job: &Job) -> Result<(), Failure> {
        let result = self.try_run(job).await;
        if let Err(failure) = &result
            && matches!(
                failure.reason,
                "CreateContainerConfigError"
                    | "CreateContainerError"
                    | "ErrImagePull"
                    | "ImagePullBackOff"
                    | "InvalidImageName"
                    | "ErrImageNeverPull"
                    | "RunContainerError"
            )
        {
            let message = match failure.reason {
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => failure.reason,
                _ => &failure.message,
            };
            self.event(job, Type::Warning, "Failed", format!("Error: {message}"));
        }
        result
    }

    fn event(&self, job: &Job, kind: Type, reason: &str, message: String) {
        self.ctx
            .recorder
            .container(&self.pod, &job.container.name, kind, reason, message);
    }

    async fn try_run(&self, job: &Job) -> Result<(), Failure> {
        let (ctx, runtime, container) = (&self.ctx, self.ctx.runtime(), &job.container);
        if let Some(leftover) = &job.start.leftover {
            runtime
                .remove_container(leftover)
                .await
                .map_err(|error| Failure::new("CreateContainerError", with_sources(&error)))?;
        }
        let pull = image::ensure(ctx, &self.pod, container, job.backoff.as_ref());
        let image = tokio::select! {
            image = pull => image?,
            () = self.cancel.cancelled() => return Err(Failure::new("", "the pod ends")),
        };
        volumes::ensure(ctx, &self.pod)
            .await
            .map_err(|error| Failure::new("CreateContainerConfigError", error.to_string()))?;
        let pod_spec = self.pod.spec.clone().unwrap_or_default();
        let logs = ctx.pod_dir(&self.pod).logs().join(&container.name);
        let start = container_config::Start {
            pod: &self.pod,
            spec: &pod_spec,
            container,
            restart_count: job
                .start
                .restart_count
                .unwrap_or_else(|| next_log(&logs).max(job.told_count)),
            image: &image,
            pod_ips: self.pod_ips.clone(),
        };
        let config = container_config::build(ctx, &start).await?;
        if self.cancel.is_cancelled() {
            return Err(Failure::new("", "the pod ends"));
        }
        let id = runtime
            .create_container(&self.sandbox_id, config)
            .await
            .map_err(|error| Failure::new("CreateContainerError", with_sources(&error)))?;
        let name = &container.name;
        self.event(job, Type::Normal, "Created", format!("Created container: {name}"));
        if let Err(error) = runtime.start_container(&id).await {
            // The container counts as one that ended; the back-off of restarts applies.
            let until = Some(ctx.clock.now());
            return Err(Failure {
                until,
                ..Failure::new("RunContainerError", with_sources(&error))
            });
        }
        self.event(job, Type::Normal, "Started", format!("Started container {name}"));
        self.post_start(job, &id).await
    }

    async fn post_start(&self, job: &Job, id: &str) -> Result<(), Failure> {
        let hook = job
            .container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let run = hooks::run(&self.ctx, &job.container, id, &self.pod_ips, hook);
        let result = tokio::select! {
            result = run => result,
            () = self.cancel.cancelled() => return Err(Failure::new("", "the pod ends")),
        };
        let Err(error) = result else { return Ok(()) };
        tracing::debug!(error, container = job.container.name, "postStart hook failed");
        self.event(job, Type::Warning, "FailedPostStartHook", "PostStartHook failed".into());
        self.event(job, Type::Normal, "Killing", "FailedPostStartHook".into());
        let grace = podlife::shutdown::grace(&self.pod, None, podlife::KillReason::PodEnds);
        let grace = std::time::Duration::try_from(grace).unwrap_or_default();
        if let Err(error) = self.ctx.runtime().stop_container(id, grace).await {
            tracing::warn!(%error, container = job.container.name, "cannot stop a container whose postStart hook failed");
        }
        Err(Failure {
            until: Some(self.ctx.clock.now()),
            ..Failure::new("PostStartHookError", error)
        })
    }
}

/// The restart count of the container that follows what the status tells of; 0 if that is nothing.
fn told_count(status: &PodStatus, name: &str) -> i32 {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let Some(old) = lists.into_iter().flatten().flatten().find(|old| old.name == name) else {
        return 0;
    };
    let state = old.state.clone().unwrap_or_default();
    match state.running.is_some() || state.terminated.is_some() {
        true => old.restart_count.saturating_add(1),
        false => old.restart_count,
    }
}

/// The number after the newest log's: of a container whose predecessors the runtime does not know any more. A log that
/// nothing was written to may be of a start that was interrupted.
fn next_log(folder: &Path) -> i32 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let names = entries
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|found| found.len() > 0))
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let numbers = names.filter_map(|name| name.split(".log").next().and_then(|stem| stem.parse::<i32>().ok()));
    numbers.max().map_or(0, |newest| newest.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ContainerStatus;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_start_that_was_interrupted_is_no_restart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(next_log(&folder.path().join("absent")), 0);
        std::fs::write(folder.path().join("0.log"), "").unwrap();
        assert_eq!(next_log(folder.path()), 0);
        std::fs::write(folder.path().join("0.log"), "it ran\n").unwrap();
        std::fs::write(folder.path().join("0.log.20260101-000000"), "long\n").unwrap();
        assert_eq!(next_log(folder.path()), 1);
    }

    #[test]
    fn what_the_status_tells_is_counted() {
        let count = |state: serde_json::Value, restarts: i32| {
            let container: ContainerStatus = serde_json::from_value(json!({
                "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
            }))
            .unwrap();
            let status = PodStatus {
                container_statuses: Some(vec![container]),
                ..PodStatus::default()
            };
            assert_eq!(told_count(&status, "other"), 0);
            told_count(&status, "c")
        };
        assert_eq!(count(json!({"waiting": {"reason": "ContainerCreating"}}), 0), 0);
        assert_eq!(count(json!({"waiting": {}}), 2), 2);
        assert_eq!(count(json!({"running": {}}), 0), 1);
        assert_eq!(count(json!({"terminated": {"exitCode": 1}}), 3), 4);
    }
}
