//! What runtime and shim say to each other over the shim's socket.
//!
//! A frame is a kind byte, a big-endian `u32` length, and as many bytes. Each connection begins with one
//! [`Kind::Request`]; the shim answers with one [`Kind::Response`], and what follows depends on the request:
//! - `Watch`: [`Kind::Event`]s for ever.
//! - `Exec`: before the response, [`Kind::Master`] with the terminal's master if there is one; after it [`Kind::Exit`].
//!   The request carries up to three file descriptors: the streams that were asked for, in order. Closing the
//!   connection kills the command.
//! - `Attach`: [`Kind::Stdin`], [`Kind::StdinEnd`], [`Kind::Resize`] one way, [`Kind::Stdout`], [`Kind::Stderr`],
//!   [`Kind::Exit`] the other. Closing the connection detaches.
//! - all others: nothing.

use serde::{Deserialize, Serialize};

/// Frames larger than this are an error.
pub(crate) const MAX_FRAME: usize = 1 << 20;
/// Bytes before the payload.
pub(crate) const HEADER: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    Event,
    Master,
    Exit,
    Stdin,
    StdinEnd,
    Stdout,
    Stderr,
    Resize,
}

impl Kind {
    const ALL: [(u8, Kind); 10] = [
        (b'Q', Kind::Request),
        (b'R', Kind::Response),
        (b'V', Kind::Event),
        (b'M', Kind::Master),
        (b'X', Kind::Exit),
        (b'I', Kind::Stdin),
        (b'C', Kind::StdinEnd),
        (b'O', Kind::Stdout),
        (b'E', Kind::Stderr),
        (b'W', Kind::Resize),
    ];

    fn byte(self) -> u8 {
        Kind::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map(|(byte, _)| *byte)
            .expect("every kind is in the table")
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL
            .iter()
            .find(|(candidate, _)| *candidate == byte)
            .map(|(_, kind)| *kind)
    }
}

/// What the runtime wants of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The response is [`ShimState`]; then [`Event`]s.
    Watch,
    /// Starts the container whose record is in its folder. The response comes when its process runs.
    Start { id: String },
    /// Sends a signal to the container's first process, or to all of its processes.
    Signal { id: String, signal: i32, all: bool },
    /// Runs a command.
    Exec {
        id: String,
        command: Vec<String>,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// Joins the container's streams.
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// Opens the log file anew.
    ReopenLog { id: String },
    /// Kills all containers and ends the shim. The response comes when all have ended.
    Shutdown,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    Done,
    State(ShimState),
    Started { pid: i32, tty: bool },
    Failed(Failure),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub kind: FailureKind,
    pub message: String,
    /// What the container's exit code is then.
    pub exit_code: i32,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    /// There is no such running container.
    NotRunning,
    /// The command is missing or cannot be executed.
    CannotRun,
    /// Anything on the way to the command.
    Setup,
}

/// What a shim has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimState {
    /// Containers whose process runs (their exit record may be about to be written).
    pub running: Vec<String>,
}

/// What happened in a shim. The records were written before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    Started { id: String },
    Exited { id: String },
    Oom { id: String },
}

/// A terminal's size on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub width: u16,
    pub height: u16,
}

/// A frame's bytes.
pub(crate) fn encode(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.push(kind.byte());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A frame with a JSON payload.
pub(crate) fn encode_json<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    let payload = serde_json::to_vec(value).expect("the wire types have no maps with odd keys and cannot fail");
    encode(kind, &payload)
}

/// The bytes are not a frame.
#[derive(Debug, thiserror::Error)]
#[error("the other end does not speak this protocol")]
pub(crate) struct NotAFrame;

/// Takes the first frame off a buffer, if it is whole.
pub(crate) fn decode(buffer: &mut Vec<u8>) -> Result<Option<(Kind, Vec<u8>)>, NotAFrame> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let kind = Kind::from_byte(header[0]).ok_or(NotAFrame)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_FRAME {
        return Err(NotAFrame);
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    let payload = buffer[HEADER..HEADER + length].to_vec();
    buffer.drain(..HEADER + length);
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split() {
        let request = Request::Exec {
            id: "a".into(),
            command: vec!["ls".into()],
            tty: true,
            stdin: true,
            stdout: true,
            stderr: false,
        };
        let mut bytes = encode_json(Kind::Request, &request);
        bytes.extend(encode(Kind::Stdin, b"hello"));
        let mut buffer = Vec::new();
        let mut frames = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            while let Some(frame) = decode(&mut buffer).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames.len(), 2);
        assert_eq!(serde_json::from_slice::<Request>(&frames[0].1).unwrap(), request);
        assert_eq!(frames[1], (Kind::Stdin, b"hello".to_vec()));
    }

    #[test]
    fn garbage_is_refused() {
        assert!(decode(&mut b"GET / HTTP/1.1".to_vec()).is_err());
        assert!(decode(&mut vec![b'I', 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
