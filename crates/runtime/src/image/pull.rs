//! Images from registries.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::stream::{self, StreamExt};
use oci_client::RegistryOperation;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::digest::{Hasher, sha256};
use super::listeners::Listeners;
use super::manifest::{Configuration, Descriptor, MEDIA_TYPES, Manifest, chain_ids, platform};
use super::reference::Reference;
use super::store::{ImageRecord, ImageStore, LayerArchive, image_io, remove_in_background};
use super::{protocol, roots};
use crate::{Image, ImageError, PullObserver, PullProgress, PullRequest, RegistryAuth};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A registry that sends nothing for so long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const PARALLEL_DOWNLOADS: usize = 3;
/// How often a download that breaks off is continued.
const CONTINUATIONS: u32 = 5;
/// It counts afresh after so many bytes.
const GOOD_STRETCH_BYTES: u64 = 16 << 20;
/// Before it is continued for the first time; doubled for each other.
const PAUSE: Duration = Duration::from_millis(50);
/// Of a configuration.
const MAX_CONFIG_BYTES: u64 = 8 << 20;

type Pulled = Shared<BoxFuture<'static, Result<Image, ImageError>>>;
type UnderWay = Arc<Mutex<HashMap<(String, AuthKey), (Pulled, Arc<Listeners>)>>>;

/// How registries are reached and who is told of pulls.
#[derive(Clone)]
pub(crate) struct PullOptions {
    pub insecure_registries: Vec<String>,
    pub certificate_dirs: Vec<PathBuf>,
    pub observer: Option<PullObserver>,
}

/// Pulls, each once at a time.
pub(crate) struct Puller {
    store: ImageStore,
    options: PullOptions,
    // Held for look-ups only, never across an await.
    under_way: UnderWay,
}

/// Different credentials are different pulls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct AuthKey(Option<(String, String)>);

impl From<&Option<RegistryAuth>> for AuthKey {
    fn from(auth: &Option<RegistryAuth>) -> AuthKey {
        AuthKey(auth.as_ref().map(|auth| match auth {
            RegistryAuth::Basic { username, password } => (username.clone(), password.clone()),
            RegistryAuth::Bearer(token) => (String::new(), token.clone()),
        }))
    }
}

impl Puller {
    pub fn new(store: ImageStore, options: PullOptions) -> Puller {
        Puller {
            store,
            options,
            under_way: Arc::default(),
        }
    }

    /// Pulls an image. It goes on when the caller is gone.
    pub async fn pull(&self, request: PullRequest) -> Result<Image, ImageError> {
        let reference = Reference::parse(&request.image)?;
        let key = (reference.to_string(), AuthKey::from(&request.auth));
        let pulled = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&key) {
                Some((pulled, listeners)) => {
                    listeners.add(request.progress);
                    pulled.clone()
                }
                None => {
                    let listeners = Arc::new(Listeners::new(key.0.clone(), self.options.observer.clone()));
                    listeners.add(request.progress);
                    let (store, options, auth) = (self.store.clone(), self.options.clone(), request.auth);
                    let (list, own_key, told) = (self.under_way.clone(), key.clone(), listeners.clone());
                    let task = tokio::spawn(async move {
                        let result = match Pull::open(store, reference, &options, auth, told.clone()).await {
                            Ok(pull) => pull.run().await,
                            Err(error) => Err(error),
                        };
                        told.ended(&result);
                        list.lock().unwrap_or_else(PoisonError::into_inner).remove(&own_key);
                        result
                    });
                    let image = key.0.clone();
                    let pulled = async move {
                        task.await.unwrap_or_else(|error| {
                            Err(ImageError::Io {
                                image,
                                message: error.to_string(),
                            })
                        })
                    };
                    let pulled = pulled.boxed().shared();
                    under_way.insert(key, (pulled.clone(), listeners));
                    pulled
                }
            }
        };
        pulled.await
    }
}

