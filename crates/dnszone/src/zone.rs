//! The zone's content, indexed for queries and updated object by object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a zone needs besides objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// The cluster domain, for example `cluster.local`.
    pub domain: String,
    /// Time to live of all records and of negative answers, in seconds.
    pub ttl: u32,
    /// Addresses of `ns.dns.<domain>`: where this zone is served.
    pub server_addresses: Vec<IpAddr>,
}

impl ZoneConfig {
    /// A domain with the time to live that kubeadm configures (30 seconds).
    pub fn new(domain: impl Into<String>) -> Self {
        ZoneConfig {
            domain: domain.into(),
            ttl: 30,
            server_addresses: Vec::new(),
        }
    }
}

/// A port by which SRV records are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub name: String,
    /// Lower case.
    pub protocol: String,
    pub number: u16,
}

/// What a service's name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    ClusterIps(Vec<IpAddr>),
    /// Its endpoints.
    Headless,
    External(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    pub target: Target,
    pub ports: Vec<Port>,
    pub publish_not_ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointEntry {
    pub ip: IpAddr,
    /// First label of its own name: the hostname, or the address with dashes.
    pub label: String,
    pub named: bool,
    pub ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceEntry {
    pub ports: Vec<Port>,
    pub endpoints: Vec<EndpointEntry>,
}

/// A service name: the service and its slices, which come and go independently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub service: Option<ServiceEntry>,
    pub slices: BTreeMap<String, SliceEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Namespace {
    /// There is a Namespace object.
    declared: bool,
    entries: HashMap<String, Entry>,
    /// Service name of each slice.
    slices: HashMap<String, String>,
}

impl Namespace {
    fn exists(&self) -> bool {
        self.declared || self.entries.values().any(|entry| entry.service.is_some())
    }

    fn is_empty(&self) -> bool {
        !self.declared && self.entries.is_empty()
    }
}

/// Names of an address, with the number of objects that give each.
type Names = BTreeMap<String, usize>;

/// All names of the cluster domain, and the reverse names of its addresses.
#[derive(Debug, Clone)]
pub struct Zone {
    pub(crate) cfg: ZoneConfig,
    pub(crate) serial: u32,
    namespaces: HashMap<String, Namespace>,
    services_by_ip: HashMap<IpAddr, Names>,
    endpoints_by_ip: HashMap<IpAddr, Names>,
}

impl PartialEq for Zone {
    /// The same content; the serial counts updates and may differ.
    fn eq(&self, other: &Self) -> bool {
        (&self.cfg, &self.namespaces, &self.services_by_ip, &self.endpoints_by_ip)
            == (
                &other.cfg,
                &other.namespaces,
                &other.services_by_ip,
                &other.endpoints_by_ip,
            )
    }
}

impl Zone {
    /// A zone without services.
    pub fn new(mut cfg: ZoneConfig) -> Self {
        cfg.domain = cfg.domain.trim_end_matches('.').to_ascii_lowercase();
        Zone {
            cfg,
            serial: 1,
            namespaces: HashMap::new(),
            services_by_ip: HashMap::new(),
            endpoints_by_ip: HashMap::new(),
        }
    }

    /// The zone of these objects. Namespaces without services exist only if named here.
    pub fn build<'a>(
        cfg: ZoneConfig,
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
        namespaces: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut zone = Zone::new(cfg);
        for namespace in namespaces {
            zone.add_namespace(namespace);
        }
        for service in services {
            zone.upsert_service(service);
        }
        for slice in slices {
            zone.upsert_slice(slice);
        }
        zone
    }

    /// The cluster domain, lower case, without the final dot.
    pub fn domain(&self) -> &str {
        &self.cfg.domain
    }

    /// Counts updates; the SOA record's serial.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Adds or replaces a service.
    pub fn upsert_service(&mut self, service: &Service) {
        let (namespace, name) = identity(&service.metadata);
        let new = read_service(service);
        self.change(namespace, name, |entry| entry.service = new);
    }

    /// Removes a service.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.change(namespace, name, |entry| entry.service = None);
    }

    /// Adds or replaces an endpoint slice.
    pub fn upsert_slice(&mut self, slice: &EndpointSlice) {
        let (namespace, name) = identity(&slice.metadata);
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(LABEL_SERVICE_NAME));
        let before = self.slice_service(namespace, name);
        if before.as_ref() != service {
            self.remove_slice(namespace, name);
        }
        let Some(service) = service else { return };
        let new = read_slice(slice);
        self.change(namespace, service, |entry| {
            entry.slices.insert(name.to_owned(), new);
        });
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.slices.insert(name.to_owned(), service.clone());
        }
    }

    /// Removes an endpoint slice.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let Some(service) = self.slice_service(namespace, name) else {
            return;
        };
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.slices.remove(name);
        }
        self.change(namespace, &service, |entry| {
            entry.slices.remove(name);
        });
    }

    /// Makes a namespace exist, with or without services.
    pub fn add_namespace(&mut self, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        self.namespaces.entry(name.to_owned()).or_default().declared = true;
    }

    /// Forgets a namespace; its services, if any are left, keep it.
    pub fn remove_namespace(&mut self, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.declared = false;
        }
        self.drop_if_empty(name);
    }

    pub(crate) fn namespace_exists(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some_and(Namespace::exists)
    }

    pub(crate) fn entry(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.namespaces.get(namespace)?.entries.get(name)
    }

    /// Names of an address: the service it belongs to, else named endpoints.
    pub(crate) fn names_of(&self, ip: IpAddr) -> impl Iterator<Item = &String> {
        let names = self.services_by_ip.get(&ip).or_else(|| self.endpoints_by_ip.get(&ip));
        names.into_iter().flat_map(BTreeMap::keys)
    }

    pub(crate) fn service_name(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.cfg.domain)
    }

    fn slice_service(&self, namespace: &str, name: &str) -> Option<String> {
        self.namespaces.get(namespace)?.slices.get(name).cloned()
    }

    fn drop_if_empty(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(namespace);
        }
    }

    /// Changes one service name and keeps the reverse names in step.
    fn change(&mut self, namespace: &str, name: &str, edit: impl FnOnce(&mut Entry)) {
        self.serial = self.serial.wrapping_add(1);
        let entries = &mut self.namespaces.entry(namespace.to_owned()).or_default().entries;
        let mut entry = entries.remove(name).unwrap_or_default();
        let own_name = self.service_name(namespace, name);
        self.reverse(&entry, &own_name, forget);
        edit(&mut entry);
        self.reverse(&entry, &own_name, note);
        if entry != Entry::default() {
            let namespace = self.namespaces.entry(namespace.to_owned()).or_default();
            namespace.entries.insert(name.to_owned(), entry);
        }
        self.drop_if_empty(namespace);
    }

    fn reverse(&mut self, entry: &Entry, own_name: &str, apply: fn(&mut HashMap<IpAddr, Names>, IpAddr, String)) {
        if let Some(ServiceEntry {
            target: Target::ClusterIps(ips),
            ..
        }) = &entry.service
        {
            for ip in ips {
                apply(&mut self.services_by_ip, *ip, own_name.to_owned());
            }
        }
        // As CoreDNS since 1.12: only endpoints with a hostname have a reverse name.
        let endpoints = entry.slices.values().flat_map(|slice| &slice.endpoints);
        for endpoint in endpoints.filter(|endpoint| endpoint.named && endpoint.ready) {
            let name = format!("{}.{own_name}", endpoint.label);
            apply(&mut self.endpoints_by_ip, endpoint.ip, name);
        }
    }
}

