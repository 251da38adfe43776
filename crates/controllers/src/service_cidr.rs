//! ServiceCIDRs: ready from the start, and kept while addresses of services need them (upstream
//! `pkg/controller/servicecidrs`).

use std::net::IpAddr;

use jiff::SignedDuration;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{is_deleting, name, seconds, to_value};
use crate::plan::{Action, Plan};
use crate::{Key, Turn, World};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// How long API servers may take to notice that a network gives no more addresses.
const NOTICE: SignedDuration = SignedDuration::from_secs(10);
const READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-cidr-controller",
    account: "service-cidrs-controller",
    triggers: &[Trigger::ServiceCidr(keys_of_cidr), Trigger::IpAddress(keys_of_address)],
    reconcile,
};

/// A network that comes may take the place of those that go.
fn keys_of_cidr(world: &dyn World, old: Option<&ServiceCIDR>, new: Option<&ServiceCIDR>) -> Vec<Key> {
    let mut keys = own_key(world, old, new);
    keys.extend(leaving(world));
    keys.sort();
    keys.dedup();
    keys
}

fn keys_of_address(world: &dyn World, _: Option<&IPAddress>, new: Option<&IPAddress>) -> Vec<Key> {
    match new {
        None => leaving(world),
        Some(_) => Vec::new(),
    }
}

fn leaving(world: &dyn World) -> Vec<Key> {
    let all = world.service_cidrs().list("");
    all.iter()
        .filter(|cidr| is_deleting(&***cidr))
        .map(|cidr| Key::of(&**cidr))
        .collect()
}

/// Readies a network, or lets it go.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(cidr) = world.service_cidrs().get("", &key.name) else {
        return plan;
    };
    let finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = cidr.metadata.deletion_timestamp.as_ref().map(|time| time.0) else {
        if !held {
            let finalizers: Vec<&str> = finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
            plan.act(Action::patch_version(
                &*cidr,
                json!({"metadata": {"finalizers": finalizers}}),
            ));
        } else if !has(&cidr, "True", "", READY) {
            plan.act(condition(&cidr, "True", "", READY, turn));
        }
        return plan;
    };
    if !held {
        return plan;
    }
    if is_needed(world, &cidr) {
        if !has(&cidr, "False", "Terminating", IN_USE) {
            plan.act(condition(&cidr, "False", "Terminating", IN_USE, turn));
        }
        return plan;
    }
    let left = NOTICE - turn.now.duration_since(deleted);
    if left > SignedDuration::ZERO {
        plan.look_again(left);
        return plan;
    }
    let kept: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    plan.act(Action::patch_version(&*cidr, json!({"metadata": {"finalizers": kept}})));
    plan
}

fn conditions(cidr: &ServiceCIDR) -> &[Condition] {
    let status = cidr.status.as_ref().and_then(|status| status.conditions.as_deref());
    status.unwrap_or_default()
}

fn has(cidr: &ServiceCIDR, status: &str, reason: &str, message: &str) -> bool {
    conditions(cidr).iter().any(|condition| {
        condition.type_ == "Ready"
            && (
                condition.status.as_str(),
                condition.reason.as_str(),
                condition.message.as_str(),
            ) == (status, reason, message)
    })
}

fn condition(cidr: &ServiceCIDR, status: &str, reason: &str, message: &str, turn: &Turn) -> Action {
    let mut all: Vec<Condition> = conditions(cidr)
        .iter()
        .filter(|condition| condition.type_ != "Ready")
        .cloned()
        .collect();
    let before = conditions(cidr).iter().find(|condition| condition.type_ == "Ready");
    all.push(Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: before
            .filter(|before| before.status == status)
            .map_or_else(|| seconds(turn.now), |before| before.last_transition_time.clone()),
    });
    Action::patch_status_version(cidr, json!({"status": {"conditions": to_value(&all)}}))
}

