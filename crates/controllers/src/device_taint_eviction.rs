//! Evicts pods from devices that are tainted (upstream `pkg/controller/devicetainteviction`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{is_deleting, namespace, to_value, uid};
use crate::plan::{Action, Plan, Reference};
use crate::pod::is_terminal;
use crate::pod_garbage::with_disruption;
use crate::{BY_CLAIM, Key, Turn, Untyped, UntypedKind, World};

const CLAIMS: UntypedKind = UntypedKind::ResourceClaim;
const SLICES: UntypedKind = UntypedKind::ResourceSlice;
const RULES: UntypedKind = UntypedKind::DeviceTaintRule;
const REASON: &str = "DeviceTaintManagerEviction";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "device-taint-eviction-controller",
    account: "device-taint-eviction-controller",
    triggers: &[
        Trigger::Untyped(CLAIMS, own_key),
        Trigger::Untyped(SLICES, keys_of_slice),
        Trigger::Untyped(RULES, keys_of_rule),
        Trigger::Pod(keys_of_pod),
    ],
    reconcile,
};

/// A pod that comes to its node may use a claim that was tainted before.
fn keys_of_pod(_: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let on_node = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let Some(pod) = new.filter(|pod| on_node(pod) && !old.is_some_and(on_node)) else {
        return Vec::new();
    };
    let names = crate::claims_of_pod(pod);
    names
        .iter()
        .filter_map(|name| name.split_once('/'))
        .map(|(home, name)| Key::new(home, name))
        .collect()
}

/// Only taints matter: what else a driver says of its devices may change often.
fn keys_of_slice(world: &dyn World, old: Option<&Untyped>, new: Option<&Untyped>) -> Vec<Key> {
    let evicting = |slice: Option<&Untyped>| -> Vec<(String, Vec<Value>)> {
        let devices = slice.map(|slice| slice.list("spec.devices")).unwrap_or_default();
        let tainted = devices
            .iter()
            .map(|device| (text(device, "name").to_owned(), no_execute(&device["taints"])));
        tainted.filter(|(_, taints)| !taints.is_empty()).collect()
    };
    let Some(slice) = new.or(old).filter(|_| evicting(old) != evicting(new)) else {
        return Vec::new();
    };
    let (driver, pool) = (slice.text("spec.driver"), slice.text("spec.pool.name"));
    claims_with(world, |result| {
        text(result, "driver") == driver && text(result, "pool") == pool
    })
}

fn keys_of_rule(world: &dyn World, old: Option<&Untyped>, new: Option<&Untyped>) -> Vec<Key> {
    if old.zip(new).is_some_and(|(old, new)| old.at("spec") == new.at("spec")) {
        return Vec::new();
    }
    claims_with(world, |result| {
        [old, new].into_iter().flatten().any(|rule| selects(rule, result))
    })
}

fn claims_with(world: &dyn World, uses: impl Fn(&Value) -> bool) -> Vec<Key> {
    let claims = world.untyped(CLAIMS).list("");
    let using = claims
        .iter()
        .filter(|claim| claim.list("status.allocation.devices.results").iter().any(&uses));
    using.map(|claim| Key::of(&**claim)).collect()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or("")
}

fn no_execute(taints: &Value) -> Vec<Value> {
    let taints = taints.as_array().into_iter().flatten();
    taints.filter(|taint| taint["effect"] == "NoExecute").cloned().collect()
}

/// Whether a rule is about an allocated device.
fn selects(rule: &Untyped, result: &Value) -> bool {
    let selector = rule.at("spec.deviceSelector");
    ["driver", "pool", "device"].iter().all(|field| {
        selector[*field]
            .as_str()
            .is_none_or(|wanted| wanted == text(result, field))
    })
}

