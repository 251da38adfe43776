//! Pods carry the zone and region of their node (`plugin/pkg/admission/podtopologylabels`).

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, Step};
use crate::kind::value_at;
use crate::state::State;

/// The labels that are copied.
pub(crate) const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels;

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Mutate && (group, plural) == ("", "pods")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let kind = &attributes.resource.kind;
        if !kind.gvk.group.is_empty() || kind.plural != "pods" {
            return Ok(());
        }
        let text = |path: &str| value_at(object, path).and_then(Value::as_str).unwrap_or("");
        let node = match attributes.subresource {
            "" => text("spec.nodeName"),
            "binding" if text("target.kind") == "Node" => text("target.name"),
            _ => "",
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(nodes) = state.any_version("", "nodes") else {
            return Ok(());
        };
        let Some(node) = nodes.latest("", node).await? else {
            return Ok(());
        };
        for key in TOPOLOGY_LABELS {
            if let (Some(value), None) = (node.labels().get(key), meta::label(object, key)) {
                meta::set_label(object, key, value);
            }
        }
        Ok(())
    }
}
