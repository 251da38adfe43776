//! exec, attach and run.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runtime::{AttachRequest, ExecRequest, OutputStream, StreamSession};
use streams::remote_command::{self, Options, RemoteCommand};
use streams::{ByteSender, Outcome, StreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, Query, Refusal, Server, full, lookup};

/// Output that is still under way when the command has ended is waited for this long: what it started may hold its
/// output for ever.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exec,
    Attach,
}

/// `/exec` and `/attach`: switches protocols and connects the container's streams.
pub(super) async fn answer(
    server: &Arc<Server>,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    container: &str,
    mut request: Request<Incoming>,
    kind: Kind,
) -> Answer {
    let query = Query::of(request.uri());
    let (pod, found) = lookup::running(&server.ctx, namespace, pod, uid, container).await?;
    let any = |names: [&str; 2]| names.iter().any(|name| query.is_set(name));
    let spec = pod
        .spec
        .as_ref()
        .and_then(|spec| podlife::spec::find(spec, container))
        .map(|(_, c)| c);
    let tty = match kind {
        Kind::Exec => query.is_set("tty"),
        Kind::Attach => spec.as_ref().is_some_and(|c| c.tty == Some(true)),
    };
    let options = Options {
        stdin: any(["input", "stdin"]),
        stdout: any(["output", "stdout"]),
        stderr: any(["error", "stderr"]) && !tty,
        tty,
    };
    let command = query.all("command");
    if kind == Kind::Exec && command.is_empty() {
        return Err(Refusal::bad("you must specify at least one command"));
    }
    let (response, pending) = remote_command::accept(&mut request, options).map_err(refusal)?;
    if let Some(pending) = pending {
        let (server, id, stop) = (server.clone(), found.id, server.ctx.stop.clone());
        server.clone().tasks.spawn(async move {
            let work = async {
                let streams = match pending.streams().await {
                    Ok(streams) => streams,
                    Err(error) => return tracing::debug!(%error, "a client's streams did not come"),
                };
                connect(&server, id, command, options, kind, streams).await;
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }
    Ok(with_empty_body(response))
}

pub(super) fn with_empty_body(response: Response<()>) -> Response<super::Body> {
    response.map(|()| full(""))
}

pub(super) fn refusal(error: StreamError) -> Refusal {
    match error {
        StreamError::BadRequest(message) => Refusal::bad(message),
        other => Refusal::internal(other),
    }
}

async fn connect(
    server: &Server,
    id: String,
    command: Vec<String>,
    options: Options,
    kind: Kind,
    mut streams: RemoteCommand,
) {
    let runtime = server.ctx.runtime();
    let Options {
        stdin,
        stdout,
        stderr,
        tty,
    } = options;
    let session = match kind {
        Kind::Exec => {
            runtime
                .exec(ExecRequest {
                    container_id: id,
                    command,
                    stdin,
                    stdout,
                    stderr,
                    tty,
                })
                .await
        }
        Kind::Attach => {
            runtime
                .attach(AttachRequest {
                    container_id: id,
                    stdin,
                    stdout,
                    stderr,
                })
                .await
        }
    };
    let session = match session {
        Ok(session) => session,
        Err(error) => return streams.finish(Outcome::Failed(error.to_string())).await,
    };
    match copy(session, &mut streams).await {
        None => {} // the client is gone
        Some(Ok(0)) => streams.finish(Outcome::Success).await,
        Some(Ok(_)) if kind == Kind::Attach => streams.finish(Outcome::Success).await,
        Some(Ok(code)) => streams.finish(Outcome::ExitCode(code)).await,
        Some(Err(error)) => streams.finish(Outcome::Failed(error.to_string())).await,
    }
}

/// Copies until the command has ended and its output is sent; `None` if the client went away.
async fn copy(session: StreamSession, streams: &mut RemoteCommand) -> Option<runtime::Result<i32>> {
    let StreamSession {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let (from_client, resizes) = (streams.stdin.take(), streams.resizes.take());
    let input = async {
        if let (Some(mut from), Some(mut to)) = (from_client, stdin) {
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let sizes = async {
        if let (Some(mut sizes), Some(resizer)) = (resizes, resize) {
            while let Some(size) = sizes.next().await {
                resizer.resize(runtime::TerminalSize {
                    width: size.width,
                    height: size.height,
                });
            }
        }
        std::future::pending::<()>().await;
    };
    let (to_stdout, to_stderr) = (streams.stdout.clone(), streams.stderr.clone());
    let work = async {
        let output = async { tokio::join!(send(stdout, to_stdout), send(stderr, to_stderr)) };
        tokio::pin!(output);
        tokio::pin!(exit);
        tokio::select! {
            _ = &mut output => exit.await,
            code = &mut exit => {
                let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
                code
            }
        }
    };
    tokio::select! {
        code = work => Some(code),
        () = input => None,
        () = sizes => None,
        () = streams.closed() => None,
    }
}

async fn send(from: Option<OutputStream>, to: Option<ByteSender>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut buffer = BytesMut::with_capacity(32 * 1024);
    loop {
        buffer.reserve(16 * 1024);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) if to.send(buffer.split().freeze()).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// `/run`: the command's output as the answer.
pub(super) async fn run(
    server: &Arc<Server>,
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    container: &str,
    query: &Query,
) -> Answer {
    let (_, found) = lookup::running(&server.ctx, namespace, pod, uid, container).await?;
    let command: Vec<String> = query
        .get("cmd")
        .unwrap_or_default()
        .split_whitespace()
        .map(String::from)
        .collect();
    if command.is_empty() {
        return Err(Refusal::bad("the query has no cmd"));
    }
    let answer = server
        .ctx
        .runtime()
        .exec_sync(&found.id, command, None)
        .await
        .map_err(Refusal::internal)?;
    let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
    if answer.exit_code != 0 {
        let code = answer.exit_code;
        return Err(Refusal::internal(format!(
            "command terminated with exit code {code}: {output}"
        )));
    }
    Ok(super::text(StatusCode::OK, output))
}