struct Pull {
    store: ImageStore,
    reference: Reference,
    /// For messages.
    image: String,
    client: Client,
    auth: oci_client::secrets::RegistryAuth,
    progress: Progress,
}

struct Progress {
    listeners: Arc<Listeners>,
    layers_done: AtomicUsize,
    layers_total: AtomicUsize,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
}

impl Progress {
    fn tell(&self) {
        self.listeners.tell(&PullProgress {
            layers_done: self.layers_done.load(Ordering::Relaxed),
            layers_total: self.layers_total.load(Ordering::Relaxed),
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
        });
    }
}

/// A layer to get.
struct Wanted {
    key: String,
    chain_id: String,
    diff_id: String,
    descriptor: Descriptor,
}

/// A layer with the right to make it.
struct Fetched<'w> {
    layer: &'w Wanted,
    /// Its archive; `None` if the layer is here already.
    file: Option<PathBuf>,
    _lock: tokio::sync::OwnedMutexGuard<()>,
}

impl Pull {
    async fn open(
        store: ImageStore,
        reference: Reference,
        options: &PullOptions,
        auth: Option<RegistryAuth>,
        listeners: Arc<Listeners>,
    ) -> Result<Pull, ImageError> {
        let insecure = reference.is_loopback() || options.insecure_registries.contains(&reference.registry);
        let protocol = match insecure {
            true => protocol::of_insecure(&reference.registry).await,
            false => ClientProtocol::Https,
        };
        let (registry, dirs) = (reference.registry.clone(), options.certificate_dirs.clone());
        let roots = tokio::task::spawn_blocking(move || roots::for_registry(&registry, &dirs)).await;
        let config = ClientConfig {
            protocol,
            tls_certs_only: roots.unwrap_or_default(),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            ..Default::default()
        };
        let auth = match auth {
            Some(RegistryAuth::Basic { username, password }) => {
                oci_client::secrets::RegistryAuth::Basic(username, password)
            }
            Some(RegistryAuth::Bearer(token)) => oci_client::secrets::RegistryAuth::Bearer(token),
            None => oci_client::secrets::RegistryAuth::Anonymous,
        };
        let image = reference.to_string();
        let client = Client::try_from(config).map_err(|error| ImageError::Io {
            image: image.clone(),
            message: format!("prepare to speak to the registry: {}", chain(&error)),
        })?;
        Ok(Pull {
            store,
            image,
            reference,
            client,
            auth,
            progress: Progress {
                listeners,
                layers_done: AtomicUsize::new(0),
                layers_total: AtomicUsize::new(0),
                bytes_done: AtomicU64::new(0),
                bytes_total: AtomicU64::new(0),
            },
        })
    }

    fn corrupt(&self, message: impl Into<String>) -> ImageError {
        ImageError::Corrupt {
            image: self.image.clone(),
            message: message.into(),
        }
    }

    /// The reference for the registry; `None`: as it was given.
    fn remote(&self, digest: Option<&str>) -> oci_client::Reference {
        let (registry, repository) = (self.reference.registry.clone(), self.reference.repository.clone());
        match (digest.or(self.reference.digest.as_deref()), &self.reference.tag) {
            (Some(digest), _) => oci_client::Reference::with_digest(registry, repository, digest.to_owned()),
            (None, tag) => {
                let tag = tag.clone().unwrap_or_else(|| "latest".to_owned());
                oci_client::Reference::with_tag(registry, repository, tag)
            }
        }
    }

