//! Runs a virtual packet through a ruleset.
//!
//! Models what the kernel does with the first packet of a connection: the order of hooks and
//! priorities, `goto`, NAT once a connection and direction, and the mark. It does not model
//! routing beyond "is the destination this host".

use std::net::IpAddr;

use crate::ruleset::{
    Chain, ChainKind, Data, Direction, Dnat, Family, Hook, Key, Match, Presence, Protocol, Reject, Rule, Ruleset,
    Selector, Side, Statement, Table, Verdict,
};

/// Where a packet starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It arrives by this interface.
    Interface(String),
    /// A process of this host sends it.
    Host,
}

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it starts.
    pub origin: Origin,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub dest: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
    /// The host's addresses.
    pub host_addresses: Vec<IpAddr>,
    /// Interface it would leave by.
    pub out_interface: Option<String>,
    /// Random number that load balancing draws.
    pub roll: u32,
    /// What an affinity map remembers for the source.
    pub remembered: Option<(IpAddr, u16)>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is delivered or forwarded.
    Delivered {
        /// Final destination address.
        dest: IpAddr,
        /// Final destination port.
        port: u16,
        /// The source was rewritten.
        masqueraded: bool,
        /// The choice was written to an affinity map.
        remembered: bool,
    },
    /// It vanishes.
    Dropped,
    /// Its sender is told.
    Rejected(Reject),
}

/// What `ruleset` does to `packet`.
pub fn trace(ruleset: &Ruleset, packet: &Packet) -> Outcome {
    let mut run = Run {
        ruleset,
        packet,
        state: State::new(packet),
    };
    match run.hooks() {
        Err(Stop::Drop) => Outcome::Dropped,
        Err(Stop::Reject(how)) => Outcome::Rejected(how),
        Ok(()) => Outcome::Delivered {
            dest: run.state.dest,
            port: run.state.port,
            masqueraded: run.state.masqueraded,
            remembered: run.state.remembered,
        },
    }
}

enum Stop {
    Drop,
    Reject(Reject),
}

/// How a chain ended.
enum End {
    /// No verdict: the caller goes on.
    Fell,
    /// Accepted: the hook's other chains go on.
    Accepted,
}

struct State {
    dest: IpAddr,
    port: u16,
    mark: u32,
    dnat: bool,
    masqueraded: bool,
    remembered: bool,
}

impl State {
    fn new(packet: &Packet) -> Self {
        State {
            dest: packet.dest,
            port: packet.port,
            mark: 0,
            dnat: false,
            masqueraded: false,
            remembered: false,
        }
    }
}

struct Run<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    state: State,
}

impl<'a> Run<'a> {
    fn hooks(&mut self) -> Result<(), Stop> {
        match self.packet.origin {
            Origin::Interface(_) => {
                self.hook(Hook::Prerouting, None)?;
                if self.to_host() {
                    self.hook(Hook::Input, None)
                } else {
                    self.hook(Hook::Forward, None)?;
                    self.hook(Hook::Postrouting, None)
                }
            }
            Origin::Host => {
                self.hook(Hook::Output, None)?;
                self.hook(Hook::Postrouting, None)?;
                if self.to_host() {
                    // Over the loopback, with NAT already decided.
                    self.hook(Hook::Prerouting, Some(ChainKind::Filter))?;
                    self.hook(Hook::Input, Some(ChainKind::Filter))?;
                }
                Ok(())
            }
        }
    }

    fn to_host(&self) -> bool {
        self.state.dest.is_loopback() || self.packet.host_addresses.contains(&self.state.dest)
    }

    fn hook(&mut self, hook: Hook, only: Option<ChainKind>) -> Result<(), Stop> {
        let family = Family::of(self.packet.dest);
        let mut chains: Vec<(i32, ChainKind, &'a Table, &'a Chain)> = Vec::new();
        for (_, table) in self.ruleset.tables.iter().filter(|(id, _)| id.family == family) {
            for chain in table.chains.values() {
                if let Some(base) = chain.base.filter(|base| base.hook == hook) {
                    chains.push((base.priority, base.kind, table, chain));
                }
            }
        }
        chains.sort_by_key(|(priority, ..)| *priority);
        for (_, kind, table, chain) in chains {
            let natted = match hook {
                Hook::Postrouting => self.state.masqueraded,
                _ => self.state.dnat,
            };
            if only.is_some_and(|only| only != kind) || (kind == ChainKind::Nat && natted) {
                continue;
            }
            self.chain(table, chain)?;
        }
        Ok(())
    }

    fn chain(&mut self, table: &'a Table, chain: &'a Chain) -> Result<End, Stop> {
        for rule in &chain.rules {
            match self.rule(table, rule)? {
                Next::Rule => {}
                Next::End(end) => return Ok(end),
            }
        }
        Ok(End::Fell)
    }

