//! Persistent volumes: who gets which, how large they are, where they are attached, and the built-in
//! volumes on the nodes' own disks (upstream `pkg/controller/volume`, `component-helpers/storage/volume`).

pub(crate) mod attach_detach;
pub(crate) mod binder;
pub(crate) mod ephemeral;
pub(crate) mod expand;
pub(crate) mod local_path;

use std::sync::Arc;

use api::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::object::{annotation, created, name, namespace, uid};
use crate::volume_protection::claims_of;
use crate::{Action, Plan, Reference, Turn, World};

/// On claims whose binding was once completed.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On volumes and claims that a controller bound, not a user.
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On volumes that were made for a claim; by whom.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On volumes and claims that a CSI driver looks after in the place of upstream's own code.
pub(crate) const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On claims: where the scheduler wants the volume.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On claims: who is to make their volume.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same, as it was called before.
pub(crate) const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On volumes that are larger than what the claim may use as yet.
pub(crate) const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
/// The class of old volumes and claims.
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";

/// Provisioners that upstream once had built in, and the CSI drivers that took their place.
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// The pods that use a claim, by `namespace/claim`.
pub fn claims_of_pod(pod: &Pod) -> Vec<String> {
    claims_of(pod)
        .map(|claim| format!("{}/{claim}", namespace(pod)))
        .collect()
}

/// Volumes by the claim they are for, as `namespace/claim`, or `free:` and their class.
pub fn takers_of_volume(volume: &PersistentVolume) -> Vec<String> {
    vec![match claim_ref(volume) {
        Some((namespace, name, _)) => format!("{namespace}/{name}"),
        None => format!("free:{}", class_of_volume(volume)),
    }]
}

/// Claims whose binding is not completed, by what they wait for: `volume:` and its name, or `class:` and its name.
pub fn wishes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    if annotation(claim, BIND_COMPLETED).is_some() {
        return Vec::new();
    }
    vec![match volume_name(claim) {
        "" => format!("class:{}", class_of_claim(claim)),
        volume => format!("volume:{volume}"),
    }]
}

/// The driver that took a provisioner's place.
pub(crate) fn migrated(provisioner: &str) -> Option<&'static str> {
    let found = MIGRATED.iter().find(|(old, _)| *old == provisioner);
    found.map(|(_, driver)| *driver)
}

/// Namespace, name and UID of the claim that a volume is for.
pub(crate) fn claim_ref(volume: &PersistentVolume) -> Option<(&str, &str, &str)> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    fn text(value: &Option<String>) -> &str {
        value.as_deref().unwrap_or("")
    }
    Some((text(&claim.namespace), text(&claim.name), text(&claim.uid)))
}

/// Whether a volume is bound to this claim, or reserved for it (`IsVolumeBoundToClaim`).
pub(crate) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|(home, called, id)| {
        home == namespace(claim) && called == name(claim) && (id.is_empty() || id == uid(claim))
    })
}

/// The volume that a claim names, or empty.
pub(crate) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|spec| spec.volume_name.as_deref()).unwrap_or("")
}

/// A claim's class, or empty.
pub(crate) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(claim, CLASS_BETA).or(class).unwrap_or("")
}

/// Whether a claim says nothing of a class; the empty class says that it wants none.
pub(crate) fn leaves_class_open(claim: &PersistentVolumeClaim) -> bool {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    class.is_none() && annotation(claim, CLASS_BETA).is_none()
}

/// A volume's class, or empty.
pub(crate) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(volume, CLASS_BETA).or(class).unwrap_or("")
}

/// A volume's phase, or empty.
pub(crate) fn phase_of(volume: &PersistentVolume) -> &str {
    let status = volume.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// A volume's spec.
pub(crate) fn spec_of(volume: &PersistentVolume) -> PersistentVolumeSpec {
    volume.spec.clone().unwrap_or_default()
}

/// Whether a volume's storage goes with its claim.
pub(crate) fn policy_of(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("")
}

type List = Option<std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>;

/// What a list says of `storage`.
pub(crate) fn storage(list: &List) -> Option<Quantity> {
    list.as_ref()?.get("storage")?.0.parse().ok()
}

/// What a volume holds.
pub(crate) fn capacity_of(volume: &PersistentVolume) -> Option<Quantity> {
    storage(&volume.spec.as_ref()?.capacity)
}

/// What a claim asks for.
pub(crate) fn request_of(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let storage = resources.and_then(|resources| storage(&resources.requests));
    storage.unwrap_or_else(Quantity::zero)
}

/// What a claim has.
pub(crate) fn granted_to(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    storage(&claim.status.as_ref()?.capacity)
}

/// The class of classless claims: the newest of those that say so (`GetDefaultClass`).
pub(crate) fn default_class(world: &dyn World) -> Option<Arc<StorageClass>> {
    let says = |class: &StorageClass, key: &str| annotation(class, key) == Some("true");
    let mut classes = world.storage_classes().list("");
    classes.retain(|class| {
        says(class, "storageclass.kubernetes.io/is-default-class")
            || says(class, "storageclass.beta.kubernetes.io/is-default-class")
    });
    classes.sort_by(|a, b| {
        created(&**b)
            .cmp(&created(&**a))
            .then_with(|| name(&**a).cmp(name(&**b)))
    });
    classes.into_iter().next()
}

/// Whether a claim's volume is chosen only when a pod wants it.
pub(crate) fn waits_for_consumer(world: &dyn World, claim: &PersistentVolumeClaim) -> bool {
    let class = world.storage_classes().get("", class_of_claim(claim));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// Tells what stays true for long: again only when it was not said for a while, as events are forgotten in time.
pub(crate) fn tell(plan: &mut Plan, turn: &Turn, about: Reference, warning: bool, reason: &'static str, text: &str) {
    const AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
    let note = format!("{reason}: {text}");
    let since = turn
        .notes
        .get(&note)
        .map(|told| (turn.now.duration_since(*told), *told));
    if let Some((elapsed, told)) = since.filter(|(elapsed, _)| *elapsed < AGAIN) {
        plan.notes.insert(note, told);
        return plan.look_again(AGAIN - elapsed);
    }
    let event = Action::event(about, reason, text);
    plan.finally(if warning { event.warning() } else { event });
    plan.notes.insert(note, turn.now);
    plan.look_again(AGAIN);
}