fn note(names: &mut HashMap<IpAddr, Names>, ip: IpAddr, name: String) {
    *names.entry(ip).or_default().entry(name).or_insert(0) += 1;
}

fn forget(names: &mut HashMap<IpAddr, Names>, ip: IpAddr, name: String) {
    let Some(of_ip) = names.get_mut(&ip) else { return };
    match of_ip.get_mut(&name) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            of_ip.remove(&name);
        }
    }
    if of_ip.is_empty() {
        names.remove(&ip);
    }
}

fn identity(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn port(name: Option<&String>, protocol: Option<&String>, number: i32) -> Option<Port> {
    let protocol = protocol.map_or_else(|| "tcp".to_owned(), |protocol| protocol.to_ascii_lowercase());
    let number = u16::try_from(number).ok().filter(|number| *number != 0)?;
    Some(Port {
        name: name.map(|n| n.to_ascii_lowercase()).unwrap_or_default(),
        protocol,
        number,
    })
}

/// `None` for a service that has no name yet: without a cluster IP and not headless.
fn read_service(service: &Service) -> Option<ServiceEntry> {
    let spec = service.spec.as_ref()?;
    let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let ips: BTreeSet<IpAddr> = listed.clone().filter_map(|ip| ip.parse().ok()).collect();
    let target = if spec.type_.as_deref() == Some("ExternalName") {
        let name = spec
            .external_name
            .as_deref()?
            .trim_end_matches('.')
            .to_ascii_lowercase();
        Target::External(name)
    } else if listed.clone().any(|ip| ip == "None") {
        Target::Headless
    } else if ips.is_empty() {
        return None;
    } else {
        Target::ClusterIps(ips.into_iter().collect())
    };
    let ports = spec.ports.iter().flatten();
    Some(ServiceEntry {
        target,
        ports: ports
            .filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), p.port))
            .collect(),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
    })
}

fn read_slice(slice: &EndpointSlice) -> SliceEntry {
    let mut endpoints = Vec::new();
    if slice.address_type != "FQDN" {
        for endpoint in slice.endpoints.iter().flatten() {
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
                let label = hostname.map_or_else(|| dashed(ip), str::to_ascii_lowercase);
                endpoints.push(EndpointEntry {
                    ip,
                    label,
                    named: hostname.is_some(),
                    ready,
                });
            }
        }
    }
    let ports = slice.ports.iter().flatten();
    let numbered = ports.filter_map(|p| port(p.name.as_ref(), p.protocol.as_ref(), p.port?));
    SliceEntry {
        ports: numbered.collect(),
        endpoints,
    }
}

/// An address as a label.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}