/// The taints by which an allocated device loses its pods.
fn taints(world: &dyn World, slices: &[std::sync::Arc<Untyped>], result: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for rule in world.untyped(RULES).list("") {
        if rule.text("spec.taint.effect") == "NoExecute" && selects(&rule, result) {
            all.push(rule.at("spec.taint").clone());
        }
    }
    let pool = slices.iter().filter(|slice| {
        slice.text("spec.driver") == text(result, "driver") && slice.text("spec.pool.name") == text(result, "pool")
    });
    let generation = |slice: &Untyped| slice.at("spec.pool.generation").as_i64().unwrap_or(0);
    let newest = pool.clone().map(|slice| generation(slice)).max();
    for slice in pool.filter(|slice| Some(generation(slice)) == newest) {
        let mut devices = slice.list("spec.devices").iter();
        if let Some(device) = devices.find(|device| text(device, "name") == text(result, "device")) {
            all.extend(no_execute(&device["taints"]));
        }
    }
    all
}

/// Whether a toleration is for a taint (`resourceclaim.ToleratesTaint`).
fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let fits = |field: &str| text(toleration, field).is_empty() || text(toleration, field) == text(taint, field);
    fits("effect")
        && fits("key")
        && match text(toleration, "operator") {
            "" | "Equal" => text(toleration, "value") == text(taint, "value"),
            "Exists" => true,
            _ => false,
        }
}

/// When the pods of a claim have to go.
fn end(world: &dyn World, claim: &Untyped, now: Timestamp) -> Option<Timestamp> {
    let results = claim.list("status.allocation.devices.results");
    if results.is_empty() {
        return None;
    }
    let slices = world.untyped(SLICES).list("");
    let mut ends = Vec::new();
    for result in results {
        let tolerations = result["tolerations"].as_array().map_or(&[][..], Vec::as_slice);
        for taint in taints(world, &slices, result) {
            let added = text(&taint, "timeAdded").parse().unwrap_or(now);
            let mut used = tolerations
                .iter()
                .filter(|toleration| tolerates(toleration, &taint))
                .peekable();
            if used.peek().is_none() {
                ends.push(added);
                continue;
            }
            let shortest = used
                .filter_map(|toleration| toleration["tolerationSeconds"].as_i64())
                .min();
            let patience = shortest.map(|seconds| SignedDuration::from_secs(seconds.max(0)));
            ends.extend(patience.and_then(|patience| added.checked_add(patience).ok()));
        }
    }
    ends.into_iter().min()
}

