//! Cluster roles that are the sum of others (upstream `pkg/controller/clusterroleaggregation`).

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::controller::{Controller, Trigger};
use crate::object::{is_deleting, name, selects, to_value};
use crate::plan::{Action, Plan};
use crate::{Key, Turn, World};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    account: "clusterrole-aggregation-controller",
    triggers: &[Trigger::ClusterRole(keys_of_role)],
    reconcile,
};

/// All roles that are sums: each may have, or have had, the changed one as a part.
fn keys_of_role(world: &dyn World, _: Option<&ClusterRole>, _: Option<&ClusterRole>) -> Vec<Key> {
    let roles = world.cluster_roles().list("").into_iter();
    roles
        .filter(|role| role.aggregation_rule.is_some())
        .map(|role| Key::of(&*role))
        .collect()
}

/// Gives the role the rules of those that its selectors select, in order of their names.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(role) = world
        .cluster_roles()
        .get("", &key.name)
        .filter(|role| !is_deleting(&**role))
    else {
        return plan;
    };
    let Some(rule) = &role.aggregation_rule else {
        return plan;
    };
    let all = world.cluster_roles().list("");
    let mut rules: Vec<&PolicyRule> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        let parts = all
            .iter()
            .filter(|part| name(&***part) != key.name && selects(selector, part.metadata.labels.as_ref()));
        for rule in parts.flat_map(|part| part.rules.iter().flatten()) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    if rules != role.rules.iter().flatten().collect::<Vec<_>>() {
        plan.act(Action::patch_version(&*role, json!({"rules": to_value(&rules)})));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn the_sum_follows_its_parts() {
        let mut fake = Fake::new();
        let role = |name: &str, more: serde_json::Value| {
            let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}});
            for (key, value) in more.as_object().expect("fields") {
                if key == "labels" {
                    role["metadata"]["labels"] = value.clone()
                } else {
                    role[key] = value.clone()
                }
            }
            role
        };
        let rules = |resource: &str| json!([{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]);
        fake.put(
            "clusterroles",
            role(
                "sum",
                json!({
                    "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "sum"}}]}, "rules": [],
                }),
            ),
        );
        fake.put(
            "clusterroles",
            role("b", json!({"labels": {"to": "sum"}, "rules": rules("pods")})),
        );
        fake.put(
            "clusterroles",
            role("a", json!({"labels": {"to": "sum"}, "rules": rules("nodes")})),
        );
        fake.put(
            "clusterroles",
            role("c", json!({"labels": {"to": "sum"}, "rules": rules("pods")})),
        );
        fake.put("clusterroles", role("d", json!({"rules": rules("secrets")})));
        let key = Key::new("", "sum");
        fake.settle(reconcile, &key);
        let sum = fake.json::<ClusterRole>("", "sum");
        assert_eq!(sum["rules"], json!([rules("nodes")[0], rules("pods")[0]]));
        fake.remove::<ClusterRole>("", "a");
        fake.settle(reconcile, &key);
        assert_eq!(fake.json::<ClusterRole>("", "sum")["rules"], rules("pods"));
    }
}
