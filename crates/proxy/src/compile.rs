//! Services and endpoints to rules.
//!
//! The path of a new connection, all look-ups constant time:
//!
//! ```text
//! prerouting/output  -110 filter: load-balancer-firewall      (source ranges)
//!                    -100 nat:    services
//!                           cluster IP from outside the pods -> mark for masquerade
//!                           (daddr, proto, port) in service-ips        -> service-…/external-…
//!                           local daddr, (proto, port) in service-nodeports -> external-…
//! external-…: mark (Cluster) or short-circuit pods and the host (Local) -> service-…/local-…
//! service-…:  remembered endpoint, else dnat to a random one of its slots in endpoints-XX
//! input/forward/output 0 filter:  refuse or drop what has no endpoints
//! postrouting         100 nat:    masquerade hairpins and marked packets
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::config::{NodePortAddresses, ProxyConfig};
use crate::endpoint::{SliceIndex, Target, Usable, categorize};
use crate::ruleset::{
    Base, Chain, ChainKind, Data, DataType, Dnat, Family, Hook, Key, KeyType, Match, Presence, Protocol, Reject, Rule,
    Ruleset, Selector, Set, Side, Statement, Sticky, Table, TableId, Verdict,
};
use crate::service::{self, Policy, ServicePort};

const SERVICE_IPS: &str = "service-ips";
const SERVICE_NODE_PORTS: &str = "service-nodeports";
const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
const FIREWALL_IPS: &str = "firewall-ips";
const CLUSTER_IPS: &str = "cluster-ips";
const HAIRPIN: &str = "hairpin";
const NODE_PORT_IPS: &str = "nodeport-ips";
const ENDPOINTS: &str = "endpoints";
/// Adding an element costs the kernel a step for each rule that uses the map, and making a set a step
/// for each set there is: a fixed number of maps keeps both small.
const ENDPOINT_MAPS: u64 = 64;
const AFFINITY: &str = "affinity";
const AFFINITY_MEMBERS: &str = "affinity-members";

const SERVICES: &str = "services";
const REJECT: &str = "reject";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";

/// The rules for these services on this node.
///
/// Services that claim the same external address and port, or node port, are served in the order of
/// (namespace, name): the first has it.
pub fn ruleset(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], cfg: &ProxyConfig) -> Ruleset {
    let index = SliceIndex::new(slices);
    let mut sorted: Vec<&Service> = services.iter().map(Arc::as_ref).collect();
    sorted.sort_by_key(|service| service::key(service));
    let mut ruleset = Ruleset::default();
    for family in cfg.families() {
        let mut table = frame(family, cfg);
        for service in &sorted {
            for port in service::ports(service, family, cfg) {
                let endpoints = index.endpoints(service::key(service), &port.port_name, port.protocol, family, cfg);
                let usable = categorize(&endpoints, port.uses(), cfg);
                if port.protocol == Protocol::Udp {
                    note_udp(&mut ruleset, family, &port, &usable);
                }
                Writer {
                    table: &mut table,
                    cfg,
                    family,
                    port: &port,
                    usable: &usable,
                }
                .write();
            }
        }
        ruleset.tables.insert(
            TableId {
                family,
                name: cfg.table.clone(),
            },
            table,
        );
    }
    ruleset
}

fn note_udp(ruleset: &mut Ruleset, family: Family, port: &ServicePort, usable: &Usable) {
    let reachable = || usable.cluster.iter().chain(&usable.local).copied();
    for ip in [port.cluster_ip].into_iter().chain(port.external_addresses()) {
        ruleset
            .udp
            .by_address
            .entry((ip, port.port))
            .or_default()
            .extend(reachable());
    }
    if let Some(node_port) = port.node_port {
        ruleset
            .udp
            .by_node_port
            .entry((family, node_port))
            .or_default()
            .extend(reachable());
    }
}

