//! A claim's consumers: those that are gone or done are forgotten, and with the last of them goes the allocation.

use api::Gvr;
use serde_json::{Value, json};

use super::{CLAIMS, FINALIZER, is_done, owner};
use crate::object::{is_deleting, namespace, uid};
use crate::plan::{Action, Confirm, Plan, Target};
use crate::{Turn, Untyped, World};

/// In the notes: this controller has just taken the allocation away, and may take the finalizer too.
const DEALLOCATED: &str = "deallocated";

pub(super) fn reconcile(world: &dyn World, home: &str, claim: &str, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(claim) = world.untyped(CLAIMS).get(home, claim) else {
        return plan;
    };
    let consumers = claim.list("status.reservedFor");
    let is_pod =
        |consumer: &Value| consumer["apiGroup"].as_str().unwrap_or("").is_empty() && consumer["resource"] == "pods";
    if !consumers.iter().all(is_pod) {
        // Nobody here knows when others are done.
        return plan;
    }
    let mut unseen = Vec::new();
    let kept: Vec<&Value> = consumers
        .iter()
        .filter(|consumer| stays(world, home, consumer, &mut unseen))
        .collect();
    let protected = claim
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let allocated = !claim.at("status.allocation").is_null();
    if kept.len() < consumers.len() {
        let ends = kept.is_empty() && protected;
        let mut body = json!({"status": {"reservedFor": kept}});
        if kept.is_empty() {
            body["status"]["reservedFor"] = Value::Null;
        }
        if ends {
            body["status"]["allocation"] = Value::Null;
            plan.notes.insert(DEALLOCATED.to_owned(), turn.now);
        }
        let mut action = CLAIMS.patch_version(&claim, "status", body);
        for target in unseen {
            action = action.confirmed(Confirm::Absent(target));
        }
        plan.act(action);
        return plan;
    }
    let freed = turn.notes.contains_key(DEALLOCATED) || is_deleting(&*claim);
    if protected && kept.is_empty() && freed {
        if allocated && is_deleting(&*claim) {
            plan.notes.insert(DEALLOCATED.to_owned(), turn.now);
            plan.act(CLAIMS.patch_version(&claim, "status", json!({"status": {"allocation": null}})));
            return plan;
        }
        if !allocated {
            plan.act(without_finalizer(&claim));
            return plan;
        }
    }
    if kept.is_empty() && is_orphaned(world, &claim) && !is_deleting(&*claim) {
        plan.act(CLAIMS.delete(&claim));
    }
    plan
}

/// Whether a consumer may still need the claim. Pods that the cache does not have are to be looked for.
fn stays(world: &dyn World, home: &str, consumer: &Value, unseen: &mut Vec<Target>) -> bool {
    let text = |field: &str| consumer[field].as_str().unwrap_or("");
    match world.pods().get(home, text("name")) {
        Some(pod) => uid(&*pod) == text("uid") && !is_done(&pod),
        None => {
            unseen.push(Target {
                resource: Gvr::new("", "v1", "pods"),
                namespace: home.to_owned(),
                name: text("name").to_owned(),
                uid: Some(text("uid").to_owned()),
                resource_version: None,
            });
            false
        }
    }
}

/// The version is the one that was seen without an allocation: whoever allocates meanwhile keeps the finalizer.
fn without_finalizer(claim: &Untyped) -> Action {
    let finalizers = claim.metadata.finalizers.iter().flatten();
    let kept: Vec<&String> = finalizers.filter(|finalizer| *finalizer != FINALIZER).collect();
    CLAIMS.patch_version(claim, "", json!({"metadata": {"finalizers": kept}}))
}

/// Whether it was made for a pod that does not need it any more. One that is not known is the garbage collector's.
fn is_orphaned(world: &dyn World, claim: &Untyped) -> bool {
    let Some((pod, owner)) = owner(claim) else {
        return false;
    };
    let found = world.pods().get(namespace(claim), pod);
    found.is_some_and(|pod| uid(&*pod) != owner || is_done(&pod))
}
