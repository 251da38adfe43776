//! Containers: creating, starting, stopping, removing.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::shim_client::call;
use super::{Container, Inner, KILL_PATIENCE, Life, Sandbox, lock};
use crate::records::{self, ContainerRecord, make_private_dir, new_id};
use crate::wire::{FailureKind, Request, Response};
use crate::{ContainerConfig, LinuxContainerResources, Result, RuntimeError, RuntimeEvent, reason};

impl Inner {
    pub(super) async fn create_container(
        self: Arc<Self>,
        sandbox_id: String,
        config: ContainerConfig,
    ) -> Result<String> {
        let sandbox = self.sandbox(&sandbox_id)?;
        let _verb = sandbox.verbs.lock().await;
        sandbox.need_ready()?;
        check_container(&config)?;
        let image = self
            .images
            .for_container(&config.image)
            .ok_or_else(|| RuntimeError::NotFound {
                what: "image",
                id: config.image.clone(),
            })?;
        let id = new_id()?;
        let dir = sandbox.dir.container(&id);
        let (log_directory, cgroup_parent) = {
            let state = lock(&sandbox.state);
            (
                state.record.config.log_directory.clone(),
                state.record.config.cgroup_parent.clone(),
            )
        };
        let log_path = match config.log_path.as_str() {
            "" => PathBuf::new(),
            path => log_directory.join(path),
        };
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox_id.clone(),
            created_at: Timestamp::now(),
            config,
            image_id: image.id,
            image_ref: image.reference,
            image_config: image.config,
            layers: image.layers,
            layers_dir: self.images.layers_dir(),
            writable_layer: self.images.layering(),
            log_path,
            cgroup: format!("{cgroup_parent}/{id}"),
        };
        let made = (|| {
            for folder in [dir.rootfs(), dir.upper(), dir.work()] {
                make_private_dir(&folder)?;
            }
            // The container's root folder, which must not be ours only.
            use std::os::unix::fs::PermissionsExt;
            for folder in [dir.rootfs(), dir.upper()] {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
                    .map_err(RuntimeError::io("open up", &folder))?;
            }
            // A folder without it is a leftover.
            records::write(&dir.record(), &record)
        })();
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&dir.path);
            return Err(error);
        }
        let container = Arc::new(Container::new(dir, record, Life::Created, image.pins));
        lock(&sandbox.state).containers.insert(id.clone(), container);
        self.emit(RuntimeEvent::ContainerCreated {
            sandbox_id,
            container_id: id.clone(),
        });
        Ok(id)
    }

    pub(super) async fn start_container(self: Arc<Self>, id: String) -> Result<()> {
        let (sandbox, container) = self.container(&id)?;
        if !matches!(*container.life.borrow(), Life::Created) {
            return Err(container.wrong_state("created"));
        }
        sandbox.need_ready()?;
        let response = call(&sandbox.dir, &Request::Start { id: id.clone() })
            .await
            .map_err(|error| RuntimeError::Shim {
                id: sandbox.id.clone(),
                message: error.to_string(),
            })?;
        match response {
            Response::Started { .. } => {
                self.load_run(&container);
                Ok(())
            }
            Response::Failed(failure) => {
                self.load_exit(&container);
                let reason = match failure.kind {
                    FailureKind::CannotRun => reason::CONTAINER_CANNOT_RUN,
                    _ => reason::START_ERROR,
                };
                Err(RuntimeError::Start {
                    id,
                    reason,
                    message: failure.message,
                })
            }
            _ => Err(RuntimeError::Shim {
                id: sandbox.id.clone(),
                message: "it answered out of turn".to_owned(),
            }),
        }
    }

    pub(super) async fn stop_container(self: Arc<Self>, id: String, timeout: Duration) -> Result<()> {
        let Some((sandbox, container)) = self.find_container(&id) else {
            return Ok(());
        };
        if !timeout.is_zero() && container.run().is_some() {
            let signal = {
                let record = lock(&container.record);
                stop_signal(&record)
            };
            self.signal(&sandbox, &container, signal, Everybody::No).await;
            if container.wait_until_ended(timeout).await {
                return Ok(());
            }
        }
        self.kill_container(&sandbox, &container).await
    }

    /// Kills a container's processes and waits for its end. One that was never started is left as it is.
    async fn kill_container(&self, sandbox: &Sandbox, container: &Container) -> Result<()> {
        if container.run().is_none() {
            return Ok(());
        }
        self.signal(sandbox, container, libc::SIGKILL, Everybody::Yes).await;
        if container.wait_until_ended(KILL_PATIENCE).await {
            return Ok(());
        }
        Err(RuntimeError::WrongState {
            what: "container",
            id: container.id.clone(),
            state: "still running after SIGKILL; a process in it sleeps in the kernel".to_owned(),
            needed: "exited",
        })
    }

    async fn signal(&self, sandbox: &Sandbox, container: &Container, signal: i32, everybody: Everybody) {
        let request = Request::Signal {
            id: container.id.clone(),
            signal,
            all: everybody == Everybody::Yes,
        };
        match call(&sandbox.dir, &request).await {
            // Not running is what is wanted.
            Ok(_) => {}
            // Then the shim is dead, which is dealt with where its events are followed.
            Err(error) => tracing::debug!(container = %container.id, %error, "cannot signal a container"),
        }
    }

    pub(super) async fn remove_container(self: Arc<Self>, id: String) -> Result<()> {
        let Some((sandbox, container)) = self.find_container(&id) else {
            return Ok(());
        };
        let _verb = sandbox.verbs.lock().await;
        if !lock(&sandbox.state).containers.contains_key(&id) {
            return Ok(());
        }
        self.kill_container(&sandbox, &container).await?;
        let cgroup = lock(&container.record).cgroup.clone();
        self.end_processes(None, vec![cgroup]).await?;
        // From here on the folder is a leftover.
        let record = container.dir.record();
        fs::remove_file(&record).map_err(RuntimeError::io("remove", &record))?;
        let path = container.dir.path.clone();
        Inner::blocking(move || records::remove_tree(&path)).await?;
        lock(&sandbox.state).containers.remove(&id);
        lock(&container.layers).take();
        self.images.collect_layers();
        self.emit(RuntimeEvent::ContainerRemoved {
            sandbox_id: sandbox.id.clone(),
            container_id: id,
        });
        Ok(())
    }

    pub(super) async fn update_container_resources(
        self: Arc<Self>,
        id: String,
        resources: LinuxContainerResources,
    ) -> Result<()> {
        let (_, container) = self.container(&id)?;
        let mut record = lock(&container.record).clone();
        if container.run().is_some() {
            self.cgroups.apply(&record.cgroup, &resources)?;
        }
        merge(&mut record.config.resources, resources);
        records::write(&container.dir.record(), &record)?;
        *lock(&container.record) = record;
        Ok(())
    }

    pub(super) async fn reopen_container_log(self: Arc<Self>, id: String) -> Result<()> {
        let (sandbox, container) = self.container(&id)?;
        match call(&sandbox.dir, &Request::ReopenLog { id }).await {
            Ok(Response::Done) => Ok(()),
            Ok(Response::Failed(failure)) if failure.kind == FailureKind::NotRunning => {
                Err(container.wrong_state("running"))
            }
            Ok(Response::Failed(failure)) => Err(RuntimeError::Shim {
                id: sandbox.id.clone(),
                message: failure.message,
            }),
            Ok(_) => Err(RuntimeError::Shim {
                id: sandbox.id.clone(),
                message: "it answered out of turn".to_owned(),
            }),
            Err(error) => Err(RuntimeError::Shim {
                id: sandbox.id.clone(),
                message: error.to_string(),
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Everybody {
    Yes,
    No,
}

impl Container {
    /// `false`: it still runs after so long.
    async fn wait_until_ended(&self, patience: Duration) -> bool {
        let mut life = self.life.subscribe();
        let ended = life.wait_for(|life| matches!(life, Life::Exited(..)));
        matches!(tokio::time::timeout(patience, ended).await, Ok(Ok(_)))
    }
}

fn check_container(config: &ContainerConfig) -> Result<()> {
    let invalid = |field, message: String| Err(RuntimeError::Invalid { field, message });
    let log = Path::new(&config.log_path);
    if !log.components().all(|part| matches!(part, Component::Normal(_))) {
        return invalid(
            "log_path",
            format!("{:?} is not a path below the log directory", config.log_path),
        );
    }
    for mount in &config.mounts {
        let inside = Path::new(&mount.container_path);
        if !inside.is_absolute() || inside.components().any(|part| part == Component::ParentDir) {
            return invalid(
                "mounts",
                format!("{:?} is not an absolute path without ..", mount.container_path),
            );
        }
        if inside == Path::new("/") {
            return invalid("mounts", "the root cannot be mounted over".to_owned());
        }
    }
    if !config.stop_signal.is_empty() && parse_signal(&config.stop_signal).is_none() {
        return invalid("stop_signal", format!("{:?} is not a signal", config.stop_signal));
    }
    for variable in &config.envs {
        if variable.key.is_empty() || variable.key.contains(['=', '\0']) || variable.value.contains('\0') {
            return invalid("envs", format!("{:?} cannot be a variable", variable.key));
        }
    }
    Ok(())
}

fn stop_signal(record: &ContainerRecord) -> i32 {
    [&record.config.stop_signal, &record.image_config.stop_signal]
        .into_iter()
        .find_map(|signal| parse_signal(signal))
        .unwrap_or(libc::SIGTERM)
}

/// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(above) = name.strip_prefix("RTMIN") {
        let offset: i32 = if above.is_empty() {
            0
        } else {
            above.strip_prefix('+')?.parse().ok()?
        };
        return Some(34 + offset).filter(|signal| (34..=64).contains(signal));
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        let offset: i32 = if below.is_empty() {
            0
        } else {
            below.strip_prefix('-')?.parse().ok()?
        };
        return Some(64 - offset).filter(|signal| (34..=64).contains(signal));
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}

fn merge(into: &mut LinuxContainerResources, from: LinuxContainerResources) {
    let LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_bytes,
        pids_limit,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepage_limits,
    } = from;
    into.cpu_period = cpu_period.or(into.cpu_period);
    into.cpu_quota = cpu_quota.or(into.cpu_quota);
    into.cpu_shares = cpu_shares.or(into.cpu_shares);
    into.memory_limit_bytes = memory_limit_bytes.or(into.memory_limit_bytes);
    into.pids_limit = pids_limit.or(into.pids_limit);
    into.oom_score_adj = oom_score_adj.or(into.oom_score_adj);
    into.cpuset_cpus = cpuset_cpus.or(into.cpuset_cpus.take());
    into.cpuset_mems = cpuset_mems.or(into.cpuset_mems.take());
    into.hugepage_limits.extend(hugepage_limits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, signal) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("", None),
            ("0", None),
            ("SIGFOO", None),
        ] {
            assert_eq!(parse_signal(text), signal, "{text}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let config = |log_path: &str, mount: &str| ContainerConfig {
            log_path: log_path.into(),
            mounts: vec![crate::Mount {
                container_path: mount.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(check_container(&config("app/0.log", "/data")).is_ok());
        assert!(check_container(&config("../0.log", "/data")).is_err());
        assert!(check_container(&config("/etc/0.log", "/data")).is_err());
        assert!(check_container(&config("", "data")).is_err());
        assert!(check_container(&config("", "/a/../b")).is_err());
        assert!(check_container(&config("", "/")).is_err());
    }
}
