//! Signs approved requests to the four signers that every cluster has (`signer/signer.go`).

use jiff::SignedDuration;
use serde_json::json;

use super::request::{self, Request};
use super::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, REQUESTS, is_issued};
use crate::plan::{Mint, Plan};
use crate::{Key, Turn, World};

/// As long as certificates live if their requests do not say (`--cluster-signing-duration`), and at most.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);

/// Signs one request, or says why not.
pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(object) = world.untyped(REQUESTS).get("", &key.name) else {
        return plan;
    };
    let approved = object.condition("Approved").is_some() && object.condition("Denied").is_none();
    let failed = object
        .condition("Failed")
        .is_some_and(|condition| condition["status"] == "True");
    if is_issued(&object) || !approved || failed {
        return plan;
    }
    let Some(request) = Request::of(&object) else {
        return plan;
    };
    let usages = object.texts("spec.usages");
    let checked = match object.text("spec.signerName") {
        CLIENT => request::for_client(&usages),
        KUBELET_CLIENT => request.for_kubelet_client(&usages),
        KUBELET_SERVING => request.for_kubelet_serving(&usages),
        LEGACY => Ok(()),
        _ => return plan,
    };
    let mut changed = (*object).clone();
    if let Err(message) = checked {
        let mut conditions = object.list("status.conditions").to_vec();
        conditions.push(json!({
            "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": message,
            "lastUpdateTime": api::time::format(turn.now),
        }));
        changed.entry("status")["conditions"] = conditions.into();
        plan.act(REQUESTS.replace(&changed, "status"));
        return plan;
    }
    let asked = object.at("spec.expirationSeconds").as_i64();
    let mint = Mint::Certificate {
        request: request.der,
        usages: usages.into_iter().map(str::to_owned).collect(),
        lifetime: asked.map_or(LONGEST, |seconds| {
            SignedDuration::from_secs(seconds).clamp(SHORTEST, LONGEST)
        }),
    };
    changed.entry("status");
    plan.act(REQUESTS.mint(&changed, "status", "/status/certificate", mint));
    plan
}
