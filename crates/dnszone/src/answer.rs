//! Looking names up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::record::{Answer, Record, RecordData, RecordType};
use crate::zone::{Entry, Port, ServiceEntry, Target, Zone};

/// The DNS specification's version that this zone follows.
const VERSION: &str = "1.1.0";
/// Aliases followed within the zone.
const ALIAS_DEPTH: usize = 8;

/// What the zone says about `name` (any case, with or without the final dot).
pub fn answer(zone: &Zone, name: &str, wanted: RecordType) -> Answer {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let lookup = Lookup { zone, wanted };
    let mut answers = Vec::new();
    let mut current = name;
    for _ in 0..ALIAS_DEPTH {
        let found = match lookup.name(&current) {
            Found::Records { records, additional } => {
                answers.extend(records);
                return Answer::Records {
                    answers,
                    additional,
                    chase: None,
                };
            }
            Found::Alias(target) => {
                answers.push(lookup.record(&current, RecordData::Cname(target.clone())));
                if wanted == RecordType::Cname {
                    return Answer::Records {
                        answers,
                        additional: Vec::new(),
                        chase: None,
                    };
                }
                current = target;
                continue;
            }
            other => other,
        };
        return match found {
            // An alias to nothing is still an alias.
            _ if !answers.is_empty() => {
                let chase = matches!(found, Found::Elsewhere).then_some(current);
                Answer::Records {
                    answers,
                    additional: Vec::new(),
                    chase,
                }
            }
            Found::Elsewhere => Answer::NotAuthoritative,
            Found::Nothing => Answer::NxDomain(lookup.soa()),
            _ => Answer::NoData(lookup.soa()),
        };
    }
    Answer::Records {
        answers,
        additional: Vec::new(),
        chase: None,
    }
}

enum Found {
    Records {
        records: Vec<Record>,
        additional: Vec<Record>,
    },
    Alias(String),
    /// The name is there, the type is not.
    OtherTypes,
    Nothing,
    Elsewhere,
}

/// Restricts a service's ports.
#[derive(Clone, Copy)]
enum PortFilter<'a> {
    Any,
    Named { name: &'a str, protocol: &'a str },
}

impl PortFilter<'_> {
    fn allows(self, port: &Port) -> bool {
        match self {
            PortFilter::Any => true,
            PortFilter::Named { name, protocol } => port.name == name && port.protocol == protocol,
        }
    }

    fn ports(self, ports: &[Port]) -> Vec<u16> {
        ports
            .iter()
            .filter(|port| self.allows(port))
            .map(|port| port.number)
            .collect()
    }
}

/// A host and the ports it offers.
struct Host {
    name: String,
    ip: IpAddr,
    ports: Vec<u16>,
}

struct Lookup<'a> {
    zone: &'a Zone,
    wanted: RecordType,
}

