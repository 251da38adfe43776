//! What the scheduler itself would say: its own plugins over the picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use scheduler::{Cluster, PodInfo, plugins, schedule};

use super::picture::{Picture, node_of};

/// An answer about one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It fits; this node is the best.
    Fits { node: String, feasible: usize },
    /// It is not tried at all.
    Gated(String),
    /// No node will do.
    Nowhere {
        /// The scheduler's own words.
        message: String,
        /// Why each node will not: the plugin and its reasons.
        nodes: BTreeMap<String, (String, Vec<String>)>,
    },
}

/// Asks about `pod`, which is on no node.
pub fn judge(picture: &Picture, pod: &Arc<Pod>) -> Answer {
    let mut cluster = Cluster::default();
    for node in &picture.nodes {
        cluster.set_node(node.clone());
    }
    for bound in picture.pods.iter().filter(|bound| node_of(bound).is_some()) {
        cluster.set_pod(Arc::new(PodInfo::new(bound.clone())));
    }
    let (mut profile, info) = (plugins::default_profile(), PodInfo::new(pod.clone()));
    // All nodes are looked at: an explanation is not in a hurry.
    profile.percentage_of_nodes_to_score = Some(100);
    if let Some(gate) = profile.gate(&info) {
        return Answer::Gated(gate);
    }
    match schedule(&cluster, &info, &profile, 0, 0) {
        Ok(placement) => Answer::Fits {
            node: placement.node,
            feasible: placement.feasible,
        },
        Err(verdict) => Answer::Nowhere {
            message: verdict.to_string(),
            nodes: verdict
                .nodes
                .into_iter()
                .map(|(name, said)| (name, (said.plugin.to_owned(), said.reasons)))
                .collect(),
        },
    }
}
