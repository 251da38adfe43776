//! A container in its shim: streams, log, and how far it is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::helper::Helper;
use super::launch::Stdio;
use super::log::{Log, Stream};
use crate::cgroup::OomWatch;
use crate::reason;
use crate::records::{ContainerDir, ContainerRecord, ExitRecord};
use crate::wire::Size;

/// How long output is waited for after the end, from processes that hold a stream and cannot be killed.
const DRAIN: Duration = Duration::from_secs(2);
/// Input that the container does not read is held up to this size; then the sender is not read either.
const MAX_INPUT: usize = 64 << 10;

/// How far a container is.
pub(super) enum Stage {
    /// A helper is setting it up, for a connection.
    Starting { helper: Helper, requester: u64 },
    /// Its process runs.
    Running { pid: i32 },
    /// Its process ended; its last output is being read.
    Ended { exit: ExitRecord, deadline: Instant },
}

/// See the module.
pub(super) struct Container {
    pub record: ContainerRecord,
    pub dir: ContainerDir,
    pub stage: Stage,
    pub outputs: Vec<Output>,
    input: Option<Input>,
    pub log: Option<Log>,
    pub oom: Option<OomWatch>,
    pub oom_kills: u64,
    /// The terminal, to be resized.
    pub terminal: Option<OwnedFd>,
}

/// A stream that comes from the container.
pub(super) struct Output {
    pub stream: Stream,
    fd: File,
}

struct Input {
    fd: File,
    pending: Vec<u8>,
    ends: bool,
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The shim's ends of a container's streams.
#[derive(Default)]
pub(super) struct Streams {
    outputs: Vec<Output>,
    input: Option<Input>,
}

impl Streams {
    /// Pipes for a container without a terminal, and their other ends.
    pub fn pipes(stdin: bool) -> io::Result<(Streams, Stdio)> {
        let mut streams = Streams::default();
        let mut stdio = Stdio::default();
        for (stream, end) in [(Stream::Stdout, &mut stdio.stdout), (Stream::Stderr, &mut stdio.stderr)] {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            nonblocking(&read)?;
            streams.outputs.push(Output {
                stream,
                fd: File::from(read),
            });
            *end = Some(write);
        }
        if stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            nonblocking(&write)?;
            streams.input = Some(Input {
                fd: File::from(write),
                pending: Vec::new(),
                ends: false,
            });
            stdio.stdin = Some(read);
        }
        Ok((streams, stdio))
    }
}

/// What reading an output gave.
pub(super) enum ReadResult {
    Data(usize),
    Nothing,
    End,
}

impl Output {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        match self.fd.read(buffer) {
            Ok(0) => ReadResult::End,
            Ok(length) => ReadResult::Data(length),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                ReadResult::Nothing
            }
            // A terminal that nobody has open any more says EIO.
            Err(_) => ReadResult::End,
        }
    }
}

impl Container {
    pub fn new(record: ContainerRecord, dir: ContainerDir, stage: Stage, streams: Streams, log: Option<Log>) -> Self {
        let Streams { outputs, input } = streams;
        Container {
            record,
            dir,
            stage,
            outputs,
            input,
            log,
            oom: None,
            oom_kills: 0,
            terminal: None,
        }
    }

    /// Takes the terminal that the container got.
    pub fn connect_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        nonblocking(&master)?;
        self.outputs.push(Output {
            stream: Stream::Stdout,
            fd: File::from(master.try_clone()?),
        });
        if self.record.config.stdin {
            self.input = Some(Input {
                fd: File::from(master.try_clone()?),
                pending: Vec::new(),
                ends: false,
            });
        }
        self.terminal = Some(master);
        Ok(())
    }

    pub fn pid(&self) -> Option<i32> {
        match self.stage {
            Stage::Running { pid } => Some(pid),
            _ => None,
        }
    }

    pub fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            let size = libc::winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // SAFETY: the size lives through the call. A terminal that is gone needs none.
            unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        }
    }

    /// Where input is waiting to be written to.
    pub fn input_fd(&self) -> Option<BorrowedFd<'_>> {
        self.input
            .as_ref()
            .filter(|input| !input.pending.is_empty())
            .map(|input| input.fd.as_fd())
    }

    /// Whether more input is welcome.
    pub fn takes_input(&self) -> bool {
        self.input.as_ref().is_none_or(|input| input.pending.len() < MAX_INPUT)
    }

    /// Input from an attached client.
    pub fn write_input(&mut self, data: &[u8]) {
        if let Some(input) = self.input.as_mut().filter(|input| !input.ends) {
            input.pending.extend_from_slice(data);
        }
        self.flush_input();
    }

    /// An attached client's input ended, or the client left. It is the end for the container if it shall be.
    pub fn end_input(&mut self) {
        // A terminal has no end of input.
        if self.record.config.stdin_once && !self.record.config.tty {
            if let Some(input) = &mut self.input {
                input.ends = true;
            }
            self.flush_input();
        }
    }

    /// Writes as much input as there is room for.
    pub fn flush_input(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.pending.is_empty() {
            match input.fd.write(&input.pending) {
                Ok(length) => drop(input.pending.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if input.ends {
            self.input = None;
        }
    }

    /// Its process ended.
    pub fn ended(&mut self, code: i32, oom: bool) {
        let reason = match code {
            _ if oom => reason::OOM_KILLED,
            0 => reason::COMPLETED,
            _ => reason::ERROR,
        };
        let exit = ExitRecord {
            exit_code: code,
            reason: reason.to_owned(),
            message: String::new(),
            finished_at: Timestamp::now(),
        };
        self.input = None;
        self.terminal = None;
        self.stage = Stage::Ended {
            exit,
            deadline: Instant::now() + DRAIN,
        };
    }
}
