//! `skiff image`: the images of this machine's node.
//!
//! A running skiff holds the image store open, so it is asked over a socket in the data directory, which only root can
//! reach: see `socket`. Without one, the store is opened here.

pub mod progress;
mod socket;

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use runtime::{EmbeddedRuntime, LoopbackNetwork, RuntimeConfig};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use progress::Progress;
pub use socket::serve;

use crate::{host, options};

const SOCKET: &str = "images.sock";

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
    /// Get images from their registries
    Pull(Pull),
    /// Show the images that are here
    List,
    /// Remove images, each with all its names
    Remove {
        /// Names, digests or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Pull {
    /// Names, as in a pod: `nginx`, `nginx:1.27`, `host:5000/a/b@sha256:…`
    #[arg(required = true)]
    images: Vec<String>,
    /// User for the registry; the password is read from standard input
    #[arg(long, short = 'u')]
    username: Option<String>,
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
                Verb::Pull(pull) => {
                    let auth = credentials(pull)?;
                    let mut failed = 0;
                    for image in &pull.images {
                        let request = json!({ "pull": image, "auth": auth });
                        failed += usize::from(!told(store.call(&request).await, "pulled"));
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

/// The password is neither an argument nor in the environment, where others could see it.
fn credentials(pull: &Pull) -> Result<Value> {
    let Some(username) = &pull.username else {
        return Ok(Value::Null);
    };
    if io::stdin().is_terminal() {
        eprintln!("password for {username} (it is shown), then Enter:");
    }
    let mut password = String::new();
    io::stdin()
        .lock()
        .read_line(&mut password)
        .context("read the password")?;
    Ok(json!({ "username": username, "password": password.trim_end_matches(['\r', '\n']) }))
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

    /// Shows progress while it waits.
    async fn call(&self, request: &Value) -> Result<Value> {
        let progress = Progress::default();
        let result = match self {
            ImageStore::Opened(runtime) => {
                let shown = progress.clone();
                socket::execute(runtime, request, Arc::new(move |now| shown.show(&now))).await
            }
            ImageStore::Running(socket) => socket::ask(socket, request, |now| progress.show(&now)).await,
        };
        progress.end();
        result
    }
}
