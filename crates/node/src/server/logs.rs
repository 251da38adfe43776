//! Logs of containers (pkg/kubelet/kuberuntime/logs).

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use runtime::ContainerState;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::follow::Folder;
use super::{Answer, Query, Refusal, Server, lookup};
use crate::context::Context;
use crate::log_file::{Line, Stream, tail_start};

/// Bytes read at a time.
const BLOCK: usize = 32 * 1024;
/// A line of a log is never longer than what the runtime writes at once; more is taken for damage.
const MAX_LINE: usize = 1 << 20;
/// Chunks waiting for the client.
const DEPTH: usize = 16;

/// What is asked for.
#[derive(Clone, Debug)]
struct Options {
    follow: bool,
    previous: bool,
    tail: Option<u64>,
    since: Option<Timestamp>,
    timestamps: bool,
    limit: Option<u64>,
    stream: Option<Stream>,
}

impl Options {
    fn of(query: &Query, now: Timestamp) -> Result<Options, Refusal> {
        let positive = |key: &str, least: i64| match query.number(key)? {
            Some(n) if n < least => Err(Refusal::bad(format!("{key} must be at least {least}"))),
            n => Ok(n.map(i64::cast_unsigned)),
        };
        let since = match (query.get("sinceTime"), positive("sinceSeconds", 1)?) {
            (Some(_), Some(_)) => {
                return Err(Refusal::bad(
                    "at most one of sinceTime or sinceSeconds may be specified",
                ));
            }
            (Some(text), None) => Some(
                text.parse()
                    .map_err(|_| Refusal::bad(format!("invalid sinceTime {text:?}: RFC 3339 is expected")))?,
            ),
            (None, Some(seconds)) => {
                let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                Some(now.saturating_sub(seconds).unwrap_or(Timestamp::MIN))
            }
            (None, None) => None,
        };
        let stream = match query.get("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            Some(other) => return Err(Refusal::bad(format!("invalid stream {other:?}: All, Stdout or Stderr"))),
        };
        Ok(Options {
            follow: query.is_set("follow"),
            previous: query.is_set("previous"),
            tail: positive("tailLines", 0)?,
            since,
            timestamps: query.is_set("timestamps"),
            limit: positive("limitBytes", 1)?,
            stream,
        })
    }
}

/// `/containerLogs/{namespace}/{pod}/{container}`.
pub(super) async fn answer(server: &Arc<Server>, namespace: &str, pod: &str, container: &str, query: &Query) -> Answer {
    let ctx = &server.ctx;
    let options = Options::of(query, ctx.clock.now())?;
    let pod = lookup::pod(ctx, namespace, pod, None)?;
    let found = lookup::containers(ctx, &pod, container).await?;
    let mut found = found.into_iter().filter(|c| c.state != ContainerState::Created);
    let chosen = if options.previous {
        // Of a container that waits to be restarted, the one that ended last is the previous one.
        let ended_last = found
            .next()
            .filter(|c| c.state == ContainerState::Exited && is_waiting(&pod, container));
        ended_last.or_else(|| found.next()).ok_or_else(|| {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            Refusal::bad(format!(
                "previous terminated container {container:?} in pod {pod:?} not found"
            ))
        })?
    } else {
        found.next().ok_or_else(|| not_started(&pod, container))?
    };
    let file = File::open(&chosen.log_path)
        .await
        .map_err(|error| Refusal::internal(format!("cannot open the log {}: {error}", chosen.log_path.display())))?;
    let (sender, receiver) = mpsc::channel(DEPTH);
    let sending = Sending {
        ctx: ctx.clone(),
        options,
        path: chosen.log_path,
        id: chosen.id,
        sender,
        left: None,
    };
    server.tasks.spawn(sending.run(file));
    let frames = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async move {
        let chunk = receiver.recv().await?;
        Some((Ok(Frame::data(chunk)), receiver))
    });
    Ok(super::answer(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        StreamBody::new(frames).boxed_unsync(),
    ))
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten().find(|c| c.name == container)
}

fn is_waiting(pod: &Pod, container: &str) -> bool {
    status_of(pod, container)
        .and_then(|c| c.state.as_ref())
        .is_some_and(|state| state.waiting.is_some())
}

