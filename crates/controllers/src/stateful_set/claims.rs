//! The claims of a set's pods, and whom they outlive (upstream `stateful_pod_control.go`).

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::Sync;
use super::identity::ordinal_of;
use crate::World;
use crate::object::{controller_reference, is_deleting, name, namespace, to_value, uid};
use crate::plan::{Action, Plan, Reference};

/// The templates that claims are made from.
pub(super) fn templates(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    set.spec.volume_claim_templates.iter().flatten()
}

/// The name of a place's claim.
pub(super) fn name_of(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", name(template), name(set))
}

fn claim_for(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> PersistentVolumeClaim {
    let mut claim = template.clone();
    claim.metadata.name = Some(name_of(set, template, ordinal));
    claim.metadata.namespace = Some(namespace(set).to_owned());
    claim.status = None;
    let selected = set.spec.selector.match_labels.iter().flatten();
    let labels = claim.metadata.labels.get_or_insert_default();
    labels.extend(selected.map(|(key, value)| (key.clone(), value.clone())));
    claim
}

/// Whether the pod deletes its claims when it goes (`Delete`), and the set when it goes.
struct Retention {
    delete_when_scaled: bool,
    delete_when_deleted: bool,
}

fn retention(set: &StatefulSet) -> Retention {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Delete");
    Retention {
        delete_when_scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        delete_when_deleted: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
    }
}

/// Whether a claim still belongs to an earlier pod of this name: a new one must wait until it is gone.
pub(super) fn is_stale(world: &dyn World, set: &StatefulSet, pod: &Pod) -> bool {
    let Some(ordinal) = ordinal_of(pod).filter(|_| retention(set).delete_when_scaled) else {
        return false;
    };
    templates(set).any(|template| {
        let claim = world
            .persistent_volume_claims()
            .get(namespace(set), &name_of(set, template, ordinal));
        claim.is_some_and(|claim| {
            let mut owners = claim.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.kind == "Pod" && owner.name == name(pod) && owner.uid != uid(pod))
        })
    })
}

impl Sync<'_> {
    /// Creates the claims that a pod is without. False while one of them is being deleted.
    pub(super) fn make_claims(&self, pod: &Pod, plan: &mut Plan) -> bool {
        let Some(ordinal) = ordinal_of(pod) else {
            return true;
        };
        let mut usable = true;
        for template in templates(self.set) {
            let wanted = claim_for(self.set, template, ordinal);
            match self
                .world
                .persistent_volume_claims()
                .get(namespace(self.set), name(&wanted))
            {
                Some(claim) => usable &= !is_deleting(&*claim),
                None => {
                    let (claim, pod, set) = (name(&wanted), name(pod), name(self.set));
                    let success = format!("create Claim {claim} Pod {pod} in StatefulSet {set} success");
                    let failure =
                        format!("create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: {{error}}");
                    let mut wanted = wanted.clone();
                    if retention(self.set).delete_when_deleted {
                        wanted.metadata.owner_references = Some(vec![controller_reference(self.set)]);
                    }
                    plan.act(
                        Action::create_if_absent(&wanted)
                            .telling(Reference::to(self.set), "SuccessfulCreate", success)
                            .or_telling("FailedCreate", failure),
                    );
                }
            }
        }
        usable
    }

    /// Makes the owners of a pod's claims what the retention policy says (`updateClaimOwnerRefForSetAndPod`).
    pub(super) fn align_claims(&self, pod: &Pod, plan: &mut Plan) {
        let Some(ordinal) = ordinal_of(pod) else { return };
        for template in templates(self.set) {
            let claim = name_of(self.set, template, ordinal);
            let Some(claim) = self.world.persistent_volume_claims().get(namespace(self.set), &claim) else {
                continue;
            };
            let owners = self.owners_of(&claim, pod, ordinal);
            if owners.as_slice() != claim.metadata.owner_references.as_deref().unwrap_or_default() {
                let owners = if owners.is_empty() {
                    json!(null)
                } else {
                    to_value(&owners)
                };
                plan.act(Action::patch_version(
                    &*claim,
                    json!({"metadata": {"ownerReferences": owners}}),
                ));
            }
        }
    }

    fn owners_of(&self, claim: &PersistentVolumeClaim, pod: &Pod, ordinal: i32) -> Vec<OwnerReference> {
        let is_ours = |owner: &OwnerReference| owner.uid == uid(self.set) || owner.uid == uid(pod);
        let all = claim.metadata.owner_references.iter().flatten();
        let others: Vec<OwnerReference> = all.filter(|owner| !is_ours(owner)).cloned().collect();
        if others.iter().any(|owner| owner.controller == Some(true)) {
            return others;
        }
        let (retention, scaled_down) = (retention(self.set), !self.is_in_range(ordinal));
        let owner = if scaled_down && retention.delete_when_scaled {
            Some(controller_reference(pod))
        } else if retention.delete_when_deleted {
            Some(controller_reference(self.set))
        } else {
            None
        };
        others.into_iter().chain(owner).collect()
    }
}
