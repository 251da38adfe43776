//! Endpoint slices of Endpoints that somebody writes by hand, for services without a selector (upstream
//! `pkg/controller/endpointslicemirroring`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as OldPort, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::diff::merge_patch;
use crate::object::{controller_reference, is_deleting, name, namespace, to_value};
use crate::plan::{Action, Plan, Reference};
use crate::world::BY_SERVICE;
use crate::{Key, Turn, World};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say nothing about the endpoints.
const NOT_MIRRORED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// `--mirroring-max-endpoints-per-subset`
const CAPACITY: usize = 1000;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpointslice-mirroring-controller",
    account: "endpointslicemirroring-controller",
    triggers: &[
        Trigger::Endpoints(keys_of_endpoints),
        Trigger::Service(keys_of_service),
        Trigger::EndpointSlice(keys_of_slice),
    ],
    reconcile,
};

fn keys_of_endpoints(_: &dyn World, old: Option<&Endpoints>, new: Option<&Endpoints>) -> Vec<Key> {
    let concerned = [old, new].into_iter().flatten().any(is_mirrored);
    let keys = new.or(old).filter(|_| concerned).map(Key::of);
    keys.into_iter().collect()
}

/// What matters of a service is whether it has a selector.
fn keys_of_service(_: &dyn World, old: Option<&Service>, new: Option<&Service>) -> Vec<Key> {
    let manual = |service: Option<&Service>| service.map(|service| !has_selector(service));
    if manual(old) == manual(new) {
        return Vec::new();
    }
    new.or(old).map(Key::of).into_iter().collect()
}

fn keys_of_slice(_: &dyn World, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) -> Vec<Key> {
    let ours = [old, new].into_iter().flatten().filter(|slice| is_ours(slice));
    let mut keys: Vec<Key> = ours
        .filter_map(|slice| Some(Key::new(namespace(slice), label(slice, SERVICE_NAME)?.as_str())))
        .collect();
    keys.dedup();
    keys
}

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a String> {
    slice.metadata.labels.as_ref()?.get(key)
}

fn is_ours(slice: &EndpointSlice) -> bool {
    label(slice, MANAGED_BY).is_some_and(|by| by == MANAGER)
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skipped = metadata.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let elects = metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(LEADER));
    skipped.is_none_or(|skipped| skipped != "true") && !elects
}

fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.selector.is_some())
}

/// Keeps the slices of hand-written Endpoints.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let mut seen = world.endpoint_slices().by_index(BY_SERVICE, &key.to_string());
    seen.retain(|slice| is_ours(slice) && !is_deleting(&**slice));
    seen.sort_by(|a, b| name(&**a).cmp(name(&**b)));
    let endpoints = world.endpoints().get(&key.namespace, &key.name);
    let endpoints = endpoints.filter(|endpoints| is_mirrored(endpoints));
    let manual = world
        .services()
        .get(&key.namespace, &key.name)
        .is_some_and(|service| !has_selector(&service));
    let Some(endpoints) = endpoints.filter(|_| manual) else {
        for slice in seen {
            plan.act(Action::delete(&*slice));
        }
        return plan;
    };
    let wanted = wanted(&endpoints);
    write(&endpoints, wanted.slices, seen, &mut plan);
    if !plan.is_empty() {
        tell(&endpoints, wanted.invalid, wanted.surplus, &mut plan);
    }
    plan
}

fn tell(endpoints: &Endpoints, invalid: usize, surplus: usize, plan: &mut Plan) {
    let about = || Reference::to(endpoints);
    if invalid > 0 {
        let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        plan.act(Action::event(about(), "InvalidIPAddress", message).warning());
    }
    if surplus > 0 {
        let message = format!(
            "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
            invalid + surplus
        );
        plan.act(Action::event(about(), "TooManyAddressesToMirror", message).warning());
    }
}

