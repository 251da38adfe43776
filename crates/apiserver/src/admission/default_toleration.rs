//! Pods tolerate a node that is not ready or not reachable for five minutes
//! (`plugin/pkg/admission/defaulttolerationseconds`).

use api::{Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin, Step};
use crate::kind::value_at;
use crate::state::State;

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or("");
    let key = text("key");
    (key == taint || key.is_empty()) && matches!(text("effect"), "" | "NoExecute")
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Mutate && (group, plural) == ("", "pods")
    }

    async fn mutate(&self, _state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        let wanted = matches!(attributes.operation, Operation::Create | Operation::Update);
        if !wanted || !attributes.is("", "pods") {
            return Ok(());
        }
        for taint in TAINTS {
            let tolerations = value_at(pod, "spec.tolerations").and_then(Value::as_array);
            if tolerations.into_iter().flatten().any(|t| tolerates(t, taint)) {
                continue;
            }
            let toleration = json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            });
            match pod["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
                Some(list) => list.push(toleration),
                None => pod["spec"]["tolerations"] = json!([toleration]),
            }
        }
        Ok(())
    }
}
