//! Binds the volumes of pods that wait for them (upstream plugins/volumebinding): nodes must reach bound volumes, and
//! have or be able to get those of claims whose class waits for a consumer. What is chosen is promised at once, written
//! before the pod is bound, and waited for.

mod find;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::Gvr;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};
use serde_json::{Value, json};

use self::find::{Choice, Wanted};
use super::volume_restrictions::uses;
use crate::config::args::PluginArgs;
use crate::framework::{
    Action, Code, Context, Event, Filter, Plugin, Point, PreBind, PreFilter, PreScore, Registration, Rejection,
    Resource, Scorer, Verb, Write,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{Capacity, Claim, Class, Driver, PodClaim, SELECTED_NODE, Storage, claims, uses_claims};

/// The plugin, with what placed pods wait for.
pub(super) struct VolumeBinding {
    /// How long binding may take.
    patience: SignedDuration,
    /// Points of utilisation and score (0 to 100).
    shape: Vec<(i64, i64)>,
    /// By the pod's UID.
    reserved: Mutex<HashMap<Box<str>, Reserved>>,
}

/// What a placed pod waits for.
#[derive(Debug)]
struct Reserved {
    /// Volumes and the claims that they were promised to, each with the version that the promise was made on.
    bindings: Vec<(String, Arc<Claim>, String)>,
    /// Claims whose volumes will be made.
    provisions: Vec<Arc<Claim>>,
    /// The end of patience, once the writes were asked for.
    until: Option<Timestamp>,
}

pub(super) fn not_owner(claim: &Claim, pod: &PodInfo) -> String {
    format!(
        "PVC {} was not created for pod {} (pod is not owner)",
        claim.key(),
        pod.key
    )
}

impl Filter for Wanted {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.on(node).map(drop)
    }
}

/// Prefers nodes by how full the storage is that the pod would use there.
struct Fullness {
    wanted: Wanted,
    shape: Vec<(i64, i64)>,
}

impl Scorer for Fullness {
    fn score(&self, node: &NodeInfo) -> i64 {
        let Ok(choice) = self.wanted.on(node) else { return 0 };
        let classes = choice.by_class();
        let each = classes.values().map(|(requested, capacity)| {
            let full = *capacity == 0 || requested > capacity;
            let utilisation = if full { 100 } else { requested * 100 / capacity };
            super::resource_scoring::broken_line(&self.shape, utilisation)
        });
        match i64::try_from(classes.len()) {
            Ok(count) if count > 0 => super::resource_scoring::rounded(each.sum(), count),
            _ => 0,
        }
    }
}

impl VolumeBinding {
    pub(super) fn new(args: &PluginArgs) -> VolumeBinding {
        VolumeBinding {
            patience: SignedDuration::from_secs(args.bind_timeout_seconds),
            shape: args.volume_shape.iter().map(|(at, score)| (*at, score * 10)).collect(),
            reserved: Mutex::default(),
        }
    }

    fn reserved(&self) -> MutexGuard<'_, HashMap<Box<str>, Reserved>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, storage: &Storage, pod: &PodInfo) {
        if let Some(reserved) = self.reserved().remove(&pod.key.uid) {
            for (volume, ..) in &reserved.bindings {
                storage.assumed().release(volume);
            }
            for claim in &reserved.provisions {
                storage.assumed().deselect(&claim.key());
            }
        }
    }
}

