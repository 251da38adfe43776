//! The streaming protocols of exec, attach and port-forward: SPDY/3.1 and WebSocket, both ends.
//!
//! A connection is a `Connection` that carries numbered byte streams. What a
//! stream means is decided above it: [`remote_command`] (stdin, stdout, stderr, error, resize) and
//! [`port_forward`] (a data and an error stream for each forwarded connection). Both look the same
//! over SPDY and over WebSocket, so the node serves, and the command line uses, one interface.
//! [`translate`] stands between a client of the newer wire and a node that only speaks the older.
//!
//! Guarantees: the outcome of a command is written after all of its output; a close waits until the
//! peer has what was written. Nothing here trusts lengths, counts or stream numbers from the wire.
//!
//! Does not know: HTTP routing, authentication, containers.

pub mod bytes_channel;
mod connection;
pub mod messages;
pub mod outcome;
pub mod port_forward;
pub mod remote_command;
mod spdy;
pub mod translate;
mod upgrade;
mod websocket;

pub use bytes_channel::{ByteReceiver, ByteSender};
pub use outcome::Outcome;
pub use upgrade::{is_upgrade, spdy_protocol, spdy_request_headers, websocket_request_headers};

use std::io;

/// Why a stream could not be set up or went wrong.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The request does not ask for an upgrade that is understood here.
    #[error("{0}")]
    BadRequest(String),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The connection failed.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The upgrade did not happen.
    #[error("upgrade: {0}")]
    Upgrade(#[from] hyper::Error),
    /// The peer did not open the streams that the command needs in time.
    #[error("timed out waiting for the client to open its streams")]
    StreamsMissing,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}
