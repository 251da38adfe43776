//! Keeps `status` of resource quotas: what is in force, and what is used in truth (upstream
//! `pkg/controller/resourcequota`).
//!
//! The API server charges quotas before it creates what they are charged for. So what looks like a
//! surplus may be on its way: it is given back only if it is still one a moment later.

use std::collections::BTreeSet;

use api::{GroupResource, Value};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use quota::{Amounts, Tally, amounts};
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{namespace, to_value};
use crate::plan::{Action, Plan};
use crate::pod::is_terminal;
use crate::{Key, Object, Turn, Untyped, UntypedKind, View, World};

/// How long something may be charged before it is seen.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(1);

pub(crate) const CONTROLLER: Controller = Controller {
    name: crate::QUOTAS,
    account: "resourcequota-controller",
    triggers: &[
        Trigger::ResourceQuota(own_key),
        Trigger::Pod(keys_of_pod),
        Trigger::Service(keys_of_service),
        Trigger::PersistentVolumeClaim(keys_of_claim),
        Trigger::Untyped(UntypedKind::ResourceClaim, keys_of_devices),
    ],
    reconcile,
};

/// The quotas of a namespace: what is to be run after something in it came, went or changed its use.
pub fn quotas_in(world: &dyn World, namespace: &str) -> Vec<Key> {
    let quotas = world.resource_quotas().list(namespace);
    quotas.iter().map(|quota| Key::of(&**quota)).collect()
}

fn keys_if<K: Object>(world: &dyn World, old: Option<&K>, new: Option<&K>, changed: fn(&K, &K) -> bool) -> Vec<Key> {
    match (old, new) {
        (Some(old), Some(new)) if !changed(old, new) => Vec::new(),
        (old, new) => new
            .or(old)
            .map(|object| quotas_in(world, namespace(object)))
            .unwrap_or_default(),
    }
}

fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    keys_if(world, old, new, |old, new| {
        let resized = |pod: &Pod| {
            let statuses = pod
                .status
                .as_ref()
                .and_then(|status| status.container_statuses.as_ref());
            let each = statuses.into_iter().flatten();
            each.map(|status| (status.allocated_resources.clone(), status.resources.clone()))
                .collect::<Vec<_>>()
        };
        is_terminal(old) != is_terminal(new) || old.spec != new.spec || resized(old) != resized(new)
    })
}

fn keys_of_service(world: &dyn World, old: Option<&Service>, new: Option<&Service>) -> Vec<Key> {
    keys_if(world, old, new, |old, new| old.spec != new.spec)
}

fn keys_of_claim(
    world: &dyn World,
    old: Option<&PersistentVolumeClaim>,
    new: Option<&PersistentVolumeClaim>,
) -> Vec<Key> {
    keys_if(world, old, new, |old, new| {
        old.spec != new.spec || old.status != new.status
    })
}

/// Devices that are asked for; the allocation is not counted.
fn keys_of_devices(world: &dyn World, old: Option<&Untyped>, new: Option<&Untyped>) -> Vec<Key> {
    keys_if(world, old, new, |old, new| old.at("spec") != new.at("spec"))
}

/// Counts anew.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(found) = world.resource_quotas().get(&key.namespace, &key.name) else {
        return plan;
    };
    let quota = to_value(&*found);
    let (hard, used) = count(world, &key.namespace, &quota, turn).status(&quota);
    let list = |field: &str| amounts::read(quota.get("status").and_then(|status| status.get(field)));
    let (old_hard, old_used) = (list("hard"), list("used"));
    if hard == old_hard && used == old_used {
        return plan;
    }
    if hard == old_hard && is_surplus(&old_used, &used) {
        let since = turn.memo.unwrap_or(turn.now);
        let left = ON_ITS_WAY - turn.now.duration_since(since);
        if left > SignedDuration::ZERO {
            plan.memo = Some(since);
            plan.look_again(left);
            return plan;
        }
    }
    let status = json!({"hard": amounts::write(&hard), "used": amounts::write(&used)});
    // Upstream's role for this allows no get and no patch.
    plan.act(Action::replace_status(&*found, status));
    plan
}

/// Whether all that differs is that more was charged than there is.
fn is_surplus(charged: &Amounts, used: &Amounts) -> bool {
    charged.len() == used.len()
        && used
            .iter()
            .all(|(name, amount)| charged.get(name).is_some_and(|charged| charged >= amount))
}

fn count(world: &dyn World, namespace: &str, quota: &Value, turn: &Turn) -> Tally {
    let mut tally = Tally::of(quota, turn.now);
    let core = |resource: &str| GroupResource::new("", resource);
    let mut seen = BTreeSet::new();
    add(&mut tally, &mut seen, core("pods"), world.pods(), namespace);
    add(&mut tally, &mut seen, core("services"), world.services(), namespace);
    let claims = world.persistent_volume_claims();
    add(&mut tally, &mut seen, core("persistentvolumeclaims"), claims, namespace);
    let devices = GroupResource::new("resource.k8s.io", "resourceclaims");
    seen.insert(devices.to_string());
    if tally.wants(&devices) {
        let claims = world.untyped(UntypedKind::ResourceClaim).list(namespace);
        let claims: Vec<Value> = claims.iter().map(|claim| to_value(&**claim)).collect();
        tally.count(&devices, &claims);
    }
    let contents = world.contents(namespace);
    let remaining = contents.remaining.iter().map(|left| &left.resource);
    for resource in contents.resources.iter().chain(remaining) {
        let name = resource.group_resource();
        // Several versions of a resource show the same objects.
        if contents.unwatched.contains(resource) || !tally.wants(&name) || !seen.insert(name.to_string()) {
            continue;
        }
        let remaining = contents.remaining.iter().find(|left| left.resource == *resource);
        tally.count_number(&name, remaining.map_or(0, |left| left.count));
    }
    tally
}

