//! Approves the client certificates of node agents, if they may have them (`approver/sarapprove.go`).

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::request::Request;
use super::{KUBELET_CLIENT, REQUESTS, is_issued};
use crate::object::created;
use crate::plan::{Action, Confirm, Plan};
use crate::{Key, Turn, Untyped, World};

const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(1000);

/// Approves one request.
pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(object) = world.untyped(REQUESTS).get("", &key.name) else {
        return plan;
    };
    let decided = ["Approved", "Denied"]
        .iter()
        .any(|kind| object.condition(kind).is_some());
    if is_issued(&object) || decided || object.text("spec.signerName") != KUBELET_CLIENT {
        return plan;
    }
    let Some(request) = Request::of(&object) else {
        return plan;
    };
    if request.for_kubelet_client(&object.texts("spec.usages")).is_err() {
        return plan;
    }
    let may = |subresource: &str, allowed: bool| Confirm::Review {
        spec: review(&object, subresource),
        allowed,
    };
    let own = request.common_name == object.text("spec.username");
    let mut other = approve(
        &object,
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    );
    if own {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        plan.act(approve(&object, message).confirmed(may("selfnodeclient", true)));
        other = other.confirmed(may("selfnodeclient", false));
    }
    plan.act(other.confirmed(may("nodeclient", true)));
    // Whoever may not yet may later: asked again, after twice the time each time.
    let age = created(&*object).map_or(FIRST_WAIT, |created| turn.now.duration_since(created));
    plan.look_again(age.clamp(FIRST_WAIT, LONGEST_WAIT));
    plan
}

fn review(object: &Untyped, subresource: &str) -> Value {
    let mut spec = json!({"resourceAttributes": {
        "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
        "subresource": subresource, "version": "*",
    }});
    for (to, from) in [
        ("user", "username"),
        ("uid", "uid"),
        ("groups", "groups"),
        ("extra", "extra"),
    ] {
        let value = object.at("spec").get(from).unwrap_or(&Value::Null);
        if !value.is_null() {
            spec[to] = value.clone();
        }
    }
    spec
}

fn approve(object: &Untyped, message: &str) -> Action {
    let mut changed = object.clone();
    let mut conditions = object.list("status.conditions").to_vec();
    conditions.push(json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}));
    changed.entry("status")["conditions"] = conditions.into();
    REQUESTS.replace(&changed, "approval")
}