fn goto(chain: impl Into<String>) -> Statement {
    Statement::Verdict(Verdict::Goto(chain.into()))
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn vmap(selector: Selector, map: &str) -> Statement {
    Statement::VerdictMap {
        selector,
        map: map.to_owned(),
    }
}

fn cidr(side: Side, net: IpNet, presence: Presence) -> Statement {
    Statement::Match(Match::Cidr(side, net, presence))
}

fn base(kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        base: Some(Base { kind, hook, priority }),
        rules,
    }
}

/// The part of a table that is there without any service.
fn frame(family: Family, cfg: &ProxyConfig) -> Table {
    let mut table = Table::default();
    for (name, key, data) in [
        (SERVICE_IPS, KeyType::AddrProtoPort, DataType::Verdict),
        (SERVICE_NODE_PORTS, KeyType::ProtoPort, DataType::Verdict),
        (NO_ENDPOINT_SERVICES, KeyType::AddrProtoPort, DataType::Verdict),
        (NO_ENDPOINT_NODE_PORTS, KeyType::ProtoPort, DataType::Verdict),
        (FIREWALL_IPS, KeyType::AddrProtoPort, DataType::Verdict),
        (CLUSTER_IPS, KeyType::Addr, DataType::None),
        (HAIRPIN, KeyType::AddrPair, DataType::None),
    ] {
        table.sets.insert(name.to_owned(), Set::of(key, data));
    }
    if let NodePortAddresses::Only(ips) = &cfg.node_port_addresses {
        let mut set = Set::of(KeyType::Addr, DataType::None);
        let own = ips.iter().filter(|ip| Family::of(**ip) == family);
        set.elements = own.map(|ip| (Key::Addr(*ip), Data::None)).collect();
        table.sets.insert(NODE_PORT_IPS.to_owned(), set);
    }
    frame_chains(&mut table, family, cfg);
    table
}

fn frame_chains(table: &mut Table, family: Family, cfg: &ProxyConfig) {
    use ChainKind::{Filter, Nat};
    let new = || Statement::Match(Match::CtNew);
    let firewall = || vec![Rule::of([new(), vmap(Selector::DestProtoPort, FIREWALL_IPS)])];
    let no_endpoints = || Rule::of([new(), vmap(Selector::DestProtoPort, NO_ENDPOINT_SERVICES)]);
    let outward = || vec![no_endpoints(), Rule::of([new(), jump(CLUSTER_IPS_CHECK)])];
    let to_services = || vec![Rule::of([jump(SERVICES)])];

    let mut refused_node_ports = vec![new()];
    refused_node_ports.extend(to_node_port(family, cfg));
    refused_node_ports.push(vmap(Selector::ProtoPort, NO_ENDPOINT_NODE_PORTS));
    let input = vec![Rule::of(refused_node_ports), no_endpoints()];

    let mark = cfg.masquerade_mark;
    let postrouting = vec![
        Rule::of([
            Statement::Match(Match::CtDnat),
            Statement::Match(Match::InSet(Selector::SourceDest, HAIRPIN.into(), Presence::In)),
            Statement::ClearMark(mark),
            Statement::Masquerade,
        ]),
        Rule::of([
            Statement::Match(Match::Mark(mark, Presence::In)),
            Statement::ClearMark(mark),
            Statement::Masquerade,
        ]),
    ];
    let reject = vec![
        // Unlike ICMP, resets are not rate-limited: every refused client learns of it at once.
        Rule::of([
            Statement::Match(Match::Proto(Protocol::Tcp)),
            Statement::Reject(Reject::TcpReset),
        ]),
        Rule::of([Statement::Reject(Reject::PortUnreachable)]),
    ];
    for (name, chain) in [
        ("filter-prerouting", base(Filter, Hook::Prerouting, -110, firewall())),
        ("filter-output-pre-dnat", base(Filter, Hook::Output, -110, firewall())),
        ("filter-input", base(Filter, Hook::Input, 0, input)),
        ("filter-forward", base(Filter, Hook::Forward, 0, outward())),
        ("filter-output", base(Filter, Hook::Output, 0, outward())),
        ("nat-prerouting", base(Nat, Hook::Prerouting, -100, to_services())),
        ("nat-output", base(Nat, Hook::Output, -100, to_services())),
        ("nat-postrouting", base(Nat, Hook::Postrouting, 100, postrouting)),
        (
            SERVICES,
            Chain {
                base: None,
                rules: services_chain(family, cfg),
            },
        ),
        (
            CLUSTER_IPS_CHECK,
            Chain {
                base: None,
                rules: cluster_ips_check(family, cfg),
            },
        ),
        (
            REJECT,
            Chain {
                base: None,
                rules: reject,
            },
        ),
    ] {
        table.chains.insert(name.to_owned(), chain);
    }
}

