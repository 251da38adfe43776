//! How `skiff image` and a running skiff speak to each other: the request is a line of JSON, the answer some lines with
//! progress and a last one with `images` or `error`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use runtime::{EmbeddedRuntime, Image, ProgressFn, PullProgress, PullRequest, RegistryAuth, Runtime};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::SOCKET;

const MAX_REQUEST_BYTES: u64 = 64 << 10;
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);

/// Does what is asked; answers the images that were added, are there, or were removed.
pub async fn execute(runtime: &EmbeddedRuntime, request: &Value, progress: ProgressFn) -> Result<Value> {
    let images = if let Some(path) = request["import"].as_str() {
        runtime.import_images(Path::new(path)).await?
    } else if let Some(name) = request["pull"].as_str() {
        let auth = &request["auth"];
        let auth = auth["username"].as_str().map(|username| RegistryAuth::Basic {
            username: username.to_owned(),
            password: auth["password"].as_str().unwrap_or_default().to_owned(),
        });
        let request = PullRequest {
            image: name.to_owned(),
            auth,
            progress: Some(progress),
        };
        vec![runtime.pull_image(request).await?]
    } else if let Some(name) = request["remove"].as_str() {
        let found = runtime.image_status(name).await?;
        let image = found.with_context(|| format!("there is no image {name}; `skiff image list` shows all"))?;
        runtime.remove_image(&image.id).await?;
        vec![image]
    } else {
        runtime.list_images().await?
    };
    Ok(images.iter().map(describe).collect())
}

fn describe(image: &Image) -> Value {
    json!({
        "id": image.id,
        "tags": image.repo_tags,
        "digests": image.repo_digests,
        "bytes": image.size_bytes,
    })
}

/// Serves `skiff image` for a running skiff, until `stop`. A connection asks one thing.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(runtime: EmbeddedRuntime, data_dir: &Path, stop: CancellationToken) -> Result<()> {
    let path = data_dir.join(SOCKET);
    // An earlier skiff's; whoever gets here holds the data directory.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("keep others out of {}", path.display()))?;
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(connections.spawn(answer(runtime.clone(), stream))),
                Err(error) => {
                    tracing::warn!(%error, "the image socket cannot accept");
                    tokio::task::yield_now().await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    stop.run_until_cancelled(accept).await;
    let _ = fs::remove_file(&path);
    Ok(())
}

async fn answer(runtime: EmbeddedRuntime, mut stream: UnixStream) {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let read = BufReader::new(read.take(MAX_REQUEST_BYTES)).read_line(&mut line).await;
    // Whoever only looks whether somebody listens says nothing.
    if read.is_err() || line.is_empty() {
        return;
    }
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return send(&mut write, &json!({ "error": format!("read the request: {error}") })).await,
    };
    let (tell, mut told) = watch::channel(None);
    let progress: ProgressFn = Arc::new(move |now| {
        tell.send_replace(Some(now));
    });
    let work = execute(&runtime, &request, progress);
    tokio::pin!(work);
    let mut pause = tokio::time::interval(BETWEEN_REPORTS);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let result = loop {
        let report = async {
            pause.tick().await;
            told.changed().await
        };
        tokio::select! {
            result = &mut work => break result,
            Ok(()) = report => {
                let now = told.borrow_and_update().clone();
                if let Some(now) = now {
                    send(&mut write, &json!({ "progress": describe_progress(&now) })).await;
                }
            }
            else => break work.await,
        }
    };
    let answer = match result {
        Ok(images) => json!({ "images": images }),
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    send(&mut write, &answer).await;
    let _ = write.shutdown().await;
}

/// Whoever does not listen any more has what was asked for done all the same.
async fn send(write: &mut (impl AsyncWrite + Unpin), line: &Value) {
    let _ = write.write_all(format!("{line}\n").as_bytes()).await;
}

fn describe_progress(now: &PullProgress) -> Value {
    json!({
        "layersDone": now.layers_done,
        "layersTotal": now.layers_total,
        "bytesDone": now.bytes_done,
        "bytesTotal": now.bytes_total,
    })
}

fn read_progress(line: &Value) -> Option<PullProgress> {
    let layers = |key: &str| line[key].as_u64().and_then(|count| usize::try_from(count).ok());
    Some(PullProgress {
        layers_done: layers("layersDone")?,
        layers_total: layers("layersTotal")?,
        bytes_done: line["bytesDone"].as_u64()?,
        bytes_total: line["bytesTotal"].as_u64()?,
    })
}

/// Asks a running skiff, and waits.
///
/// # Errors
/// What it answers; when it cannot be reached.
pub async fn ask(socket: &Path, request: &Value, mut progress: impl FnMut(PullProgress)) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).await.context("reach the running skiff")?;
    stream
        .write_all(format!("{request}\n").as_bytes())
        .await
        .context("ask the running skiff")?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.context("wait for the running skiff")? {
        let mut answer: Value = serde_json::from_str(&line).context("read what the running skiff says")?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        match read_progress(&answer["progress"]) {
            Some(now) => progress(now),
            None => return Ok(answer["images"].take()),
        }
    }
    bail!("skiff ended before it was done")
}
