//! The packet filter rules of pods, as a pure function of the leases.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use proxy::{
    Base, Chain, ChainKind, Data, DataType, Direction, Dnat, Family, Hook, Key, KeyType, Match, Presence, Protocol,
    Rule, Ruleset, Selector, Set, Side, Statement, Table, TableId, Verdict,
};

use super::NetConfig;
use super::lease::Lease;

const HOST_PORTS: &str = "host-ports";
const HOST_PORTS_BY_ADDRESS: &str = "host-ports-by-address";
const HAIRPIN: &str = "hairpin";
const TO_HOST_PORTS: &str = "to-host-ports";

fn cidr(side: Side, net: Ipv4Net, presence: Presence) -> Statement {
    Statement::Match(Match::Cidr(side, IpNet::V4(net), presence))
}

fn loopback() -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 is a prefix length")
}

/// Masquerading, host ports and the protection of the host's loopback addresses.
pub(crate) fn ruleset<'a>(cfg: &NetConfig, leases: impl Iterator<Item = &'a Lease>) -> Ruleset {
    let mut everywhere = Set::of(KeyType::ProtoPort, DataType::Endpoint);
    let mut by_address = Set::of(KeyType::AddrProtoPort, DataType::Endpoint);
    let mut hairpin = Set::of(KeyType::AddrPair, DataType::None);
    let mut ruleset = Ruleset::default();
    for lease in leases {
        let ip = IpAddr::V4(lease.address);
        for port in &lease.ports {
            let Some(protocol) = Protocol::from_api(Some(&port.protocol)) else {
                continue;
            };
            let target = Data::Endpoint(ip, port.pod_port);
            let is_udp = protocol == Protocol::Udp;
            match port.host_ip.filter(|host| !host.is_unspecified()) {
                None => {
                    everywhere
                        .elements
                        .insert(Key::ProtoPort(protocol, port.host_port), target);
                    if is_udp {
                        let endpoints = ruleset.udp.by_node_port.entry((Family::Ip4, port.host_port));
                        endpoints.or_default().insert((ip, port.pod_port));
                    }
                }
                Some(host) if host.is_ipv4() => {
                    let key = Key::AddrProtoPort(host, protocol, port.host_port);
                    by_address.elements.insert(key, target);
                    if is_udp {
                        let endpoints = ruleset.udp.by_address.entry((host, port.host_port));
                        endpoints.or_default().insert((ip, port.pod_port));
                    }
                }
                // Pods have no IPv6 address to send it to.
                Some(_) => continue,
            }
            hairpin.elements.insert(Key::AddrPair(ip, ip), Data::None);
        }
    }
    let mut table = Table::default();
    for (name, set) in [
        (HOST_PORTS, everywhere),
        (HOST_PORTS_BY_ADDRESS, by_address),
        (HAIRPIN, hairpin),
    ] {
        table.sets.insert(name.to_owned(), set);
    }
    for (name, chain) in chains(cfg) {
        table.chains.insert(name.to_owned(), chain);
    }
    let id = TableId {
        family: Family::Ip4,
        name: cfg.pod_table(),
    };
    ruleset.tables.insert(id, table);
    ruleset
}

