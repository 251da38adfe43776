//! Commands in containers, and attaching to them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::shim_client::ShimConnection;
use super::{Container, Inner};
use crate::wire::{self, FailureKind, Kind, Request, Response, Size};
use crate::{
    AttachRequest, ExecRequest, ExecSyncResponse, InputStream, OutputStream, Result, RuntimeError, StreamSession,
    TerminalResizer, TerminalSize,
};

/// Of a stream's output that `exec_sync` returns.
const MAX_SYNC_OUTPUT: usize = 16 << 20;
/// How long output is waited for after a command's end, from processes that it left behind.
const DRAIN: Duration = Duration::from_secs(1);
const PIECE: usize = 32 << 10;

impl Inner {
    pub(super) async fn exec(self: Arc<Self>, request: ExecRequest) -> Result<StreamSession> {
        if request.command.is_empty() {
            return Err(RuntimeError::Invalid {
                field: "command",
                message: "must not be empty".to_owned(),
            });
        }
        let (sandbox, container) = self.container(&request.container_id)?;
        if container.run().is_none() {
            return Err(container.wrong_state("running"));
        }
        let failed = |error: io::Error| RuntimeError::Exec {
            id: container.id.clone(),
            message: error.to_string(),
        };
        let pipes = if request.tty {
            Pipes::default()
        } else {
            Pipes::new(&request).map_err(failed)?
        };
        let mut connection = ShimConnection::open(&sandbox.dir).await.map_err(failed)?;
        let wanted = Request::Exec {
            id: container.id.clone(),
            command: request.command.clone(),
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let fds: Vec<_> = pipes.theirs.iter().map(AsFd::as_fd).collect();
        connection.send(&wanted, &fds).await.map_err(failed)?;
        drop(fds);
        // Ours must be the only ends left, or they would never end.
        drop(pipes.theirs);
        match connection.response().await.map_err(failed)? {
            Response::Started { tty: true, .. } => {
                let master = connection.take_fds().pop();
                let master = master.ok_or_else(|| failed(io::Error::other("no terminal came")))?;
                terminal_session(&request, master, &container, connection).map_err(failed)
            }
            Response::Started { .. } => Ok(StreamSession {
                stdin: pipes.stdin.map(|end| Box::new(end) as InputStream),
                stdout: pipes.stdout.map(|end| Box::new(end) as OutputStream),
                stderr: pipes.stderr.map(|end| Box::new(end) as OutputStream),
                resize: None,
                exit: Box::pin(exit_code(connection, container.id.clone())),
            }),
            Response::Failed(failure) if failure.kind == FailureKind::NotRunning => {
                Err(container.wrong_state("running"))
            }
            Response::Failed(failure) => Err(RuntimeError::Exec {
                id: container.id.clone(),
                message: failure.message,
            }),
            _ => Err(failed(io::Error::other("the pod's shim answered out of turn"))),
        }
    }

    pub(super) async fn exec_sync(
        self: Arc<Self>,
        id: String,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecSyncResponse> {
        let shown = command.join(" ");
        let run = async {
            let request = ExecRequest {
                container_id: id,
                command,
                stdin: false,
                stdout: true,
                stderr: true,
                tty: false,
            };
            let session = self.exec(request).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            let mut exit = session.exit;
            let exit_code = {
                let output = async {
                    tokio::join!(
                        collect(session.stdout, &mut stdout),
                        collect(session.stderr, &mut stderr)
                    );
                };
                tokio::pin!(output);
                tokio::select! {
                    () = &mut output => exit.await?,
                    code = &mut exit => {
                        // What it left behind may hold the pipes for ever.
                        let _ = tokio::time::timeout(DRAIN, &mut output).await;
                        code?
                    }
                }
            };
            Ok(ExecSyncResponse {
                stdout,
                stderr,
                exit_code,
            })
        };
        match timeout {
            None => run.await,
            // Dropping the session kills the command.
            Some(timeout) => tokio::time::timeout(timeout, run)
                .await
                .unwrap_or_else(|_| Err(RuntimeError::Timeout { command: shown })),
        }
    }

    pub(super) async fn attach(self: Arc<Self>, request: AttachRequest) -> Result<StreamSession> {
        let (sandbox, container) = self.container(&request.container_id)?;
        if container.run().is_none() {
            return Err(container.wrong_state("running"));
        }
        let failed = |error: io::Error| RuntimeError::Shim {
            id: sandbox.id.clone(),
            message: error.to_string(),
        };
        let mut connection = ShimConnection::open(&sandbox.dir).await.map_err(failed)?;
        let AttachRequest {
            container_id: id,
            stdin,
            stdout,
            stderr,
        } = request;
        let wanted = Request::Attach {
            id,
            stdin,
            stdout,
            stderr,
        };
        connection.send(&wanted, &[]).await.map_err(failed)?;
        match connection.response().await.map_err(failed)? {
            Response::Started { tty, .. } => Ok(attach_session(connection, &container, tty, [stdin, stdout, stderr])),
            _ => Err(container.wrong_state("running")),
        }
    }
}

/// Both ends of a command's pipes.
#[derive(Default)]
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    theirs: Vec<OwnedFd>,
}

impl Pipes {
    fn new(request: &ExecRequest) -> io::Result<Pipes> {
        let mut pipes = Pipes::default();
        if request.stdin {
            let (sender, receiver) = pipe::pipe()?;
            pipes.stdin = Some(sender);
            pipes.theirs.push(receiver.into_blocking_fd()?);
        }
        for (wanted, ours) in [(request.stdout, &mut pipes.stdout), (request.stderr, &mut pipes.stderr)] {
            if wanted {
                let (sender, receiver) = pipe::pipe()?;
                *ours = Some(receiver);
                pipes.theirs.push(sender.into_blocking_fd()?);
            }
        }
        Ok(pipes)
    }
}

async fn collect(stream: Option<OutputStream>, into: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0u8; PIECE];
    // An output that cannot be read has ended.
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let room = MAX_SYNC_OUTPUT - into.len();
        into.extend_from_slice(&piece[..length.min(room)]);
    }
}

