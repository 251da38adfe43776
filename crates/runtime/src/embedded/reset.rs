//! Removing everything that the runtime made on this machine.

use super::recover::{lock_data_dir, shims_below};
use super::shim_client::kill_shim;
use super::{Inner, KILL_PATIENCE};
use crate::cgroup::Cgroups;
use crate::records::{Layout, is_id, remove_tree};
use crate::{Result, RuntimeConfig, RuntimeError};

/// Kills all pods and removes their network, control groups, and the data directory. May be repeated.
///
/// # Errors
/// [`RuntimeError::InUse`] if a runtime has the data directory open.
pub async fn reset(config: &RuntimeConfig) -> Result<()> {
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
        for shim in shims_below(&sandboxes) {
            kill_shim(Some(shim));
        }
        // Containers first: nobody watches them any more. The rest goes as far as it is ours.
        for path in cgroups.descendants(&root) {
            if path.rsplit('/').next().is_some_and(is_id) {
                cgroups.destroy(&path, KILL_PATIENCE)?;
            }
        }
        if cgroups.exists(&root) {
            cgroups.destroy(&root, KILL_PATIENCE)?;
        }
        Ok::<(), RuntimeError>(())
    })
    .await?;
    config
        .network
        .retain(&[])
        .await
        .map_err(|source| RuntimeError::Network {
            id: "(all)".to_owned(),
            source,
        })?;
    let path = layout.root;
    Inner::blocking(move || remove_tree(&path)).await
}