impl Reserved {
    /// What has to be written (upstream `bindAPIUpdate`).
    fn writes(&self, storage: &Storage, node: &str) -> Vec<Write> {
        let mut writes = Vec::new();
        for (volume, claim, version) in &self.bindings {
            let Some(known) = storage.volume(volume) else { continue };
            let mut body = json!({"metadata": {"resourceVersion": version}, "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace, "name": claim.name,
                "uid": claim.uid, "resourceVersion": claim.resource_version,
            }}});
            if !known.is_for(claim) && !known.bound_by_controller {
                body["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
            }
            writes.push(patch("persistentvolumes", "", volume, body));
        }
        for claim in self
            .provisions
            .iter()
            .filter(|claim| claim.selected_node.as_deref() != Some(node))
        {
            let body = json!({"metadata": {
                "resourceVersion": claim.resource_version, "annotations": {SELECTED_NODE: node},
            }});
            writes.push(patch("persistentvolumeclaims", &claim.namespace, &claim.name, body));
        }
        writes
    }

    /// Whether all is bound (upstream `checkBindings`). What is still the version that was written to is not news.
    ///
    /// # Errors
    /// Why it will never be.
    fn is_complete(&self, storage: &Storage, node: &NodeInfo) -> Result<bool, String> {
        let out_of_reach = |volume: &str| {
            let node = node.name();
            Err(format!(
                "pv {volume:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"
            ))
        };
        for (volume, claim, version) in &self.bindings {
            let Some(volume) = storage.volume(volume) else {
                return Err(format!(
                    "failed to check binding: could not find v1.PersistentVolume {volume:?}"
                ));
            };
            let Some(current) = storage.claim(&claim.namespace, &claim.name) else {
                let key = claim.key();
                return Err(format!(
                    "failed to check binding: could not find v1.PersistentVolumeClaim {key:?}"
                ));
            };
            let is_set = volume.claim.as_ref().is_some_and(|claim| !claim.uid.is_empty());
            if !is_set && volume.resource_version == *version {
                return Ok(false);
            }
            if !volume.is_reached(node.labels()) {
                return out_of_reach(&volume.name);
            }
            if !is_set {
                return Err(format!("ClaimRef got reset for pv {:?}", volume.name));
            }
            if !current.is_bound() {
                return Ok(false);
            }
        }
        for claim in &self.provisions {
            let Some(current) = storage.claim(&claim.namespace, &claim.name) else {
                let key = claim.key();
                let missing = format!("could not find v1.PersistentVolumeClaim {key:?}");
                return Err(format!("failed to check provisioning pvc: {missing}"));
            };
            if current.selected_node.as_deref() != Some(node.name()) {
                if current.resource_version == claim.resource_version {
                    return Ok(false);
                }
                return Err(format!("provisioning failed for PVC {:?}", current.name));
            }
            if !current.volume.is_empty() {
                match storage.volume(&current.volume) {
                    None => return Ok(false),
                    Some(volume) if !volume.is_reached(node.labels()) => return out_of_reach(&volume.name),
                    Some(_) => {}
                }
            }
            if !current.is_bound() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn patch(plural: &str, namespace: &str, name: &str, body: Value) -> Write {
    Write {
        verb: Verb::MergePatch,
        resource: Gvr::new("", "v1", plural),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: "",
        body,
    }
}

/// What is wrong with a pod's claims whatever the node is (upstream `podHasPVCs`).
fn check_claims(storage: &Storage, pod: &PodInfo) -> Result<(), String> {
    for used in claims(pod) {
        let name = used.name(pod);
        let Some(claim) = storage.claim(&pod.key.namespace, &name) else {
            return Err(match used {
                PodClaim::Named(_) => format!("persistentvolumeclaim {name:?} not found"),
                PodClaim::Made(_) => {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                }
            });
        };
        if claim.lost {
            let volume = &claim.volume;
            return Err(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if claim.deleting {
            return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        if matches!(used, PodClaim::Made(_)) && claim.controller != *pod.key.uid {
            return Err(not_owner(claim, pod));
        }
    }
    Ok(())
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(&self) -> &'static [Point] {
        &[
            Point::PreFilter,
            Point::Filter,
            Point::PreScore,
            Point::Score,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn watches(&self) -> &'static [Resource] {
        &[
            Resource::PersistentVolume,
            Resource::PersistentVolumeClaim,
            Resource::StorageClass,
            Resource::CsiDriver,
            Resource::CsiStorageCapacity,
        ]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        uses_claims(pod)
    }

    fn events(&self) -> Vec<Registration> {
        let came_or_changed = Action::ADD | Action::UPDATE;
        vec![
            (Resource::StorageClass, came_or_changed),
            (Resource::PersistentVolumeClaim, came_or_changed),
            (Resource::PersistentVolume, came_or_changed),
            (Resource::Node, Action::ADD | Action::UPDATE_NODE_LABEL),
            (Resource::CsiDriver, Action::UPDATE),
            (Resource::CsiStorageCapacity, came_or_changed),
        ]
    }

    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        match event.resource {
            Resource::StorageClass => match event.objects::<StorageClass>() {
                (Some(old), Some(new)) => Class::of(old).topologies != Class::of(new).topologies,
                _ => true,
            },
            Resource::PersistentVolumeClaim => {
                let (_, new) = event.objects::<PersistentVolumeClaim>();
                new.is_none_or(|claim| uses(pod, claim))
            }
            Resource::CsiDriver => {
                let (old, new) = event.objects::<CSIDriver>();
                let tells =
                    |driver: Option<&CSIDriver>| driver.is_some_and(|driver| Driver::of(driver).1.tells_capacity);
                tells(old) && !tells(new)
            }
            Resource::CsiStorageCapacity => match event.objects::<Value>() {
                (Some(old), Some(new)) => Capacity::of(new).1.limit() > Capacity::of(old).1.limit(),
                _ => true,
            },
            _ => true,
        }
    }

    fn pre_filter(&self, context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if !uses_claims(pod) {
            return PreFilter::Skip;
        }
        let storage = context.cluster.storage();
        if let Err(reason) = check_claims(storage, pod) {
            return PreFilter::Reject(Rejection::with(Code::Unresolvable, vec![reason]));
        }
        match Wanted::of(storage, pod) {
            Ok(wanted) if wanted.waits_for_others => PreFilter::Reject(Rejection::unresolvable(
                "pod has unbound immediate PersistentVolumeClaims",
            )),
            Ok(wanted) => PreFilter::run(wanted),
            Err(error) => PreFilter::Reject(Rejection::error(error)),
        }
    }

    fn pre_score(&self, context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        if !uses_claims(pod) {
            return PreScore::Skip;
        }
        match Wanted::of(context.cluster.storage(), pod) {
            Ok(wanted) if !wanted.delayed.is_empty() => PreScore::run(Fullness {
                wanted,
                shape: self.shape.clone(),
            }),
            _ => PreScore::Skip,
        }
    }

    fn reserve(&self, context: &Context, pod: &Arc<PodInfo>, node: &NodeInfo) -> Result<(), Rejection> {
        if !uses_claims(pod) {
            return Ok(());
        }
        let storage = context.cluster.storage();
        let wanted = Wanted::of(storage, pod).map_err(Rejection::error)?;
        let Choice { bindings, provisions } = wanted.on(node)?;
        if bindings.is_empty() && provisions.is_empty() {
            return Ok(());
        }
        let reserved = Reserved {
            bindings: bindings
                .into_iter()
                .map(|(volume, claim)| (volume.name.clone(), claim, volume.resource_version.clone()))
                .collect(),
            provisions: provisions.into_iter().map(|(claim, _)| claim).collect(),
            until: None,
        };
        for (volume, claim, _) in &reserved.bindings {
            storage.assumed().bind(volume, claim);
        }
        for claim in &reserved.provisions {
            storage.assumed().select(&claim.key(), &node.name);
        }
        self.reserved().insert(pod.key.uid.clone(), reserved);
        Ok(())
    }

    fn unreserve(&self, context: &Context, pod: &PodInfo) {
        if uses_claims(pod) {
            self.release(context.cluster.storage(), pod);
        }
    }

    fn pre_bind(&self, context: &Context, pod: &Arc<PodInfo>, node: &str) -> PreBind {
        let mut all = self.reserved();
        let Some(reserved) = all.get_mut(&pod.key.uid) else {
            return PreBind::Done;
        };
        let fail = |error: String| PreBind::Reject(Rejection::error(error));
        let Some(node) = context.cluster.node(node) else {
            return fail(format!(
                "binding volumes: failed to get node {node:?}: node {node:?} not found"
            ));
        };
        let storage = context.cluster.storage();
        let begun = reserved.until.is_some();
        let patient = || context.now.checked_add(self.patience).unwrap_or(Timestamp::MAX);
        let until = *reserved.until.get_or_insert_with(patient);
        if !begun {
            let writes = reserved.writes(storage, node.name());
            if !writes.is_empty() {
                return PreBind::Wait {
                    writes,
                    until: Some(until),
                };
            }
        }
        match reserved.is_complete(storage, node) {
            Err(error) => fail(format!("binding volumes: {error}")),
            Ok(true) => {
                all.remove(&pod.key.uid);
                PreBind::Done
            }
            Ok(false) if until <= context.now => fail("binding volumes: context deadline exceeded".to_owned()),
            Ok(false) => PreBind::Wait {
                writes: Vec::new(),
                until: Some(until),
            },
        }
    }
}
