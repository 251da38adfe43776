use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An image that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Names with a tag, such as `docker.io/library/nginx:1.27`.
    pub repo_tags: Vec<String>,
    /// Names with the digest of the manifest, such as `docker.io/library/nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Bytes on disk, layers shared with others included.
    pub size_bytes: u64,
    /// The numeric user of its configuration.
    pub uid: Option<i64>,
    /// The user of its configuration where it is a name.
    pub username: String,
    /// Not to be removed to free space.
    pub pinned: bool,
    /// What it runs by default.
    pub config: ImageConfig,
}

/// What an image runs by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, ….
    pub user: String,
    /// Signal that stops it.
    pub stop_signal: String,
    /// Such as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
}

/// An image to pull.
#[derive(Clone, Default)]
pub struct PullRequest {
    /// Any form that Docker takes: `nginx`, `nginx:1.27`, `host:5000/a/b@sha256:…`.
    pub image: String,
    /// `None`: anonymously.
    pub auth: Option<RegistryAuth>,
    /// Told of the progress, from any thread, often.
    pub progress: Option<ProgressFn>,
}

impl fmt::Debug for PullRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullRequest")
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

/// What happens to a pull, whoever asked for it.
#[derive(Clone, Copy, Debug)]
pub enum PullEvent<'a> {
    /// It is so far; told often.
    Progress(&'a PullProgress),
    /// It is over.
    Ended(Result<&'a Image, &'a ImageError>),
}

/// Told of every pull, with the image's normalised name; from any thread, and it must not block.
pub type PullObserver = Arc<dyn Fn(&str, PullEvent<'_>) + Send + Sync>;

/// See [`PullRequest::progress`].
pub type ProgressFn = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryAuth {
    /// User and password (also a token as password).
    Basic {
        /// User.
        username: String,
        /// Password.
        password: String,
    },
    /// A bearer token.
    Bearer(
        /// The token.
        String,
    ),
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryAuth(…)")
    }
}

/// How far a pull or an import is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers that are in place.
    pub layers_done: usize,
    /// All layers; 0 until the manifest is known.
    pub layers_total: usize,
    /// Bytes that came.
    pub bytes_done: u64,
    /// All bytes; 0 until the manifest is known.
    pub bytes_total: u64,
}

/// What a file system holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes used by what was asked about.
    pub used_bytes: u64,
    /// Files used by what was asked about.
    pub inodes_used: u64,
    /// Bytes of the whole file system.
    pub capacity_bytes: u64,
    /// Bytes left in it.
    pub available_bytes: u64,
    /// Files of the whole file system.
    pub inodes_total: u64,
    /// Files left in it.
    pub inodes_free: u64,
}

/// Why an image is not here. `Display` is fit for an event or a container's `waiting.message`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The reference cannot be read (`InvalidImageName`).
    #[error("couldn't parse image name \"{image}\": {message}")]
    InvalidReference {
        /// As given.
        image: String,
        /// What is wrong with it.
        message: String,
    },
    /// The registry does not have it.
    #[error("failed to pull image \"{image}\": not found: {message}")]
    NotFound {
        /// Normalised.
        image: String,
        /// What the registry said.
        message: String,
    },
    /// The registry wants other credentials.
    #[error(
        "failed to pull image \"{image}\": the registry refused access ({message}); check the name and imagePullSecrets"
    )]
    Unauthorized {
        /// Normalised.
        image: String,
        /// What the registry said.
        message: String,
    },
    /// The registry cannot be reached, or broke off.
    #[error("failed to pull image \"{image}\": registry {registry} cannot be reached: {message}")]
    Unreachable {
        /// Normalised.
        image: String,
        /// Host and port.
        registry: String,
        /// What failed.
        message: String,
    },
    /// The registry asks to come back later.
    #[error("failed to pull image \"{image}\": registry {registry} allows no more requests for now: {message}")]
    RateLimited {
        /// Normalised.
        image: String,
        /// Host and port.
        registry: String,
        /// What the registry said.
        message: String,
    },
    /// The registry answered with an error of another kind.
    #[error("failed to pull image \"{image}\": registry {registry} answered: {message}")]
    Registry {
        /// Normalised.
        image: String,
        /// Host and port.
        registry: String,
        /// What the registry said.
        message: String,
    },
    /// A digest does not match, or a manifest, configuration or layer cannot be read.
    #[error("image \"{image}\" is damaged: {message}")]
    Corrupt {
        /// Its name, or the file it came from.
        image: String,
        /// What is wrong.
        message: String,
    },
    /// A layer that tries to leave its root, or does not keep to the limits.
    #[error("image \"{image}\" was refused: {message}")]
    Refused {
        /// Its name, or the file it came from.
        image: String,
        /// What it tried.
        message: String,
    },
    /// No manifest for this machine.
    #[error("no match for platform {platform} in image \"{image}\"")]
    NoPlatform {
        /// Normalised.
        image: String,
        /// Such as `linux/amd64`.
        platform: String,
    },
    /// The disk is full.
    #[error("no space left for image \"{image}\" in {}: {message}; remove images or files there", path.display())]
    NoSpace {
        /// Its name, or the file it came from.
        image: String,
        /// Where.
        path: PathBuf,
        /// How much is missing.
        message: String,
    },
    /// A file operation failed.
    #[error("image \"{image}\": {message}")]
    Io {
        /// Its name, or the file it came from.
        image: String,
        /// What failed, on what.
        message: String,
    },
}