/// Deletes the pods that use a claim when their time is over.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(claim) = world.untyped(CLAIMS).get(&key.namespace, &key.name) else {
        return plan;
    };
    let Some(end) = end(world, &claim, turn.now) else {
        return plan;
    };
    let reserved = claim.list("status.reservedFor");
    let users = world
        .pods()
        .by_index(BY_CLAIM, &format!("{}/{}", namespace(&*claim), key.name));
    let users = users.iter().filter(|pod| {
        let uses = reserved.iter().any(|consumer| text(consumer, "uid") == uid(&***pod));
        uses && !is_deleting(&***pod) && !is_terminal(pod)
    });
    let users: Vec<_> = users.collect();
    let left = end.duration_since(turn.now);
    if left.is_positive() && !users.is_empty() {
        plan.look_again(left);
        return plan;
    }
    for pod in users {
        let message = "Device Taint manager: deleting due to NoExecute taint";
        let conditions = with_disruption(pod, "DeletionByDeviceTaintManager", message, turn.now);
        plan.act(Action::event(Reference::to(&**pod), REASON, "Marking for deletion"));
        let patch = json!({"status": {"conditions": to_value(&conditions)}});
        plan.act(Action::patch_status_version(&**pod, patch));
        plan.act(Action::delete(&**pod));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Fake, start};

    fn cluster(taints: Value, tolerations: Value) -> Fake {
        let mut fake = Fake::new();
        let mut pod = fake::ready(fake::pod("p", "web", ""), "n", "10.0.0.1");
        pod["spec"]["resourceClaims"] = json!([{"name": "gpu", "resourceClaimName": "c"}]);
        fake.put("pods", pod);
        let result = json!({"request": "r", "driver": "d", "pool": "p", "device": "x", "tolerations": tolerations});
        fake.put(
            "resourceclaims",
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                "metadata": {"namespace": "ns", "name": "c"}, "spec": {}, "status": {
                    "allocation": {"devices": {"results": [result]}},
                    "reservedFor": [{"resource": "pods", "name": "p", "uid": "uid-p"}]}}),
        );
        for (name, generation, taints) in [("new", 2, taints), ("old", 1, json!([taint("NoExecute")]))] {
            fake.put(
                "resourceslices",
                json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name},
                    "spec": {"driver": "d", "pool": {"name": "p", "generation": generation},
                        "devices": [{"name": "x", "taints": taints}]}}),
            );
        }
        fake
    }

    fn taint(effect: &str) -> Value {
        json!({"key": "k", "value": "v", "effect": effect, "timeAdded": api::time::format(start())})
    }

    fn key() -> Key {
        Key::new("ns", "c")
    }

    #[test]
    fn pods_stay_as_long_as_their_claims_tolerate() {
        let minute = json!({"key": "k", "operator": "Exists", "tolerationSeconds": 60});
        let table: [(Value, Value, Option<i64>); 6] = [
            (json!([taint("NoExecute")]), json!([]), Some(0)),
            (json!([taint("NoExecute")]), json!([{"operator": "Exists"}]), None),
            (
                json!([taint("NoExecute")]),
                json!([{"key": "k", "value": "other"}]),
                Some(0),
            ),
            (
                json!([taint("NoExecute")]),
                json!([{"operator": "Exists"}, minute]),
                Some(60),
            ),
            (json!([taint("NoSchedule")]), json!([]), None),
            (json!([]), json!([]), None),
        ];
        for (taints, tolerations, end) in table {
            let mut fake = cluster(taints, tolerations.clone());
            let plan = reconcile(&fake, &key(), &fake.turn());
            let Some(seconds) = end else {
                assert_eq!(plan, Plan::nothing(), "{tolerations}");
                continue;
            };
            if seconds > 0 {
                assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(seconds)));
                fake.sleep(seconds);
            }
            fake.settle(reconcile, &key());
            assert!(fake.all::<Pod>().is_empty());
            assert_eq!(fake.events, ["DeviceTaintManagerEviction: Marking for deletion"]);
        }
    }

    #[test]
    fn rules_taint_what_they_select() {
        for (selector, evicts) in [
            (json!({"driver": "d", "device": "x"}), true),
            (json!({"driver": "d", "device": "y"}), false),
            (json!({}), true),
        ] {
            let mut fake = cluster(json!([]), json!([]));
            fake.put(
                "devicetaintrules",
                json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceTaintRule", "metadata": {"name": "r"},
                    "spec": {"deviceSelector": selector, "taint": taint("NoExecute")}}),
            );
            let rule = fake.untyped(RULES).get("", "r").unwrap();
            let keys = keys_of_rule(&fake, None, Some(&rule));
            assert_eq!(keys, if evicts { vec![key()] } else { Vec::new() });
            fake.settle(reconcile, &key());
            assert_eq!(fake.all::<Pod>().is_empty(), evicts, "{selector}");
        }
    }

    #[test]
    fn slices_matter_by_their_taints() {
        let fake = cluster(json!([taint("NoExecute")]), json!([]));
        let tainted = fake.untyped(SLICES).get("", "new").unwrap();
        let mut plain = (*tainted).clone();
        plain.entry("spec")["devices"][0]["taints"] = json!([taint("NoSchedule")]);
        assert_eq!(keys_of_slice(&fake, Some(&plain), Some(&tainted)), [key()]);
        assert_eq!(keys_of_slice(&fake, Some(&tainted), Some(&tainted)), []);
        assert_eq!(keys_of_slice(&fake, None, Some(&plain)), []);
    }

    #[test]
    fn pods_that_do_not_use_the_claim_stay() {
        let mut fake = cluster(json!([taint("NoExecute")]), json!([]));
        let claim = json!({"status": {"reservedFor": []}});
        fake.change::<k8s_openapi::api::resource::v1::ResourceClaim>("ns", "c", claim);
        assert!(reconcile(&fake, &key(), &fake.turn()).is_empty());
    }
}
