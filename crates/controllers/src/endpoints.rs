//! Endpoints objects, for clients that do not know slices (upstream `pkg/controller/endpoint`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Node, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{has_labels, is_deleting, name, namespace, to_value, uid};
use crate::plan::{Action, Plan};
use crate::pod::{is_ready, is_terminal, node_name};
use crate::{Key, Turn, World};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// More addresses than this are left out, and the annotation says so.
const CAPACITY: usize = 1000;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpoint-controller",
    account: "endpoint-controller",
    triggers: &[
        Trigger::Service(own_key),
        Trigger::Pod(keys_of_pod),
        Trigger::Endpoints(own_key),
    ],
    reconcile,
};

/// Services that select the pod as it was or as it is.
pub(crate) fn keys_of_pod(world: &dyn World, old: Option<&Pod>, new: Option<&Pod>) -> Vec<Key> {
    let Some(pod) = new.or(old) else {
        return Vec::new();
    };
    let services = world.services().list(namespace(pod));
    let selecting = services.iter().filter(|service| {
        selector(service).is_some_and(|wanted| {
            [old, new]
                .into_iter()
                .flatten()
                .any(|pod| has_labels(wanted, pod.metadata.labels.as_ref()))
        })
    });
    selecting.map(|service| Key::of(&**service)).collect()
}

/// The labels of a service's pods, if it has endpoints that are kept for it.
pub(crate) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref()
}

/// The pods that a service selects and that have an address.
pub(crate) fn pods_of(world: &dyn World, service: &Service, with_terminating: bool) -> Vec<Arc<Pod>> {
    let Some(wanted) = selector(service) else {
        return Vec::new();
    };
    let mut pods = world.pods().list(namespace(service));
    pods.retain(|pod| {
        has_labels(wanted, pod.metadata.labels.as_ref())
            && !is_terminal(pod)
            && !addresses(pod).is_empty()
            && (with_terminating || !is_deleting(&**pod))
    });
    pods
}

/// A pod's addresses, the first one first.
pub(crate) fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if all.is_empty() {
        status
            .pod_ip
            .as_deref()
            .filter(|ip| !ip.is_empty())
            .into_iter()
            .collect()
    } else {
        all
    }
}

/// The number behind a service port in one pod (`podutil.FindPort`).
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let target = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(target)) if target.is_empty() => return Some(port.port),
        Some(IntOrString::String(target)) => target,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    ports
        .find(|port| port.name.as_ref() == Some(target) && port.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|port| port.container_port)
}

/// The host name by which DNS knows the pod in this service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|hostname| !hostname.is_empty())?;
    let ours = spec.subdomain.as_deref() == Some(name(service)) && namespace(pod) == namespace(service);
    ours.then_some(hostname)
}

/// The reference from an endpoint to its pod.
pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Whether clients get the pods' addresses themselves.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// A node's zone.
pub(crate) fn zone(node: &Node) -> Option<&String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone")
}

/// Keeps the Endpoints object of a service.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let seen = world.endpoints().get(&key.namespace, &key.name);
    let Some(service) = world.services().get(&key.namespace, &key.name) else {
        let ours = |seen: &&Arc<Endpoints>| {
            seen.metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(MANAGED_BY))
                .is_some_and(|by| by == MANAGER)
        };
        if let Some(left) = seen.as_ref().filter(ours) {
            plan.act(Action::delete(&**left));
        }
        return plan;
    };
    if selector(&service).is_none() || is_deleting(&*service) {
        return plan;
    }
    let (subsets, truncated) = subsets(world, &service);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.remove(HEADLESS);
    if is_headless(&service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let annotation = truncated.then(|| "truncated".to_owned());
    let Some(seen) = seen else {
        plan.act(Action::create(&Endpoints {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                labels: Some(labels),
                annotations: annotation.map(|text| BTreeMap::from([(OVER_CAPACITY.to_owned(), text)])),
                ..ObjectMeta::default()
            },
            subsets,
        }));
        return plan;
    };
    let annotated = crate::object::annotation(&*seen, OVER_CAPACITY).map(str::to_owned);
    if seen.subsets.clone().filter(|s| !s.is_empty()) != subsets
        || seen.metadata.labels.as_ref() != Some(&labels)
        || annotated != annotation
    {
        let labels = crate::diff::merge_patch(&seen.metadata.labels, &Some(labels)).unwrap_or_else(|| json!({}));
        plan.act(Action::patch_version(
            &*seen,
            json!({
                "metadata": {"labels": labels, "annotations": {OVER_CAPACITY: annotation}},
                "subsets": subsets.map(|subsets| to_value(&subsets)),
            }),
        ));
    }
    plan
}

/// Address, pod UID, readiness, and the address as it is written.
type Entry = (String, String, bool, EndpointAddress);
/// Name, number and protocol.
type PortKey = (Option<String>, i32, String);

/// Addresses by the ports they have, in an order that depends on nothing else (`RepackSubsets`).
fn subsets(world: &dyn World, service: &Service) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.clone().unwrap_or_default();
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    let ports = spec.ports.unwrap_or_default();
    let mut groups: BTreeMap<Vec<PortKey>, (Vec<EndpointPort>, Vec<Entry>)> = BTreeMap::new();
    let family_v6 = spec
        .ip_families
        .iter()
        .flatten()
        .next()
        .is_some_and(|family| family == "IPv6");
    for pod in pods_of(world, service, unready_too) {
        let Some(ip) = addresses(&pod).into_iter().find(|ip| ip.contains(':') == family_v6) else {
            continue;
        };
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(&pod, service),
            node_name: Some(node_name(&pod).to_owned()).filter(|node| !node.is_empty()),
            target_ref: Some(reference(&pod)),
        };
        let mut found: Vec<EndpointPort> = ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone(),
                    port: target_port(&pod, port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if found.is_empty() && !(ports.is_empty() && is_headless(service)) {
            continue;
        }
        let sort_key = |p: &EndpointPort| (p.name.clone(), p.port, p.protocol.clone().unwrap_or_default());
        found.sort_by_key(sort_key);
        let group = groups
            .entry(found.iter().map(sort_key).collect())
            .or_insert((found, Vec::new()));
        group.1.push((
            ip.to_owned(),
            uid(&*pod).to_owned(),
            unready_too || is_ready(&pod),
            address,
        ));
    }
    let total: usize = groups.values().map(|(_, entries)| entries.len()).sum();
    let mut room = CAPACITY;
    let mut subsets = Vec::new();
    for (ports, mut entries) in groups.into_values() {
        // Ready addresses are the last to be left out.
        entries.sort_by(|a, b| (!a.2, &a.0, &a.1).cmp(&(!b.2, &b.0, &b.1)));
        entries.truncate(room);
        room -= entries.len();
        if entries.is_empty() {
            continue;
        }
        let (ready, unready): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.2);
        let list = |entries: Vec<Entry>| {
            Some(entries.into_iter().map(|entry| entry.3).collect::<Vec<_>>()).filter(|a| !a.is_empty())
        };
        subsets.push(EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(unready),
            ports: Some(ports).filter(|ports| !ports.is_empty()),
        });
    }
    (subsets, total > CAPACITY)
}

#[cfg(test)]
mod tests;
