//! The runtime's end of a shim's socket, and shims' birth and death.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::fd_passing;
use crate::records::{self, SandboxDir, ShimRecord, process_alive};
use crate::shim::READY;
use crate::wire::{self, Kind, Request, Response};
use crate::{Result, RuntimeConfig, RuntimeError};

/// How long a shim may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a shim, for one request.
pub(super) struct ShimConnection {
    pub stream: UnixStream,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the pod's shim ended")
}

impl ShimConnection {
    /// Connects to a sandbox's shim.
    pub async fn open(dir: &SandboxDir) -> io::Result<ShimConnection> {
        // By way of the folder's descriptor, for a socket's path has at most 107 bytes.
        let folder = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(&dir.path)?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/sock", folder.as_raw_fd())).await?;
        Ok(ShimConnection {
            stream,
            buffer: Vec::new(),
            fds: Vec::new(),
        })
    }

    /// Sends a request with descriptors.
    pub async fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = wire::encode_json(Kind::Request, request);
        let mut sent = 0;
        while sent < frame.len() {
            self.stream.writable().await?;
            let fds = if sent == 0 { fds } else { &[] };
            let result = self.stream.try_io(Interest::WRITABLE, || {
                fd_passing::send(self.stream.as_fd(), &frame[sent..], fds)
            });
            match result {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next frame. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        loop {
            if let Some(frame) = wire::decode(&mut self.buffer).map_err(io::Error::other)? {
                return Ok(frame);
            }
            self.stream.readable().await?;
            let mut bytes = [0u8; 16 << 10];
            let (stream, fds) = (&self.stream, &mut self.fds);
            match stream.try_io(Interest::READABLE, || {
                fd_passing::receive(stream.as_fd(), &mut bytes, fds)
            }) {
                Ok(0) => return Err(lost()),
                Ok(length) => self.buffer.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The response, and the terminal if one came before it.
    pub async fn response(&mut self) -> io::Result<Response> {
        loop {
            match self.next().await? {
                (Kind::Response, payload) => return serde_json::from_slice(&payload).map_err(io::Error::other),
                (Kind::Master, _) => {}
                _ => return Err(io::Error::other("the pod's shim answered out of turn")),
            }
        }
    }

    /// The descriptors that came so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// The stream, and what was read of it already.
    pub fn into_parts(self) -> (UnixStream, Vec<u8>) {
        (self.stream, self.buffer)
    }
}

/// One request, one response.
pub(super) async fn call(dir: &SandboxDir, request: &Request) -> io::Result<Response> {
    let mut connection = ShimConnection::open(dir).await?;
    connection.send(request, &[]).await?;
    connection.response().await
}

/// Starts a sandbox's shim and waits until it is ready.
pub(super) async fn spawn(config: &RuntimeConfig, dir: &SandboxDir, id: &str) -> Result<ShimRecord> {
    let failed = |message: String| RuntimeError::Shim {
        id: id.to_owned(),
        message,
    };
    let log = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(dir.shim_log())
        .map_err(RuntimeError::io("create", dir.shim_log()))?;
    let mut child = Command::new(&config.shim_exe)
        .arg0("skiff")
        .arg("shim")
        .arg("pod")
        .arg(&dir.path)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|error| failed(format!("start {}: {error}", config.shim_exe.display())))?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // It closes its output when it is ready, or when it ends.
        let read = tokio::time::timeout(START_PATIENCE, stdout.read_to_string(&mut text)).await;
        if read.is_err() {
            text = format!("it was not ready after {} s", START_PATIENCE.as_secs());
        }
    }
    if text != READY {
        // It may have ended already.
        let _ = child.kill().await;
        return Err(failed(if text.trim().is_empty() {
            "it ended at once".to_owned()
        } else {
            text.trim().to_owned()
        }));
    }
    // It may go on: whoever opens the runtime next finds its record. See `shim::announce`.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"g").await.map_err(|error| failed(error.to_string()))?;
    }
    // Collects it when it ends, if we are still there.
    tokio::spawn(async move { child.wait().await });
    records::read(&dir.shim_record())?.ok_or_else(|| failed("it left no record".to_owned()))
}

/// Kills a shim, if it is still the process that was recorded.
pub(super) fn kill_shim(shim: Option<ShimRecord>) {
    if let Some(shim) = shim.filter(|shim| process_alive(shim.pid, shim.start_time)) {
        // SAFETY: takes numbers only. It was this very process a moment ago.
        unsafe { libc::kill(shim.pid, libc::SIGKILL) };
    }
}
