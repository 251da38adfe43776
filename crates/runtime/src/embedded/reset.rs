//! Removing everything that the runtime made on this machine.

use std::collections::BTreeSet;
use std::path::Path;

use super::recover::{lock_data_dir, shims_below};
use super::shim_client::kill_shim;
use super::{Inner, KILL_PATIENCE};
use crate::cgroup::Cgroups;
use crate::records::{Layout, SandboxDir, is_id, list_ids, remove_tree};
use crate::{Result, RuntimeConfig, RuntimeError};

/// How far a [`reset`] goes beyond what is known to belong to the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetScope {
    /// Every control group below the root, and the network: for nobody else uses them.
    Machine,
    /// Not at all: another data directory's pods may be on this machine.
    DataDirectory,
}

/// Kills all pods and removes their network, control groups, and the data directory. May be repeated.
///
/// # Errors
/// [`RuntimeError::InUse`] if a runtime has the data directory open.
pub async fn reset(config: &RuntimeConfig, scope: ResetScope) -> Result<()> {
    let layout = Layout {
        root: config.data_dir.clone(),
    };
    if !layout.root.exists() {
        return Ok(());
    }
    let _lock = lock_data_dir(&layout.root)?;
    let cgroups = Cgroups::detect()?;
    let (root, sandboxes) = (config.cgroup_root.clone(), layout.sandboxes());
    Inner::blocking(move || {
        let own = containers_below(&sandboxes)?;
        for shim in shims_below(&sandboxes) {
            kill_shim(Some(shim));
        }
        // Containers first: nobody watches them any more. The rest goes as far as it is ours.
        for path in cgroups.descendants(&root) {
            let id = path.rsplit('/').next().filter(|name| is_id(name));
            if id.is_some_and(|id| scope == ResetScope::Machine || own.contains(id)) {
                cgroups.destroy(&path, KILL_PATIENCE)?;
                if let Some((parent, _)) = path.rsplit_once('/') {
                    cgroups.prune(parent, &root);
                }
            }
        }
        if scope == ResetScope::Machine && cgroups.exists(&root) {
            cgroups.destroy(&root, KILL_PATIENCE)?;
        }
        Ok::<(), RuntimeError>(())
    })
    .await?;
    if scope == ResetScope::Machine {
        let removed = config.network.retain(&[]).await;
        removed.map_err(|source| RuntimeError::Network {
            id: "(all)".to_owned(),
            source,
        })?;
    }
    let path = layout.root;
    Inner::blocking(move || remove_tree(&path)).await
}

/// Ids of all containers of sandboxes in a folder, whatever state they are in.
fn containers_below(sandboxes: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for id in list_ids(sandboxes)? {
        let dir = SandboxDir {
            path: sandboxes.join(id),
        };
        found.extend(list_ids(&dir.containers())?);
    }
    Ok(found)
}
