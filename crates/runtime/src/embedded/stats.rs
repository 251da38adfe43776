//! What containers and sandboxes use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Container, Inner, Sandbox, lock};
use crate::{ContainerFilter, ContainerStats, InterfaceUsage, NamespaceMode, PodSandboxStats, Result};

impl Inner {
    pub(super) async fn container_stats(self: Arc<Self>, id: String) -> Result<ContainerStats> {
        let (_, container) = self.container(&id)?;
        if container.run().is_none() {
            return Err(container.wrong_state("running"));
        }
        Ok(Inner::blocking(move || self.measure(&container)).await)
    }

    pub(super) async fn list_container_stats(self: Arc<Self>, filter: ContainerFilter) -> Result<Vec<ContainerStats>> {
        Ok(Inner::blocking(move || {
            self.all_sandboxes()
                .iter()
                .flat_map(|sandbox| sandbox.containers())
                .filter(|container| container.run().is_some() && filter.matches(&container.status()))
                .map(|container| self.measure(&container))
                .collect()
        })
        .await)
    }

    pub(super) async fn pod_sandbox_stats(self: Arc<Self>, id: String) -> Result<PodSandboxStats> {
        let sandbox = self.sandbox(&id)?;
        sandbox.need_ready()?;
        Ok(Inner::blocking(move || self.measure_sandbox(&sandbox)).await)
    }

    fn measure_sandbox(&self, sandbox: &Sandbox) -> PodSandboxStats {
        let (parent, shim, network) = {
            let state = lock(&sandbox.state);
            let config = &state.record.config;
            (
                config.cgroup_parent.clone(),
                state.shim,
                config.security_context.namespace_options.network,
            )
        };
        let usage = self.cgroups.usage(&parent);
        let network = match shim.filter(|_| network != NamespaceMode::Node) {
            Some(shim) => {
                let text = fs::read_to_string(format!("/proc/{}/net/dev", shim.pid)).unwrap_or_default();
                interfaces(&text)
            }
            None => Vec::new(),
        };
        PodSandboxStats {
            id: sandbox.id.clone(),
            timestamp: Timestamp::now(),
            cpu: usage.cpu,
            memory: usage.memory,
            process_count: self.cgroups.processes(&parent).len() as u64,
            network,
            containers: sandbox
                .containers()
                .iter()
                .filter(|container| container.run().is_some())
                .map(|container| self.measure(container))
                .collect(),
        }
    }

    fn measure(&self, container: &Container) -> ContainerStats {
        let (cgroup, name) = {
            let record = lock(&container.record);
            (record.cgroup.clone(), record.config.name.clone())
        };
        let usage = self.cgroups.usage(&cgroup);
        let (bytes, inodes) = tree_usage(container.dir.upper());
        ContainerStats {
            id: container.id.clone(),
            sandbox_id: container.sandbox_id.clone(),
            name,
            timestamp: Timestamp::now(),
            cpu: usage.cpu,
            memory: usage.memory,
            process_count: usage.processes,
            writable_layer_bytes: bytes,
            writable_layer_inodes: inodes,
        }
    }
}

/// Bytes on disk and files of a tree. What changes meanwhile is counted as it is met.
fn tree_usage(root: PathBuf) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            bytes += metadata.blocks() * 512;
            inodes += 1;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

/// The format of `/proc/net/dev`.
fn interfaces(text: &str) -> Vec<InterfaceUsage> {
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let counters: Vec<u64> = counters
                .split_ascii_whitespace()
                .filter_map(|number| number.parse().ok())
                .collect();
            let name = name.trim().to_owned();
            (name != "lo" && counters.len() >= 16).then(|| InterfaceUsage {
                name,
                rx_bytes: counters[0],
                rx_errors: counters[2],
                tx_bytes: counters[8],
                tx_errors: counters[10],
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_dev() {
        let text = "Inter-|   Receive                |  Transmit\n face |bytes packets\n\
                    \x20   lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n  eth0: 100 2 3 0 0 0 0 0 200 4 5 0 0 0 0 0\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].rx_bytes, found[0].rx_errors),
            ("eth0", 100, 3)
        );
        assert_eq!((found[0].tx_bytes, found[0].tx_errors), (200, 5));
    }
}
