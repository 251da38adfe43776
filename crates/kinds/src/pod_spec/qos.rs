//! The quality-of-service class of a pod (`pkg/apis/core/v1/helper/qos`).

use api::{Quantity, Value};

use crate::tree;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &Value) -> &'static str {
    let parts: Vec<&Value> = match tree::at(spec, "resources") {
        Some(resources) if has_any(resources) => vec![resources],
        _ => ["containers", "initContainers"]
            .iter()
            .flat_map(|list| tree::list(spec, list))
            .filter_map(|container| container.get("resources"))
            .collect(),
    };
    if !parts.iter().any(|part| has_any(part)) {
        return "BestEffort";
    }
    let containers = ["containers", "initContainers"]
        .iter()
        .map(|list| tree::list(spec, list).len())
        .sum::<usize>();
    let level = usize::from(parts.len() == 1 && tree::at(spec, "resources").is_some_and(has_any));
    let complete = if level == 1 { 1 } else { containers };
    let guaranteed = parts.len() == complete
        && parts.iter().all(|part| {
            ["cpu", "memory"].iter().all(|name| {
                let limit = amount(part, "limits", name);
                // Without a request the limit is one, which defaulting has written by now.
                let request = amount(part, "requests", name).or_else(|| limit.clone());
                limit.is_some_and(|limit| !limit.is_zero()) && request == amount(part, "limits", name)
            })
        });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

fn amount(resources: &Value, list: &str, name: &str) -> Option<Quantity> {
    tree::quantity(tree::map(resources, list)?.get(name)?)
}

fn has_any(resources: &Value) -> bool {
    ["limits", "requests"].iter().any(|list| {
        ["cpu", "memory"]
            .iter()
            .any(|name| amount(resources, list, name).is_some_and(|quantity| !quantity.is_zero()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_follow_requests_and_limits() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let some = json!({"requests": {"cpu": "1"}});
        let cases = [
            (json!({"containers": [{}]}), "BestEffort"),
            (json!({"containers": [{"resources": {}}, {}]}), "BestEffort"),
            (json!({"containers": [{"resources": some}]}), "Burstable"),
            (json!({"containers": [{"resources": full}]}), "Guaranteed"),
            (json!({"containers": [{"resources": full}, {}]}), "Burstable"),
            (
                json!({"containers": [{"resources": full}], "initContainers": [{"resources": some}]}),
                "Burstable",
            ),
            (
                json!({"containers": [{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}}]}),
                "Burstable",
            ),
            (json!({"containers": [{}], "resources": full}), "Guaranteed"),
            (
                json!({"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}),
                "BestEffort",
            ),
        ];
        for (spec, want) in cases {
            assert_eq!(class(&spec), want, "{spec}");
        }
    }
}