/// A slice as it shall be.
struct Draft {
    family: &'static str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

#[derive(Default)]
struct Wanted {
    slices: Vec<Draft>,
    invalid: usize,
    /// Beyond what a slice holds.
    surplus: usize,
}

type PortKey = (Option<String>, Option<i32>, String, Option<String>);
type AddressKey = (String, Option<String>);

/// Addresses by ports and ports by addresses, canonically (`endpoints.RepackSubsets`); an address that is not ready for
/// a port in one subset is not ready for it.
fn wanted(endpoints: &Endpoints) -> Wanted {
    let mut addresses: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    let mut by_port: BTreeMap<Option<PortKey>, BTreeMap<AddressKey, bool>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports: Vec<Option<PortKey>> = subset.ports.iter().flatten().map(|port| Some(port_key(port))).collect();
        if ports.is_empty() {
            ports.push(None);
        }
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        for (address, ready) in ready.chain(unready) {
            let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone());
            let key = (address.ip.clone(), uid);
            addresses.entry(key.clone()).or_insert_with(|| address.clone());
            for port in &ports {
                let known = by_port
                    .entry(port.clone())
                    .or_default()
                    .entry(key.clone())
                    .or_insert(ready);
                *known &= ready;
            }
        }
    }
    let mut groups: BTreeMap<BTreeMap<AddressKey, bool>, Vec<PortKey>> = BTreeMap::new();
    for (port, addresses) in by_port {
        groups.entry(addresses).or_default().extend(port);
    }
    let mut wanted = Wanted::default();
    for (group, ports) in groups {
        // The ready ones have the first claim to the room there is.
        let ordered = group
            .iter()
            .filter(|(_, ready)| **ready)
            .chain(group.iter().filter(|(_, ready)| !**ready));
        let ports: Vec<EndpointPort> = ports.into_iter().map(new_port).collect();
        let mut drafts = ["IPv4", "IPv6"].map(|family| Draft {
            family,
            ports: ports.clone(),
            endpoints: Vec::new(),
        });
        let mut added = 0;
        for (key, ready) in ordered {
            let Ok(ip) = key.0.parse::<IpAddr>() else {
                wanted.invalid += 1;
                continue;
            };
            if added == CAPACITY {
                wanted.surplus += 1;
                continue;
            }
            added += 1;
            drafts[usize::from(ip.is_ipv6())]
                .endpoints
                .push(endpoint(&addresses[key], *ready));
        }
        wanted
            .slices
            .extend(drafts.into_iter().filter(|draft| !draft.endpoints.is_empty()));
    }
    wanted
}

fn port_key(port: &OldPort) -> PortKey {
    (
        port.name.clone(),
        Some(port.port),
        port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port.app_protocol.clone(),
    )
}

