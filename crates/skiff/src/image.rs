//! `skiff image`: the images of this machine's node.
//!
//! A running skiff holds the image store open, so it is asked over a socket in the data directory, which only root can
//! reach: a line of JSON each way. Without one, the store is opened here.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use runtime::{EmbeddedRuntime, Image, LoopbackNetwork, Runtime, RuntimeConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{host, options};

const SOCKET: &str = "images.sock";
const MAX_REQUEST_BYTES: u64 = 64 << 10;

/// Options of `skiff image`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directory of everything that is kept, as for `up`
    #[arg(long, global = true, env = "SKIFF_DATA_DIR", default_value_os_t = options::default_data_dir())]
    data_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add the images of tar files: OCI layouts, or written by `docker save`
    Import {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show the images that are here
    List,
    /// Remove images, each with all its names
    Remove {
        /// Names, digests or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Does what was asked for each file or name; goes on after errors.
pub fn run(options: &Options) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let store = ImageStore::open(&options.data_dir).await?;
            match &options.verb {
                Verb::List => print_table(&store.call(&json!({ "list": null })).await?),
                Verb::Import { files } => {
                    let mut failed = 0;
                    for file in files {
                        failed += usize::from(!import(&store, file).await);
                    }
                    complete(failed)
                }
                Verb::Remove { images } => {
                    let mut failed = 0;
                    for image in images {
                        failed += usize::from(!told(store.call(&json!({ "remove": image })).await, "removed"));
                    }
                    complete(failed)
                }
            }
        })
}

async fn import(store: &ImageStore, file: &Path) -> bool {
    // skiff may run in another folder.
    match fs::canonicalize(file) {
        Ok(path) => told(store.call(&json!({ "import": path })).await, "imported"),
        Err(error) => told(
            Err(error).with_context(|| format!("open {}", file.display())),
            "imported",
        ),
    }
}

fn complete(failed: usize) -> Result<()> {
    if failed == 0 { Ok(()) } else { bail!("{failed} failed") }
}

fn told(answer: Result<Value>, done: &str) -> bool {
    match answer {
        Ok(images) => {
            for image in images.as_array().into_iter().flatten() {
                println!("{done} {} ({})", names(image).join(", "), short(&image["id"]));
            }
            true
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            false
        }
    }
}

fn names(image: &Value) -> Vec<&str> {
    let of = |key: &str| {
        image[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
    };
    let tags = of("tags");
    if tags.is_empty() { of("digests") } else { tags }
}

fn short(id: &Value) -> String {
    id.as_str()
        .unwrap_or_default()
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect()
}

fn print_table(images: &Value) -> Result<()> {
    let mut rows = vec![("IMAGE".to_owned(), "ID".to_owned(), "SIZE".to_owned())];
    for image in images.as_array().into_iter().flatten() {
        let size = format!(
            "{:.1} MiB",
            image["bytes"].as_f64().unwrap_or_default() / f64::from(1 << 20)
        );
        let found = names(image);
        let found = if found.is_empty() { vec!["<none>"] } else { found };
        rows.extend(
            found
                .into_iter()
                .map(|name| (name.to_owned(), short(&image["id"]), size.clone())),
        );
    }
    rows[1..].sort();
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or_default();
    for (name, id, size) in rows {
        println!("{name:<width$}   {id:<12}   {size}");
    }
    Ok(())
}

/// Where the images are: behind a running skiff, or opened here.
enum ImageStore {
    Running(PathBuf),
    Opened(EmbeddedRuntime),
}

impl ImageStore {
    async fn open(data_dir: &Path) -> Result<ImageStore> {
        let socket = data_dir.join(SOCKET);
        match UnixStream::connect(&socket).await {
            Ok(_) => return Ok(ImageStore::Running(socket)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!("images belong to root: run this as root");
            }
            Err(_) => {}
        }
        fs::create_dir_all(data_dir).with_context(|| format!("make the data directory {}", data_dir.display()))?;
        let mut config = RuntimeConfig::new(data_dir.join("runtime"), host::PROGRAM, Arc::new(LoopbackNetwork));
        // Groups are none of this command's business: those of pods that are gone are the next `up`'s.
        config.cgroup_root = "/skiff-image".into();
        let runtime = EmbeddedRuntime::open(config).await.context("open the image store")?;
        Ok(ImageStore::Opened(runtime))
    }

    async fn call(&self, request: &Value) -> Result<Value> {
        match self {
            ImageStore::Opened(runtime) => execute(runtime, request).await,
            ImageStore::Running(socket) => {
                let mut stream = UnixStream::connect(socket).await.context("reach the running skiff")?;
                stream
                    .write_all(format!("{request}\n").as_bytes())
                    .await
                    .context("ask the running skiff")?;
                let mut answer = String::new();
                stream
                    .read_to_string(&mut answer)
                    .await
                    .context("wait for the running skiff")?;
                let answer: Value = serde_json::from_str(&answer).context("skiff ended before it was done")?;
                match answer["error"].as_str() {
                    Some(error) => Err(anyhow!("{error}")),
                    None => Ok(answer["images"].clone()),
                }
            }
        }
    }
}

/// The images that were added, are there, or were removed.
async fn execute(runtime: &EmbeddedRuntime, request: &Value) -> Result<Value> {
    let images = if let Some(path) = request["import"].as_str() {
        runtime.import_images(Path::new(path)).await?
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
    let result = match serde_json::from_str(&line) {
        Ok(request) => execute(&runtime, &request).await,
        Err(error) => Err(error.into()),
    };
    let answer = match result {
        Ok(images) => json!({ "images": images }),
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    let _ = write.write_all(answer.to_string().as_bytes()).await;
    let _ = write.shutdown().await;
}
