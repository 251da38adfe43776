//! Images and their unpacked layers on disk.
//!
//! ```text
//! <data_dir>/images/index.json       all images, replaced whole
//! <data_dir>/images/layers/<key>/    an unpacked layer; key: the first 20 digits of the layer's chain id
//! <data_dir>/images/layers/<key>.json   LayerRecord: without it the folder is a leftover
//! <data_dir>/images/tmp/             emptied when the store is opened
//! ```
//!
//! Layers are shared by all images that have them. One is removed when no image, no container and nothing under way
//! needs it. Archives are not kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::extract::Limits;
use super::reference::Reference;
use super::unpack::{UnpackError, UnpackJob, Unpacked};
use crate::records::{self, WritableLayer, make_private_dir};
use crate::{FilesystemUsage, Image, ImageConfig, ImageError, ImageLimits, Result, RuntimeError};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    shim_exe: PathBuf,
    limits: ImageLimits,
    layering: WritableLayer,
    // Held for look-ups and small file operations only, never across an await.
    state: Mutex<State>,
    /// One task at a time makes a layer.
    making: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    counter: AtomicU64,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, ImageRecord>,
    layers: BTreeMap<String, LayerRecord>,
    /// How often a layer is needed by containers and by what is under way.
    pins: HashMap<String, usize>,
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub id: String,
    pub tags: BTreeSet<String>,
    /// `repository@sha256:…`.
    pub digests: BTreeSet<String>,
    /// Keys, the lowest first.
    pub layers: Vec<String>,
    pub config: ImageConfig,
    pub pinned: bool,
}

/// An unpacked layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub chain_id: String,
    pub bytes: u64,
    pub entries: u64,
}

/// Keeps layers from being removed while it lives.
pub(crate) struct Pins {
    store: ImageStore,
    keys: Vec<String>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for key in &self.keys {
            if let Some(count) = state.pins.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(key);
                }
            }
        }
    }
}

/// What a container needs of an image.
pub(crate) struct ImageForContainer {
    pub id: String,
    /// What the container's status shows.
    pub reference: String,
    pub config: ImageConfig,
    pub layers: Vec<String>,
    pub pins: Pins,
}

/// An archive that is a layer.
pub(super) struct LayerArchive {
    pub path: PathBuf,
    pub offset: u64,
    pub length: u64,
}

