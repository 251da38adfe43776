//! Nodes, as devices see them.

use api::Value;
use k8s_openapi::api::core::v1::{Affinity, NodeAffinity, NodeSelector, PodSpec};
use placement::RequiredTerms;
use typed::Decoded;

use crate::node::NodeInfo;

pub(super) struct NodeView<'n>(pub &'n NodeInfo);

impl devices::Node for NodeView<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn selected_by(&self, selector: &Value) -> bool {
        selects(selector, self.0)
    }
}

/// Whether a node selector selects a node; one that cannot be read selects none.
pub(super) fn selects(selector: &Value, node: &NodeInfo) -> bool {
    let Ok(selector) = NodeSelector::from_tree(selector) else {
        return false;
    };
    let spec = PodSpec {
        affinity: Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(selector),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        }),
        ..PodSpec::default()
    };
    RequiredTerms::of(&spec).matches(node.name(), node.labels())
}
