//! What the pods of a node need attached.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::super::{claims_of_pod, is_for, volume_name};
use super::PREFIX;
use crate::World;
use crate::pod::is_terminal;
use crate::world::BY_NODE;

/// A volume of a CSI driver that pods of a node use.
pub(super) struct Wanted {
    pub volume: String,
    pub driver: String,
    handle: String,
    /// Several nodes may have it at once.
    pub shared: bool,
    pub pods: Vec<Arc<Pod>>,
    /// `namespace/name` of the claims by which they use it.
    pub claims: Vec<String>,
}

impl Wanted {
    /// As `node.status` names it.
    pub fn unique_name(&self) -> String {
        format!("{PREFIX}{}^{}", self.driver, self.handle)
    }
}

/// By the names of their attachments.
pub(super) fn wanted(world: &dyn World, node: &str) -> BTreeMap<String, Wanted> {
    let mut all: BTreeMap<String, Wanted> = BTreeMap::new();
    for pod in world.pods().by_index(BY_NODE, node) {
        if is_terminal(&pod) {
            continue;
        }
        for path in claims_of_pod(&pod) {
            let Some((name, found)) = of_claim(world, &path, node) else {
                continue;
            };
            let entry = all.entry(name).or_insert(found);
            entry.pods.push(pod.clone());
            if !entry.claims.contains(&path) {
                entry.claims.push(path);
            }
        }
    }
    all
}

fn of_claim(world: &dyn World, path: &str, node: &str) -> Option<(String, Wanted)> {
    let (namespace, claim) = path.split_once('/')?;
    let claim = world.persistent_volume_claims().get(namespace, claim)?;
    let volume = world.persistent_volumes().get("", volume_name(&claim))?;
    let spec = volume.spec.as_ref().filter(|_| is_for(&volume, &claim))?;
    let source = spec.csi.as_ref()?;
    let driver = world.csi_drivers().get("", &source.driver);
    if driver.is_some_and(|driver| driver.spec.attach_required == Some(false)) {
        return None;
    }
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let shared = modes.is_empty()
        || modes
            .iter()
            .any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"));
    let wanted = Wanted {
        volume: volume.metadata.name.clone().unwrap_or_default(),
        driver: source.driver.clone(),
        handle: source.volume_handle.clone(),
        shared,
        pods: Vec::new(),
        claims: Vec::new(),
    };
    Some((attachment_name(&source.volume_handle, &source.driver, node), wanted))
}

/// `getAttachmentName`: `csi-` and the SHA-256 of the three names.
pub(super) fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{handle}{driver}{node}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}