    async fn run(&self) -> Result<Image, ImageError> {
        let (named_digest, manifest) = self.manifest().await?;
        let (config, layers) = manifest.parts().ok_or_else(|| {
            self.corrupt("its manifest is of a kind that is not supported (OCI and Docker schema 2 are)")
        })?;
        let configuration: Configuration = {
            let bytes = self.small_blob(config).await?;
            serde_json::from_slice(&bytes).map_err(|error| self.corrupt(format!("its configuration: {error}")))?
        };
        let diff_ids = configuration.diff_ids();
        if diff_ids.len() != layers.len() {
            return Err(self.corrupt("its configuration and its manifest differ in the number of layers"));
        }
        let wanted: Vec<Wanted> = chain_ids(diff_ids)
            .into_iter()
            .zip(diff_ids)
            .zip(layers)
            .map(|((chain_id, diff_id), descriptor)| Wanted {
                key: ImageStore::key(&chain_id),
                chain_id,
                diff_id: diff_id.clone(),
                descriptor: descriptor.clone(),
            })
            .collect();
        let keys: Vec<String> = wanted.iter().map(|layer| layer.key.clone()).collect();
        let _pins = self.store.pin(keys.clone());
        self.layers(&wanted, &keys).await?;
        let record = ImageRecord {
            id: config.digest.clone(),
            tags: self
                .reference
                .tagged()
                .into_iter()
                .filter(|_| self.reference.digest.is_none())
                .collect(),
            digests: [self.reference.with_digest(&named_digest)].into(),
            layers: keys,
            config: configuration.defaults(),
            pinned: false,
        };
        self.store.commit_image(&self.image, record).await
    }

