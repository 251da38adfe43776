//! Images from tar files: OCI layouts, and what `docker save` writes.
//!
//! The file is scanned once; layers are unpacked from where they are in it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tar::{Archive, EntryType};

use super::digest::{is_sha256, sha256};
use super::manifest::{Configuration, Descriptor, Manifest, chain_ids, platform};
use super::reference::Reference;
use super::store::{ImageRecord, ImageStore, LayerArchive, image_io, remove_in_background};
use crate::{Image, ImageError};

/// Of manifests and configurations.
const MAX_JSON_BYTES: u64 = 8 << 20;
const MAX_FILES: usize = 100_000;
const MAX_INDEX_DEPTH: usize = 4;

/// Files of an archive, by cleaned name.
struct Contents {
    /// For messages.
    name: String,
    path: PathBuf,
    files: HashMap<String, (u64, u64)>,
    links: HashMap<String, String>,
}

/// An image of the archive.
struct Found {
    names: Vec<String>,
    manifest_digest: Option<String>,
    config: Vec<u8>,
    layers: Vec<(u64, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl ImageStore {
    /// Adds all images for this machine that are in a tar file (plain, or compressed by gzip or zstd).
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let name = path.display().to_string();
        let plain = self.temporary_path("import");
        let (store_name, source, target) = (name.clone(), path.to_owned(), plain.clone());
        let limit = self.limits().layer_bytes;
        let scan = tokio::task::spawn_blocking(move || scan(&store_name, &source, &target, limit));
        let scanned = match scan.await {
            Ok(result) => result,
            Err(error) => Err(ImageError::Io {
                image: name.clone(),
                message: error.to_string(),
            }),
        };
        let result = match scanned {
            Ok((contents, found)) => self.import_all(&contents, found).await,
            Err(error) => Err(error),
        };
        remove_in_background(plain);
        result
    }

    async fn import_all(&self, contents: &Contents, found: Vec<Found>) -> Result<Vec<Image>, ImageError> {
        let mut images = Vec::new();
        for image in found {
            images.push(self.import_one(contents, image).await?);
        }
        Ok(images)
    }

    async fn import_one(&self, contents: &Contents, found: Found) -> Result<Image, ImageError> {
        let configuration: Configuration = contents.parse(&found.config)?;
        let diff_ids = configuration.diff_ids();
        if diff_ids.len() != found.layers.len() || !diff_ids.iter().all(|id| is_sha256(id)) {
            return Err(contents.corrupt("the configuration does not match the layers"));
        }
        let chain = chain_ids(diff_ids);
        let keys: Vec<String> = chain.iter().map(|id| ImageStore::key(id)).collect();
        let _pins = self.pin(keys.clone());
        for (index, (offset, length)) in found.layers.iter().enumerate() {
            let _lock = self.making(&keys[index]).lock_owned().await;
            if self.has_layer(&keys[index]) {
                continue;
            }
            let archive = LayerArchive {
                path: contents.path.clone(),
                offset: *offset,
                length: *length,
            };
            self.add_layer(
                &contents.name,
                &archive,
                &chain[index],
                &diff_ids[index],
                &keys[..index],
            )
            .await?;
        }
        let mut record = ImageRecord {
            id: sha256(&found.config),
            tags: Default::default(),
            digests: Default::default(),
            layers: keys,
            config: configuration.defaults(),
            pinned: false,
        };
        for name in &found.names {
            let reference = Reference::parse(name)?;
            record.tags.extend(reference.tagged());
            record.digests.extend(
                found
                    .manifest_digest
                    .as_ref()
                    .map(|digest| reference.with_digest(digest)),
            );
        }
        self.commit_image(&contents.name, record).await
    }
}

fn scan(name: &str, source: &Path, plain: &Path, limit: u64) -> Result<(Contents, Vec<Found>), ImageError> {
    let path = decompressed(name, source, plain, limit)?;
    let contents = Contents::read(name, path)?;
    let found = match contents.find("manifest.json") {
        Some(_) => contents.docker_images()?,
        None if contents.find("index.json").is_some() => contents.oci_images()?,
        None => {
            return Err(contents.corrupt("it is neither an OCI layout (index.json) nor written by docker save"));
        }
    };
    Ok((contents, found))
}

/// The file itself if it is not compressed, else a plain copy at `plain`.
fn decompressed(name: &str, source: &Path, plain: &Path, limit: u64) -> Result<PathBuf, ImageError> {
    let failed = || image_io(name, format!("read {}", source.display()));
    let mut file = File::open(source).map_err(failed())?;
    let mut start = [0u8; 4];
    let length = file.read(&mut start).map_err(failed())?;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    let file = BufReader::with_capacity(128 << 10, file);
    let mut stream: Box<dyn Read> = match &start[..length] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(file).map_err(failed())?),
        _ => return Ok(source.to_owned()),
    };
    let written = File::create(plain)
        .and_then(|mut target| io::copy(&mut (&mut stream).take(limit), &mut target))
        .map_err(image_io(name, format!("write {}", plain.display())))?;
    if written == limit {
        let message = format!("it has more than {limit} bytes");
        return Err(ImageError::Refused {
            image: name.to_owned(),
            message,
        });
    }
    Ok(plain.to_owned())
}