fn not_started(pod: &Pod, container: &str) -> Refusal {
    let waiting = status_of(pod, container)
        .and_then(|c| c.state.as_ref())
        .and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or("ContainerCreating");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let message = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            "trying and failing to pull image".to_string()
        }
        _ => reason.to_string(),
    };
    Refusal::bad(format!(
        "container {container:?} in pod {name:?} is waiting to start: {message}"
    ))
}

/// A log on its way to a client.
struct Sending {
    ctx: Arc<Context>,
    options: Options,
    path: PathBuf,
    id: String,
    sender: mpsc::Sender<Bytes>,
    left: Option<u64>,
}

/// The client is gone, or has what it asked for.
struct Enough;

impl Sending {
    async fn run(mut self, file: File) {
        self.left = self.options.limit;
        if let Err(error) = self.try_run(file).await {
            tracing::debug!(%error, path = %self.path.display(), "log ended early");
        }
    }

    async fn try_run(&mut self, mut file: File) -> std::io::Result<()> {
        if let Some(count) = self.options.tail {
            let start = start_of_tail(&file, count).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        let folder = self.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let mut changes = if self.options.follow {
            Some(Folder::watch(&folder)?)
        } else {
            None
        };
        let mut events = self.ctx.runtime().events();
        let mut pending = Vec::new();
        loop {
            // Looked at before reading: what is written before the end is read below.
            let ended = !self.is_running().await;
            if self.drain(&mut file, &mut pending).await?.is_err() {
                return Ok(());
            }
            let Some(changes) = &mut changes else { break };
            if let Some(next) = self.rotated(&file).await {
                // The old file's last lines may have come between reading and looking.
                if self.drain(&mut file, &mut pending).await?.is_err() {
                    return Ok(());
                }
                file = next;
                continue;
            }
            if ended {
                break;
            }
            tokio::select! {
                changed = changes.changed() => changed?,
                event = events.next() => if event.is_none() { break },
                () = self.sender.closed() => return Ok(()),
                () = self.ctx.stop.cancelled() => return Ok(()),
            }
        }
        if !pending.is_empty() {
            let _ = self.send_lines(&pending).await;
        }
        Ok(())
    }

    async fn is_running(&self) -> bool {
        match self.ctx.runtime().container_status(&self.id).await {
            Ok(status) => matches!(status.state, ContainerState::Running | ContainerState::Created),
            Err(_) => false,
        }
    }

    /// The new file, if the log was renamed and there is another.
    async fn rotated(&self, file: &File) -> Option<File> {
        let old = file.metadata().await.ok()?.ino();
        let next = File::open(&self.path).await.ok()?;
        let new = next.metadata().await.ok()?.ino();
        (old != new).then_some(next)
    }

    /// Sends all whole lines up to the end of the file; a part of a line stays in `pending`.
    async fn drain(&mut self, file: &mut File, pending: &mut Vec<u8>) -> std::io::Result<Result<(), Enough>> {
        loop {
            let before = pending.len();
            pending.resize(before + BLOCK, 0);
            let count = file.read(&mut pending[before..]).await?;
            pending.truncate(before + count);
            if count == 0 {
                return Ok(Ok(()));
            }
            let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') else {
                if pending.len() > MAX_LINE {
                    pending.clear();
                }
                continue;
            };
            let rest = pending.split_off(end + 1);
            let lines = std::mem::replace(pending, rest);
            if self.send_lines(&lines).await.is_err() {
                return Ok(Err(Enough));
            }
        }
    }

    async fn send_lines(&mut self, lines: &[u8]) -> Result<(), Enough> {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split(|byte| *byte == b'\n').filter_map(Line::parse) {
            if self.options.stream.is_some_and(|stream| stream != line.stream) {
                continue;
            }
            if let Some(since) = self.options.since
                && line.timestamp().is_some_and(|time| time < since)
            {
                continue;
            }
            if self.options.timestamps {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if !line.partial {
                out.push(b'\n');
            }
        }
        let mut last = false;
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
            last = *left == 0;
        }
        if !out.is_empty() && self.sender.send(out.into()).await.is_err() {
            return Err(Enough);
        }
        if last { Err(Enough) } else { Ok(()) }
    }
}

async fn start_of_tail(file: &File, count: u64) -> std::io::Result<u64> {
    let mut file = file.try_clone().await?.into_std().await;
    let found = tokio::task::spawn_blocking(move || {
        let size = file.metadata()?.len();
        tail_start(&mut file, size, count)
    });
    found.await.map_err(|_| std::io::Error::other("reading broke off"))?
}