fn services_chain(family: Family, cfg: &ProxyConfig) -> Vec<Rule> {
    let mut rules = Vec::new();
    let pods = || cfg.cluster_cidrs.iter().filter(|net| Family::of_net(**net) == family);
    if pods().next().is_some() {
        let mut off_cluster: Vec<Statement> = pods().map(|net| cidr(Side::Source, *net, Presence::NotIn)).collect();
        off_cluster.push(Statement::Match(Match::InSet(
            Selector::Dest,
            CLUSTER_IPS.into(),
            Presence::In,
        )));
        off_cluster.push(Statement::SetMark(cfg.masquerade_mark));
        rules.push(Rule::of(off_cluster));
    }
    rules.push(Rule::of([vmap(Selector::DestProtoPort, SERVICE_IPS)]));
    let mut node_ports = to_node_port(family, cfg);
    node_ports.push(vmap(Selector::ProtoPort, SERVICE_NODE_PORTS));
    rules.push(Rule::of(node_ports));
    rules
}

/// Matches packets to an address that has node ports.
fn to_node_port(family: Family, cfg: &ProxyConfig) -> Vec<Statement> {
    // IPv6 has no route_localnet: a loopback source can never leave the host there.
    let loopback: IpNet = match family {
        Family::Ip4 => IpNet::new(IpAddr::from([127, 0, 0, 0]), 8),
        Family::Ip6 => IpNet::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]), 128),
    }
    .expect("the prefix lengths fit their families");
    let local = Statement::Match(Match::Local(Side::Dest));
    match &cfg.node_port_addresses {
        NodePortAddresses::AnyLocal if family == Family::Ip4 => vec![local],
        NodePortAddresses::AnyLocal | NodePortAddresses::AnyLocalButLoopback => {
            vec![cidr(Side::Dest, loopback, Presence::NotIn), local]
        }
        NodePortAddresses::Only(_) => vec![Statement::Match(Match::InSet(
            Selector::Dest,
            NODE_PORT_IPS.into(),
            Presence::In,
        ))],
    }
}

/// What still goes to a cluster IP after DNAT had its chance.
fn cluster_ips_check(family: Family, cfg: &ProxyConfig) -> Vec<Rule> {
    let mut rules = Vec::new();
    let own = |ip: &&IpAddr| Family::of(**ip) == family;
    for ip in cfg.local_addresses.iter().filter(own) {
        rules.push(Rule::of([
            cidr(Side::Dest, IpNet::from(*ip), Presence::In),
            Statement::Verdict(Verdict::Return),
        ]));
    }
    rules.push(Rule::of([
        Statement::Match(Match::InSet(Selector::Dest, CLUSTER_IPS.into(), Presence::In)),
        goto(REJECT),
    ]));
    for net in cfg.service_cidrs.iter().filter(|net| Family::of_net(**net) == family) {
        rules.push(Rule::of([
            cidr(Side::Dest, *net, Presence::In),
            Statement::Verdict(Verdict::Drop),
        ]));
    }
    rules
}

