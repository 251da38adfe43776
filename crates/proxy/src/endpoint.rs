//! Endpoints of a service port, and which of them traffic may use.
//!
//! Follows upstream's `pkg/proxy/topology.go` (CategorizeEndpoints) and `endpointslicecache.go`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

use crate::config::ProxyConfig;
use crate::ruleset::{Family, Protocol};

const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
pub(crate) const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// Address and port of an endpoint.
pub(crate) type Target = (IpAddr, u16);

/// One endpoint of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub target: Target,
    pub local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    zone_hints: BTreeSet<String>,
    node_hints: BTreeSet<String>,
}

impl Endpoint {
    fn serving_terminating(&self) -> bool {
        self.serving && self.terminating
    }

    /// How good it is to keep when two slices name the same endpoint.
    fn rank(&self) -> (bool, bool, bool) {
        (self.ready, self.serving, self.local)
    }
}

/// Slices by the (namespace, name) of their service.
pub(crate) struct SliceIndex<'a> {
    by_service: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
}

impl<'a> SliceIndex<'a> {
    pub fn new(slices: &'a [Arc<EndpointSlice>]) -> Self {
        let mut by_service: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
        for slice in slices {
            let Some(labels) = &slice.metadata.labels else { continue };
            if labels.contains_key(LABEL_HEADLESS) || labels.contains_key(LABEL_PROXY_NAME) {
                continue;
            }
            let Some(service) = labels.get(LABEL_SERVICE_NAME) else {
                continue;
            };
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            by_service.entry((namespace, service.as_str())).or_default().push(slice);
        }
        SliceIndex { by_service }
    }

    /// The endpoints of one port of a service, in the order of their addresses.
    pub fn endpoints(
        &self,
        service: (&str, &str),
        port_name: &str,
        protocol: Protocol,
        family: Family,
        cfg: &ProxyConfig,
    ) -> Vec<Endpoint> {
        let mut found: BTreeMap<Target, Endpoint> = BTreeMap::new();
        let slices = self.by_service.get(&service).map(Vec::as_slice).unwrap_or_default();
        for slice in slices.iter().filter(|slice| slice_family(slice) == Some(family)) {
            for port in slice.ports.iter().flatten() {
                let matches = port.name.as_deref() == Some(port_name)
                    && Protocol::from_api(port.protocol.as_deref()) == Some(protocol);
                let number = port.port.and_then(|number| u16::try_from(number).ok()).unwrap_or(0);
                if !matches || number == 0 {
                    continue;
                }
                for endpoint in slice.endpoints.iter().flatten() {
                    let Some(endpoint) = read(endpoint, number, family, cfg) else {
                        continue;
                    };
                    let kept = found.entry(endpoint.target).or_insert_with(|| endpoint.clone());
                    if endpoint.rank() > kept.rank() {
                        *kept = endpoint;
                    }
                }
            }
        }
        found.into_values().collect()
    }
}

fn slice_family(slice: &EndpointSlice) -> Option<Family> {
    match slice.address_type.as_str() {
        "IPv4" => Some(Family::Ip4),
        "IPv6" => Some(Family::Ip6),
        _ => None,
    }
}

fn read(endpoint: &ApiEndpoint, port: u16, family: Family, cfg: &ProxyConfig) -> Option<Endpoint> {
    // Only the first address counts: they are interchangeable, and upstream uses no other.
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    if Family::of(ip) != family || ip.is_unspecified() {
        return None;
    }
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    Some(Endpoint {
        target: (ip, port),
        local: endpoint.node_name.as_deref() == Some(cfg.node_name.as_str()),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        zone_hints: hints
            .and_then(|h| h.for_zones.as_ref())
            .map(|zones| zones.iter().map(|zone| zone.name.clone()).collect())
            .unwrap_or_default(),
        node_hints: hints
            .and_then(|h| h.for_nodes.as_ref())
            .map(|nodes| nodes.iter().map(|node| node.name.clone()).collect())
            .unwrap_or_default(),
    })
}

/// Which traffic policies a service port has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Uses {
    pub cluster: bool,
    pub local: bool,
}

/// The endpoints that traffic may use from this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usable {
    /// For traffic of policy Cluster.
    pub cluster: Vec<Target>,
    /// For traffic of policy Local.
    pub local: Vec<Target>,
    /// Local endpoints reachable by either policy.
    pub on_this_node: BTreeSet<IpAddr>,
    /// Whether anything, anywhere, could serve: without, traffic is refused, not dropped.
    pub any: bool,
}

/// Chooses the endpoints for each policy.
pub(crate) fn categorize(endpoints: &[Endpoint], uses: Uses, cfg: &ProxyConfig) -> Usable {
    let mut usable = Usable::default();
    if uses.cluster {
        let topology = topology(endpoints, cfg);
        let ready = |ep: &&Endpoint| ep.ready && topology.allows(ep, cfg);
        usable.cluster = targets(endpoints.iter().filter(ready));
        if usable.cluster.is_empty() {
            // Better a terminating endpoint than a refused connection (KEP-1669).
            usable.cluster = targets(endpoints.iter().filter(|ep| ep.serving_terminating()));
        }
        usable.any = !usable.cluster.is_empty();
    }
    if uses.local {
        usable.any |= endpoints.iter().any(|ep| ep.ready || ep.serving_terminating());
        usable.local = targets(endpoints.iter().filter(|ep| ep.local && ep.ready));
        if usable.local.is_empty() {
            usable.local = targets(endpoints.iter().filter(|ep| ep.local && ep.serving_terminating()));
        }
    }
    let local: BTreeSet<Target> = targets(endpoints.iter().filter(|ep| ep.local)).into_iter().collect();
    usable.on_this_node = usable
        .cluster
        .iter()
        .chain(&usable.local)
        .filter(|target| local.contains(target))
        .map(|target| target.0)
        .collect();
    usable
}

fn targets<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<Target> {
    endpoints.map(|endpoint| endpoint.target).collect()
}

#[derive(Clone, Copy)]
enum Topology {
    Anywhere,
    SameNode,
    SameZone,
}

impl Topology {
    fn allows(self, endpoint: &Endpoint, cfg: &ProxyConfig) -> bool {
        match self {
            Topology::Anywhere => true,
            Topology::SameNode => endpoint.node_hints.contains(&cfg.node_name),
            Topology::SameZone => cfg.zone.as_ref().is_some_and(|zone| endpoint.zone_hints.contains(zone)),
        }
    }
}

/// Hints count only when every ready endpoint has one and one of them is for here: a partial set
/// of hints is one that is being changed.
fn topology(endpoints: &[Endpoint], cfg: &ProxyConfig) -> Topology {
    let ready = || endpoints.iter().filter(|ep| ep.ready);
    if ready().next().is_none() {
        return Topology::Anywhere;
    }
    for (candidate, hinted) in [
        (Topology::SameNode, ready().all(|ep| !ep.node_hints.is_empty())),
        (Topology::SameZone, ready().all(|ep| !ep.zone_hints.is_empty())),
    ] {
        if hinted && ready().any(|ep| candidate.allows(ep, cfg)) {
            return candidate;
        }
    }
    Topology::Anywhere
}
