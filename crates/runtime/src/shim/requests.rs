//! What the shim is asked to do.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;

use jiff::Timestamp;

use super::connection::Role;
use super::container::{Container, Stage, Streams};
use super::event_loop::{Command, CommandStage, Shim, kill};
use super::helper::{Helper, setup_failure};
use super::launch::{Exec, Start, Stdio};
use super::log::Log;
use crate::reason;
use crate::records::{self, ContainerRecord, ExitRecord, RunRecord, is_id};
use crate::wire::{Event, Failure, FailureKind, Kind, Request, Response, ShimState, Size};

fn not_running() -> Failure {
    Failure {
        kind: FailureKind::NotRunning,
        message: "the container does not run".to_owned(),
        exit_code: 128,
    }
}

impl Shim {
    /// `false`: the connection is to be closed.
    pub(super) fn handle_frame(&mut self, key: u64, kind: Kind, payload: &[u8]) -> bool {
        let Some(role) = self.connections.get(&key).map(|connection| connection.role) else {
            return false;
        };
        match (kind, role) {
            (Kind::Request, Role::Request) => match serde_json::from_slice(payload) {
                Ok(request) => {
                    self.handle_request(key, request);
                    true
                }
                Err(error) => {
                    eprintln!("request: {error}");
                    false
                }
            },
            (
                Kind::Stdin,
                Role::Attach {
                    container, stdin: true, ..
                },
            ) => {
                if let Some(container) = self.containers.get_mut(&container) {
                    container.write_input(payload);
                }
                true
            }
            (
                Kind::StdinEnd,
                Role::Attach {
                    container, stdin: true, ..
                },
            ) => {
                if let Some(container) = self.containers.get_mut(&container) {
                    container.end_input();
                }
                true
            }
            (Kind::Resize, Role::Attach { container, .. }) => {
                if let (Some(container), Ok(size)) =
                    (self.containers.get(&container), serde_json::from_slice::<Size>(payload))
                {
                    container.resize(size);
                }
                true
            }
            _ => false,
        }
    }