    /// The manifest for this machine, and the digest that the reference names (an index's, if it is one).
    async fn manifest(&self) -> Result<(String, Manifest), ImageError> {
        let remote = self.remote(None);
        // It learns why credentials are refused, which later calls do not tell.
        self.client
            .auth(&remote, &self.auth, RegistryOperation::Pull)
            .await
            .map_err(|error| self.registry_error(error))?;
        let (bytes, _) = self
            .client
            .pull_manifest_raw(&remote, &self.auth, &MEDIA_TYPES)
            .await
            .map_err(|error| self.registry_error(error))?;
        let named_digest = sha256(&bytes);
        if self
            .reference
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != named_digest)
        {
            return Err(self.corrupt(format!("the registry sent a manifest with the digest {named_digest}")));
        }
        let parse = |bytes: &[u8]| -> Result<Manifest, ImageError> {
            serde_json::from_slice(bytes).map_err(|error| self.corrupt(format!("its manifest: {error}")))
        };
        let mut manifest = parse(&bytes)?;
        if manifest.is_index() {
            let chosen = manifest
                .for_this_machine()
                .first()
                .map(|descriptor| descriptor.digest.clone());
            let digest = chosen.ok_or_else(|| ImageError::NoPlatform {
                image: self.image.clone(),
                platform: platform(),
            })?;
            let (bytes, _) = self
                .client
                .pull_manifest_raw(&self.remote(Some(&digest)), &self.auth, &MEDIA_TYPES)
                .await
                .map_err(|error| self.registry_error(error))?;
            if sha256(&bytes) != digest {
                return Err(self.corrupt("the registry sent another manifest than the index names"));
            }
            manifest = parse(&bytes)?;
        }
        Ok((named_digest, manifest))
    }

    async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if descriptor.size > MAX_CONFIG_BYTES {
            return Err(self.corrupt("its configuration is too large"));
        }
        let file = self.download(descriptor).await?;
        let mut bytes = Vec::new();
        let read = async { tokio::fs::File::open(&file).await?.read_to_end(&mut bytes).await };
        let read = read
            .await
            .map_err(image_io(&self.image, format!("read {}", file.display())));
        remove_in_background(file);
        read.map(|_| bytes)
    }

    async fn layers(&self, wanted: &[Wanted], keys: &[String]) -> Result<(), ImageError> {
        self.progress.layers_total.store(wanted.len(), Ordering::Relaxed);
        let missing = wanted.iter().filter(|layer| !self.store.has_layer(&layer.key));
        let bytes = missing.map(|layer| layer.descriptor.size).sum();
        self.progress.bytes_total.store(bytes, Ordering::Relaxed);
        self.progress.tell();
        // Downloads run ahead of unpacking, which goes from the bottom up.
        let downloads: Vec<_> = wanted.iter().map(|layer| self.fetch(layer)).collect();
        let mut downloads = stream::iter(downloads).buffered(PARALLEL_DOWNLOADS);
        let mut below = 0;
        while let Some(download) = downloads.next().await {
            let Fetched { layer, file, _lock } = download?;
            if let Some(file) = file {
                let length = fs::metadata(&file).map_or(0, |metadata| metadata.len());
                let archive = LayerArchive {
                    path: file.clone(),
                    offset: 0,
                    length,
                };
                let added = self
                    .store
                    .add_layer(&self.image, &archive, &layer.chain_id, &layer.diff_id, &keys[..below])
                    .await;
                remove_in_background(file);
                added?;
            }
            below += 1;
            self.progress.layers_done.fetch_add(1, Ordering::Relaxed);
            self.progress.tell();
        }
        Ok(())
    }

    /// Downloads a layer unless it is here, or another pull makes it.
    async fn fetch<'w>(&self, layer: &'w Wanted) -> Result<Fetched<'w>, ImageError> {
        let _lock = self.store.making(&layer.key).lock_owned().await;
        let file = match self.store.has_layer(&layer.key) {
            true => None,
            false => Some(self.download(&layer.descriptor).await?),
        };
        Ok(Fetched { layer, file, _lock })
    }

    /// Downloads a blob and checks its digest. What breaks off is continued.
    async fn download(&self, descriptor: &Descriptor) -> Result<PathBuf, ImageError> {
        let path = self.store.temporary_path("blob");
        let result = self.download_to(descriptor, &path).await;
        match result {
            Ok(()) => Ok(path),
            Err(error) => {
                remove_in_background(path);
                Err(error)
            }
        }
    }

    async fn download_to(&self, descriptor: &Descriptor, path: &Path) -> Result<(), ImageError> {
        self.check_space(descriptor.size)?;
        let io = || image_io(&self.image, format!("write {}", path.display()));
        let mut file = tokio::fs::File::create(path).await.map_err(io())?;
        let mut hasher = Hasher::default();
        let mut done = 0u64;
        let mut attempt = 0;
        loop {
            let before = done;
            match self.receive(descriptor, &mut file, &mut hasher, &mut done).await {
                Ok(()) => break,
                Err(error) if matches!(error, ImageError::Unreachable { .. }) && attempt < CONTINUATIONS => {
                    tracing::info!(image = %self.image, %error, done, "download broke off; it is continued");
                    attempt = match done.saturating_sub(before) > GOOD_STRETCH_BYTES {
                        true => 0,
                        false => attempt + 1,
                    };
                    tokio::time::sleep(PAUSE * 2u32.pow(attempt)).await;
                }
                Err(error) => return Err(error),
            }
        }
        file.flush().await.map_err(io())?;
        if done != descriptor.size || hasher.digest() != descriptor.digest {
            return Err(self.corrupt(format!(
                "the registry sent {done} bytes with the digest {} for {} ({} bytes)",
                hasher.digest(),
                descriptor.digest,
                descriptor.size
            )));
        }
        Ok(())
    }

    async fn receive(
        &self,
        descriptor: &Descriptor,
        file: &mut tokio::fs::File,
        hasher: &mut Hasher,
        done: &mut u64,
    ) -> Result<(), ImageError> {
        let remote = self.remote(None);
        let (digest, offset) = (descriptor.digest.as_str(), *done);
        let mut blob = if offset == 0 {
            self.client
                .pull_blob_stream(&remote, digest)
                .await
                .map_err(|error| self.registry_error(error))?
        } else {
            let response = self
                .client
                .pull_blob_stream_partial(&remote, digest, offset, None)
                .await;
            match response.map_err(|error| self.registry_error(error))? {
                oci_client::client::BlobResponse::Partial(blob) => blob,
                oci_client::client::BlobResponse::Full(blob) => {
                    // It cannot continue: from the start again.
                    file.set_len(0)
                        .await
                        .map_err(image_io(&self.image, "truncate".to_owned()))?;
                    tokio::io::AsyncSeekExt::rewind(file)
                        .await
                        .map_err(image_io(&self.image, "rewind".to_owned()))?;
                    *hasher = Hasher::default();
                    *done = 0;
                    blob
                }
            }
        };
        while let Some(piece) = blob.next().await {
            let piece = piece.map_err(|error| self.broken_off(&error))?;
            *done += piece.len() as u64;
            if *done > descriptor.size {
                return Err(self.corrupt("the registry sends more bytes than the manifest says"));
            }
            hasher.update(&piece);
            file.write_all(&piece)
                .await
                .map_err(image_io(&self.image, "write layer".to_owned()))?;
            self.progress
                .bytes_done
                .fetch_add(piece.len() as u64, Ordering::Relaxed);
            self.progress.tell();
        }
        if *done < descriptor.size {
            return Err(self.broken_off(&io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(())
    }

    fn broken_off(&self, error: &io::Error) -> ImageError {
        // The library checks the digest itself and says so in its own words.
        if error.to_string().to_ascii_lowercase().contains("digest") {
            return self.corrupt(error.to_string());
        }
        self.unreachable(chain(error))
    }

    fn unreachable(&self, message: String) -> ImageError {
        ImageError::Unreachable {
            image: self.image.clone(),
            registry: self.reference.registry.clone(),
            message,
        }
    }

    fn check_space(&self, bytes: u64) -> Result<(), ImageError> {
        let limits = self.store.limits();
        let usage = self.store.usage().map_err(|error| ImageError::Io {
            image: self.image.clone(),
            message: error.to_string(),
        })?;
        if usage.available_bytes < bytes.saturating_add(limits.keep_free_bytes) {
            return Err(ImageError::NoSpace {
                image: self.image.clone(),
                path: usage.path,
                message: format!(
                    "{} MiB are left, a layer has {} MiB",
                    usage.available_bytes >> 20,
                    bytes >> 20
                ),
            });
        }
        Ok(())
    }

    fn registry_error(&self, error: OciDistributionError) -> ImageError {
        let (image, registry) = (self.image.clone(), self.reference.registry.clone());
        let message = chain(&error);
        match error {
            OciDistributionError::AuthenticationFailure(reason) => {
                let message = if reason.trim().is_empty() {
                    message
                } else {
                    reason.trim().to_owned()
                };
                ImageError::Unauthorized { image, message }
            }
            OciDistributionError::UnauthorizedError { .. } => ImageError::Unauthorized { image, message },
            OciDistributionError::ImageManifestNotFoundError(_) => ImageError::NotFound { image, message },
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    ImageError::Unauthorized { image, message }
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                    OciErrorCode::BlobUnknown,
                ]) {
                    ImageError::NotFound { image, message }
                } else if has(&[OciErrorCode::Toomanyrequests]) {
                    ImageError::RateLimited {
                        image,
                        registry,
                        message,
                    }
                } else {
                    ImageError::Registry {
                        image,
                        registry,
                        message,
                    }
                }
            }
            OciDistributionError::ServerError { code, .. } => match code {
                401 | 403 => ImageError::Unauthorized { image, message },
                404 => ImageError::NotFound { image, message },
                429 => ImageError::RateLimited {
                    image,
                    registry,
                    message,
                },
                _ => ImageError::Registry {
                    image,
                    registry,
                    message,
                },
            },
            OciDistributionError::DigestError(_) => ImageError::Corrupt { image, message },
            OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
                let message = match message.contains("invalid peer certificate") {
                    true => distrusted(&registry, &message),
                    false => message,
                };
                ImageError::Unreachable {
                    image,
                    registry,
                    message,
                }
            }
            _ => ImageError::Registry {
                image,
                registry,
                message,
            },
        }
    }
}

fn distrusted(registry: &str, message: &str) -> String {
    format!(
        "{message}; if the registry is to be trusted, put the certificate of its CA into \
         /etc/skiff/certs.d/{registry}/ca.crt, or among this machine's (/usr/local/share/ca-certificates, then \
         update-ca-certificates)"
    )
}

/// An error with those it came from: the last one says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}
