//! SubjectAccessReviews: may somebody do something.

use api::field::{Error, Path};
use api::{Status, Value};
use serde_json::json;

use crate::authz::{self, Attributes, Decision};
use crate::call::Call;
use crate::kind::{Kind, value_at};
use crate::state::State;
use crate::user::UserInfo;

fn text(value: &Value, path: &str) -> String {
    value_at(value, path).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn invalid(kind: &Kind, error: Error) -> Status {
    Status::invalid(&kind.gvk.group, &kind.gvk.kind, "", vec![error])
}

/// What is asked about, in `spec`.
fn attributes(kind: &Kind, review: &Value, user: UserInfo) -> Result<Attributes, Status> {
    let spec = &review["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.is_object(), path.is_object()) {
        (true, false) => Ok(Attributes {
            user,
            verb: text(resource, "verb"),
            is_resource: true,
            group: text(resource, "group"),
            version: text(resource, "version"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: String::new(),
        }),
        (false, true) => Ok(Attributes {
            user,
            verb: text(path, "verb"),
            path: text(path, "path"),
            ..Attributes::default()
        }),
        (true, true) => {
            let path = Path::new("spec").child("nonResourceAttributes");
            let detail = "cannot be specified in combination with resourceAttributes";
            Err(invalid(kind, Error::invalid(&path, Value::Null, detail)))
        }
        (false, false) => {
            let path = Path::new("spec").child("resourceAttributes");
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid(kind, Error::invalid(&path, Value::Null, detail)))
        }
    }
}

async fn answer(state: &State, attributes: &Attributes, review: &mut Value) {
    let (allowed, reason) = match authz::authorize(state, attributes).await {
        Decision::Allow(reason) => (true, reason),
        Decision::NoOpinion(reason) => (false, reason),
    };
    review["status"] = json!({"allowed": allowed});
    if !reason.is_empty() {
        review["status"]["reason"] = reason.into();
    }
}

/// May I?
pub(super) async fn own(state: &State, call: &Call, kind: &Kind, review: &mut Value) -> Result<(), Status> {
    let attributes = attributes(kind, review, call.user.clone())?;
    answer(state, &attributes, review).await;
    Ok(())
}

/// May they? In one namespace, if given.
pub(super) async fn of_subject(
    state: &State,
    kind: &Kind,
    namespace: Option<&str>,
    review: &mut Value,
) -> Result<(), Status> {
    let spec = &review["spec"];
    let list = |path: &str| {
        value_at(spec, path)
            .and_then(|v| serde_json::from_value(v.clone()).ok())
            .unwrap_or_default()
    };
    let user = UserInfo {
        name: text(spec, "user"),
        uid: text(spec, "uid"),
        groups: list("groups"),
        extra: value_at(spec, "extra")
            .and_then(|v| serde_json::from_value(v.clone()).ok())
            .unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let path = Path::new("spec").child("user");
        let detail = "at least one of user or group must be specified";
        return Err(invalid(kind, Error::invalid(&path, "", detail)));
    }
    let attributes = attributes(kind, review, user)?;
    if namespace.is_some_and(|namespace| namespace != attributes.namespace) {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            namespace.unwrap_or_default()
        )));
    }
    answer(state, &attributes, review).await;
    Ok(())
}

/// What may I, in a namespace?
pub(super) async fn own_rules(state: &State, call: &Call, review: &mut Value) -> Result<(), Status> {
    let namespace = text(review, "spec.namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    state.rbac.follow(state, true).await;
    let mut resource_rules = Vec::new();
    let mut path_rules = Vec::new();
    let superuser = call.user.in_group(crate::user::SYSTEM_MASTERS);
    if superuser {
        resource_rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        path_rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in state.rbac.rules_for(&call.user, &namespace) {
        if !rule.resources.is_empty() {
            let mut value = json!({
                "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
            });
            if !rule.resource_names.is_empty() {
                value["resourceNames"] = rule.resource_names.clone().into();
            }
            resource_rules.push(value);
        }
        if !rule.non_resource_urls.is_empty() {
            path_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let incomplete = call.user.as_node().is_some();
    review["status"] = json!({
        "resourceRules": resource_rules,
        "nonResourceRules": path_rules,
        "incomplete": incomplete,
    });
    if incomplete {
        review["status"]["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    Ok(())
}
