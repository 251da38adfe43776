//! What the scheduler knows of storage: claims, volumes, classes, and what CSI drivers say of nodes.
//!
//! It is filled from the first pod on that needs storage, through [`Storage::observe`]; until then it is empty and
//! costs nothing. A decision shares it by `Arc`. What placed pods were promised but the API does not show yet is in
//! [`Storage::assumed`] (upstream util/assumecache): it ends with the next version of the object that comes.

mod assumed;
mod matching;
mod objects;
mod pods;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::framework::{Resource, Shared};
pub use assumed::Assumed;
pub use matching::find_matching;
pub use objects::{
    Attachment, Capacity, Claim, ClaimRef, Class, CsiNode, Driver, SELECTED_NODE, Source, Volume, in_tree_driver,
};
pub use pods::{PodClaim, claims, inline_volume, uses_claims};

/// The objects, by name; those of namespaces by `namespace/name`.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    claims: HashMap<String, Arc<Claim>>,
    volumes: HashMap<String, Arc<Volume>>,
    by_class: HashMap<String, BTreeMap<String, Arc<Volume>>>,
    classes: HashMap<String, Arc<Class>>,
    csi_nodes: HashMap<String, Arc<CsiNode>>,
    drivers: HashMap<String, Driver>,
    capacities: BTreeMap<String, Arc<Capacity>>,
    /// By node, then by name.
    attachments: HashMap<String, BTreeMap<String, Attachment>>,
    attached_to: HashMap<String, String>,
    assumed: Assumed,
}

impl Storage {
    /// An object came, changed, or went.
    pub fn observe(&mut self, resource: Resource, old: Option<&Shared>, new: Option<&Shared>) {
        let Some(object) = new.or(old) else { return };
        let there = new.is_some();
        match resource {
            Resource::PersistentVolumeClaim => {
                if let Some(claim) = object.downcast_ref().map(Claim::of) {
                    self.set_claim(claim, there);
                }
            }
            Resource::PersistentVolume => {
                if let Some(volume) = object.downcast_ref().map(Volume::of) {
                    self.set_volume(volume, there);
                }
            }
            Resource::StorageClass => {
                if let Some(class) = object.downcast_ref().map(Class::of) {
                    set(&mut self.classes, class.name.clone(), Arc::new(class), there);
                }
            }
            Resource::CsiDriver => {
                if let Some((name, driver)) = object.downcast_ref().map(Driver::of) {
                    set(&mut self.drivers, name, driver, there);
                }
            }
            Resource::VolumeAttachment => {
                if let Some((name, attachment)) = object.downcast_ref().map(Attachment::of) {
                    self.set_attachment(name, attachment, there);
                }
            }
            Resource::CsiNode => {
                if let Some((name, node)) = object.downcast_ref::<Value>().map(CsiNode::of) {
                    set(&mut self.csi_nodes, name, Arc::new(node), there);
                }
            }
            Resource::CsiStorageCapacity => {
                if let Some((key, capacity)) = object.downcast_ref::<Value>().map(Capacity::of) {
                    match there {
                        true => self.capacities.insert(key, Arc::new(capacity)),
                        false => self.capacities.remove(&key),
                    };
                }
            }
            _ => {}
        }
    }

    fn set_claim(&mut self, claim: Claim, there: bool) {
        let key = claim.key();
        self.assumed.claim_was_seen(&key);
        set(&mut self.claims, key, Arc::new(claim), there);
    }

    fn set_volume(&mut self, volume: Volume, there: bool) {
        let name = volume.name.clone();
        self.assumed.volume_was_seen(&name);
        if let Some(old) = self.volumes.remove(&name)
            && let Some(of_class) = self.by_class.get_mut(&old.class)
        {
            of_class.remove(&name);
            if of_class.is_empty() {
                self.by_class.remove(&old.class);
            }
        }
        if there {
            let volume = Arc::new(volume);
            let of_class = self.by_class.entry(volume.class.clone()).or_default();
            of_class.insert(name.clone(), volume.clone());
            self.volumes.insert(name, volume);
        }
    }

    fn set_attachment(&mut self, name: String, attachment: Attachment, there: bool) {
        if let Some(node) = self.attached_to.remove(&name)
            && let Some(on_node) = self.attachments.get_mut(&node)
        {
            on_node.remove(&name);
            if on_node.is_empty() {
                self.attachments.remove(&node);
            }
        }
        if there {
            self.attached_to.insert(name.clone(), attachment.node.clone());
            let on_node = self.attachments.entry(attachment.node.clone()).or_default();
            on_node.insert(name, attachment);
        }
    }

    /// A claim, as the API has it.
    #[must_use]
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<Claim>> {
        self.claims.get(&format!("{namespace}/{name}"))
    }

    /// A volume, as the API has it.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.get(name)
    }

    /// The volumes of a class, by name.
    pub fn volumes_of(&self, class: &str) -> impl Iterator<Item = &Arc<Volume>> {
        self.by_class.get(class).into_iter().flat_map(BTreeMap::values)
    }

    /// A class.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// What CSI drivers say of a node.
    #[must_use]
    pub fn csi_node(&self, name: &str) -> Option<&Arc<CsiNode>> {
        self.csi_nodes.get(name)
    }

    /// A CSI driver.
    #[must_use]
    pub fn driver(&self, name: &str) -> Option<&Driver> {
        self.drivers.get(name)
    }

    /// All that is known of free space.
    pub fn capacities(&self) -> impl Iterator<Item = &Arc<Capacity>> {
        self.capacities.values()
    }

    /// What is attached to a node, or is to be.
    pub fn attachments_on(&self, node: &str) -> impl Iterator<Item = &Attachment> {
        self.attachments.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// What was promised to placed pods.
    #[must_use]
    pub fn assumed(&self) -> &Assumed {
        &self.assumed
    }
}

fn set<V>(map: &mut HashMap<String, V>, key: String, value: V, there: bool) {
    match there {
        true => map.insert(key, value),
        false => map.remove(&key),
    };
}
