//! Pods that ask for a device tolerate nodes that are kept for it
//! (`plugin/pkg/admission/extendedresourcetoleration`). Off by default.

use std::collections::BTreeSet;

use api::{Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

pub(super) struct ExtendedResourceToleration;

fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && api::validate::qualified_name(&format!("requests.{name}")).is_empty()
}

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let names: BTreeSet<String> = ["containers", "initContainers"]
            .into_iter()
            .filter_map(|list| value_at(pod, &format!("spec.{list}"))?.as_array())
            .flatten()
            .filter_map(|container| value_at(container, "resources.requests")?.as_object())
            .flat_map(|requests| requests.keys().filter(|name| is_extended(name)).cloned())
            .collect();
        for name in names {
            add(pod, json!({"key": name, "operator": "Exists", "effect": "NoSchedule"}));
        }
        Ok(())
    }
}

/// Puts a toleration in the place of one with the same key, operator, value and effect, or last.
fn add(pod: &mut Value, toleration: Value) {
    let same = |other: &Value| {
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|field| text(other, field) == text(&toleration, field))
    };
    if !pod["spec"]["tolerations"].is_array() {
        pod["spec"]["tolerations"] = json!([]);
    }
    let Some(list) = pod["spec"]["tolerations"].as_array_mut() else {
        return;
    };
    match list.iter_mut().find(|other| same(other)) {
        Some(found) => *found = toleration,
        None => list.push(toleration),
    }
}
