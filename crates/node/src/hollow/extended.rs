//! Extended resources of simulated nodes: whoever puts them into a node's capacity finds them allocatable, as with a
//! kubelet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Gvr;
use client::{ClientError, PatchKind, WatchEvent, WatchParams, WriteParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use crate::extended;

const RETRY: Duration = Duration::from_secs(1);
/// What every simulated node has, and no other.
pub(super) const LABEL: &str = "skiff.dev/hollow";

/// As much of a Node as is looked at.
#[derive(Deserialize)]
struct Seen {
    metadata: Metadata,
    #[serde(default)]
    status: Resources,
}

typed::decoded!(Seen);

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
struct Resources {
    capacity: Option<BTreeMap<String, Value>>,
    allocatable: Option<BTreeMap<String, Value>>,
}

/// Follows the nodes, for ever.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        if let Err(error) = follow(&shared).await {
            tracing::debug!(error = error.report(), "the watch of hollow nodes ended; will retry");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One watch from now on, beginning with what there is.
async fn follow(shared: &Shared) -> Result<(), ClientError> {
    let nodes = shared.client.resource::<Seen>(&Gvr::new("", "v1", "nodes"));
    let params = WatchParams {
        label_selector: format!("{LABEL}=true"),
        ..WatchParams::default()
    };
    let mut events = nodes.watch("", &params).await?;
    while let Some(event) = events.next().await {
        let (WatchEvent::Added(node) | WatchEvent::Modified(node)) = event? else {
            continue;
        };
        let changes = extended::changes(node.status.capacity.as_ref(), node.status.allocatable.as_ref());
        if changes.is_empty() || !shared.addresses.contains_key(&node.metadata.name) {
            continue;
        }
        let patch = json!({"status": {"allocatable": changes}});
        let params = WriteParams::default();
        nodes
            .patch_sub("", &node.metadata.name, "status", PatchKind::Merge, &patch, &params)
            .await?;
    }
    Ok(())
}
