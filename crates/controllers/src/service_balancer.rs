//! Load balancers of bare machines: a service of type LoadBalancer is reached at the addresses of the nodes, on its own
//! ports. The service proxy of each node does the rest. The rules of life are upstream's
//! (`cloud-provider/controllers/service/controller.go`); a cluster with another implementation switches this one off
//! with `--controllers=*,-service-lb-controller`, and single services name a `loadBalancerClass`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{created, is_deleting, name, namespace, to_value, uid};
use crate::plan::{Action, Plan, Reference};
use crate::world::BY_SERVICE;
use crate::{Key, Turn, World};

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const GOING: &str = "ToBeDeletedByClusterAutoscaler";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-lb-controller",
    account: "service-controller",
    triggers: &[
        Trigger::Service(keys_of_service),
        Trigger::Node(keys_of_node),
        Trigger::EndpointSlice(keys_of_slice),
    ],
    reconcile,
};

/// Ours, if nobody else is named.
fn wants_balancer(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| {
        let class = spec.load_balancer_class.as_deref().unwrap_or("");
        spec.type_.as_deref() == Some("LoadBalancer") && class.is_empty()
    })
}

fn is_held(service: &Service) -> bool {
    service
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

/// What a service has or frees may be what another one waits for.
fn keys_of_service(world: &dyn World, old: Option<&Service>, new: Option<&Service>) -> Vec<Key> {
    let concerned = |service: Option<&Service>| service.is_some_and(|s| wants_balancer(s) || is_held(s));
    if !concerned(old) && !concerned(new) {
        return Vec::new();
    }
    let mut keys = own_key(world, old, new);
    if old.map(ports) != new.map(ports) || old.map(ingress) != new.map(ingress) {
        keys.extend(all(world));
    }
    keys.sort();
    keys.dedup();
    keys
}

fn keys_of_node(world: &dyn World, old: Option<&Node>, new: Option<&Node>) -> Vec<Key> {
    let facts = |node: Option<&Node>| node.map(|node| (is_eligible(node), addresses(node)));
    if facts(old) == facts(new) {
        return Vec::new();
    }
    all(world)
}

fn keys_of_slice(world: &dyn World, old: Option<&EndpointSlice>, new: Option<&EndpointSlice>) -> Vec<Key> {
    if old.map(ready_nodes) == new.map(ready_nodes) {
        return Vec::new();
    }
    let slices = [old, new].into_iter().flatten();
    let mut keys: Vec<Key> = slices
        .filter_map(|slice| {
            let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
            let service = world.services().get(namespace(slice), service)?;
            (wants_balancer(&service) && is_local(&service)).then(|| Key::of(&*service))
        })
        .collect();
    keys.dedup();
    keys
}

fn all(world: &dyn World) -> Vec<Key> {
    let services = world.services().list("");
    let ours = services.iter().filter(|service| wants_balancer(service));
    ours.map(|service| Key::of(&**service)).collect()
}

fn is_local(service: &Service) -> bool {
    let policy = service
        .spec
        .as_ref()
        .and_then(|spec| spec.external_traffic_policy.as_deref());
    policy == Some("Local")
}

fn ready_nodes(slice: &EndpointSlice) -> BTreeSet<String> {
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        endpoint
            .conditions
            .as_ref()
            .is_none_or(|conditions| conditions.ready != Some(false))
    });
    ready.filter_map(|endpoint| endpoint.node_name.clone()).collect()
}

/// Whether a node's addresses may carry traffic (`getNodePredicatesForService`).
fn is_eligible(node: &Node) -> bool {
    let excluded = node
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(EXCLUDED));
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let going = taints.into_iter().any(|taint| taint.key == GOING);
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    !excluded && !going && ready && !is_deleting(node)
}

/// A node's addresses: those for the outside, or else its own.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let of = |kind: &str| {
        let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let parsed = all
            .filter(|one| one.type_ == kind)
            .filter_map(|one| one.address.parse::<IpAddr>().ok());
        parsed
            .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
            .collect::<Vec<_>>()
    };
    let outside = of("ExternalIP");
    if outside.is_empty() { of("InternalIP") } else { outside }
}

type Port = (String, i32);

fn ports(service: &Service) -> BTreeSet<Port> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .map(|port| (port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port.port))
        .collect()
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default()
}