async fn exit_code(mut connection: ShimConnection, id: String) -> Result<i32> {
    loop {
        match connection.next().await {
            Ok((Kind::Exit, payload)) => {
                return serde_json::from_slice(&payload).map_err(|error| RuntimeError::Exec {
                    id,
                    message: error.to_string(),
                });
            }
            Ok(_) => {}
            Err(error) => {
                return Err(RuntimeError::Exec {
                    id,
                    message: error.to_string(),
                });
            }
        }
    }
}

/// A terminal's master. Both directions share it.
#[derive(Clone)]
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Terminal> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_retain(fcntl(master.as_raw_fd(), FcntlArg::F_GETFL)?);
        fcntl(master.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor is owned by what is registered, and stays the same and open as long as that lives.
        let registered = unsafe { AsyncFd::register(master) }?;
        Ok(Terminal(Arc::new(registered)))
    }

    fn resize(&self, size: TerminalSize) {
        let size = libc::winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the size lives through the call. A terminal that is gone needs none.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(nix::unistd::read(fd.as_raw_fd(), unfilled)?)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // Nobody has the terminal open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no end of input.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn terminal_session(
    request: &ExecRequest,
    master: OwnedFd,
    container: &Container,
    connection: ShimConnection,
) -> io::Result<StreamSession> {
    let terminal = Terminal::new(master)?;
    let resized = terminal.clone();
    Ok(StreamSession {
        stdin: request.stdin.then(|| Box::new(terminal.clone()) as InputStream),
        stdout: request.stdout.then(|| Box::new(terminal.clone()) as OutputStream),
        stderr: None,
        resize: Some(TerminalResizer::new(move |size| resized.resize(size))),
        exit: Box::pin(exit_code(connection, container.id.clone())),
    })
}

