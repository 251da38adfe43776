//! Manifests, indexes and configurations, as far as they are needed. OCI and Docker (schema 2) share their fields.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest::{Hasher, is_sha256};
use crate::ImageConfig;

pub(super) const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "amd64";
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "arm64";

/// Such as `linux/amd64`.
pub(super) fn platform() -> String {
    format!("linux/{ARCHITECTURE}")
}

/// A manifest or an index.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    pub schema_version: u32,
    pub config: Option<Descriptor>,
    pub layers: Vec<Descriptor>,
    /// Of an index.
    pub manifests: Vec<Descriptor>,
}

/// What points to a blob.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub architecture: String,
    pub os: String,
}

impl Manifest {
    pub fn is_index(&self) -> bool {
        self.config.is_none() && !self.manifests.is_empty()
    }

    /// The entries of an index that are for this machine: those for its platform, else those for none.
    pub fn for_this_machine(&self) -> Vec<&Descriptor> {
        let matches = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "linux" && platform.architecture == ARCHITECTURE)
        };
        let found: Vec<_> = self.manifests.iter().filter(matches).collect();
        if !found.is_empty() {
            return found;
        }
        self.manifests
            .iter()
            .filter(|descriptor| descriptor.platform.is_none())
            .collect()
    }

    /// Config and layers of an image, if all digests are well-formed.
    pub fn parts(&self) -> Option<(&Descriptor, &[Descriptor])> {
        let config = self.config.as_ref()?;
        let well_formed = is_sha256(&config.digest) && self.layers.iter().all(|layer| is_sha256(&layer.digest));
        (self.schema_version == 2 && well_formed).then_some((config, self.layers.as_slice()))
    }
}

/// An image's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    pub architecture: String,
    pub os: String,
    pub config: Option<Defaults>,
    pub rootfs: Option<RootFs>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    pub diff_ids: Vec<String>,
}

/// Lists may be missing or null.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Defaults {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
}

impl Configuration {
    pub fn diff_ids(&self) -> &[String] {
        self.rootfs.as_ref().map_or(&[], |rootfs| &rootfs.diff_ids)
    }

    /// What the image runs by default.
    pub fn defaults(&self) -> ImageConfig {
        let defaults = self.config.clone().unwrap_or_default();
        ImageConfig {
            entrypoint: defaults.entrypoint.unwrap_or_default(),
            cmd: defaults.cmd.unwrap_or_default(),
            env: defaults.env.unwrap_or_default(),
            working_dir: defaults.working_dir.unwrap_or_default(),
            user: defaults.user.unwrap_or_default(),
            stop_signal: defaults.stop_signal.unwrap_or_default(),
            exposed_ports: defaults.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: defaults.labels.unwrap_or_default(),
            architecture: self.architecture.clone(),
            os: self.os.clone(),
        }
    }
}

/// The id of each layer together with those below it: see the OCI image specification, config.md, "Layer ChainID".
pub(super) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(below) => {
                let mut hasher = Hasher::default();
                hasher.update(format!("{below} {diff_id}").as_bytes());
                hasher.digest()
            }
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_with_nulls_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Entrypoint":null,
            "ExposedPorts":{"80/tcp":{}},"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#;
        let configuration: Configuration = serde_json::from_str(text).unwrap();
        let defaults = configuration.defaults();
        assert_eq!(defaults.cmd, ["sh"]);
        assert!(defaults.entrypoint.is_empty());
        assert_eq!(defaults.exposed_ports, ["80/tcp"]);
        assert_eq!(configuration.diff_ids(), ["sha256:1"]);
    }

    #[test]
    fn platforms() {
        let index = |platforms: &[Option<(&str, &str)>]| Manifest {
            manifests: platforms
                .iter()
                .map(|platform| Descriptor {
                    platform: platform.map(|(os, architecture)| Platform {
                        os: os.into(),
                        architecture: architecture.into(),
                    }),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        assert_eq!(
            index(&[Some(("linux", "s390x")), Some(("linux", ARCHITECTURE))])
                .for_this_machine()
                .len(),
            1
        );
        assert_eq!(index(&[Some(("windows", ARCHITECTURE))]).for_this_machine().len(), 0);
        assert_eq!(index(&[None]).for_this_machine().len(), 1);
    }

    #[test]
    fn chains() {
        let ids = chain_ids(&["sha256:a".to_owned(), "sha256:b".to_owned()]);
        assert_eq!(ids[0], "sha256:a");
        assert_eq!(ids[1], super::super::digest::sha256(b"sha256:a sha256:b"));
    }
}