impl ImageStore {
    /// Opens the store and removes leftovers.
    pub fn open(dir: PathBuf, shim_exe: PathBuf, limits: ImageLimits, layering: WritableLayer) -> Result<ImageStore> {
        let store = ImageStore {
            inner: Arc::new(Inner {
                dir,
                shim_exe,
                limits,
                layering,
                state: Mutex::default(),
                making: Mutex::default(),
                counter: AtomicU64::new(0),
            }),
        };
        let temporary = store.temporary();
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RuntimeError::io("empty", &temporary)(error));
            }
            _ => {}
        }
        for folder in [&temporary, &store.layers_dir(), &store.layers_dir().join("empty")] {
            make_private_dir(folder)?;
        }
        let images: BTreeMap<String, ImageRecord> = records::read(&store.index())?.unwrap_or_default();
        let layers = store.read_layers()?;
        // An image whose layers are not all there is not there.
        let whole = |image: &ImageRecord| image.layers.iter().all(|key| layers.contains_key(key));
        let images = images.into_iter().filter(|(_, image)| whole(image)).collect();
        *store.state() = State {
            images,
            layers,
            pins: HashMap::new(),
        };
        Ok(store)
    }

    fn read_layers(&self) -> Result<BTreeMap<String, LayerRecord>> {
        let dir = self.layers_dir();
        let mut found = BTreeMap::new();
        let entries = fs::read_dir(&dir).map_err(RuntimeError::io("list", &dir))?;
        for name in entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            if let Some(key) = name.strip_suffix(".json") {
                let record = records::read::<LayerRecord>(&dir.join(&name)).ok().flatten();
                match record.filter(|_| dir.join(key).is_dir()) {
                    Some(record) => drop(found.insert(key.to_owned(), record)),
                    None => drop(fs::remove_file(dir.join(&name))),
                }
            } else if name != "empty" && !dir.join(format!("{name}.json")).exists() {
                let _ = fs::remove_dir_all(dir.join(&name));
            }
        }
        Ok(found)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while it was held can at worst have left a pin too many.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> PathBuf {
        self.inner.dir.join("index.json")
    }

    fn temporary(&self) -> PathBuf {
        self.inner.dir.join("tmp")
    }

    /// Where layers' folders are.
    pub fn layers_dir(&self) -> PathBuf {
        self.inner.dir.join("layers")
    }

    /// How containers' root file systems are made of layers.
    pub fn layering(&self) -> WritableLayer {
        self.inner.layering
    }

    pub(super) fn limits(&self) -> ImageLimits {
        self.inner.limits
    }

    /// A path for a file or folder under way.
    pub(super) fn temporary_path(&self, name: &str) -> PathBuf {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.temporary().join(format!("{number}-{name}"))
    }

    /// The key of a layer.
    pub(super) fn key(chain_id: &str) -> String {
        chain_id.trim_start_matches("sha256:").chars().take(20).collect()
    }

    /// Keeps layers from being removed, also ones that are not there yet.
    pub(crate) fn pin(&self, keys: Vec<String>) -> Pins {
        let mut state = self.state();
        for key in &keys {
            *state.pins.entry(key.clone()).or_default() += 1;
        }
        drop(state);
        Pins {
            store: self.clone(),
            keys,
        }
    }

    pub(super) fn has_layer(&self, key: &str) -> bool {
        self.state().layers.contains_key(key)
    }

    /// The lock under which a layer is made.
    pub(super) fn making(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = self.inner.making.lock().unwrap_or_else(PoisonError::into_inner);
        making.retain(|_, lock| Arc::strong_count(lock) > 1);
        making.entry(key.to_owned()).or_default().clone()
    }

    /// Unpacks an archive to be the layer above `below` (keys, the lowest first), which must be pinned.
    pub(super) async fn add_layer(
        &self,
        image: &str,
        archive: &LayerArchive,
        chain_id: &str,
        diff_id: &str,
        below: &[String],
    ) -> Result<(), ImageError> {
        let target = self.temporary_path("layer");
        let io = |what: &str| image_io(image, format!("{what} {}", target.display()));
        fs::create_dir(&target).map_err(io("create"))?;
        let job = UnpackJob {
            archive: archive.path.clone(),
            offset: archive.offset,
            length: archive.length,
            layers_dir: self.layers_dir(),
            top_first: below.iter().rev().cloned().collect(),
            target: target.clone(),
            overlay: self.inner.layering == WritableLayer::Overlay,
            limits: Limits {
                bytes: self.inner.limits.layer_bytes,
                entries: self.inner.limits.layer_entries,
                keep_free_bytes: self.inner.limits.keep_free_bytes,
            },
        };
        let result = self.run_unpack(image, &job).await.and_then(|unpacked| {
            if unpacked.diff_id != diff_id {
                let message = format!("a layer has the digest {}, the image says {diff_id}", unpacked.diff_id);
                return Err(ImageError::Corrupt {
                    image: image.to_owned(),
                    message,
                });
            }
            let record = LayerRecord {
                chain_id: chain_id.to_owned(),
                bytes: unpacked.bytes,
                entries: unpacked.entries,
            };
            self.commit_layer(image, &target.join("fs"), record)
        });
        remove_in_background(target);
        result
    }

    /// Moves a folder to where layers are. The caller holds the lock of [`ImageStore::making`].
    pub(super) fn commit_layer(&self, image: &str, folder: &Path, record: LayerRecord) -> Result<(), ImageError> {
        let key = ImageStore::key(&record.chain_id);
        let place = self.layers_dir().join(&key);
        let mut state = self.state();
        fs::rename(folder, &place).map_err(image_io(image, format!("rename to {}", place.display())))?;
        records::write(&self.layers_dir().join(format!("{key}.json")), &record).map_err(|error| ImageError::Io {
            image: image.to_owned(),
            message: error.to_string(),
        })?;
        state.layers.insert(key, record);
        Ok(())
    }

    async fn run_unpack(&self, image: &str, job: &UnpackJob) -> Result<Unpacked, ImageError> {
        let failed = |message: String| ImageError::Io {
            image: image.to_owned(),
            message,
        };
        let mut child = Command::new(&self.inner.shim_exe)
            .args(["shim", "unpack"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("start {}: {error}", self.inner.shim_exe.display())))?;
        let bytes = serde_json::to_vec(job).map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(&bytes)
                .await
                .map_err(|error| failed(format!("unpack: {error}")))?;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| failed(format!("unpack: {error}")))?;
        match serde_json::from_slice::<Result<Unpacked, UnpackError>>(&output.stdout) {
            Ok(Ok(unpacked)) => Ok(unpacked),
            Ok(Err(error)) => Err(self.unpack_failed(image, error)),
            Err(_) => {
                let message = format!(
                    "unpacking a layer ended with {}: {}",
                    output.status,
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                Err(ImageError::Refused {
                    image: image.to_owned(),
                    message,
                })
            }
        }
    }

    fn unpack_failed(&self, image: &str, error: UnpackError) -> ImageError {
        let image = image.to_owned();
        match error {
            UnpackError::Refused(message) => ImageError::Refused { image, message },
            UnpackError::Corrupt(message) => ImageError::Corrupt { image, message },
            UnpackError::NoSpace(message) => ImageError::NoSpace {
                image,
                path: self.inner.dir.clone(),
                message,
            },
            UnpackError::Io(message) => ImageError::Io { image, message },
        }
    }

    /// Adds an image, or names to one. Its layers must be there, and pinned.
    pub(super) async fn commit_image(&self, name: &str, record: ImageRecord) -> Result<Image, ImageError> {
        // What the index names must be there after a power failure as well.
        let dir = self.inner.dir.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let dir = File::open(&dir)?;
            // SAFETY: takes numbers only.
            crate::beneath::check(unsafe { libc::syncfs(dir.as_raw_fd()) })
        });
        synced
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(image_io(name, format!("sync {}", self.inner.dir.display())))?;
        self.insert_image(name, record)
    }

    /// Adds an image without syncing.
    pub(super) fn insert_image(&self, name: &str, record: ImageRecord) -> Result<Image, ImageError> {
        let mut state = self.state();
        let mut images = state.images.clone();
        for other in images.values_mut() {
            // A tag names one image.
            other.tags.retain(|tag| !record.tags.contains(tag));
        }
        let merged = match images.remove(&record.id) {
            Some(mut known) => {
                known.tags.extend(record.tags);
                known.digests.extend(record.digests);
                known.pinned |= record.pinned;
                known
            }
            None => record,
        };
        let id = merged.id.clone();
        images.insert(id.clone(), merged);
        records::write(&self.index(), &images).map_err(|error| ImageError::Io {
            image: name.to_owned(),
            message: error.to_string(),
        })?;
        state.images = images;
        Ok(state.image(&state.images[&id]))
    }

    /// All images.
    pub fn list(&self) -> Vec<Image> {
        let state = self.state();
        state.images.values().map(|record| state.image(record)).collect()
    }

    /// The image that a reference, an id or a digest names.
    pub fn find(&self, image: &str) -> Option<Image> {
        let state = self.state();
        state.find(image).map(|record| state.image(record))
    }

    /// The same for making a container of it.
    pub fn for_container(&self, image: &str) -> Option<ImageForContainer> {
        let (record, reference) = {
            let state = self.state();
            let record = state.find(image)?.clone();
            let wanted = Reference::parse(image)
                .ok()
                .map(|reference| format!("{}@", reference.name()));
            let same_name = record
                .digests
                .iter()
                .find(|digest| wanted.as_ref().is_some_and(|name| digest.starts_with(name)));
            let reference = same_name.or(record.digests.first()).unwrap_or(&record.id).clone();
            (record, reference)
        };
        let pins = self.pin(record.layers.clone());
        Some(ImageForContainer {
            id: record.id,
            reference,
            config: record.config,
            layers: record.layers,
            pins,
        })
    }

    /// Removes an image with all its names; layers that nobody needs go with it.
    pub async fn remove(&self, image: &str) -> Result<()> {
        {
            let mut state = self.state();
            let Some(id) = state.find(image).map(|record| record.id.clone()) else {
                return Ok(());
            };
            let mut images = state.images.clone();
            images.remove(&id);
            records::write(&self.index(), &images)?;
            state.images = images;
        }
        self.collect_layers();
        Ok(())
    }

    /// Removes layers that nobody needs.
    pub fn collect_layers(&self) {
        let mut state = self.state();
        let used: BTreeSet<&String> = state.images.values().flat_map(|image| &image.layers).collect();
        let unused: Vec<String> = state
            .layers
            .keys()
            .filter(|key| !used.contains(key) && !state.pins.contains_key(*key))
            .cloned()
            .collect();
        for key in unused {
            // Without its record it is a leftover, which is removed now or when the store is next opened.
            if fs::remove_file(self.layers_dir().join(format!("{key}.json"))).is_ok() {
                state.layers.remove(&key);
                let trash = self.temporary_path("removed");
                if fs::rename(self.layers_dir().join(&key), &trash).is_ok() {
                    remove_in_background(trash);
                }
            }
        }
    }

    /// What all layers use, and what their file system has.
    pub fn usage(&self) -> Result<FilesystemUsage> {
        let (used_bytes, inodes_used) = {
            let state = self.state();
            state.layers.values().fold((0, 0), |(bytes, files), layer| {
                (bytes + layer.bytes, files + layer.entries)
            })
        };
        filesystem_usage(&self.inner.dir, used_bytes, inodes_used)
    }
}

