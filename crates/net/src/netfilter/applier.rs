//! The owner of a ruleset in the kernel.
//!
//! One thread owns the sockets and the knowledge of what was written: netlink calls block for
//! milliseconds, and change notifications must be told apart from our own. It sleeps in `poll`
//! until there is a command, a notification, or a failed write to try again.
//!
//! Guarantees: after `apply` returns `Ok`, new connections follow the ruleset. A batch is carried
//! out whole or not at all. A change by somebody else to a table of ours is undone. The rules stay
//! when the owner goes: pods outlive the program.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proxy::{Change, Dnat, Key, Ruleset, Statement, TableId, UdpServices, diff};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::batch::{Batch, Learned, learns};
use super::key::key_value;
use super::readback;
use super::socket::{Received, Socket, messages};
use super::{NetfilterError, UdpCleanup, conntrack};

/// Wait before a failed write is tried again, doubled up to the maximum.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Repairs are at least this far apart, so that a fight over the table costs little.
const REPAIR_GAP: Duration = Duration::from_millis(100);

/// nf_tables messages name their table in attribute 1; the generation message has no table.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;

/// Applies service rules; see [`Applier`].
pub type ServiceProxy = Applier;

/// Keeps one ruleset in the kernel.
#[derive(Debug)]
pub struct Applier {
    commands: Sender<Command>,
    wake: UnixStream,
    repairs: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Apply(Arc<Ruleset>, oneshot::Sender<Result<UdpCleanup, NetfilterError>>),
    Verify(oneshot::Sender<Result<bool, NetfilterError>>),
    Stop,
}

impl Applier {
    /// Starts an owner in this thread's network namespace. The kernel is left as it is until the
    /// first [`apply`](Self::apply), which replaces tables left by an earlier run in one step.
    ///
    /// `name` names the thread.
    pub fn start(name: &str) -> Result<Self, NetfilterError> {
        let requests = Socket::open()?;
        let events = Socket::listen()?;
        let (wake, woken) = UnixStream::pair().map_err(NetfilterError::Open)?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(NetfilterError::Open)?;
        }
        let (commands, received) = channel();
        let (repaired, repairs) = watch::channel(0);
        let owner = Owner {
            requests,
            events,
            woken,
            commands: received,
            repaired,
            desired: None,
            installed: false,
            retry: None,
            last_repair: None,
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || owner.run())
            .map_err(NetfilterError::Thread)?;
        Ok(Applier {
            commands,
            wake,
            repairs,
            thread: Some(thread),
        })
    }

    /// Makes the kernel's rules those of `ruleset`, writing the differences from the last one, then
    /// deletes conntrack entries of UDP services that became wrong.
    ///
    /// On an error the old rules are still in force, and the new ones are tried again until they
    /// are accepted or replaced.
    ///
    /// Do not call it before the caches behind the ruleset have synchronised: it would remove the
    /// rules of every service that is not yet known.
    pub async fn apply(&self, ruleset: Arc<Ruleset>) -> Result<UdpCleanup, NetfilterError> {
        let (answer, done) = oneshot::channel();
        self.command(Command::Apply(ruleset, answer))?;
        done.await.map_err(|_| NetfilterError::Stopped)?
    }

    /// Reads the tables back: whether the kernel holds exactly what was applied last.
    pub async fn verify(&self) -> Result<bool, NetfilterError> {
        let (answer, done) = oneshot::channel();
        self.command(Command::Verify(answer))?;
        done.await.map_err(|_| NetfilterError::Stopped)?
    }

    /// Counts how often a change by somebody else was undone.
    pub fn repairs(&self) -> watch::Receiver<u64> {
        self.repairs.clone()
    }

    /// Ends the owner and waits for its thread. The rules stay in the kernel.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn command(&self, command: Command) -> Result<(), NetfilterError> {
        self.commands.send(command).map_err(|_| NetfilterError::Stopped)?;
        // A full pipe means that a wake-up is on its way already.
        let _ = (&self.wake).write(&[1]);
        Ok(())
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let _ = self.command(Command::Stop);
        let _ = thread.join();
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Owner {
    requests: Socket,
    events: Socket,
    woken: UnixStream,
    commands: Receiver<Command>,
    repaired: watch::Sender<u64>,
    desired: Option<Arc<Ruleset>>,
    /// The kernel has `desired`, as far as we know.
    installed: bool,
    retry: Option<Retry>,
    last_repair: Option<Instant>,
}

struct Retry {
    at: Instant,
    wait: Duration,
}

/// What the notifications say about our tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Noticed {
    Nothing,
    /// Somebody else changed something, or notifications were lost.
    Doubt,
}