/// Ends a task with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn attach_session(
    connection: ShimConnection,
    container: &Container,
    tty: bool,
    [stdin, stdout, stderr]: [bool; 3],
) -> StreamSession {
    let (stream, read_already) = connection.into_parts();
    let (read_half, write_half) = stream.into_split();
    let channel = |wanted: bool| -> (Option<DuplexStream>, Option<DuplexStream>) {
        if wanted {
            let (ours, theirs) = duplex(PIECE);
            (Some(ours), Some(theirs))
        } else {
            (None, None)
        }
    };
    let (stdout_source, stdout_end) = channel(stdout);
    let (stderr_source, stderr_end) = channel(stderr && !tty);
    let (stdin_sink, stdin_end) = channel(stdin);
    let (exit_sender, exit_receiver) = oneshot::channel();
    // A size is soon replaced by the next one, so a full channel loses little.
    let (size_sender, size_receiver) = mpsc::channel(8);
    let reader = AbortOnDrop(tokio::spawn(async move {
        if let Some(code) = read_frames(read_half, read_already, stdout_source, stderr_source).await {
            // Nobody may want to know.
            let _ = exit_sender.send(code);
        }
    }));
    let writer = AbortOnDrop(tokio::spawn(write_frames(write_half, stdin_sink, size_receiver)));
    let id = container.id.clone();
    StreamSession {
        stdin: stdin_end.map(|end| Box::new(end) as InputStream),
        stdout: stdout_end.map(|end| Box::new(end) as OutputStream),
        stderr: stderr_end.map(|end| Box::new(end) as OutputStream),
        resize: tty.then(|| {
            TerminalResizer::new(move |size: TerminalSize| {
                let _ = size_sender.try_send(Size {
                    width: size.width,
                    height: size.height,
                });
            })
        }),
        exit: Box::pin(async move {
            let _tasks = (reader, writer);
            exit_receiver.await.map_err(|_| RuntimeError::Exec {
                id,
                message: "the connection to the pod's shim broke off".to_owned(),
            })
        }),
    }
}

/// Takes output apart. Returns the exit code; the outputs end before.
async fn read_frames(
    mut from: OwnedReadHalf,
    mut buffer: Vec<u8>,
    mut stdout: Option<DuplexStream>,
    mut stderr: Option<DuplexStream>,
) -> Option<i32> {
    let mut piece = vec![0u8; PIECE];
    loop {
        while let Some((kind, payload)) = wire::decode(&mut buffer).ok()? {
            let sink = match kind {
                Kind::Stdout => &mut stdout,
                Kind::Stderr => &mut stderr,
                Kind::Exit => return serde_json::from_slice(&payload).ok(),
                _ => continue,
            };
            if let Some(open) = sink
                && open.write_all(&payload).await.is_err()
            {
                // Whoever read it has enough.
                *sink = None;
            }
        }
        match from.read(&mut piece).await {
            Ok(length @ 1..) => buffer.extend_from_slice(&piece[..length]),
            _ => return None,
        }
    }
}

async fn write_frames(mut to: OwnedWriteHalf, mut stdin: Option<DuplexStream>, mut sizes: mpsc::Receiver<Size>) {
    let mut piece = vec![0u8; PIECE];
    let mut resizable = true;
    loop {
        let frame = tokio::select! {
            size = sizes.recv(), if resizable => match size {
                Some(size) => wire::encode_json(Kind::Resize, &size),
                None => {
                    resizable = false;
                    continue;
                }
            },
            read = read_some(&mut stdin, &mut piece), if stdin.is_some() => match read {
                Ok(length @ 1..) => wire::encode(Kind::Stdin, &piece[..length]),
                _ => {
                    stdin = None;
                    wire::encode(Kind::StdinEnd, &[])
                }
            },
            else => return std::future::pending().await,
        };
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read_some(stdin: &mut Option<DuplexStream>, piece: &mut [u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.read(piece).await,
        None => std::future::pending().await,
    }
}