impl State {
    fn image(&self, record: &ImageRecord) -> Image {
        let size_bytes = record
            .layers
            .iter()
            .filter_map(|key| self.layers.get(key))
            .map(|layer| layer.bytes)
            .sum();
        let user = record.config.user.split(':').next().unwrap_or("");
        let uid = if user.is_empty() { None } else { user.parse().ok() };
        Image {
            id: record.id.clone(),
            repo_tags: record.tags.iter().cloned().collect(),
            repo_digests: record.digests.iter().cloned().collect(),
            size_bytes,
            uid,
            username: if uid.is_none() { user.to_owned() } else { String::new() },
            pinned: record.pinned,
            config: record.config.clone(),
        }
    }

    fn find(&self, image: &str) -> Option<&ImageRecord> {
        let id = if image.starts_with("sha256:") {
            image.to_owned()
        } else {
            format!("sha256:{image}")
        };
        if let Some(record) = self.images.get(&id) {
            return Some(record);
        }
        let reference = Reference::parse(image).ok()?;
        match &reference.digest {
            Some(digest) => {
                let wanted = reference.with_digest(digest);
                self.images.values().find(|record| record.digests.contains(&wanted))
            }
            None => {
                let wanted = reference.tagged()?;
                self.images.values().find(|record| record.tags.contains(&wanted))
            }
        }
    }
}

/// Usage of a file system.
pub(crate) fn filesystem_usage(path: &Path, used_bytes: u64, inodes_used: u64) -> Result<FilesystemUsage> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|error| RuntimeError::io("statvfs", path)(error.into()))?;
    let block = stat.fragment_size() as u64;
    Ok(FilesystemUsage {
        path: path.to_owned(),
        used_bytes,
        inodes_used,
        capacity_bytes: stat.blocks() as u64 * block,
        available_bytes: stat.blocks_available() as u64 * block,
        inodes_total: stat.files() as u64,
        inodes_free: stat.files_free() as u64,
    })
}

/// For file operations on behalf of an image.
pub(super) fn image_io(image: &str, what: String) -> impl FnOnce(io::Error) -> ImageError {
    let image = image.to_owned();
    move |error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => ImageError::NoSpace {
            image,
            path: PathBuf::from(&what),
            message: error.to_string(),
        },
        _ => ImageError::Io {
            image,
            message: format!("{what}: {error}"),
        },
    }
}

/// What is not removed is removed when the store is next opened.
pub(super) fn remove_in_background(path: PathBuf) {
    tokio::task::spawn_blocking(move || {
        let _ = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    });
}