impl Owner {
    fn run(mut self) {
        loop {
            if let Err(error) = self.sleep() {
                warn!(error = %error, "waiting for packet filter changes failed");
                return;
            }
            let mut pipe = [0; 64];
            while self.woken.read(&mut pipe).is_ok_and(|n| n > 0) {}
            let noticed = self.notifications();
            if noticed == Noticed::Doubt {
                self.check();
            }
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Stop => return,
                    Command::Apply(ruleset, answer) => {
                        let _ = answer.send(self.apply(ruleset));
                    }
                    Command::Verify(answer) => {
                        let same = match self.desired.clone() {
                            Some(ruleset) => readback::intact(&mut self.requests, &ruleset),
                            None => Ok(true),
                        };
                        let _ = answer.send(same);
                    }
                }
            }
            if self.retry.as_ref().is_some_and(|retry| retry.at <= Instant::now()) {
                self.retry_now();
            }
        }
    }

    fn sleep(&self) -> nix::Result<()> {
        let timeout = match &self.retry {
            None => PollTimeout::NONE,
            Some(retry) => {
                // Rounded up: waking early would spin.
                let left = retry.at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads all notifications.
    fn notifications(&mut self) -> Noticed {
        let mut noticed = Noticed::Nothing;
        loop {
            match self.events.receive() {
                Ok(Received::Datagram) => {}
                Ok(Received::Empty) => return noticed,
                Ok(Received::Lost) => {
                    noticed = Noticed::Doubt;
                    continue;
                }
                Err(error) => {
                    warn!(error = %error, "reading packet filter changes failed");
                    return Noticed::Doubt;
                }
            }
            let Some(ruleset) = &self.desired else { continue };
            let own = self.requests.port();
            for message in messages(&self.events.buffer) {
                let foreign = message.port != own && message.kind != NEW_GENERATION;
                if foreign && message.attributes().text(1).is_some_and(|table| names(ruleset, table)) {
                    noticed = Noticed::Doubt;
                }
            }
        }
    }

    fn apply(&mut self, ruleset: Arc<Ruleset>) -> Result<UdpCleanup, NetfilterError> {
        let old = self.desired.replace(Arc::clone(&ruleset)).unwrap_or_default();
        let written = match self.installed {
            true => self.write(&old, &ruleset).or_else(|error| {
                // Whatever the reason, the kernel is not what we think it is.
                warn!(error = %error, "an update of the packet filter failed, writing it anew");
                self.write(&removed_tables(&old, &ruleset), &ruleset)
            }),
            false => self.write(&removed_tables(&old, &ruleset), &ruleset),
        };
        match written {
            Ok(udp) => {
                self.installed = true;
                self.retry = None;
                Ok(if udp {
                    self.clean_udp(&old.udp, &ruleset.udp)
                } else {
                    UdpCleanup::default()
                })
            }
            Err(error) => {
                self.installed = false;
                self.retry_later();
                Err(error)
            }
        }
    }

    /// One transaction from `old` to `new`; says whether UDP services changed.
    fn write(&mut self, old: &Ruleset, new: &Ruleset) -> Result<bool, NetfilterError> {
        let changes = diff(old, new);
        let mut batch = Batch::of(&changes);
        let learned = self.learned(&changes.operations, new)?;
        for ((table, set), elements) in &learned {
            batch.restore(table, set, elements);
        }
        batch.commit(&mut self.requests)?;
        self.forget(&changes.operations, new);
        Ok(changes.udp)
    }

    /// What packets have put into maps of tables that are about to be replaced.
    fn learned<'a>(
        &mut self,
        operations: &[Change<'_>],
        new: &'a Ruleset,
    ) -> Result<BTreeMap<(&'a TableId, &'a str), Vec<Learned>>, NetfilterError> {
        let mut found = BTreeMap::new();
        for (id, table) in &new.tables {
            let replaced = operations
                .iter()
                .any(|op| matches!(op, Change::ReplaceTable(t) if *t == id));
            if !replaced {
                continue;
            }
            for (name, _) in table.sets.iter().filter(|(_, set)| learns(set)) {
                let affinity = affinities(new, id).find(|(map, _)| map == name);
                let members = affinity.and_then(|(_, members)| table.sets.get(members));
                let usable: BTreeSet<Vec<u8>> = members
                    .iter()
                    .flat_map(|set| set.elements.keys())
                    .map(key_value)
                    .collect();
                let mut elements = readback::learned(&mut self.requests, id, name)?;
                elements.retain(|element| element.expires > 0 && usable.contains(&element.member()));
                if !elements.is_empty() {
                    found.insert((id, name.as_str()), elements);
                }
            }
        }
        Ok(found)
    }

    /// Removes remembered choices of endpoints that are gone. They do no harm (the rules check),
    /// but while they are there their clients have no affinity.
    fn forget(&mut self, operations: &[Change<'_>], new: &Ruleset) {
        for operation in operations {
            let Change::RemoveElements(id, members, _, removed) = operation else {
                continue;
            };
            let gone: BTreeSet<Vec<u8>> = removed
                .iter()
                .filter(|(key, _)| matches!(key, Key::Member(..)))
                .map(|(key, _)| key_value(key))
                .collect();
            let affinity = affinities(new, id).find(|(_, checked)| checked == members);
            let Some((map, _)) = affinity.filter(|_| !gone.is_empty()) else {
                continue;
            };
            let forgotten = readback::learned(&mut self.requests, id, map).and_then(|learned| {
                let stale = learned.into_iter().filter(|element| gone.contains(&element.member()));
                let keys: Vec<_> = stale.map(|element| element.key).collect();
                let mut batch = Batch::new();
                batch.forget(id, map, &keys);
                batch.commit(&mut self.requests)
            });
            if let Err(error) = forgotten {
                warn!(error = %error, map, "stale client affinities could not be removed");
            }
        }
    }

    fn clean_udp(&mut self, old: &UdpServices, new: &UdpServices) -> UdpCleanup {
        match conntrack::clean(&mut self.requests, &with_removed(old, new)) {
            Ok(report) => {
                if report.deleted > 0 {
                    info!(deleted = report.deleted, "stale UDP connections forgotten");
                }
                report
            }
            Err(error) => {
                warn!(error = %error, "stale UDP connections could not be removed");
                UdpCleanup::default()
            }
        }
    }

    /// Compares the kernel with what should be there and repairs it.
    fn check(&mut self) {
        let Some(ruleset) = self.desired.clone().filter(|_| self.installed) else {
            return;
        };
        match readback::intact(&mut self.requests, &ruleset) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => warn!(error = %error, "reading the packet filter back failed"),
        }
        let now = Instant::now();
        self.installed = false;
        if self.last_repair.is_some_and(|last| now < last + REPAIR_GAP) {
            self.retry = Some(Retry {
                at: now + REPAIR_GAP,
                wait: RETRY_MIN,
            });
            return;
        }
        self.repair(&ruleset);
    }

    fn repair(&mut self, ruleset: &Arc<Ruleset>) {
        self.last_repair = Some(Instant::now());
        match self.write(&Ruleset::default(), ruleset) {
            Ok(_) => {
                warn!("packet filter rules were changed by somebody else and have been restored");
                self.installed = true;
                self.retry = None;
                self.clean_udp(&UdpServices::default(), &ruleset.udp);
                self.repaired.send_modify(|count| *count += 1);
            }
            Err(error) => {
                warn!(error = %error, "packet filter rules could not be restored, will try again");
                self.retry_later();
            }
        }
    }

    fn retry_later(&mut self) {
        let wait = self
            .retry
            .as_ref()
            .map_or(RETRY_MIN, |retry| (retry.wait * 2).min(RETRY_MAX));
        self.retry = Some(Retry {
            at: Instant::now() + wait,
            wait,
        });
    }

    fn retry_now(&mut self) {
        match self.desired.clone() {
            Some(ruleset) if !self.installed => self.repair(&ruleset),
            _ => self.retry = None,
        }
    }
}

/// A ruleset with only the tables of `old` that `new` no longer has: writing from it replaces every
/// table that is still wanted and removes the others.
fn removed_tables(old: &Ruleset, new: &Ruleset) -> Ruleset {
    let mut left = Ruleset::default();
    for (id, table) in old.tables.iter().filter(|(id, _)| !new.tables.contains_key(id)) {
        left.tables.insert(id.clone(), table.clone());
    }
    left
}

/// The UDP services of `new`, and those of `old` that are gone as services without endpoints.
fn with_removed(old: &UdpServices, new: &UdpServices) -> UdpServices {
    let mut all = new.clone();
    for address in old.by_address.keys() {
        all.by_address.entry(*address).or_default();
    }
    for port in old.by_node_port.keys() {
        all.by_node_port.entry(*port).or_default();
    }
    all
}

fn names(ruleset: &Ruleset, table: &str) -> bool {
    ruleset.tables.keys().any(|id| id.name == table)
}

/// The affinity maps of a table, each with the set its choices must be in.
fn affinities<'a>(ruleset: &'a Ruleset, id: &TableId) -> impl Iterator<Item = (&'a str, &'a str)> {
    let chains = ruleset
        .tables
        .get(id)
        .into_iter()
        .flat_map(|table| table.chains.values());
    let statements = chains.flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
    statements.filter_map(|statement| match statement {
        Statement::Dnat(Dnat::Remembered { sticky, members, .. }) => Some((sticky.map.as_str(), members.as_str())),
        _ => None,
    })
}

/// Removes tables, with all they hold, if they are there.
pub(crate) fn remove_tables(ids: &[TableId]) -> Result<(), NetfilterError> {
    let mut socket = Socket::open()?;
    for id in ids {
        let mut batch = Batch::new();
        batch.remove_table(id);
        match batch.commit(&mut socket) {
            // A kernel without the family has no such table either.
            Err(NetfilterError::Refused { source, .. }) if unsupported(&source) => {}
            other => other?,
        }
    }
    Ok(())
}

fn unsupported(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::EOPNOTSUPP | nix::libc::EAFNOSUPPORT | nix::libc::EPROTONOSUPPORT)
    )
}