fn chains(cfg: &NetConfig) -> Vec<(&'static str, Chain)> {
    let base = |kind, hook, priority, rules| Chain {
        base: Some(Base { kind, hook, priority }),
        rules,
    };
    let bridge = |direction, presence| Statement::Match(Match::Interface(direction, cfg.bridge_name.clone(), presence));
    let lookup = |selector, map: &str| {
        Statement::Dnat(Dnat::Lookup {
            selector,
            map: map.to_owned(),
        })
    };
    let local = || Statement::Match(Match::Local(Side::Dest));
    let jump = || vec![Rule::of([Statement::Verdict(Verdict::Jump(TO_HOST_PORTS.into()))])];
    let to_host_ports = vec![
        Rule::of([local(), lookup(Selector::DestProtoPort, HOST_PORTS_BY_ADDRESS)]),
        Rule::of([local(), lookup(Selector::ProtoPort, HOST_PORTS)]),
    ];
    // route_localnet on the bridge lets node ports answer on 127.0.0.1, and would also let pods
    // reach what listens there: their packets are dropped before anything else sees them
    // (CVE-2020-8558).
    let protect = vec![Rule::of([
        bridge(Direction::In, Presence::In),
        cidr(Side::Dest, loopback(), Presence::In),
        Statement::Verdict(Verdict::Drop),
    ])];
    let masquerade = vec![
        Rule::of([
            Statement::Match(Match::CtDnat),
            Statement::Match(Match::InSet(Selector::SourceDest, HAIRPIN.into(), Presence::In)),
            Statement::Masquerade,
        ]),
        // A connection to 127.0.0.1:hostPort.
        Rule::of([
            bridge(Direction::Out, Presence::In),
            cidr(Side::Source, loopback(), Presence::In),
            Statement::Masquerade,
        ]),
        Rule::of([
            cidr(Side::Source, cfg.pod_cidr.trunc(), Presence::In),
            cidr(Side::Dest, cfg.cluster_cidr.trunc(), Presence::NotIn),
            bridge(Direction::Out, Presence::NotIn),
            Statement::Masquerade,
        ]),
    ];
    use ChainKind::{Filter, Nat};
    vec![
        (
            TO_HOST_PORTS,
            Chain {
                base: None,
                rules: to_host_ports,
            },
        ),
        ("filter-prerouting", base(Filter, Hook::Prerouting, -300, protect)),
        ("nat-prerouting", base(Nat, Hook::Prerouting, -100, jump())),
        ("nat-output", base(Nat, Hook::Output, -100, jump())),
        ("nat-postrouting", base(Nat, Hook::Postrouting, 100, masquerade)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::HostPort;
    use proxy::{Origin, Outcome, Packet, trace};

    fn config() -> NetConfig {
        NetConfig::new("10.244.3.0/24".parse().expect("range"), "/nonexistent")
    }

    fn packet(origin: Origin, source: &str, dest: &str, port: u16, out: &str) -> Packet {
        Packet {
            origin,
            source: source.parse().expect("source"),
            dest: dest.parse().expect("dest"),
            protocol: Protocol::Tcp,
            port,
            host_addresses: vec!["192.0.2.1".parse().expect("ip"), "10.244.3.1".parse().expect("ip")],
            out_interface: Some(out.to_owned()),
            roll: 0,
            remembered: None,
        }
    }

    fn delivered(dest: &str, port: u16, masqueraded: bool) -> Outcome {
        let dest = dest.parse().expect("dest");
        Outcome::Delivered {
            dest,
            port,
            masqueraded,
            remembered: false,
        }
    }

    #[test]
    fn packets_of_pods() {
        let lease = Lease {
            sandbox: "a".into(),
            address: Ipv4Addr::new(10, 244, 3, 5),
            ports: vec![HostPort {
                host_ip: None,
                host_port: 8080,
                protocol: "TCP".into(),
                pod_port: 80,
            }],
        };
        let ruleset = ruleset(&config(), [&lease].into_iter());
        let pod = || Origin::Interface("skiff0".into());
        let wire = || Origin::Interface("eth0".into());
        let pod_ip = "10.244.3.5";
        for (what, packet, expected) in [
            (
                "pod to pod",
                packet(pod(), pod_ip, "10.244.3.6", 80, "skiff0"),
                delivered("10.244.3.6", 80, false),
            ),
            (
                "pod to a pod elsewhere",
                packet(pod(), pod_ip, "10.244.9.6", 80, "eth0"),
                delivered("10.244.9.6", 80, false),
            ),
            (
                "pod to the world",
                packet(pod(), pod_ip, "198.51.100.1", 80, "eth0"),
                delivered("198.51.100.1", 80, true),
            ),
            (
                "host port from outside",
                packet(wire(), "198.51.100.1", "192.0.2.1", 8080, "skiff0"),
                delivered(pod_ip, 80, false),
            ),
            (
                "another port of the host",
                packet(wire(), "198.51.100.1", "192.0.2.1", 80, "lo"),
                delivered("192.0.2.1", 80, false),
            ),
            (
                "host port by loopback",
                packet(Origin::Host, "127.0.0.1", "127.0.0.1", 8080, "skiff0"),
                delivered(pod_ip, 80, true),
            ),
            (
                "own host port",
                packet(pod(), pod_ip, "192.0.2.1", 8080, "skiff0"),
                delivered(pod_ip, 80, true),
            ),
            (
                "the host's loopback",
                packet(pod(), pod_ip, "127.0.0.1", 6443, "lo"),
                Outcome::Dropped,
            ),
        ] {
            assert_eq!(trace(&ruleset, &packet), expected, "{what}");
        }
    }
}