/// Gives a service its addresses, or takes them away.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(service) = world.services().get(&key.namespace, &key.name) else {
        return plan;
    };
    if is_deleting(&*service) || !wants_balancer(&service) {
        if is_held(&service) {
            release(&service, &mut plan);
        }
        return plan;
    }
    if !is_held(&service) {
        let held: Vec<&str> = finalizers(&service).chain([FINALIZER]).collect();
        let about = Reference::to(&*service);
        plan.act(
            Action::patch_status_version(&*service, json!({"metadata": {"finalizers": held}})).telling(
                about,
                "EnsuringLoadBalancer",
                "Ensuring load balancer",
            ),
        );
        // The rest follows when this was seen: a service never has addresses without being held.
        return plan;
    }
    let (wanted, refusal) = match rival(world, &service) {
        Some(problem) => (Vec::new(), Some(("SyncLoadBalancerFailed", problem))),
        None => {
            let wanted = wanted(world, &service);
            let refusal = wanted.is_empty().then(|| {
                let message = "There are no available nodes for LoadBalancer";
                ("UnAvailableLoadBalancer", message.to_owned())
            });
            (wanted, refusal)
        }
    };
    if let Some((reason, message)) = refusal {
        // Each problem is told once.
        let note = message.clone();
        if !turn.notes.contains_key(&note) {
            plan.act(Action::event(Reference::to(&*service), reason, message).warning());
        }
        plan.notes.insert(note, turn.now);
    }
    if ingress(&service) != wanted {
        let (reason, message) = if ingress(&service).is_empty() {
            ("EnsuredLoadBalancer", "Ensured load balancer")
        } else {
            ("UpdatedLoadBalancer", "Updated load balancer with new hosts")
        };
        let status = match wanted.is_empty() {
            true => json!({"status": {"loadBalancer": {"ingress": null}}}),
            false => json!({"status": {"loadBalancer": {"ingress": to_value(&wanted)}}}),
        };
        let mut action = Action::patch_status_version(&*service, status);
        if !wanted.is_empty() {
            action = action.telling(Reference::to(&*service), reason, message);
        }
        plan.act(action);
    }
    plan
}

fn finalizers(service: &Service) -> impl Iterator<Item = &str> {
    let all = service.metadata.finalizers.iter().flatten();
    all.map(String::as_str).filter(|finalizer| *finalizer != FINALIZER)
}

fn release(service: &Service, plan: &mut Plan) {
    let about = || Reference::to(service);
    if !ingress(service).is_empty() {
        let body = json!({"status": {"loadBalancer": {"ingress": null}}});
        plan.act(Action::patch_status_version(service, body).telling(
            about(),
            "DeletingLoadBalancer",
            "Deleting load balancer",
        ));
        return;
    }
    let kept: Vec<&str> = finalizers(service).collect();
    let body = json!({"metadata": {"finalizers": kept}});
    plan.act(Action::patch_status_version(service, body).telling(
        about(),
        "DeletedLoadBalancer",
        "Deleted load balancer",
    ));
}

/// Why a service cannot have its ports on the nodes' addresses.
fn rival(world: &dyn World, service: &Service) -> Option<String> {
    let ours = ports(service);
    let failed = |port: &Port, by: String| {
        let (protocol, number) = port;
        Some(format!(
            "Error syncing load balancer: failed to ensure load balancer: port {number}/{protocol} of the nodes is taken by {by}"
        ))
    };
    let in_use = &world.network().node_ports_in_use;
    let taken = |port: &&Port| port.0 == "TCP" && in_use.iter().any(|used| i32::from(*used) == port.1);
    if let Some(port) = ours.iter().find(taken) {
        return failed(port, "the cluster itself".to_owned());
    }
    // Who has the ports keeps them; otherwise who came first gets them.
    let rank = |service: &Service| {
        let (holds, age) = (ingress(service).is_empty(), created(service));
        (holds, age, namespace(service).to_owned(), name(service).to_owned())
    };
    for other in world.services().list("") {
        if uid(&*other) == uid(service) {
            continue;
        }
        let by = || format!("service {}", Key::of(&*other));
        let node_ports = other
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten())
            .filter_map(|port| {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                Some((protocol, port.node_port?))
            });
        let node_ports: BTreeSet<Port> = node_ports.collect();
        if let Some(port) = ours.intersection(&node_ports).next() {
            return failed(port, by());
        }
        let has_some =
            wants_balancer(&other) && !is_deleting(&*other) || is_held(&other) && !ingress(&other).is_empty();
        if has_some
            && rank(&other) < rank(service)
            && let Some(port) = ours.intersection(&ports(&other)).next()
        {
            return failed(port, by());
        }
    }
    None
}

/// The addresses of all nodes that may carry its traffic, in order.
fn wanted(world: &dyn World, service: &Service) -> Vec<LoadBalancerIngress> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let families = spec.ip_families.clone().unwrap_or_default();
    let has_family = |ip: &IpAddr| {
        let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
        families.is_empty() && ip.is_ipv4() || families.iter().any(|known| known == family)
    };
    let nodes = world.nodes().list("");
    let mut eligible: Vec<&Node> = nodes
        .iter()
        .map(|node| &**node)
        .filter(|node| is_eligible(node))
        .collect();
    if is_local(service) {
        let slices = world
            .endpoint_slices()
            .by_index(BY_SERVICE, &Key::of(service).to_string());
        let local: BTreeSet<String> = slices.iter().flat_map(|slice| ready_nodes(slice)).collect();
        eligible.retain(|node| local.contains(name(*node)));
    }
    let mut found: BTreeMap<IpAddr, ()> = BTreeMap::new();
    for ip in eligible.into_iter().flat_map(addresses).filter(has_family) {
        found.insert(ip, ());
    }
    let asked = spec
        .load_balancer_ip
        .as_deref()
        .and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(asked) = asked.filter(|asked| found.contains_key(asked)) {
        found.retain(|ip, ()| *ip == asked);
    }
    let ingress = |ip: IpAddr| LoadBalancerIngress {
        ip: Some(ip.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    };
    found.into_keys().map(ingress).collect()
}

#[cfg(test)]
mod tests;
