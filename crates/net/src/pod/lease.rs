//! Addresses of pods, one file each.
//!
//! A lease is `<state>/leases/<address>`, moved into place whole, so a crash leaves it there or not
//! at all. It need not survive a power cut: neither do the pods' namespaces. A file that cannot be
//! read (torn by such a cut) is a free address.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{HostPort, PodNetError};

const TEMPORARY: &str = ".new";

/// An address in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub sandbox: String,
    pub address: Ipv4Addr,
    pub ports: Vec<HostPort>,
}

/// The leases of a node. One owner a directory.
#[derive(Debug)]
pub(crate) struct Leases {
    directory: PathBuf,
    range: Ipv4Net,
    by_sandbox: BTreeMap<String, Lease>,
    by_address: BTreeMap<Ipv4Addr, String>,
    /// Where to look next, so that an address rests before it is used again.
    next: u32,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PodNetError {
    let path = path.to_owned();
    move |source| PodNetError::State { path, source }
}

impl Leases {
    /// Reads the leases of a state directory.
    pub fn open(state: &Path, range: Ipv4Net) -> Result<Self, PodNetError> {
        let directory = state.join("leases");
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let mut leases = Leases {
            directory,
            range,
            by_sandbox: BTreeMap::new(),
            by_address: BTreeMap::new(),
            next: 0,
        };
        let mut newest = None;
        for entry in fs::read_dir(&leases.directory).map_err(failed(&leases.directory))? {
            let entry = entry.map_err(failed(&leases.directory))?;
            let path = entry.path();
            let Some(lease) = read(&path) else {
                fs::remove_file(&path).map_err(failed(&path))?;
                continue;
            };
            let written = entry.metadata().and_then(|data| data.modified()).ok();
            if written >= newest {
                (newest, leases.next) = (written, leases.offset(lease.address).wrapping_add(1));
            }
            leases.by_address.insert(lease.address, lease.sandbox.clone());
            leases.by_sandbox.insert(lease.sandbox.clone(), lease);
        }
        Ok(leases)
    }

    pub fn get(&self, sandbox: &str) -> Option<&Lease> {
        self.by_sandbox.get(sandbox)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_sandbox.values()
    }

    /// The lease of a sandbox, made if it has none; its ports are replaced.
    pub fn take(&mut self, sandbox: &str, ports: &[HostPort]) -> Result<Lease, PodNetError> {
        self.check_ports(sandbox, ports)?;
        let address = match self.by_sandbox.get(sandbox) {
            Some(lease) if lease.ports == ports => return Ok(lease.clone()),
            Some(lease) => lease.address,
            None => self.free_address()?,
        };
        let lease = Lease {
            sandbox: sandbox.to_owned(),
            address,
            ports: ports.to_vec(),
        };
        self.write(&lease)?;
        self.by_address.insert(address, sandbox.to_owned());
        self.by_sandbox.insert(sandbox.to_owned(), lease.clone());
        Ok(lease)
    }

