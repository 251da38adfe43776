//! The shim's one loop.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::ShimError;
use super::connection::{Connection, Role};
use super::container::{Container, ReadResult, Stage};
use super::helper::Helper;
use super::namespaces::PodNamespaces;
use crate::cgroup::Cgroups;
use crate::records::{self, SandboxDir, SandboxRecord};
use crate::wire::{Event, Kind};

/// How long the loop may be held up by removing a control group.
const CGROUP_PATIENCE: Duration = Duration::from_millis(200);

/// A command in a container. It is told from others by its connection.
pub(super) struct Command {
    pub container: u64,
    pub stage: CommandStage,
    /// Its connection is gone; it is to be killed.
    pub abandoned: bool,
}

pub(super) enum CommandStage {
    Starting { helper: Helper },
    Running { pid: i32 },
}

/// A pod's shim.
pub(super) struct Shim {
    pub dir: SandboxDir,
    pub record: SandboxRecord,
    pub cgroups: Cgroups,
    pub namespaces: PodNamespaces,
    listener: UnixListener,
    signals: SignalFd,
    pub connections: BTreeMap<u64, Connection>,
    pub containers: BTreeMap<u64, Container>,
    pub commands: BTreeMap<u64, Command>,
    /// Ends of processes whose helper has not reported them yet.
    early_exits: HashMap<i32, i32>,
    /// Connections that wait for everything to have ended.
    pub shutdown: Vec<u64>,
    last_key: u64,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    ContainerHelper(u64),
    CommandHelper(u64),
    Output(u64, usize),
    Input(u64),
    Oom(u64),
}

impl Shim {
    pub fn new(
        dir: SandboxDir,
        record: SandboxRecord,
        cgroups: Cgroups,
        namespaces: PodNamespaces,
        listener: UnixListener,
        signals: SignalFd,
    ) -> Result<Shim, ShimError> {
        listener
            .set_nonblocking(true)
            .map_err(super::context("prepare socket"))?;
        Ok(Shim {
            dir,
            record,
            cgroups,
            namespaces,
            listener,
            signals,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            commands: BTreeMap::new(),
            early_exits: HashMap::new(),
            shutdown: Vec::new(),
            last_key: 0,
            buffer: vec![0; 32 << 10],
        })
    }

