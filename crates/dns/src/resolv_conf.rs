//! The host's resolvers, from resolv.conf, read again when the file changes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

const PORT: u16 = 53;
/// The file is looked at when a query needs it, but not more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What tells versions of the file apart.
type Stamp = (u64, i64, i64, u64);

/// The `nameserver` lines of a resolv.conf without those of `own`.
pub(crate) fn nameservers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(parse) else {
            continue;
        };
        if !own.contains(&server.ip()) && !found.contains(&server) {
            found.push(server);
        }
    }
    found
}

/// An address, perhaps with a scope (`fe80::1%2`; interface names are not resolved).
fn parse(word: &str) -> Option<SocketAddr> {
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    format!("[{word}]:{PORT}").parse().ok()
}

/// A resolv.conf that is followed.
#[derive(Debug)]
pub(crate) struct ResolvConf {
    path: PathBuf,
    own: Vec<IpAddr>,
    stamp: Option<Stamp>,
    looked: Option<Instant>,
    servers: Vec<SocketAddr>,
}

impl ResolvConf {
    pub fn new(path: PathBuf, own: Vec<IpAddr>) -> Self {
        ResolvConf {
            path,
            own,
            stamp: None,
            looked: None,
            servers: Vec::new(),
        }
    }

    /// The servers to ask, most preferred first.
    pub fn servers(&mut self, now: Instant) -> &[SocketAddr] {
        if self.looked.is_none_or(|looked| now >= looked + LOOK_AGAIN) {
            self.looked = Some(now);
            let stamp = stamp(&self.path);
            if stamp != self.stamp || stamp.is_none() {
                self.read();
                self.stamp = stamp;
            }
        }
        &self.servers
    }

    fn read(&mut self) {
        let servers = match fs::read_to_string(&self.path) {
            Ok(text) => nameservers(&text, &self.own),
            Err(error) => {
                warn!(path = %self.path.display(), error = %error, "resolver configuration unreadable");
                Vec::new()
            }
        };
        if servers.is_empty() {
            warn!(path = %self.path.display(), "no usable nameserver: names outside the cluster will not resolve");
        } else if servers != self.servers {
            info!(?servers, "upstream resolvers");
        }
        self.servers = servers;
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.mtime(), data.mtime_nsec(), data.size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "# comment\nsearch a b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\n\
                    nameserver nonsense\nnameserver\nnameserver 10.96.0.10\nnameserver 192.0.2.1\n\
                    nameserver fe80::1%3\noptions ndots:5\n";
        let own = ["10.96.0.10".parse().expect("ip")];
        let shown: Vec<String> = nameservers(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%3]:53"]);
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("resolv.conf");
        let mut conf = ResolvConf::new(path.clone(), Vec::new());
        let now = Instant::now();
        assert_eq!(conf.servers(now), []);
        fs::write(&path, "nameserver 192.0.2.1").expect("write");
        assert_eq!(conf.servers(now), [], "not looked at twice in a second");
        let later = now + LOOK_AGAIN;
        assert_eq!(conf.servers(later).len(), 1);
        fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2").expect("write");
        assert_eq!(conf.servers(later + LOOK_AGAIN).len(), 2);
        fs::remove_file(&path).expect("remove");
        assert_eq!(conf.servers(later + LOOK_AGAIN * 2), []);
    }
}
