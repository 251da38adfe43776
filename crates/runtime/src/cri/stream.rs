use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Result;

/// A command to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container; must run.
    pub container_id: String,
    /// The command; not empty.
    pub command: Vec<String>,
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error; not with `tty`.
    pub stderr: bool,
    /// Give it a terminal; all output is on `stdout` then.
    pub tty: bool,
}

/// Whom to attach to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container; must run.
    pub container_id: String,
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error; not with a terminal.
    pub stderr: bool,
}

/// What a command printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSyncResponse {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// 0 to 255, 128 + the signal where one ended it.
    pub exit_code: i32,
}

/// Output of a process.
pub type OutputStream = Box<dyn AsyncRead + Send + Unpin>;
/// Input of a process; shutting it down (or dropping it) is the end of input.
pub type InputStream = Box<dyn AsyncWrite + Send + Unpin>;

/// A process's streams, from `exec` or `attach`.
///
/// The parts are independent and may be moved to different tasks. Read the outputs to their end before looking at
/// `exit`: it does not wait for them, and they do not wait for it.
pub struct StreamSession {
    /// If it was asked for.
    pub stdin: Option<InputStream>,
    /// If it was asked for; ends when the process (and whoever else holds it) closed it.
    pub stdout: Option<OutputStream>,
    /// If it was asked for and there is no terminal.
    pub stderr: Option<OutputStream>,
    /// If there is a terminal.
    pub resize: Option<TerminalResizer>,
    /// The exit code. Owns the session: dropping it kills an exec's process, or detaches.
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Changes the size of a session's terminal.
pub struct TerminalResizer {
    resize: Box<dyn Fn(TerminalSize) + Send + Sync>,
}

impl TerminalResizer {
    /// From what does it.
    pub fn new(resize: impl Fn(TerminalSize) + Send + Sync + 'static) -> TerminalResizer {
        TerminalResizer {
            resize: Box::new(resize),
        }
    }

    /// Never blocks; a terminal that is gone is no error.
    pub fn resize(&self, size: TerminalSize) {
        (self.resize)(size);
    }
}
