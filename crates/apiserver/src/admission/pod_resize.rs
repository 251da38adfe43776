//! A pod is resized only to what its node could ever give (`plugin/pkg/admission/podresize`).

use api::{Quantity, Status, Value, meta};
use async_trait::async_trait;
use quota::pod_resources::{self, Side};

use super::{Attributes, Operation, Plugin, Step, lookup};
use crate::kind::value_at;
use crate::state::State;

pub(super) struct PodResizeValidator;

#[async_trait]
impl Plugin for PodResizeValidator {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Validate && (group, plural) == ("", "pods")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let kind = &attributes.resource.kind;
        let is_resize = kind.gvk.group.is_empty() && kind.plural == "pods" && attributes.subresource == "resize";
        let (Some(pod), Some(old)) = (pod.filter(|_| is_resize), attributes.old) else {
            return Ok(());
        };
        let name = value_at(pod, "spec.nodeName").and_then(Value::as_str).unwrap_or("");
        if name.is_empty() || pod.get("spec") == old.get("spec") {
            return Ok(());
        }
        let quoted = api::field::go_quote(name);
        let Some(node) = lookup::get(state, "", "nodes", "", name).await? else {
            return Err(attributes.forbid(format!("node {quoted} not found")));
        };
        let requests = pod_resources::total_of_spec(pod, Side::Requests);
        let allocatable = |resource: &str| {
            let amount = value_at(&node, "status.allocatable").and_then(|list| list.get(resource));
            amount
                .and_then(|amount| Quantity::from_json(amount).ok())
                .unwrap_or_default()
        };
        let asked = |resource: &str| requests.get(resource).cloned().unwrap_or_default();
        let mut lacks = Vec::new();
        for (resource, number) in [
            ("cpu", Quantity::milli_value as fn(&Quantity) -> i64),
            ("memory", Quantity::value),
        ] {
            let (asked, most) = (number(&asked(resource)), number(&allocatable(resource)));
            if asked > most {
                lacks.push(format!("{resource}, requested: {asked}, allocatable: {most}"));
            }
        }
        if !lacks.is_empty() {
            let lacks = lacks.join("; ");
            return Err(attributes.forbid(format!("Node didn't have enough allocatable resources: {lacks}")));
        }
        let system = meta::label(&node, "kubernetes.io/os").unwrap_or("");
        if system != "linux" {
            let system = api::field::go_quote(system);
            let why = format!("pod resize is only supported on linux nodes, node {quoted} is {system}");
            return Err(attributes.forbid(why));
        }
        Ok(())
    }
}