/// Whether an address lies in it and in no other network that stays.
fn is_needed(world: &dyn World, cidr: &ServiceCIDR) -> bool {
    let others: Vec<Network> = world
        .service_cidrs()
        .list("")
        .iter()
        .filter(|other| name(&***other) != name(cidr) && !is_deleting(&***other))
        .flat_map(|other| networks(other))
        .collect();
    let own = networks(cidr);
    let addresses = world.ip_addresses().list("");
    let given = addresses.iter().filter(|address| {
        let labels = address.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(MANAGED_BY))
            .is_some_and(|by| by == ALLOCATOR)
    });
    let mut given = given.filter_map(|address| name(&**address).parse::<IpAddr>().ok());
    given.any(|address| {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        within(&own) && !within(&others)
    })
}

#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    length: u32,
}

fn networks(cidr: &ServiceCIDR) -> Vec<Network> {
    let texts = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    let parsed = texts.filter_map(|text| {
        let (address, length) = text.split_once('/')?;
        Some(Network {
            address: address.parse().ok()?,
            length: length.parse().ok()?,
        })
    });
    parsed.collect()
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(u32::from(own)), u128::from(u32::from(other)), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (u128::from(own), u128::from(other), 128),
            _ => return false,
        };
        let rest = u32::saturating_sub(width, self.length);
        own.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn cluster() -> Fake {
        let mut fake = Fake::new();
        fake.put(
            "servicecidrs",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "a"},
                "spec": {"cidrs": ["10.0.0.0/16", "fd00::/108"]}}),
        );
        fake
    }

    fn address(fake: &mut Fake, name: &str) {
        fake.put(
            "ipaddresses",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": name, "labels": {MANAGED_BY: ALLOCATOR}}}),
        );
    }

    fn state(fake: &Fake) -> (usize, String) {
        let cidr = fake.json::<ServiceCIDR>("", "a");
        let held = cidr["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
        let status = cidr["status"]["conditions"][0]["status"].as_str().unwrap_or("");
        (held, status.to_owned())
    }

    #[test]
    fn a_network_is_held_and_ready() {
        let mut fake = cluster();
        fake.settle(reconcile, &Key::new("", "a"));
        assert_eq!(state(&fake), (1, "True".to_owned()));
    }

    #[test]
    fn a_network_goes_when_nothing_needs_it() {
        let mut fake = cluster();
        let key = Key::new("", "a");
        fake.settle(reconcile, &key);
        address(&mut fake, "10.0.3.4");
        address(&mut fake, "10.1.0.1");
        let deleted = api::time::format(fake.now);
        fake.change::<ServiceCIDR>("", "a", json!({"metadata": {"deletionTimestamp": deleted}}));
        fake.settle(reconcile, &key);
        assert_eq!(state(&fake), (1, "False".to_owned()));
        fake.put(
            "servicecidrs",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "b"},
                "spec": {"cidrs": ["10.0.0.0/20"]}}),
        );
        let plan = reconcile(&fake, &key, &fake.turn());
        assert!(plan.is_empty() && plan.requeue_after == Some(NOTICE));
        fake.sleep(10);
        fake.settle(reconcile, &key);
        assert_eq!(state(&fake).0, 0);
    }

    #[test]
    fn networks_contain_their_own_family() {
        let within = |network: &str, address: &str| {
            let (own, length) = network.split_once('/').unwrap();
            let network = Network {
                address: own.parse().unwrap(),
                length: length.parse().unwrap(),
            };
            network.contains(address.parse().unwrap())
        };
        assert!(within("10.0.0.0/16", "10.0.255.255") && !within("10.0.0.0/16", "10.1.0.0"));
        assert!(within("fd00::/108", "fd00::f:ffff") && !within("fd00::/108", "fd00::10:0"));
        assert!(within("0.0.0.0/0", "1.2.3.4") && !within("0.0.0.0/0", "::1"));
    }
}
