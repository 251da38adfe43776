//! A new node takes no pods until it is known to be ready
//! (`plugin/pkg/admission/nodetaint`).

use api::{Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin, Step};
use crate::kind::value_at;
use crate::state::State;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Mutate && (group, plural) == ("", "nodes")
    }

    async fn mutate(&self, _state: &State, attributes: &Attributes<'_>, node: &mut Value) -> Result<(), Status> {
        if attributes.operation != Operation::Create || !attributes.is("", "nodes") {
            return Ok(());
        }
        let taints = value_at(node, "spec.taints").and_then(Value::as_array);
        if taints
            .into_iter()
            .flatten()
            .any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule")
        {
            return Ok(());
        }
        if !node["spec"].is_object() {
            node["spec"] = json!({});
        }
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        match node["spec"].get_mut("taints").and_then(Value::as_array_mut) {
            Some(taints) => taints.push(taint),
            None => node["spec"]["taints"] = json!([taint]),
        }
        Ok(())
    }
}
