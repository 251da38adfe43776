//! Which existing volume a claim gets (upstream component-helpers/storage/volume `FindMatchingVolume`).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Quantity;

use super::objects::{Claim, Volume};

/// The best of `volumes` for a claim of a pod on a node with these labels: one that is reserved for it, else the
/// smallest free one. `taken` are the pod's other claims' volumes.
#[must_use]
pub fn find_matching<'v>(
    claim: &Claim,
    volumes: &'v [Arc<Volume>],
    labels: &BTreeMap<String, String>,
    taken: &[&str],
) -> Option<&'v Arc<Volume>> {
    let zero = Quantity::zero();
    let size = claim.request.as_ref().unwrap_or(&zero);
    let mut best: Option<&Arc<Volume>> = None;
    for volume in volumes {
        let is_for = volume.is_for(claim);
        let fits = !taken.contains(&volume.name.as_str())
            && (volume.claim.is_none() || is_for)
            && volume.capacity >= *size
            && volume.mode == claim.mode
            && volume.attributes == claim.attributes
            && !volume.deleting;
        if !fits {
            continue;
        }
        if is_for {
            // Reserved, and out of reach: then no other will do either.
            return volume.is_reached(labels).then_some(volume);
        }
        let free = volume.available
            && volume.class == claim.class
            && claim
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches(&volume.labels))
            && claim.modes.iter().all(|mode| volume.modes.contains(mode))
            && best.is_none_or(|best| volume.capacity < best.capacity)
            && volume.is_reached(labels);
        if free {
            best = Some(volume);
        }
    }
    best
}
