//! A pod's claims: made from their templates, told in its status, reserved once it has a node.

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use typed::Decoded;

use super::{CLAIMS, Named, TEMPLATES, claims, is_for, is_scheduled};
use crate::object::{controller_reference, is_deleting, name, namespace, uid};
use crate::plan::{Action, Plan, Reference};
use crate::{Untyped, World};

/// For which of its pod's claims a claim was made.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Leaves space for five random characters in a name of 63.
const BASE: usize = 57;
const FAILED: &str = "FailedResourceClaimCreation";
/// `ResourceClaimReservedForMaxSize`.
const MOST_CONSUMERS: usize = 256;

pub(super) fn reconcile(world: &dyn World, home: &str, pod: &str) -> Plan {
    let mut plan = Plan::nothing();
    let Some(pod) = world.pods().get(home, pod).filter(|pod| !is_deleting(&**pod)) else {
        return plan;
    };
    let mut found: Vec<(&str, String)> = Vec::new();
    for claim in claims(&pod) {
        make(world, &pod, claim, &mut found, &mut plan);
    }
    if !found.is_empty() {
        plan.act(tell(&pod, &found));
    }
    // Before that, the scheduler reserves.
    if plan.is_empty() && is_scheduled(&pod) {
        for claim in claims(&pod) {
            reserve(world, &pod, claim, &mut plan);
        }
    }
    plan
}

/// Makes a claim, or finds the one that was made and not told yet.
fn make<'p>(
    world: &dyn World,
    pod: &'p Pod,
    claim: &'p PodResourceClaim,
    found: &mut Vec<(&'p str, String)>,
    plan: &mut Plan,
) {
    let known = |name: &str| world.untyped(CLAIMS).get(namespace(pod), name);
    let there = match Named::of(pod, claim) {
        Named::Unneeded => true,
        Named::NotYet => false,
        Named::Given(name) => known(name).is_some(),
        Named::Made(name) => known(name).is_some_and(|object| is_for(&object, pod)),
    };
    let Some(template) = claim.resource_claim_template_name.as_deref().filter(|_| !there) else {
        return;
    };
    let own = world.untyped(CLAIMS).owned_by(uid(pod));
    let made = own
        .iter()
        .find(|object| is_for(object, pod) && crate::object::annotation(&***object, POD_CLAIM) == Some(&claim.name));
    if let Some(made) = made {
        found.push((&claim.name, name(&**made).to_owned()));
        return;
    }
    let about = || Reference::to(pod);
    let Some(template_object) = world.untyped(TEMPLATES).get(namespace(pod), template) else {
        let message = format!(
            "PodResourceClaim {}: resource claim template \"{template}\": resourceclaimtemplate.resource.k8s.io \
             \"{template}\" not found",
            claim.name
        );
        // Told once: the template wakes the pod.
        plan.act(Action::event(about(), FAILED, message).warning());
        return;
    };
    let object = from_template(&template_object, pod, claim);
    let failure = format!("PodResourceClaim {}: create ResourceClaim : {{error}}", claim.name);
    plan.act(CLAIMS.create(&object).telling_failure(about(), FAILED, failure));
}

fn from_template(template: &Untyped, pod: &Pod, claim: &PodResourceClaim) -> Untyped {
    let metadata: ObjectMeta = ObjectMeta::from_tree(template.at("spec.metadata")).unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), claim.name.clone());
    let mut object = Untyped {
        metadata: ObjectMeta {
            namespace: pod.metadata.namespace.clone(),
            generate_name: Some(base(name(pod), &claim.name)),
            owner_references: Some(vec![controller_reference(pod)]),
            annotations: Some(annotations),
            labels: metadata.labels,
            ..ObjectMeta::default()
        },
        ..Untyped::default()
    };
    *object.entry("spec") = template.at("spec.spec").clone();
    object
}

/// What the claim's name begins with; if that is too long, both parts get shorter.
fn base(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= BASE {
        return whole;
    }
    let cut = |text: &str| text[..text.len() * BASE / whole.len()].to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

fn tell(pod: &Pod, found: &[(&str, String)]) -> Action {
    let known = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.as_deref());
    let kept = known
        .unwrap_or_default()
        .iter()
        .filter(|status| !found.iter().any(|(name, _)| *name == status.name));
    let mut all: Vec<Value> = kept.map(crate::to_value).collect();
    all.extend(
        found
            .iter()
            .map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})),
    );
    Action::patch_status(pod, json!({"status": {"resourceClaimStatuses": all}}))
}

fn reserve(world: &dyn World, pod: &Pod, claim: &PodResourceClaim, plan: &mut Plan) {
    let named = Named::of(pod, claim);
    let Some(object) = named
        .name()
        .and_then(|name| world.untyped(CLAIMS).get(namespace(pod), name))
    else {
        return;
    };
    if matches!(named, Named::Made(_)) && !is_for(&object, pod) {
        return;
    }
    let mut consumers = object.list("status.reservedFor").to_vec();
    let reserved = consumers.iter().any(|consumer| consumer["uid"] == *uid(pod));
    if object.at("status.allocation").is_null() || reserved || consumers.len() >= MOST_CONSUMERS {
        return;
    }
    consumers.push(json!({"resource": "pods", "name": name(pod), "uid": uid(pod)}));
    plan.act(CLAIMS.patch_version(&object, "status", json!({"status": {"reservedFor": consumers}})));
}
