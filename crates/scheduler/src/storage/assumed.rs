//! What pods that were placed will write, and the API does not show yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::objects::{Claim, ClaimRef, Volume};

/// Promises by the object that they are about. A clone has the same promises and is independent from then on.
#[derive(Debug, Default)]
pub struct Assumed(Mutex<Promises>);

#[derive(Debug, Clone, Default)]
struct Promises {
    /// The claims that volumes will be for, by the volume's name.
    volumes: HashMap<String, ClaimRef>,
    /// The nodes where volumes of claims will be made, by `namespace/name`.
    claims: HashMap<String, Arc<str>>,
}

impl Clone for Assumed {
    fn clone(&self) -> Self {
        Assumed(Mutex::new(self.promises().clone()))
    }
}

impl Assumed {
    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volume will be for the claim.
    pub fn bind(&self, volume: &str, claim: &Claim) {
        self.promises().volumes.insert(volume.to_owned(), claim.reference());
    }

    /// The claim's volume will be made on the node.
    pub fn select(&self, claim: &str, node: &Arc<str>) {
        self.promises().claims.insert(claim.to_owned(), node.clone());
    }

    /// The volume will not be for a claim after all.
    pub fn release(&self, volume: &str) {
        self.promises().volumes.remove(volume);
    }

    /// The claim's volume will not be made there after all.
    pub fn deselect(&self, claim: &str) {
        self.promises().claims.remove(claim);
    }

    pub(super) fn volume_was_seen(&mut self, name: &str) {
        self.release(name);
    }

    pub(super) fn claim_was_seen(&mut self, key: &str) {
        self.deselect(key);
    }

    /// The volume as it will be.
    #[must_use]
    pub fn volume(&self, volume: &Arc<Volume>) -> Arc<Volume> {
        match self.promises().volumes.get(&volume.name) {
            None => volume.clone(),
            Some(claim) => Arc::new(Volume {
                claim: Some(claim.clone()),
                ..Volume::clone(volume)
            }),
        }
    }

    /// The claim as it will be.
    #[must_use]
    pub fn claim(&self, claim: &Arc<Claim>) -> Arc<Claim> {
        match self.promises().claims.get(&claim.key()) {
            None => claim.clone(),
            Some(node) => Arc::new(Claim {
                selected_node: Some(node.to_string()),
                ..Claim::clone(claim)
            }),
        }
    }
}