fn add<K: Object>(
    tally: &mut Tally,
    seen: &mut BTreeSet<String>,
    resource: GroupResource,
    view: &dyn View<K>,
    namespace: &str,
) {
    seen.insert(resource.to_string());
    if tally.wants(&resource) {
        let objects: Vec<Value> = view.list(namespace).iter().map(|object| to_value(&**object)).collect();
        tally.count(&resource, &objects);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ResourceQuota;

    use super::*;
    use crate::fake::Fake;

    fn quota(fake: &Fake) -> Value {
        fake.json::<ResourceQuota>("ns", "q")["status"].clone()
    }

    fn run(fake: &mut Fake) -> Plan {
        let plan = reconcile(fake, &Key::new("ns", "q"), &fake.turn());
        assert_eq!(fake.execute(&plan), None);
        plan
    }

    fn cluster() -> Fake {
        let mut fake = Fake::new();
        let hard = json!({"pods": "4", "requests.cpu": "2", "count/deployments.apps": "3", "services.nodeports": "2"});
        fake.put(
            "resourcequotas",
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "ns"},
                "spec": {"hard": hard}}),
        );
        for (name, phase) in [("a", "Running"), ("b", "Succeeded"), ("c", "Pending")] {
            fake.put(
                "pods",
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns"},
                    "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]},
                    "status": {"phase": phase}}),
            );
        }
        fake.put(
            "services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "ns"},
                "spec": {"type": "NodePort", "ports": [{"port": 1}]}}),
        );
        fake.put(
            "deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "ns"}}),
        );
        fake
    }

    #[test]
    fn a_new_quota_is_counted_at_once() {
        let mut fake = cluster();
        run(&mut fake);
        assert_eq!(
            quota(&fake)["used"],
            json!({"pods": "2", "requests.cpu": "1", "count/deployments.apps": "1", "services.nodeports": "1"})
        );
        assert_eq!(quota(&fake)["hard"]["pods"], "4");
        assert!(run(&mut fake).is_empty());
    }

    #[test]
    fn what_is_gone_is_given_back_a_moment_later() {
        let mut fake = cluster();
        run(&mut fake);
        fake.remove::<Pod>("ns", "a");
        let plan = run(&mut fake);
        assert!(plan.is_empty() && plan.requeue_after.is_some());
        assert_eq!(quota(&fake)["used"]["pods"], "2");
        fake.sleep(1);
        let turn = Turn {
            memo: plan.memo,
            ..fake.turn()
        };
        let plan = reconcile(&fake, &Key::new("ns", "q"), &turn);
        fake.execute(&plan);
        assert_eq!(quota(&fake)["used"]["pods"], "1");
        assert!(run(&mut fake).is_empty());
    }

    #[test]
    fn limits_follow_the_spec() {
        let mut fake = cluster();
        run(&mut fake);
        let patch = json!({"spec": {"hard": {"pods": "9", "requests.cpu": null, "limits.cpu": "1"}}});
        fake.change::<ResourceQuota>("ns", "q", patch);
        run(&mut fake);
        assert_eq!(
            quota(&fake),
            json!({"hard": {"pods": "9", "limits.cpu": "1", "count/deployments.apps": "3", "services.nodeports": "2"},
                "used": {"pods": "2", "limits.cpu": "0", "count/deployments.apps": "1", "services.nodeports": "1"}})
        );
        assert!(run(&mut fake).is_empty());
    }

    #[test]
    fn devices_that_claims_ask_for_are_counted_and_no_more() {
        let mut fake = Fake::new();
        let hard = json!({"gpu.deviceclass.resource.k8s.io/devices": "8", "count/resourceclaims.resource.k8s.io": "2"});
        fake.put(
            "resourcequotas",
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "ns"},
                "spec": {"hard": hard}}),
        );
        for (name, count) in [("a", 2), ("b", 3)] {
            let requests = json!([{"name": "r", "exactly": {"deviceClassName": "gpu", "count": count}}]);
            fake.put(
                "resourceclaims",
                json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                    "metadata": {"name": name, "namespace": "ns"}, "spec": {"devices": {"requests": requests}}}),
            );
        }
        let used = |claims: &str, devices: &str| json!({"count/resourceclaims.resource.k8s.io": claims, "gpu.deviceclass.resource.k8s.io/devices": devices});
        run(&mut fake);
        assert_eq!(quota(&fake)["used"], used("2", "5"));
        fake.remove::<k8s_openapi::api::resource::v1::ResourceClaim>("ns", "b");
        // A charge may be on its way: less is believed later.
        let mut turn = fake.turn();
        let plan = reconcile(&fake, &Key::new("ns", "q"), &turn);
        assert!(plan.is_empty());
        turn.memo = plan.memo;
        fake.sleep(60);
        turn.now = fake.now;
        let plan = reconcile(&fake, &Key::new("ns", "q"), &turn);
        fake.execute(&plan);
        assert_eq!(quota(&fake)["used"], used("1", "2"));
        assert!(run(&mut fake).is_empty());
    }
}