    /// Gives a sandbox's address back; without a lease nothing happens.
    pub fn release(&mut self, sandbox: &str) -> Result<Option<Lease>, PodNetError> {
        let Some(lease) = self.by_sandbox.get(sandbox) else {
            return Ok(None);
        };
        let path = self.directory.join(lease.address.to_string());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(error)),
            _ => {}
        }
        let lease = self.by_sandbox.remove(sandbox);
        if let Some(lease) = &lease {
            self.by_address.remove(&lease.address);
        }
        Ok(lease)
    }

    /// Forgets a sandbox's host ports but keeps its address; says whether it had any.
    pub fn close_ports(&mut self, sandbox: &str) -> Result<bool, PodNetError> {
        match self.by_sandbox.get(sandbox) {
            Some(lease) if !lease.ports.is_empty() => {
                self.take(sandbox, &[])?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn check_ports(&self, sandbox: &str, ports: &[HostPort]) -> Result<(), PodNetError> {
        for (at, port) in ports.iter().enumerate() {
            let others = self.iter().filter(|lease| lease.sandbox != sandbox);
            let taken = others.flat_map(|lease| &lease.ports).chain(&ports[..at]);
            if taken.into_iter().any(|other| overlap(port, other)) {
                let protocol = port.protocol.clone();
                return Err(PodNetError::PortTaken {
                    port: port.host_port,
                    protocol,
                });
            }
        }
        Ok(())
    }

    fn offset(&self, address: Ipv4Addr) -> u32 {
        u32::from(address).wrapping_sub(u32::from(self.range.network()))
    }

    /// The next free address after the last one given; network, gateway and broadcast are never.
    fn free_address(&mut self) -> Result<Ipv4Addr, PodNetError> {
        let exhausted = || PodNetError::Exhausted {
            range: self.range,
            used: self.by_sandbox.len(),
        };
        let (first, last) = (2, self.offset(self.range.broadcast()).saturating_sub(1));
        if last < first {
            return Err(exhausted());
        }
        let count = last - first + 1;
        let start = self.next.saturating_sub(first) % count;
        for step in 0..count {
            let offset = first + (start + step) % count;
            let address = Ipv4Addr::from(u32::from(self.range.network()) + offset);
            if !self.by_address.contains_key(&address) {
                self.next = offset + 1;
                return Ok(address);
            }
        }
        Err(exhausted())
    }

    fn write(&self, lease: &Lease) -> Result<(), PodNetError> {
        let path = self.directory.join(lease.address.to_string());
        let temporary = self.directory.join(format!("{}{TEMPORARY}", lease.address));
        let content = serde_json::to_vec(lease).expect("a lease is plain data");
        fs::write(&temporary, content).map_err(failed(&temporary))?;
        fs::rename(&temporary, &path).map_err(failed(&path))
    }
}

fn read(path: &Path) -> Option<Lease> {
    let address: Ipv4Addr = path.file_name()?.to_str()?.parse().ok()?;
    let lease: Lease = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (lease.address == address).then_some(lease)
}

fn overlap(a: &HostPort, b: &HostPort) -> bool {
    let everywhere = |port: &HostPort| port.host_ip.is_none_or(|ip| ip.is_unspecified());
    a.host_port == b.host_port && a.protocol == b.protocol && (everywhere(a) || everywhere(b) || a.host_ip == b.host_ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Ipv4Net {
        "10.9.8.0/29".parse().expect("range")
    }

    fn port(host_ip: Option<&str>, host_port: u16) -> HostPort {
        HostPort {
            host_ip: host_ip.map(|ip| ip.parse().expect("ip")),
            host_port,
            protocol: "TCP".to_owned(),
            pod_port: 80,
        }
    }

    #[test]
    fn addresses_are_given_in_turn_and_survive_reopening() {
        let state = tempfile::tempdir().expect("tempdir");
        let mut leases = Leases::open(state.path(), range()).expect("open");
        let mut given = Vec::new();
        for n in 0..5 {
            given.push(leases.take(&format!("s{n}"), &[]).expect("take").address);
        }
        assert_eq!(given.first(), Some(&Ipv4Addr::new(10, 9, 8, 2)));
        assert_eq!(given.last(), Some(&Ipv4Addr::new(10, 9, 8, 6)));
        assert!(matches!(
            leases.take("s9", &[]),
            Err(PodNetError::Exhausted { used: 5, .. })
        ));
        assert_eq!(leases.take("s1", &[]).expect("again").address, given[1], "idempotent");

        drop(leases);
        let mut leases = Leases::open(state.path(), range()).expect("reopen");
        assert_eq!(leases.iter().count(), 5);
        leases.release("s3").expect("release");
        leases.release("s3").expect("release is idempotent");
        assert_eq!(leases.take("s9", &[]).expect("freed").address, given[3]);
    }

    #[test]
    fn a_freed_address_rests() {
        let state = tempfile::tempdir().expect("tempdir");
        let mut leases = Leases::open(state.path(), range()).expect("open");
        let first = leases.take("a", &[]).expect("a").address;
        leases.release("a").expect("release");
        assert_ne!(leases.take("b", &[]).expect("b").address, first);
    }

    #[test]
    fn torn_and_foreign_files_are_free_addresses() {
        let state = tempfile::tempdir().expect("tempdir");
        let directory = state.path().join("leases");
        fs::create_dir_all(&directory).expect("mkdir");
        for (name, content) in [("10.9.8.2", ""), ("10.9.8.3.new", "{}"), ("x", "{\"sandbox\":1}")] {
            fs::write(directory.join(name), content).expect("write");
        }
        let mut leases = Leases::open(state.path(), range()).expect("open");
        assert_eq!(leases.iter().count(), 0);
        assert_eq!(fs::read_dir(&directory).expect("list").count(), 0);
        assert_eq!(leases.take("a", &[]).expect("take").address, Ipv4Addr::new(10, 9, 8, 2));
    }

    #[test]
    fn host_ports_do_not_overlap() {
        let state = tempfile::tempdir().expect("tempdir");
        let mut leases = Leases::open(state.path(), range()).expect("open");
        leases.take("a", &[port(Some("192.0.2.1"), 80)]).expect("a");
        leases
            .take("b", &[port(Some("192.0.2.2"), 80)])
            .expect("another address");
        let everywhere = leases.take("c", &[port(None, 80)]);
        assert!(matches!(everywhere, Err(PodNetError::PortTaken { port: 80, .. })));
        assert!(leases.get("c").is_none(), "a refused pod holds nothing");
        leases
            .take("a", &[port(Some("192.0.2.1"), 80)])
            .expect("its own port is no conflict");
    }
}
