//! Nobody grants by RBAC what they do not have, unless they may `escalate` or `bind`
//! (`pkg/registry/rbac/*/policybased`, `pkg/registry/rbac/validation`).

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::authz::{self, RoleRef, Rule, missing_rules};
use crate::state::State;
use crate::user::SYSTEM_MASTERS;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) struct Escalation;

#[async_trait]
impl Plugin for Escalation {
    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let kind = &attributes.resource.kind;
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        let Some(object) = object else { return Ok(()) };
        if !writes
            || kind.gvk.group != GROUP
            || attributes.call.user.in_group(SYSTEM_MASTERS)
            || attributes.old.is_some_and(|old| only_metadata_of_deletion(object, old))
        {
            return Ok(());
        }
        let wanted = match kind.plural.as_str() {
            "roles" | "clusterroles" => {
                if allowed(state, attributes, "escalate", &kind.plural, attributes.name).await {
                    return Ok(());
                }
                rules_of_role(object, attributes.old)
            }
            _ => {
                let role: RoleRef = object
                    .get("roleRef")
                    .and_then(|r| serde_json::from_value(r.clone()).ok())
                    .unwrap_or_default();
                let plural = if role.kind == "ClusterRole" {
                    "clusterroles"
                } else {
                    "roles"
                };
                if allowed(state, attributes, "bind", plural, &role.name).await {
                    return Ok(());
                }
                state.rbac.follow(state, true).await;
                let namespace = meta::namespace(object);
                state
                    .rbac
                    .rules_of(&role, namespace)
                    .map_err(|error| attributes.forbid(error))?
            }
        };
        state.rbac.follow(state, true).await;
        let held = state.rbac.rules_for(&attributes.call.user, meta::namespace(object));
        let missing = missing_rules(&held, &wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let user = &attributes.call.user;
        let groups: Vec<String> = user.groups.iter().map(|g| api::field::go_quote(g)).collect();
        Err(attributes.forbid(format!(
            "user {} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            api::field::go_quote(&user.name),
            groups.join(" "),
            missing.into_iter().collect::<Vec<_>>().join("\n")
        )))
    }
}

/// Whether the user holds the verb that lifts the check.
async fn allowed(state: &State, attributes: &Attributes<'_>, verb: &str, plural: &str, name: &str) -> bool {
    let call = attributes.call;
    let wanted = authz::Attributes {
        user: call.user.clone(),
        verb: verb.to_owned(),
        is_resource: true,
        group: GROUP.to_owned(),
        version: "*".to_owned(),
        resource: plural.to_owned(),
        name: name.to_owned(),
        namespace: call.info.namespace.clone(),
        ..authz::Attributes::default()
    };
    authz::authorize(state, &wanted).await.is_allowed()
}

fn rules_of_role(role: &Value, old: Option<&Value>) -> Vec<Rule> {
    let rules = role.get("rules").cloned().unwrap_or_default();
    let mut rules: Vec<Rule> = serde_json::from_value(rules).unwrap_or_default();
    let aggregation = role.get("aggregationRule").filter(|a| !a.is_null());
    // Whoever aggregates gets whatever others will label: that takes all rights.
    if aggregation.is_some() && aggregation != old.and_then(|o| o.get("aggregationRule")) {
        let all = || vec!["*".to_owned()];
        rules.push(Rule {
            api_groups: all(),
            resources: all(),
            verbs: all(),
            ..Rule::default()
        });
        rules.push(Rule {
            non_resource_urls: all(),
            verbs: all(),
            ..Rule::default()
        });
    }
    rules
}

/// An update that changes owners and finalizers only, as the garbage collector does.
fn only_metadata_of_deletion(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields"] {
            meta::remove(&mut object, field);
        }
        object
    };
    rest(new) == rest(old)
}