    fn handle_request(&mut self, key: u64, request: Request) {
        let response = match request {
            Request::Watch => {
                self.set_role(key, Role::Watch);
                let running = self
                    .containers
                    .values()
                    .map(|container| container.record.id.clone())
                    .collect();
                let state = Response::State(ShimState { running });
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.send_json(Kind::Response, &state);
                }
                return;
            }
            Request::Start { id } => match self.start(key, &id) {
                Ok(()) => return,
                Err(failure) => Response::Failed(failure),
            },
            Request::Exec {
                id,
                command,
                tty,
                stdin,
                stdout,
                stderr,
            } => match self.exec(key, &id, &command, tty, [stdin, stdout, stderr]) {
                Ok(()) => return,
                Err(failure) => Response::Failed(failure),
            },
            Request::Attach {
                id,
                stdin,
                stdout,
                stderr,
            } => match self.find(&id) {
                Some(container) => {
                    let tty = self.containers[&container].record.config.tty;
                    self.set_role(
                        key,
                        Role::Attach {
                            container,
                            stdin,
                            stdout,
                            stderr,
                        },
                    );
                    if let Some(connection) = self.connections.get_mut(&key) {
                        connection.send_json(Kind::Response, &Response::Started { pid: 0, tty });
                    }
                    return;
                }
                None => Response::Failed(not_running()),
            },
            Request::Signal { id, signal, all } => self.signal(&id, signal, all),
            Request::ReopenLog { id } => self.reopen_log(&id),
            Request::Shutdown => {
                self.shut_down(key);
                return;
            }
        };
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.answer(&response);
        }
    }

    fn set_role(&mut self, key: u64, role: Role) {
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.role = role;
        }
    }

    /// A running container.
    fn find(&self, id: &str) -> Option<u64> {
        self.containers
            .iter()
            .find(|(_, container)| container.record.id == id && container.pid().is_some())
            .map(|(key, _)| *key)
    }

    fn start(&mut self, requester: u64, id: &str) -> Result<(), Failure> {
        if !is_id(id) || self.containers.values().any(|container| container.record.id == id) {
            return Err(setup_failure("the container is started already"));
        }
        if !self.shutdown.is_empty() {
            return Err(setup_failure("the pod is being stopped"));
        }
        let dir = self.dir.container(id);
        let record: ContainerRecord = records::read(&dir.record())
            .map_err(setup_failure)?
            .ok_or_else(|| setup_failure("the container is gone"))?;
        let (streams, stdio) = if record.config.tty {
            (Streams::default(), Stdio::default())
        } else {
            Streams::pipes(record.config.stdin).map_err(setup_failure)?
        };
        let log = match record.log_path.as_os_str().is_empty() {
            true => None,
            false => Some(
                Log::open(&record.log_path, self.record.log_rotation)
                    .map_err(|error| setup_failure(format!("open log {}: {error}", record.log_path.display())))?,
            ),
        };
        let mut folders = std::fs::DirBuilder::new();
        folders.recursive(true).mode(0o700);
        folders.create(dir.oci_state()).map_err(setup_failure)?;
        let mut kept = self.kept_for_helpers();
        kept.extend(stdio.raw());
        let start = Start {
            sandbox: &self.record,
            sandbox_dir: &self.dir,
            container: &record,
            dir: &dir,
            namespaces: &self.namespaces,
            cgroups: &self.cgroups,
            stdio,
        };
        let helper = Helper::start(&kept, || start.run()).map_err(setup_failure)?;
        let key = self.new_key();
        let stage = Stage::Starting { helper, requester };
        self.containers
            .insert(key, Container::new(record, dir, stage, streams, log));
        Ok(())
    }

    /// A container's helper has reported, or ended without a word.
    pub(super) fn container_launched(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Stage::Starting { helper, requester } = &container.stage else {
            return;
        };
        let requester = *requester;
        let result = helper.result().and_then(|launched| {
            let run = RunRecord {
                pid: launched.pid,
                start_time: launched.start_time,
                started_at: Timestamp::now(),
                user: launched.user,
            };
            if let Some(master) = launched.master {
                container.connect_terminal(master).map_err(setup_failure)?;
            }
            records::write(&container.dir.running(), &run).map_err(setup_failure)?;
            Ok(launched.pid)
        });
        let response = match result {
            Ok(pid) => {
                container.stage = Stage::Running { pid };
                if !self.shutdown.is_empty() {
                    kill(pid, libc::SIGKILL);
                }
                container.oom = self
                    .cgroups
                    .watch_oom(&container.record.cgroup)
                    .unwrap_or_else(|error| {
                        // It is looked at when the container ends.
                        eprintln!("{error}");
                        None
                    });
                Response::Started {
                    pid,
                    tty: container.record.config.tty,
                }
            }
            Err(failure) => {
                self.start_failed(key, &failure);
                Response::Failed(failure)
            }
        };
        if let Some(connection) = self.connections.get_mut(&requester) {
            connection.answer(&response);
        }
        let Response::Started { pid, .. } = response else {
            return;
        };
        if let Some(container) = self.containers.get(&key) {
            let event = Event::Started {
                id: container.record.id.clone(),
            };
            self.publish(&event);
        }
        if let Some(code) = self.take_early_exit(pid) {
            self.container_ended(key, code);
        }
    }

    fn start_failed(&mut self, key: u64, failure: &Failure) {
        let Some(container) = self.containers.remove(&key) else {
            return;
        };
        let reason = match failure.kind {
            FailureKind::CannotRun => reason::CONTAINER_CANNOT_RUN,
            FailureKind::NotRunning | FailureKind::Setup => reason::START_ERROR,
        };
        let exit = ExitRecord {
            exit_code: failure.exit_code,
            reason: reason.to_owned(),
            message: failure.message.clone(),
            finished_at: Timestamp::now(),
        };
        if let Err(error) = records::write(&container.dir.exit(), &exit) {
            eprintln!("{error}");
        }
        // A process that got half way is in there.
        if let Err(error) = self
            .cgroups
            .destroy(&container.record.cgroup, std::time::Duration::from_secs(1))
        {
            eprintln!("{error}");
        }
        self.publish(&Event::Exited {
            id: container.record.id.clone(),
        });
    }

    fn exec(&mut self, key: u64, id: &str, command: &[String], tty: bool, wanted: [bool; 3]) -> Result<(), Failure> {
        let found = self.find(id).ok_or_else(not_running)?;
        let fds = self
            .connections
            .get_mut(&key)
            .map(|connection| connection.take_fds())
            .unwrap_or_default();
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| -> Option<OwnedFd> { if wanted { fds.next() } else { None } };
        let stdio = match tty {
            true => Stdio::default(),
            false => Stdio {
                stdin: next(wanted[0]),
                stdout: next(wanted[1]),
                stderr: next(wanted[2]),
            },
        };
        let container = &self.containers[&found];
        let mut kept = self.kept_for_helpers();
        kept.extend(stdio.raw());
        let exec = Exec {
            container: &container.record,
            dir: &container.dir,
            command,
            tty,
            stdio,
        };
        let helper = Helper::start(&kept, || exec.run()).map_err(setup_failure)?;
        self.set_role(key, Role::Command);
        let stage = CommandStage::Starting { helper };
        self.commands.insert(
            key,
            Command {
                container: found,
                stage,
                abandoned: false,
            },
        );
        Ok(())
    }

    /// A command's helper has reported, or ended without a word.
    pub(super) fn command_launched(&mut self, key: u64) {
        let Some(command) = self.commands.get_mut(&key) else {
            return;
        };
        let CommandStage::Starting { helper } = &command.stage else {
            return;
        };
        match helper.result() {
            Ok(launched) => {
                let pid = launched.pid;
                command.stage = CommandStage::Running { pid };
                if command.abandoned || !self.containers.contains_key(&command.container) {
                    kill(pid, libc::SIGKILL);
                }
                if let Some(connection) = self.connections.get_mut(&key) {
                    if let Some(master) = &launched.master {
                        connection.send_fd(Kind::Master, master);
                    }
                    connection.send_json(
                        Kind::Response,
                        &Response::Started {
                            pid,
                            tty: launched.master.is_some(),
                        },
                    );
                }
                if let Some(code) = self.take_early_exit(pid) {
                    self.command_ended(key, code);
                }
            }
            Err(failure) => {
                self.commands.remove(&key);
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.answer(&Response::Failed(failure));
                }
            }
        }
    }

    fn signal(&mut self, id: &str, signal: i32, all: bool) -> Response {
        let Some(container) = self.containers.values().find(|container| container.record.id == id) else {
            return Response::Failed(not_running());
        };
        match &container.stage {
            Stage::Running { pid } => kill(*pid, signal),
            // Not set up yet: whatever the signal, it is not to come up.
            Stage::Starting { helper, .. } => kill(helper.pid.as_raw(), libc::SIGKILL),
            Stage::Ended { .. } => {}
        }
        if all && let Ok(signal) = nix::sys::signal::Signal::try_from(signal) {
            self.cgroups.signal(&container.record.cgroup, signal);
        }
        Response::Done
    }

    fn reopen_log(&mut self, id: &str) -> Response {
        let Some(container) = self.containers.values_mut().find(|container| container.record.id == id) else {
            return Response::Failed(not_running());
        };
        match container.log.as_mut().map_or(Ok(()), Log::reopen) {
            Ok(()) => Response::Done,
            Err(error) => Response::Failed(setup_failure(format!("open log: {error}"))),
        }
    }

    fn shut_down(&mut self, key: u64) {
        self.shutdown.push(key);
        for container in self.containers.values() {
            if let Stage::Starting { helper, .. } = &container.stage {
                kill(helper.pid.as_raw(), libc::SIGKILL);
            }
            self.cgroups.kill_once(&container.record.cgroup);
            if let Some(pid) = container.pid() {
                kill(pid, libc::SIGKILL);
            }
        }
    }
}
