//! Endpoint slices (upstream `pkg/controller/endpointslice`, `staging/src/k8s.io/endpointslice`).

mod hints;
mod pack;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use crate::controller::{Controller, Trigger, own_key};
use crate::endpoints::{
    HEADLESS, addresses, hostname, is_headless, keys_of_pod, pods_of, reference, selector, target_port, zone,
};
use crate::object::{is_deleting, namespace};
use crate::plan::{Action, Plan};
use crate::pod::{is_ready, node_name};
use crate::world::BY_SERVICE;
use crate::{Key, Turn, World};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// `max-endpoints-per-slice`.
const SLICE_CAPACITY: usize = 100;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    account: "endpointslice-controller",
    triggers: &[
        Trigger::Service(own_key),
        Trigger::Pod(keys_of_pod),
        Trigger::EndpointSlice(keys_of_slice),
        Trigger::Node(keys_of_node),
    ],
    reconcile,
};

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a String> {
    slice.metadata.labels.as_ref()?.get(key)
}

fn is_ours(slice: &EndpointSlice) -> bool {
    label(slice, MANAGED_BY).is_some_and(|by| by == MANAGER)
}

fn keys_of_slice(_: &dyn World, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) -> Vec<Key> {
    let mut keys: Vec<Key> = [old, new]
        .into_iter()
        .flatten()
        .filter(|slice| is_ours(slice))
        .filter_map(|slice| Some(Key::new(namespace(slice), label(slice, SERVICE_NAME)?.as_str())))
        .collect();
    keys.dedup();
    keys
}

/// A node's zone is in every endpoint on it.
fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let moved = old.and_then(zone) != new.and_then(zone);
    let weighs = |node: Option<&Node>| node.filter(|node| hints::counts(node)).map(hints::weight);
    if !moved && weighs(old) == weighs(new) {
        return Vec::new();
    }
    world
        .services()
        .list("")
        .iter()
        .filter(|service| selector(service).is_some() && (moved || hints::is_shared_out(service)))
        .map(|service| Key::of(&**service))
        .collect()
}

/// Keeps the slices of a service, with as few changes as possible.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(service) = world.services().get(&key.namespace, &key.name) else {
        // Its slices belong to the garbage collector.
        return plan;
    };
    if selector(&service).is_none() || is_deleting(&*service) {
        return plan;
    }
    let mut seen = world.endpoint_slices().by_index(BY_SERVICE, &key.to_string());
    seen.retain(|slice| is_ours(slice) && !is_deleting(&**slice));
    let families = families(&service);
    let (kept, strange): (Vec<_>, Vec<_>) = seen
        .into_iter()
        .partition(|slice| families.contains(&slice.address_type));
    for slice in strange {
        plan.act(Action::delete(&*slice));
    }
    for family in families {
        let slices: Vec<Arc<EndpointSlice>> = kept
            .iter()
            .filter(|slice| slice.address_type == family)
            .cloned()
            .collect();
        let mut groups = groups(world, &service, &family);
        hints::assign(world, &service, &mut groups);
        pack::reconcile(&service, &family, slices, groups, &labels(&service), &mut plan);
    }
    plan
}

/// The address types that a service has slices of.
fn families(service: &Service) -> Vec<String> {
    let families = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.clone())
        .unwrap_or_default();
    if families.is_empty() {
        vec!["IPv4".to_owned()]
    } else {
        families
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(
        SERVICE_NAME.to_owned(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// Endpoints that have the same ports.
struct Group {
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

fn groups(world: &dyn World, service: &Service, family: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pod in pods_of(world, service, true) {
        let all = addresses(&pod);
        let of_family: Vec<String> = all
            .into_iter()
            .filter(|ip| ip.contains(':') == (family == "IPv6"))
            .map(str::to_owned)
            .collect();
        if of_family.is_empty() {
            continue;
        }
        let ports = ports(&pod, service);
        let endpoint = endpoint(world, &pod, service, of_family);
        match groups.iter_mut().find(|group| group.ports == ports) {
            Some(group) => group.endpoints.push(endpoint),
            None => groups.push(Group {
                ports,
                endpoints: vec![endpoint],
            }),
        }
    }
    groups
}

fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports: Vec<EndpointPort> = ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

fn endpoint(world: &dyn World, pod: &Pod, service: &Service, addresses: Vec<String>) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), is_deleting(pod));
    let unready_too = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let node = world.nodes().get("", node_name(pod));
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(unready_too || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: Some(node_name(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(reference(pod)),
        zone: node.as_deref().and_then(zone).cloned(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests;
