//! Removing all that a pod network and service proxy left on the host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proxy::{Family, TableId};
use serde::{Deserialize, Serialize};

use super::link::Links;
use super::{NetConfig, PodNetError, sysctl};
use crate::netfilter::remove_tables;

const FILE: &str = "network.json";

/// What was made, and what was there before; kept in the state directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    config: NetConfig,
    /// Kernel settings by their path below /proc/sys.
    settings: BTreeMap<String, String>,
}

impl Record {
    fn path(state: &Path) -> PathBuf {
        state.join(FILE)
    }

    /// Notes what is about to be made and set. The first run's settings are the host's own; later
    /// runs find skiff's.
    pub fn write<'a>(cfg: &NetConfig, settings: impl IntoIterator<Item = &'a str>) -> Result<(), PodNetError> {
        let path = Record::path(&cfg.state_dir);
        let failed = |source| PodNetError::State {
            path: path.clone(),
            source,
        };
        let before = Record::read(&cfg.state_dir);
        let mut record = Record {
            config: cfg.clone(),
            settings: before.map(|record| record.settings).unwrap_or_default(),
        };
        for setting in settings {
            if !record.settings.contains_key(setting) {
                record.settings.insert(setting.to_owned(), sysctl::get(setting)?);
            }
        }
        let content = serde_json::to_vec_pretty(&record).expect("a configuration is plain data");
        let temporary = path.with_extension("json.new");
        fs::write(&temporary, content).map_err(failed)?;
        fs::rename(&temporary, &path).map_err(failed)
    }

    fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Record::path(state)).ok()?).ok()
    }
}

/// Removes tables, bridge, veth pairs, leases and the state directory, and puts back the
/// kernel settings of the host. `state_dir` is the one of the [`NetConfig`] it was opened with; without a record
/// there, `fallback` says what to remove. Can be repeated. No [`PodNetwork`](super::PodNetwork) or
/// service proxy of that configuration may be running.
pub async fn cleanup(state_dir: &Path, fallback: &NetConfig) -> Result<(), PodNetError> {
    let record = Record::read(state_dir);
    let cfg = record.as_ref().map_or(fallback, |record| &record.config);
    let mut tables = Vec::new();
    for name in [cfg.table_name.clone(), cfg.pod_table()] {
        for family in [Family::Ip4, Family::Ip6] {
            tables.push(TableId {
                family,
                name: name.clone(),
            });
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
    for (path, value) in record.iter().flat_map(|record| &record.settings) {
        sysctl::set(path, value)?;
    }
    match fs::remove_dir_all(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PodNetError::State {
            path: state_dir.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