/// A balancing chain's number: FNV-1a of its name, so that it needs no memory of earlier rulesets.
fn number(chain: &str) -> u64 {
    chain.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes one service port into a table.
struct Writer<'a> {
    table: &'a mut Table,
    cfg: &'a ProxyConfig,
    family: Family,
    port: &'a ServicePort,
    usable: &'a Usable,
}

impl Writer<'_> {
    fn write(mut self) {
        let port = self.port;
        self.element(CLUSTER_IPS, Key::Addr(port.cluster_ip), Data::None);
        self.firewall();
        if !self.usable.any {
            let refused = || Verdict::Goto(REJECT.to_owned());
            self.no_endpoints(refused(), port.cluster_ip);
            self.no_external_endpoints(refused());
            return;
        }
        for ip in &self.usable.on_this_node {
            self.table
                .sets
                .get_mut(HAIRPIN)
                .expect("the frame has it")
                .elements
                .insert(Key::AddrPair(*ip, *ip), Data::None);
        }
        let cluster = self.balance("service", &self.usable.cluster);
        let local = self.balance("local", &self.usable.local);
        let of = |policy| {
            if policy == Policy::Local {
                local.clone()
            } else {
                cluster.clone()
            }
        };
        match of(port.internal) {
            Some(chain) => self.service_ip(port.cluster_ip, Verdict::Goto(chain)),
            None => self.no_endpoints(Verdict::Drop, port.cluster_ip),
        }
        if !port.externally_accessible() {
            return;
        }
        let target = of(port.external);
        if target.is_none() {
            self.no_external_endpoints(Verdict::Drop);
        }
        self.external(cluster, target);
    }

    fn element(&mut self, set: &str, key: Key, data: Data) {
        let set = self.table.sets.get_mut(set).expect("the frame has every shared set");
        set.elements.entry(key).or_insert(data);
    }

    fn ip_key(&self, ip: IpAddr) -> Key {
        Key::AddrProtoPort(ip, self.port.protocol, self.port.port)
    }

    fn service_ip(&mut self, ip: IpAddr, verdict: Verdict) {
        self.element(SERVICE_IPS, self.ip_key(ip), Data::Verdict(verdict));
    }

    fn no_endpoints(&mut self, verdict: Verdict, ip: IpAddr) {
        self.element(NO_ENDPOINT_SERVICES, self.ip_key(ip), Data::Verdict(verdict));
    }

    fn no_external_endpoints(&mut self, verdict: Verdict) {
        for ip in self.port.external_addresses() {
            self.no_endpoints(verdict.clone(), ip);
        }
        if let Some(node_port) = self.port.node_port {
            let key = Key::ProtoPort(self.port.protocol, node_port);
            self.element(NO_ENDPOINT_NODE_PORTS, key, Data::Verdict(verdict));
        }
    }

    /// A chain that sends to one of these endpoints; `None` without endpoints.
    fn balance(&mut self, kind: &str, targets: &[Target]) -> Option<String> {
        if targets.is_empty() {
            return None;
        }
        let chain = format!("{kind}-{}", self.port.id);
        let number = number(&chain);
        let map = format!("{ENDPOINTS}-{:02x}", number % ENDPOINT_MAPS);
        let empty = || Set::of(KeyType::Slot, DataType::Endpoint);
        let slots = self.table.sets.entry(map.clone()).or_insert_with(empty);
        for (index, target) in (0..).zip(targets) {
            let data = Data::Endpoint(target.0, target.1);
            slots.elements.insert(Key::Slot(number, index), data);
        }
        let modulus = u32::try_from(targets.len()).expect("fewer endpoints than 2^32");
        let balanced = |remember| {
            let map = map.clone();
            Rule::of([Statement::Dnat(Dnat::Balanced {
                number,
                map,
                modulus,
                remember,
            })])
        };
        let mut rules = Vec::new();
        if let Some(timeout) = self.port.affinity {
            let sticky = Sticky {
                map: AFFINITY.to_owned(),
                timeout,
            };
            let members = self.affinity_members(number, targets);
            let remembered = Dnat::Remembered {
                number,
                sticky: sticky.clone(),
                members,
            };
            rules.push(Rule::of([Statement::Dnat(remembered)]));
            rules.push(balanced(Some(sticky)));
        }
        // With affinity it is reached only when no more clients can be remembered.
        rules.push(balanced(None));
        self.table.chains.insert(chain.clone(), Chain { base: None, rules });
        Some(chain)
    }

    /// The affinity sets are made when the first service needs them: they take kernel memory.
    fn affinity_members(&mut self, number: u64, targets: &[Target]) -> String {
        let sets = &mut self.table.sets;
        let dynamic = || Set::dynamic(KeyType::Client, DataType::Endpoint);
        sets.entry(AFFINITY.to_owned()).or_insert_with(dynamic);
        let none = || Set::of(KeyType::Member, DataType::None);
        let members = sets.entry(AFFINITY_MEMBERS.to_owned()).or_insert_with(none);
        for target in targets {
            members
                .elements
                .insert(Key::Member(number, target.0, target.1), Data::None);
        }
        AFFINITY_MEMBERS.to_owned()
    }

    /// The chain of traffic from outside, and the ways into it.
    fn external(&mut self, cluster: Option<String>, target: Option<String>) {
        let mark = || Statement::SetMark(self.cfg.masquerade_mark);
        let mut rules = Vec::new();
        if self.port.external == Policy::Cluster {
            rules.push(Rule::of([mark()]));
        } else if let Some(cluster) = cluster {
            // Pods and the host themselves have no client address to preserve: any endpoint will do.
            let pods = self.cfg.cluster_cidrs.iter();
            for net in pods.filter(|net| Family::of_net(**net) == self.family) {
                rules.push(Rule::of([cidr(Side::Source, *net, Presence::In), goto(&cluster)]));
            }
            let own = || Statement::Match(Match::Local(Side::Source));
            rules.push(Rule::of([own(), mark(), goto(&cluster)]));
        }
        if let Some(target) = target {
            rules.push(Rule::of([goto(target)]));
        }
        let chain = format!("external-{}", self.port.id);
        self.table.chains.insert(chain.clone(), Chain { base: None, rules });
        for ip in self.port.external_addresses() {
            self.service_ip(ip, Verdict::Goto(chain.clone()));
        }
        if let Some(node_port) = self.port.node_port {
            let key = Key::ProtoPort(self.port.protocol, node_port);
            self.element(SERVICE_NODE_PORTS, key, Data::Verdict(Verdict::Goto(chain)));
        }
    }

    /// `loadBalancerSourceRanges`: everyone else is dropped before DNAT.
    fn firewall(&mut self) {
        let port = self.port;
        if port.source_ranges.is_empty() || port.load_balancer_ips.is_empty() {
            return;
        }
        let allow = |net| {
            Rule::of([
                cidr(Side::Source, net, Presence::In),
                Statement::Verdict(Verdict::Return),
            ])
        };
        let mut rules: Vec<Rule> = port.source_ranges.iter().map(|net| allow(*net)).collect();
        let node_allowed = self
            .cfg
            .node_ips
            .iter()
            .any(|ip| port.source_ranges.iter().any(|range| range.contains(ip)));
        if node_allowed {
            // A balancer address that is bound on this node is also the source of its own traffic.
            let unique: BTreeSet<IpAddr> = port.load_balancer_ips.iter().copied().collect();
            rules.extend(unique.into_iter().map(|ip| allow(IpNet::from(ip))));
        }
        rules.push(Rule::of([Statement::Verdict(Verdict::Drop)]));
        let chain = format!("firewall-{}", port.id);
        self.table.chains.insert(chain.clone(), Chain { base: None, rules });
        for ip in &port.load_balancer_ips {
            let verdict = Verdict::Goto(chain.clone());
            self.element(FIREWALL_IPS, self.ip_key(*ip), Data::Verdict(verdict));
        }
    }
}
