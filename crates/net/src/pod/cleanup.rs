//! Removing all that a pod network and service proxy left on the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proxy::{Family, TableId};
use serde::{Deserialize, Serialize};

use super::link::Links;
use super::{NetConfig, PodNetError, sysctl};
use crate::netfilter::remove_tables;

const FILE: &str = "network.json";
const IP_FORWARD: &str = "net/ipv4/ip_forward";

/// What was made, and what was there before; kept in the state directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    config: NetConfig,
    ip_forward: String,
}

impl Record {
    fn path(state: &Path) -> PathBuf {
        state.join(FILE)
    }

    /// Notes what is about to be made. The first run's settings are the host's own; later runs
    /// find skiff's.
    pub fn write(cfg: &NetConfig, ip_forward: &str) -> Result<(), PodNetError> {
        let path = Record::path(&cfg.state_dir);
        let failed = |source| PodNetError::State { path: path.clone(), source };
        let before = Record::read(&cfg.state_dir);
        let record = Record {
            config: cfg.clone(),
            ip_forward: before.map_or_else(|| ip_forward.to_owned(), |record| record.ip_forward),
        };
        let content = serde_json::to_vec_pretty(&record).expect("a configuration is plain data");
        let temporary = path.with_extension("json.new");
        fs::write(&temporary, content).map_err(failed)?;
        fs::rename(&temporary, &path).map_err(failed)
    }

    fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Record::path(state)).ok()?).ok()
    }
}

/// Removes tables, bridge, veth pairs, leases and the state directory, and puts back the setting
/// for forwarding. `state_dir` is the one of the [`NetConfig`] it was opened with; without a record
/// there, `fallback` says what to remove. Can be repeated. No [`PodNetwork`](super::PodNetwork) or
/// service proxy of that configuration may be running.
pub async fn cleanup(state_dir: &Path, fallback: &NetConfig) -> Result<(), PodNetError> {
    let record = Record::read(state_dir);
    let cfg = record.as_ref().map_or(fallback, |record| &record.config);
    let mut tables = Vec::new();
    for name in [cfg.table_name.clone(), cfg.pod_table()] {
        for family in [Family::Ip4, Family::Ip6] {
            tables.push(TableId { family, name: name.clone() });
        }
    }
    remove_tables(&tables)?;
    let links = Links::open()?;
    if let Some(bridge) = links.index(&cfg.bridge_name).await? {
        for port in links.ports(bridge).await? {
            links.delete(&port).await?;
        }
        links.delete(&cfg.bridge_name).await?;
    }
    if let Some(record) = &record {
        sysctl::set(IP_FORWARD, &record.ip_forward)?;
    }
    match fs::remove_dir_all(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PodNetError::State { path: state_dir.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