    /// A number that was never used before.
    pub fn new_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    /// Serves until it is told to shut down; returns the exit code.
    pub fn run(mut self) -> i32 {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    eprintln!("poll: {error}");
                    return 1;
                }
            };
            for (source, flags) in ready {
                self.handle(source, flags);
            }
            self.finish_ended();
            if self.flush_all() {
                return 0;
            }
        }
    }

    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut polled: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::Signals, self.signals.as_fd(), PollFlags::POLLIN),
            (Source::Listener, self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for (key, connection) in &self.connections {
            let mut flags = PollFlags::empty();
            if self.wants_input_from(connection) {
                flags |= PollFlags::POLLIN;
            }
            if connection.has_outgoing() {
                flags |= PollFlags::POLLOUT;
            }
            polled.push((Source::Connection(*key), connection.stream.as_fd(), flags));
        }
        for (key, container) in &self.containers {
            if let Stage::Starting { helper, .. } = &container.stage {
                polled.push((
                    Source::ContainerHelper(*key),
                    helper.socket().as_fd(),
                    PollFlags::POLLIN,
                ));
            }
            for (index, output) in container.outputs.iter().enumerate() {
                polled.push((Source::Output(*key, index), output.fd(), PollFlags::POLLIN));
            }
            if let Some(fd) = container.input_fd() {
                polled.push((Source::Input(*key), fd, PollFlags::POLLOUT));
            }
            if let Some(oom) = &container.oom {
                polled.push((Source::Oom(*key), oom.fd(), PollFlags::POLLIN));
            }
        }
        for (key, command) in &self.commands {
            if let CommandStage::Starting { helper } = &command.stage {
                polled.push((Source::CommandHelper(*key), helper.socket().as_fd(), PollFlags::POLLIN));
            }
        }
        let mut fds: Vec<PollFd<'_>> = polled.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready: Vec<(Source, PollFlags)> = polled
            .iter()
            .zip(&fds)
            .filter_map(|((source, ..), fd)| Some((*source, fd.revents()?)))
            .filter(|(_, flags)| !flags.is_empty())
            .collect();
        // An output that ends is taken out of its list, so the later ones come first.
        ready.sort_by_key(|(source, _)| match source {
            Source::Output(_, index) => (0, usize::MAX - index),
            _ => (1, 0),
        });
        Ok(ready)
    }

    /// Until the next container's last output is waited for no longer.
    fn timeout(&self) -> PollTimeout {
        let next = self.containers.values().filter_map(|container| match container.stage {
            Stage::Ended { deadline, .. } => Some(deadline),
            _ => None,
        });
        match next.min() {
            Some(deadline) => {
                let wait = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        }
    }

    fn wants_input_from(&self, connection: &Connection) -> bool {
        match connection.role {
            Role::Attach {
                container, stdin: true, ..
            } => self.containers.get(&container).is_none_or(Container::takes_input),
            _ => true,
        }
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Signals => self.reap(),
            Source::Listener => self.accept(),
            Source::Connection(key) => self.handle_connection(key, flags),
            Source::ContainerHelper(key) => self.container_launched(key),
            Source::CommandHelper(key) => self.command_launched(key),
            Source::Output(key, index) => self.pump(key, index),
            Source::Input(key) => {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.flush_input();
                }
            }
            Source::Oom(key) => self.check_oom(key),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            match Connection::new(stream) {
                Ok(connection) => {
                    let key = self.new_key();
                    self.connections.insert(key, connection);
                }
                Err(error) => eprintln!("accept: {error}"),
            }
        }
    }

    fn handle_connection(&mut self, key: u64, flags: PollFlags) {
        if !flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let mut open = connection.receive();
        loop {
            let Some(connection) = self.connections.get_mut(&key) else {
                return;
            };
            match connection.next_frame() {
                Ok(Some((kind, payload))) => open &= self.handle_frame(key, kind, &payload),
                Ok(None) => break,
                Err(error) => {
                    eprintln!("{error}");
                    open = false;
                    break;
                }
            }
        }
        if !open {
            self.close(key);
        }
    }

    /// A connection is gone, and what lived by it goes.
    pub fn close(&mut self, key: u64) {
        let Some(connection) = self.connections.remove(&key) else {
            return;
        };
        match connection.role {
            Role::Attach {
                container, stdin: true, ..
            } => {
                if let Some(container) = self.containers.get_mut(&container) {
                    container.end_input();
                }
            }
            Role::Command => {
                if let Some(command) = self.commands.get_mut(&key) {
                    command.abandoned = true;
                    if let CommandStage::Running { pid } = command.stage {
                        kill(pid, libc::SIGKILL);
                    }
                }
            }
            Role::Request => {
                // Nobody knows of a container whose start nobody waits for.
                for container in self.containers.values() {
                    if let Stage::Starting { helper, requester } = &container.stage
                        && *requester == key
                    {
                        kill(helper.pid.as_raw(), libc::SIGKILL);
                    }
                }
            }
            _ => {}
        }
    }

    /// Sends what can be sent. `true`: the shim has nothing left to do.
    fn flush_all(&mut self) -> bool {
        if !self.shutdown.is_empty() && self.containers.is_empty() {
            for key in std::mem::take(&mut self.shutdown) {
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.answer(&crate::wire::Response::Done);
                    // A few bytes always have room.
                    connection.flush();
                }
            }
            return true;
        }
        let done: Vec<u64> = self
            .connections
            .iter_mut()
            .filter_map(|(key, connection)| (!connection.flush()).then_some(*key))
            .collect();
        for key in done {
            self.close(key);
        }
        false
    }

    fn pump(&mut self, key: u64, index: usize) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let Some(output) = container.outputs.get_mut(index) else {
            return;
        };
        let stream = output.stream;
        match output.read(&mut self.buffer) {
            ReadResult::Data(length) => {
                let data = &self.buffer[..length];
                if let Some(log) = &mut container.log {
                    log.write(stream, data);
                }
                let kind = if stream == super::log::Stream::Stdout {
                    Kind::Stdout
                } else {
                    Kind::Stderr
                };
                for connection in self.connections.values_mut() {
                    let wanted = match connection.role {
                        Role::Attach {
                            container,
                            stdout,
                            stderr,
                            ..
                        } if container == key => match kind {
                            Kind::Stdout => stdout,
                            _ => stderr,
                        },
                        _ => false,
                    };
                    if wanted {
                        connection.send(kind, data);
                    }
                }
            }
            ReadResult::Nothing => {}
            ReadResult::End => {
                container.outputs.remove(index);
                if let Some(log) = &mut container.log {
                    log.end(stream);
                }
            }
        }
    }

    fn check_oom(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if let Some(oom) = &container.oom {
            oom.drain();
        }
        let kills = self.cgroups.oom_kills(&container.record.cgroup);
        if kills > container.oom_kills {
            container.oom_kills = kills;
            let event = Event::Oom {
                id: container.record.id.clone(),
            };
            self.publish(&event);
        }
    }

    pub fn publish(&mut self, event: &Event) {
        for connection in self
            .connections
            .values_mut()
            .filter(|connection| connection.role == Role::Watch)
        {
            connection.send_json(Kind::Event, event);
        }
    }

    /// Collects the children that ended.
    fn reap(&mut self) {
        // The signals themselves carry nothing: several may have become one.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return,
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    eprintln!("wait: {error}");
                    return;
                }
            };
            self.ended(pid, code);
        }
    }

    fn ended(&mut self, pid: i32, code: i32) {
        if let Some(key) = self
            .containers
            .iter()
            .find(|(_, found)| found.pid() == Some(pid))
            .map(|(key, _)| *key)
        {
            self.container_ended(key, code);
            return;
        }
        let command = self
            .commands
            .iter()
            .find(|(_, command)| matches!(command.stage, CommandStage::Running { pid: running } if running == pid));
        if let Some(key) = command.map(|(key, _)| *key) {
            self.command_ended(key, code);
            return;
        }
        let helpers_at_work = self
            .containers
            .values()
            .any(|container| matches!(container.stage, Stage::Starting { .. }))
            || self
                .commands
                .values()
                .any(|command| matches!(command.stage, CommandStage::Starting { .. }));
        if helpers_at_work {
            self.early_exits.insert(pid, code);
        } else {
            self.early_exits.clear();
        }
    }

    /// The exit code of a process that ended before its helper reported it.
    pub fn take_early_exit(&mut self, pid: i32) -> Option<i32> {
        self.early_exits.remove(&pid)
    }

    pub fn container_ended(&mut self, key: u64, code: i32) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let cgroup = &container.record.cgroup;
        let oom = self.cgroups.oom_kills(cgroup) > 0;
        if oom && container.oom_kills == 0 {
            let event = Event::Oom {
                id: container.record.id.clone(),
            };
            container.oom = None;
            container.ended(code, oom);
            self.publish(&event);
        } else {
            container.oom = None;
            container.ended(code, oom);
        }
        let Some(container) = self.containers.get(&key) else {
            return;
        };
        // In the machine's or the pod's PID namespace the other processes are still there.
        self.cgroups.kill_once(&container.record.cgroup);
    }

    pub fn command_ended(&mut self, key: u64, code: i32) {
        self.commands.remove(&key);
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.send_json(Kind::Exit, &code);
            connection.finish();
        }
    }

    /// Publishes the ends of containers whose output is read.
    fn finish_ended(&mut self) {
        let now = Instant::now();
        let done: Vec<u64> = self
            .containers
            .iter()
            .filter(|(_, container)| match &container.stage {
                Stage::Ended { deadline, .. } => container.outputs.is_empty() || now >= *deadline,
                _ => false,
            })
            .map(|(key, _)| *key)
            .collect();
        for key in done {
            let Some(mut container) = self.containers.remove(&key) else {
                continue;
            };
            let Stage::Ended { exit, .. } = &container.stage else {
                continue;
            };
            if let Some(log) = &mut container.log {
                log.end(super::log::Stream::Stdout);
                log.end(super::log::Stream::Stderr);
            }
            if let Err(error) = records::write(&container.dir.exit(), exit) {
                // The runtime will say that the code is not known.
                eprintln!("{error}");
            }
            if let Err(error) = self.cgroups.destroy(&container.record.cgroup, CGROUP_PATIENCE) {
                eprintln!("{error}");
            }
            for connection in self.connections.values_mut() {
                if matches!(connection.role, Role::Attach { container, .. } if container == key) {
                    connection.send_json(Kind::Exit, &exit.exit_code);
                    connection.finish();
                }
            }
            self.publish(&Event::Exited {
                id: container.record.id.clone(),
            });
        }
    }

    /// What of the shim's a helper needs.
    pub fn kept_for_helpers(&self) -> Vec<i32> {
        let mut kept = vec![self.namespaces.host_mounts.as_raw_fd()];
        kept.extend(self.namespaces.shm.as_ref().map(AsRawFd::as_raw_fd));
        kept
    }
}

/// Sends a signal to a process that may just have ended.
pub(super) fn kill(pid: i32, signal: i32) {
    // SAFETY: takes numbers only; the pid is that of a child that was not collected yet.
    unsafe { libc::kill(pid, signal) };
}