impl Lookup<'_> {
    fn record(&self, name: &str, data: RecordData) -> Record {
        Record {
            name: name.to_owned(),
            ttl: self.zone.cfg.ttl,
            data,
        }
    }

    fn soa(&self) -> Record {
        let domain = self.zone.domain();
        self.record(
            domain,
            RecordData::Soa {
                primary: format!("ns.dns.{domain}"),
                mailbox: format!("hostmaster.{domain}"),
                serial: self.zone.serial,
                minimum: self.zone.cfg.ttl,
            },
        )
    }

    fn name(&self, name: &str) -> Found {
        let Some(base) = name.strip_suffix(self.zone.domain()) else {
            return self.reverse(name);
        };
        let base = match base.strip_suffix('.') {
            Some(base) => base,
            None if base.is_empty() => return self.apex(name),
            // "notcluster.local"
            None => return Found::Elsewhere,
        };
        let labels: Vec<&str> = base.rsplit('.').collect();
        match labels[..] {
            ["dns-version"] => self.only(name, RecordData::Txt(VERSION.to_owned())),
            ["svc" | "pod" | "dns"] => Found::OtherTypes,
            ["dns", "ns"] => self.addresses(name, self.zone.cfg.server_addresses.iter().copied()),
            ["svc" | "pod", namespace] if self.zone.namespace_exists(namespace) => Found::OtherTypes,
            ["pod", namespace, pod] if self.zone.namespace_exists(namespace) => self.pod(name, pod),
            ["svc", namespace, service, ref rest @ ..] => {
                let Some(entry) = self.zone.entry(namespace, service) else {
                    return Found::Nothing;
                };
                let own_name = self.zone.service_name(namespace, service);
                self.service(name, entry, &own_name, rest)
            }
            _ => Found::Nothing,
        }
    }

    fn apex(&self, name: &str) -> Found {
        match self.wanted {
            RecordType::Soa => self.records(vec![self.soa()]),
            RecordType::Ns => self.only(name, RecordData::Ns(format!("ns.dns.{}", self.zone.domain()))),
            _ => Found::OtherTypes,
        }
    }

    fn records(&self, records: Vec<Record>) -> Found {
        if records.is_empty() {
            return Found::OtherTypes;
        }
        Found::Records {
            records,
            additional: Vec::new(),
        }
    }

    /// A name with one record.
    fn only(&self, name: &str, data: RecordData) -> Found {
        if data.record_type() != self.wanted {
            return Found::OtherTypes;
        }
        self.records(vec![self.record(name, data)])
    }

    /// A name with addresses.
    fn addresses(&self, name: &str, ips: impl Iterator<Item = IpAddr>) -> Found {
        let mut data: Vec<RecordData> = ips.map(address).collect();
        data.retain(|data| data.record_type() == self.wanted);
        data.sort();
        data.dedup();
        self.records(data.into_iter().map(|data| self.record(name, data)).collect())
    }

    fn reverse(&self, name: &str) -> Found {
        let Some(ip) = reverse_ip(name) else {
            return Found::Elsewhere;
        };
        let names: Vec<&String> = self.zone.names_of(ip).collect();
        if names.is_empty() {
            return Found::Elsewhere;
        }
        if self.wanted != RecordType::Ptr {
            return Found::OtherTypes;
        }
        let record = |target: &&String| self.record(name, RecordData::Ptr((*target).clone()));
        self.records(names.iter().map(record).collect())
    }

    /// `1-2-3-4.namespace.pod`: the address is in the name, whether or not a pod has it.
    fn pod(&self, name: &str, label: &str) -> Found {
        let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
        match v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)) {
            Ok(ip) => self.addresses(name, [ip].into_iter()),
            Err(_) => Found::Nothing,
        }
    }

    fn service(&self, name: &str, entry: &Entry, own_name: &str, rest: &[&str]) -> Found {
        let Some(service) = &entry.service else {
            return Found::Nothing;
        };
        if let Target::External(target) = &service.target {
            return if rest.is_empty() {
                Found::Alias(target.clone())
            } else {
                Found::Nothing
            };
        }
        let hosts = match *rest {
            [] => self.hosts(service, entry, own_name, PortFilter::Any),
            [protocol] if protocol.starts_with('_') => {
                // The parent of SRV names: an empty name, but a name.
                let protocol = &protocol[1..];
                let known = |port: &Port| !port.name.is_empty() && port.protocol == protocol;
                let found = service.ports.iter().any(known);
                return if found { Found::OtherTypes } else { Found::Nothing };
            }
            [label] => {
                let mut endpoints = endpoints(service, entry, own_name, PortFilter::Any);
                let wanted = format!("{label}.{own_name}");
                endpoints.retain(|host| host.name == wanted);
                endpoints
            }
            [protocol, port] => match (protocol.strip_prefix('_'), port.strip_prefix('_')) {
                (Some(protocol), Some(name)) => {
                    let filter = PortFilter::Named { name, protocol };
                    let mut hosts = self.hosts(service, entry, own_name, filter);
                    hosts.retain(|host| !host.ports.is_empty());
                    hosts
                }
                _ => return Found::Nothing,
            },
            _ => return Found::Nothing,
        };
        if hosts.is_empty() {
            return Found::Nothing;
        }
        match self.wanted {
            RecordType::Srv => self.srv(name, &hosts),
            _ => self.addresses(name, hosts.iter().map(|host| host.ip)),
        }
    }

    /// A service's cluster IPs, or a headless one's endpoints.
    fn hosts(&self, service: &ServiceEntry, entry: &Entry, own_name: &str, filter: PortFilter<'_>) -> Vec<Host> {
        let Target::ClusterIps(ips) = &service.target else {
            return endpoints(service, entry, own_name, filter);
        };
        let ports = filter.ports(&service.ports);
        let host = |ip: &IpAddr| Host {
            name: own_name.to_owned(),
            ip: *ip,
            ports: ports.clone(),
        };
        ips.iter().map(host).collect()
    }

    fn srv(&self, name: &str, hosts: &[Host]) -> Found {
        let mut targets: Vec<(u16, &str)> = hosts
            .iter()
            .flat_map(|host| host.ports.iter().map(|port| (*port, host.name.as_str())))
            .collect();
        targets.sort_unstable();
        targets.dedup();
        // As CoreDNS: 100 shared among the targets.
        let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
        let records = targets.iter().map(|(port, target)| {
            let (port, target) = (*port, (*target).to_owned());
            self.record(
                name,
                RecordData::Srv {
                    priority: 0,
                    weight,
                    port,
                    target,
                },
            )
        });
        let records: Vec<Record> = records.collect();
        if records.is_empty() {
            return Found::OtherTypes;
        }
        let with_ports = hosts.iter().filter(|host| !host.ports.is_empty());
        let mut additional: Vec<Record> = with_ports
            .map(|host| self.record(&host.name, address(host.ip)))
            .collect();
        additional.sort();
        additional.dedup();
        Found::Records { records, additional }
    }
}

/// A service's endpoints, each with the ports of its slice.
fn endpoints(service: &ServiceEntry, entry: &Entry, own_name: &str, filter: PortFilter<'_>) -> Vec<Host> {
    let mut hosts = Vec::new();
    for slice in entry.slices.values() {
        let ports = filter.ports(&slice.ports);
        let usable = slice
            .endpoints
            .iter()
            .filter(|ep| ep.ready || service.publish_not_ready);
        hosts.extend(usable.map(|endpoint| Host {
            name: format!("{}.{own_name}", endpoint.label),
            ip: endpoint.ip,
            ports: ports.clone(),
        }));
    }
    hosts
}

fn address(ip: IpAddr) -> RecordData {
    match ip {
        IpAddr::V4(ip) => RecordData::A(ip),
        IpAddr::V6(ip) => RecordData::Aaaa(ip),
    }
}

/// The address of a complete reverse name.
fn reverse_ip(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<&str> = labels.rsplit('.').collect();
        return forward.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let nibbles: Vec<&str> = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
    if nibbles.len() != 32 || nibbles.iter().any(|nibble| nibble.len() != 1) {
        return None;
    }
    let digits = nibbles.concat();
    u128::from_str_radix(&digits, 16)
        .ok()
        .map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
}
