//! Claims on devices: made from templates for pods, reserved for them, and let go when they are done (upstream
//! `pkg/controller/resourceclaim`).

mod claims;
mod pods;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};

use crate::controller::{Controller, Trigger};
use crate::object::{is_deleting, name, namespace, uid};
use crate::plan::Plan;
use crate::{Key, Turn, Untyped, UntypedKind, World};

pub(crate) const CLAIMS: UntypedKind = UntypedKind::ResourceClaim;
const TEMPLATES: UntypedKind = UntypedKind::ResourceClaimTemplate;
/// What keeps an allocated claim from going.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Name of the index of pods by `namespace/claim`.
pub const BY_CLAIM: &str = "claim";
const POD: &str = "pod/";
const CLAIM: &str = "claim/";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "resourceclaim-controller",
    account: "resource-claim-controller",
    triggers: &[
        Trigger::Pod(keys_of_pod),
        Trigger::Untyped(CLAIMS, keys_of_claim),
        Trigger::Untyped(TEMPLATES, keys_of_template),
    ],
    reconcile,
};

/// The name of a claim of a pod: none if it is not made yet, [`Named::Unneeded`] if it never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named<'p> {
    /// By the user: whose it is does not matter.
    Given(&'p str),
    /// For this pod: it has to own it.
    Made(&'p str),
    Unneeded,
    NotYet,
}

impl<'p> Named<'p> {
    /// `resourceclaim.Name` of dynamic-resource-allocation.
    fn of(pod: &'p Pod, claim: &'p PodResourceClaim) -> Named<'p> {
        if let Some(name) = &claim.resource_claim_name {
            return Named::Given(name);
        }
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.resource_claim_statuses.as_deref());
        let status = statuses
            .unwrap_or_default()
            .iter()
            .find(|status| status.name == claim.name);
        match status.map(|status| status.resource_claim_name.as_deref()) {
            None => Named::NotYet,
            Some(None) => Named::Unneeded,
            Some(Some(name)) => Named::Made(name),
        }
    }

    fn name(self) -> Option<&'p str> {
        match self {
            Named::Given(name) | Named::Made(name) => Some(name),
            Named::Unneeded | Named::NotYet => None,
        }
    }
}

/// For the index [`BY_CLAIM`].
pub fn claims_of_pod(pod: &Pod) -> Vec<String> {
    let names = claims(pod).iter().filter_map(|claim| Named::of(pod, claim).name());
    names.map(|name| format!("{}/{name}", namespace(pod))).collect()
}

fn claims(pod: &Pod) -> &[PodResourceClaim] {
    let claims = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref());
    claims.unwrap_or_default()
}

fn is_scheduled(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
}

/// Whether surely none of its containers runs or will.
fn is_done(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || (is_deleting(pod) && !is_scheduled(pod))
}

fn keys_of_pod(_: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new.or(old).filter(|pod| !claims(pod).is_empty()) else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    if new.is_none_or(is_done) {
        let names = claims(pod).iter().filter_map(|claim| Named::of(pod, claim).name());
        keys.extend(names.map(|name| Key::new(namespace(pod), format!("{CLAIM}{name}"))));
    }
    if new.is_some_and(|pod| !is_deleting(pod)) {
        keys.push(pod_key(pod));
    }
    keys
}

fn pod_key(pod: &Pod) -> Key {
    Key::new(namespace(pod), format!("{POD}{}", name(pod)))
}

/// A claim concerns itself, the pods that use it, and the pod that it was made for.
fn keys_of_claim(world: &dyn World, old: Option<&Untyped>, new: Option<&Untyped>) -> Vec<Key> {
    let Some(claim) = new.or(old) else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    if new.is_some() {
        keys.push(Key::new(namespace(claim), format!("{CLAIM}{}", name(claim))));
    }
    let id = format!("{}/{}", namespace(claim), name(claim));
    keys.extend(world.pods().by_index(BY_CLAIM, &id).iter().map(|pod| pod_key(pod)));
    keys.extend(owner(claim).map(|(pod, _)| Key::new(namespace(claim), format!("{POD}{pod}"))));
    keys.sort();
    keys.dedup();
    keys
}

/// A template that comes may have been waited for.
fn keys_of_template(world: &dyn World, old: Option<&Untyped>, new: Option<&Untyped>) -> Vec<Key> {
    let Some(template) = new.filter(|_| old.is_none()) else {
        return Vec::new();
    };
    let wants = |claim: &PodResourceClaim| claim.resource_claim_template_name.as_deref() == Some(name(template));
    let pods = world.pods().list(namespace(template));
    pods.iter()
        .filter(|pod| claims(pod).iter().any(wants))
        .map(|pod| pod_key(pod))
        .collect()
}

/// Name and UID of the pod that a claim was made for.
fn owner(claim: &Untyped) -> Option<(&str, &str)> {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let pod =
        owners.find(|owner| owner.controller == Some(true) && owner.api_version == "v1" && owner.kind == "Pod")?;
    Some((&pod.name, &pod.uid))
}

fn is_for(claim: &Untyped, pod: &Pod) -> bool {
    crate::object::is_controlled_by(claim, uid(pod))
}

/// Looks after a pod's claims, or after a claim's pods.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    if let Some(pod) = key.name.strip_prefix(POD) {
        return pods::reconcile(world, &key.namespace, pod);
    }
    let claim = key.name.strip_prefix(CLAIM).unwrap_or("");
    claims::reconcile(world, &key.namespace, claim, turn)
}
