//! Volumes whose labels name a zone or a region go with nodes of it (upstream plugins/volumezone).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::volume_restrictions::names;
use crate::framework::{
    Action, Code, Context, Event, Filter, Plugin, Point, PreFilter, Registration, Rejection, Resource,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{Class, PodClaim, claims};

/// Labels that name zones and regions, with those that took their place.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// The plugin.
pub(super) struct VolumeZone;

/// A label that a node must have: its key, the key that will do as well, and the values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(&'static str, &'static str, Vec<String>);

struct Places(Vec<Place>);

impl Filter for Places {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let labels = node.labels();
        // A cluster of one zone need not say so.
        if !LABELS.iter().any(|(key, _)| labels.contains_key(*key)) {
            return Ok(());
        }
        let is_there = |Place(key, now, values): &Place| {
            let value = labels.get(*key).or_else(|| labels.get(*now));
            value.is_some_and(|value| values.contains(value))
        };
        match self.0.iter().all(is_there) {
            true => Ok(()),
            false => Err(Rejection::unresolvable("node(s) had no available volume zone")),
        }
    }
}

/// The places that a volume's labels name; several zones have two underscores between them.
fn places(labels: &BTreeMap<String, String>) -> Vec<Place> {
    let place = |(key, now): &(&'static str, &'static str)| {
        let values: Vec<String> = labels
            .get(*key)?
            .split("__")
            .map(|zone| zone.trim().to_owned())
            .collect();
        (!values.iter().any(String::is_empty)).then_some(Place(key, now, values))
    };
    LABELS.iter().filter_map(place).collect()
}

/// The places of a pod's volumes that are bound (upstream `getPVbyPod`).
fn places_of(context: &Context, pod: &PodInfo) -> Result<Vec<Place>, String> {
    let storage = context.cluster.storage();
    let mut all = Vec::new();
    for claim in claims(pod) {
        let PodClaim::Named(name) = claim else { continue };
        if name.is_empty() {
            return Err("PersistentVolumeClaim had no name".to_owned());
        }
        let Some(claim) = storage.claim(&pod.key.namespace, name) else {
            return Err(format!("persistentvolumeclaim {name:?} not found"));
        };
        if claim.volume.is_empty() {
            if claim.class.is_empty() {
                return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
            }
            match storage.class(&claim.class) {
                None => return Err(format!("storageclass.storage.k8s.io {:?} not found", claim.class)),
                Some(class) if class.binding_mode.is_none() => {
                    return Err(format!("VolumeBindingMode not set for StorageClass {:?}", claim.class));
                }
                Some(class) if class.waits_for_consumer() => continue,
                Some(_) => return Err("PersistentVolume had no name".to_owned()),
            }
        }
        match storage.volume(&claim.volume) {
            None => return Err(format!("persistentvolume {:?} not found", claim.volume)),
            Some(volume) => all.extend(places(&volume.labels)),
        }
    }
    Ok(all)
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn watches(&self) -> &'static [Resource] {
        &[
            Resource::PersistentVolume,
            Resource::PersistentVolumeClaim,
            Resource::StorageClass,
        ]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        claims(pod).any(|claim| matches!(claim, PodClaim::Named(_)))
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::StorageClass, Action::ADD),
            (Resource::Node, Action::ADD | Action::UPDATE_NODE_LABEL),
            (Resource::PersistentVolumeClaim, Action::ADD | Action::UPDATE),
            (Resource::PersistentVolume, Action::ADD | Action::UPDATE),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        match event.resource {
            Resource::StorageClass => {
                let (_, new) = event.objects::<StorageClass>();
                new.is_none_or(|class| Class::of(class).waits_for_consumer())
            }
            Resource::PersistentVolumeClaim => {
                let (_, new) = event.objects::<PersistentVolumeClaim>();
                new.is_none_or(|claim| names(pod, claim))
            }
            Resource::PersistentVolume => {
                let (old, new) = event.objects::<PersistentVolume>();
                let of =
                    |volume: &PersistentVolume| places(volume.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()));
                old.is_none_or(|old| new.is_none_or(|new| of(old) != of(new)))
            }
            _ => true,
        }
    }

    fn pre_filter(&self, context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if pod.shape.volumes.is_empty() {
            return PreFilter::Skip;
        }
        match places_of(context, pod) {
            Ok(places) if places.is_empty() => PreFilter::Skip,
            Ok(places) => PreFilter::run(Places(places)),
            Err(reason) => PreFilter::Reject(Rejection::with(Code::Unresolvable, vec![reason])),
        }
    }
}

#[cfg(test)]
mod tests;
