//! A connection of the runtime's.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;

use crate::fd_passing;
use crate::wire::{self, Kind, NotAFrame, Response};

/// A reader that is further behind is cut off, so that it cannot hold up a container.
const MAX_BACKLOG: usize = 4 << 20;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing was asked yet, or what was asked is being done.
    Request,
    /// Gets all events.
    Watch,
    /// Belongs to a command.
    Command,
    /// Is attached to a container.
    Attach {
        container: u64,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
}

/// See the module.
pub(super) struct Connection {
    pub stream: UnixStream,
    pub role: Role,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// To be closed when all is sent.
    finished: bool,
}

impl Connection {
    pub fn new(stream: UnixStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            role: Role::Request,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            fds: Vec::new(),
            finished: false,
        })
    }

    /// Reads what is there. `false`: the other end is gone.
    pub fn receive(&mut self) -> bool {
        let mut buffer = [0u8; 16 << 10];
        match fd_passing::receive(self.stream.as_fd(), &mut buffer, &mut self.fds) {
            Ok(0) => false,
            Ok(length) => {
                self.incoming.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// The next frame that is whole.
    pub fn next_frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, NotAFrame> {
        wire::decode(&mut self.incoming)
    }

    /// The descriptors that came so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Sends a frame, as soon as there is room.
    pub fn send(&mut self, kind: Kind, payload: &[u8]) {
        self.outgoing.extend(wire::encode(kind, payload));
    }

    pub fn send_json<T: Serialize>(&mut self, kind: Kind, value: &T) {
        self.outgoing.extend(wire::encode_json(kind, value));
    }

    /// Sends a frame with a descriptor. Only as the first thing on a connection, when there is room for certain.
    pub fn send_fd(&mut self, kind: Kind, fd: &OwnedFd) {
        let frame = wire::encode(kind, &[]);
        debug_assert!(self.outgoing.is_empty());
        // If it fails the other end is gone, which is found out when polling.
        let _ = fd_passing::send(self.stream.as_fd(), &frame, &[fd.as_fd()]);
    }

    /// Answers, and closes when that is sent.
    pub fn answer(&mut self, response: &Response) {
        self.send_json(Kind::Response, response);
        self.finish();
    }

    /// Closes when all is sent.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Sends what can be sent. `false`: the connection is to be closed.
    pub fn flush(&mut self) -> bool {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(length) => drop(self.outgoing.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.outgoing.len() <= MAX_BACKLOG;
                }
                Err(_) => return false,
            }
        }
        !self.finished
    }
}