fn new_port((name, port, protocol, app_protocol): PortKey) -> EndpointPort {
    EndpointPort {
        name: Some(name.unwrap_or_default()),
        port,
        protocol: Some(protocol),
        app_protocol,
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// One slice a group; slices that are no longer wanted become others of their family before new ones are made.
fn write(endpoints: &Endpoints, drafts: Vec<Draft>, mut seen: Vec<Arc<EndpointSlice>>, plan: &mut Plan) {
    let mut homeless = Vec::new();
    for draft in drafts {
        let fits = |slice: &Arc<EndpointSlice>| {
            slice.address_type == draft.family && slice.ports.as_deref().unwrap_or_default() == draft.ports
        };
        match seen.iter().position(fits) {
            Some(index) => plan_update(endpoints, &seen.remove(index), &draft, plan),
            None => homeless.push(draft),
        }
    }
    for draft in homeless {
        let spare = seen.iter().position(|slice| slice.address_type == draft.family);
        match spare {
            Some(index) => plan_update(endpoints, &seen.remove(index), &draft, plan),
            // What goes away needs no more slices.
            None if is_deleting(endpoints) => {}
            None => plan.act(Action::create(&new_slice(endpoints, draft))),
        }
    }
    for slice in seen {
        plan.act(Action::delete(&*slice));
    }
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name(endpoints).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    annotations
}

fn plan_update(endpoints: &Endpoints, seen: &EndpointSlice, draft: &Draft, plan: &mut Plan) {
    let mut body = json!({});
    let before = seen.endpoints.as_deref().unwrap_or_default();
    let same =
        before.len() == draft.endpoints.len() && draft.endpoints.iter().all(|endpoint| before.contains(endpoint));
    if !same {
        body["endpoints"] = to_value(&draft.endpoints);
    }
    if seen.ports.as_deref().unwrap_or_default() != draft.ports {
        body["ports"] = to_value(&draft.ports);
    }
    let known = seen.metadata.labels.clone().unwrap_or_default();
    if let Some(patch) = merge_patch(&known, &labels(endpoints)) {
        body["metadata"]["labels"] = patch;
    }
    let known = seen.metadata.annotations.clone().unwrap_or_default();
    if let Some(patch) = merge_patch(&known, &annotations(endpoints)) {
        body["metadata"]["annotations"] = patch;
    }
    if body.as_object().is_some_and(|body| !body.is_empty()) {
        plan.act(Action::patch_version(seen, body));
    }
}

fn new_slice(endpoints: &Endpoints, draft: Draft) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(endpoints))),
            namespace: Some(namespace(endpoints).to_owned()),
            labels: Some(labels(endpoints)),
            annotations: Some(annotations(endpoints)).filter(|all| !all.is_empty()),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: draft.family.to_owned(),
        endpoints: Some(draft.endpoints),
        ports: Some(draft.ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use serde_json::Value;

    fn key() -> Key {
        Key::new("ns", "db")
    }

    fn cluster(subsets: Value) -> Fake {
        let mut fake = Fake::new();
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": "db"}, "spec": {}});
        fake.put("services", service);
        fake.put(
            "endpoints",
            json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": subsets,
                "metadata": {"namespace": "ns", "name": "db", "labels": {"a": "b"},
                    "annotations": {"x": "y", "endpoints.kubernetes.io/last-change-trigger-time": "now"}}}),
        );
        fake
    }

    fn subset(ready: &[&str], unready: &[&str], ports: &[i32]) -> Value {
        let all = |ips: &[&str]| ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>();
        let ports: Vec<Value> = ports
            .iter()
            .map(|port| json!({"port": port, "protocol": "TCP"}))
            .collect();
        json!({"addresses": all(ready), "notReadyAddresses": all(unready), "ports": ports})
    }

    /// Slices as family, ports and addresses (`!` for those that are not ready).
    fn slices(fake: &Fake) -> Vec<String> {
        let list = |value: &Value, text: fn(&Value) -> String| {
            let texts: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
            texts.join(",")
        };
        let endpoint = |one: &Value| {
            let mark = if one["conditions"]["ready"] == true { "" } else { "!" };
            format!("{mark}{}", one["addresses"][0].as_str().unwrap_or(""))
        };
        let all = fake.all::<EndpointSlice>();
        let mut all: Vec<String> = all
            .iter()
            .map(|slice| {
                let ports = list(&slice["ports"], |port| port["port"].to_string());
                format!(
                    "{} {ports} {}",
                    slice["addressType"].as_str().unwrap_or(""),
                    list(&slice["endpoints"], endpoint)
                )
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn subsets_become_slices_by_ports_and_family() {
        let cases = [
            (vec![], vec![]),
            (
                vec![subset(&["10.0.0.1"], &["10.0.0.2"], &[80])],
                vec!["IPv4 80 10.0.0.1,!10.0.0.2"],
            ),
            (vec![subset(&["10.0.0.1"], &[], &[])], vec!["IPv4  10.0.0.1"]),
            (
                vec![subset(&["10.0.0.1", "fd00::1"], &[], &[80, 443])],
                vec!["IPv4 80,443 10.0.0.1", "IPv6 80,443 fd00::1"],
            ),
            (
                vec![subset(&["10.0.0.1"], &[], &[80]), subset(&["10.0.0.2"], &[], &[81])],
                vec!["IPv4 80 10.0.0.1", "IPv4 81 10.0.0.2"],
            ),
            // The same address with two ports is one endpoint with both.
            (
                vec![subset(&["10.0.0.1"], &[], &[80]), subset(&["10.0.0.1"], &[], &[81])],
                vec!["IPv4 80,81 10.0.0.1"],
            ),
            (
                vec![subset(&["10.0.0.1"], &[], &[80]), subset(&[], &["10.0.0.1"], &[80])],
                vec!["IPv4 80 !10.0.0.1"],
            ),
        ];
        for (subsets, expected) in cases {
            let mut fake = cluster(json!(subsets));
            fake.settle(reconcile, &key());
            assert_eq!(slices(&fake), expected, "{subsets:?}");
        }
    }

    #[test]
    fn metadata_is_mirrored_and_slices_are_used_again() {
        let mut fake = cluster(json!([subset(&["10.0.0.1"], &[], &[80])]));
        fake.settle(reconcile, &key());
        let slice = &fake.all::<EndpointSlice>()[0];
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"a": "b", SERVICE_NAME: "db", MANAGED_BY: MANAGER})
        );
        assert_eq!(slice["metadata"]["annotations"], json!({"x": "y"}));
        assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
        let before = slice["metadata"]["name"].clone();
        fake.change::<Endpoints>(
            "ns",
            "db",
            json!({"subsets": [subset(&["10.0.0.1"], &[], &[81])], "metadata": {"labels": null}}),
        );
        fake.settle(reconcile, &key());
        let all = fake.all::<EndpointSlice>();
        assert_eq!((all.len(), &all[0]["metadata"]["name"]), (1, &before));
        assert_eq!(slices(&fake), ["IPv4 81 10.0.0.1"]);
        assert!(all[0]["metadata"]["labels"]["a"].is_null());
    }

    #[test]
    fn nothing_is_mirrored_that_is_not_written_by_hand() {
        let unwanted = [
            json!({"metadata": {"labels": {SKIP: "true"}}}),
            json!({"metadata": {"annotations": {LEADER: "x"}}}),
        ];
        for patch in unwanted {
            let mut fake = cluster(json!([subset(&["10.0.0.1"], &[], &[80])]));
            fake.settle(reconcile, &key());
            fake.change::<Endpoints>("ns", "db", patch);
            fake.settle(reconcile, &key());
            assert!(slices(&fake).is_empty());
        }
        let mut fake = cluster(json!([subset(&["10.0.0.1"], &[], &[80])]));
        fake.settle(reconcile, &key());
        fake.change::<Service>("ns", "db", json!({"spec": {"selector": {"a": "b"}}}));
        fake.settle(reconcile, &key());
        assert!(slices(&fake).is_empty());
        fake.change::<Service>("ns", "db", json!({"spec": {"selector": null}}));
        fake.settle(reconcile, &key());
        assert_eq!(slices(&fake).len(), 1);
        fake.remove::<Service>("ns", "db");
        fake.settle(reconcile, &key());
        assert!(slices(&fake).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let many: Vec<String> = (0..1001).map(|n| format!("10.0.{}.{}", n / 250, n % 250 + 1)).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("nonsense");
        let mut fake = cluster(json!([subset(&many, &[], &[80])]));
        fake.settle(reconcile, &key());
        assert_eq!(
            fake.all::<EndpointSlice>()[0]["endpoints"].as_array().unwrap().len(),
            1000
        );
        assert_eq!(
            fake.events,
            [
                "InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
                "TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 addresses were skipped",
            ]
        );
    }
}