/// `./a//b` and `/a/b` are `a/b`; `None` for what has `..` in it.
fn clean(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

impl Contents {
    fn read(name: &str, path: PathBuf) -> Result<Contents, ImageError> {
        let mut contents = Contents {
            name: name.to_owned(),
            path,
            files: HashMap::new(),
            links: HashMap::new(),
        };
        let not_tar = |error: io::Error| ImageError::Corrupt {
            image: name.to_owned(),
            message: format!("it is not a tar file: {error}"),
        };
        let file = File::open(&contents.path).map_err(image_io(name, format!("read {}", contents.path.display())))?;
        let mut archive = Archive::new(file);
        for entry in archive.entries_with_seek().map_err(not_tar)? {
            let entry = entry.map_err(not_tar)?;
            let Some(entry_name) = clean(&String::from_utf8_lossy(&entry.path_bytes())) else {
                continue;
            };
            if contents.files.len() + contents.links.len() > MAX_FILES {
                return Err(contents.corrupt("it has too many files"));
            }
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    contents
                        .files
                        .insert(entry_name, (entry.raw_file_position(), entry.size()));
                }
                EntryType::Symlink => {
                    // docker save once linked equal layers, relative to the link's folder.
                    let target = entry
                        .link_name_bytes()
                        .map(|name| String::from_utf8_lossy(&name).into_owned());
                    let folder = entry_name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let up = target.as_deref().and_then(|target| target.strip_prefix("../"));
                    let resolved = match (up, folder.rsplit_once('/')) {
                        (Some(rest), Some((above, _))) => clean(&format!("{above}/{rest}")),
                        (Some(rest), None) => clean(rest),
                        (None, _) => target
                            .as_deref()
                            .and_then(|target| clean(&format!("{folder}/{target}"))),
                    };
                    if let Some(resolved) = resolved {
                        contents.links.insert(entry_name, resolved);
                    }
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    fn corrupt(&self, message: impl Into<String>) -> ImageError {
        ImageError::Corrupt {
            image: self.name.clone(),
            message: message.into(),
        }
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let name = clean(name)?;
        self.files
            .get(&name)
            .or_else(|| self.files.get(self.links.get(&name)?))
            .copied()
    }

    fn need(&self, name: &str) -> Result<(u64, u64), ImageError> {
        self.find(name)
            .ok_or_else(|| self.corrupt(format!("{name} is missing in it")))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (offset, length) = self.need(name)?;
        if length > MAX_JSON_BYTES {
            return Err(self.corrupt(format!("{name} is too large")));
        }
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(offset))?;
                file.take(length).read_to_end(&mut bytes)
            })
            .map_err(image_io(&self.name, format!("read {}", self.path.display())))?;
        Ok(bytes)
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, bytes: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| self.corrupt(error.to_string()))
    }

    fn docker_images(&self) -> Result<Vec<Found>, ImageError> {
        let images: Vec<DockerImage> = self.parse(&self.bytes("manifest.json")?)?;
        images
            .into_iter()
            .map(|image| {
                Ok(Found {
                    names: image.repo_tags.unwrap_or_default(),
                    manifest_digest: None,
                    config: self.bytes(&image.config)?,
                    layers: image
                        .layers
                        .iter()
                        .map(|layer| self.need(layer))
                        .collect::<Result<_, _>>()?,
                })
            })
            .collect()
    }

    fn oci_images(&self) -> Result<Vec<Found>, ImageError> {
        let index: Manifest = self.parse(&self.bytes("index.json")?)?;
        let mut found = Vec::new();
        for descriptor in index.for_this_machine() {
            self.oci_image(descriptor, &name_of(descriptor), 0, &mut found)?;
        }
        if found.is_empty() {
            return Err(ImageError::NoPlatform {
                image: self.name.clone(),
                platform: platform(),
            });
        }
        Ok(found)
    }

    fn oci_image(
        &self,
        descriptor: &Descriptor,
        names: &[String],
        depth: usize,
        found: &mut Vec<Found>,
    ) -> Result<(), ImageError> {
        let manifest_bytes = self.blob(&descriptor.digest)?;
        let manifest: Manifest = self.parse(&manifest_bytes)?;
        if manifest.is_index() {
            if depth == MAX_INDEX_DEPTH {
                return Err(self.corrupt("its indexes are nested too deeply"));
            }
            for inner in manifest.for_this_machine().into_iter().take(1) {
                let before = found.len();
                self.oci_image(inner, names, depth + 1, found)?;
                // What the name names is the index.
                for image in &mut found[before..] {
                    image.manifest_digest = Some(descriptor.digest.clone());
                }
            }
            return Ok(());
        }
        let (config, layers) = manifest
            .parts()
            .ok_or_else(|| self.corrupt("a manifest is of a kind that is not supported"))?;
        found.push(Found {
            names: names.to_vec(),
            manifest_digest: Some(descriptor.digest.clone()),
            config: self.blob(&config.digest)?,
            layers: layers
                .iter()
                .map(|layer| self.need(&blob_path(&layer.digest)))
                .collect::<Result<_, _>>()?,
        });
        Ok(())
    }

    fn blob(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        if !is_sha256(digest) {
            return Err(self.corrupt(format!("{digest:?} is not a sha256 digest")));
        }
        let bytes = self.bytes(&blob_path(digest))?;
        if sha256(&bytes) != digest {
            return Err(self.corrupt(format!("the blob {digest} has another digest")));
        }
        Ok(bytes)
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// containerd writes the whole name; others only the tag, or the whole name where the tag should be.
fn name_of(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key: &str| descriptor.annotations.get(key).cloned();
    annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':'])))
        .into_iter()
        .collect()
}