    fn rule(&mut self, table: &'a Table, rule: &'a Rule) -> Result<Next, Stop> {
        for statement in &rule.statements {
            let verdict = match statement {
                Statement::Match(condition) if self.matches(table, condition) => continue,
                Statement::Match(_) => return Ok(Next::Rule),
                Statement::SetMark(bits) => {
                    self.state.mark |= bits;
                    continue;
                }
                Statement::ClearMark(bits) => {
                    self.state.mark &= !bits;
                    continue;
                }
                Statement::Masquerade => {
                    self.state.masqueraded = true;
                    return Ok(Next::End(End::Accepted));
                }
                Statement::Reject(how) => return Err(Stop::Reject(*how)),
                Statement::Dnat(dnat) => {
                    let Some((ip, port)) = self.choose(table, dnat) else {
                        return Ok(Next::Rule);
                    };
                    (self.state.dest, self.state.port, self.state.dnat) = (ip, port, true);
                    return Ok(Next::End(End::Accepted));
                }
                Statement::VerdictMap { selector, map } => match table.sets[map].elements.get(&self.key(*selector)) {
                    Some(Data::Verdict(verdict)) => verdict,
                    _ => return Ok(Next::Rule),
                },
                Statement::Verdict(verdict) => verdict,
            };
            return self.verdict(table, verdict);
        }
        Ok(Next::Rule)
    }

    fn verdict(&mut self, table: &'a Table, verdict: &'a Verdict) -> Result<Next, Stop> {
        Ok(match verdict {
            Verdict::Accept => Next::End(End::Accepted),
            Verdict::Drop => return Err(Stop::Drop),
            Verdict::Return => Next::End(End::Fell),
            Verdict::Goto(name) => Next::End(self.chain(table, &table.chains[name])?),
            Verdict::Jump(name) => match self.chain(table, &table.chains[name])? {
                End::Fell => Next::Rule,
                End::Accepted => Next::End(End::Accepted),
            },
        })
    }

    fn key(&self, selector: Selector) -> Key {
        let (source, dest) = (self.packet.source, self.state.dest);
        let (protocol, port) = (self.packet.protocol, self.state.port);
        match selector {
            Selector::Source => Key::Addr(source),
            Selector::Dest => Key::Addr(dest),
            Selector::SourceDest => Key::AddrPair(source, dest),
            Selector::DestProtoPort => Key::AddrProtoPort(dest, protocol, port),
            Selector::ProtoPort => Key::ProtoPort(protocol, port),
        }
    }

    fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.packet.source,
            Side::Dest => self.state.dest,
        }
    }

    fn matches(&self, table: &Table, condition: &Match) -> bool {
        let holds = |found: bool, presence: &Presence| found == (*presence == Presence::In);
        match condition {
            Match::CtNew => true,
            Match::CtDnat => self.state.dnat,
            Match::Mark(bits, presence) => holds(self.state.mark & bits != 0, presence),
            Match::InSet(selector, set, presence) => {
                holds(table.sets[set].elements.contains_key(&self.key(*selector)), presence)
            }
            Match::Cidr(side, net, presence) => holds(net.contains(&self.address(*side)), presence),
            Match::Local(side) => {
                let address = self.address(*side);
                address.is_loopback() || self.packet.host_addresses.contains(&address)
            }
            Match::Interface(direction, name, presence) => {
                let found = match (direction, &self.packet.origin) {
                    (Direction::In, Origin::Interface(interface)) => interface == name,
                    (Direction::In, Origin::Host) => false,
                    (Direction::Out, _) => self.packet.out_interface.as_ref() == Some(name),
                };
                holds(found, presence)
            }
            Match::Proto(protocol) => self.packet.protocol == *protocol,
        }
    }

    fn choose(&mut self, table: &Table, dnat: &Dnat) -> Option<(IpAddr, u16)> {
        let endpoint = |map: &String, key: Key| match table.sets[map].elements.get(&key) {
            Some(Data::Endpoint(ip, port)) => Some((*ip, *port)),
            _ => None,
        };
        match dnat {
            Dnat::Balanced {
                number,
                map,
                modulus,
                remember,
            } => {
                let chosen = endpoint(map, Key::Slot(*number, self.packet.roll % modulus))?;
                self.state.remembered |= remember.is_some();
                Some(chosen)
            }
            Dnat::Remembered { number, members, .. } => {
                let (ip, port) = self.packet.remembered?;
                let member = Key::Member(*number, ip, port);
                table.sets[members].elements.contains_key(&member).then_some((ip, port))
            }
            Dnat::Lookup { selector, map } => endpoint(map, self.key(*selector)),
        }
    }
}

enum Next {
    Rule,
    End(End),
}
