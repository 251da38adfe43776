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

/// Upstream's answer names the group, but no kind: its internal objects have none.
fn refuse(kind: &Kind, errors: Vec<Error>) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&kind.gvk.group, "", "", errors))
}

/// What every review must be (`pkg/apis/authorization/validation`).
fn faults(review: &Value, metadata: &[&str]) -> Vec<Error> {
    let spec = &review["spec"];
    let path = Path::new("spec");
    let has = |field: &str| spec[field].is_object();
    let mut errors = Vec::new();
    match (has("resourceAttributes"), has("nonResourceAttributes")) {
        (true, true) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            let value = spec["nonResourceAttributes"].clone();
            errors.push(Error::invalid(&path.child("nonResourceAttributes"), value, detail));
        }
        (false, false) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(Error::invalid(&path.child("resourceAttributes"), Value::Null, detail));
        }
        _ => {}
    }
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let given = review["metadata"].as_object().into_iter().flatten();
    let mut given = given.filter(|&(field, value)| {
        let field = field.as_str();
        field != "managedFields" && !metadata.contains(&field) && is_set(value)
    });
    if given.next().is_some() {
        let detail = if metadata.is_empty() {
            "must be empty"
        } else {
            "must be empty except for namespace"
        };
        errors.push(Error::invalid(
            &Path::new("metadata"),
            review["metadata"].clone(),
            detail,
        ));
    }
    errors
}

/// What is asked about, in `spec`.
fn attributes(review: &Value, user: UserInfo) -> Attributes {
    let spec = &review["spec"];
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if !resource.is_object() {
        return Attributes {
            user,
            verb: text(path, "verb"),
            path: text(path, "path"),
            ..Attributes::default()
        };
    }
    Attributes {
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
    refuse(kind, faults(review, &[]))?;
    answer(state, &attributes(review, call.user.clone()), review).await;
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
    let free: &[&str] = if namespace.is_some() { &["namespace"] } else { &[] };
    let mut errors = faults(review, free);
    let path = Path::new("spec");
    if user.name.is_empty() && user.groups.is_empty() {
        let detail = "at least one of user or group must be specified";
        errors.push(Error::invalid(&path.child("user"), "", detail));
    }
    if let Some(namespace) = namespace {
        let asked = text(spec, "resourceAttributes.namespace");
        if spec["resourceAttributes"].is_object() && asked != namespace {
            let path = path.child("resourceAttributes").child("namespace");
            errors.push(Error::invalid(&path, asked, "must match metadata.namespace"));
        }
        if spec["nonResourceAttributes"].is_object() {
            let value = spec["nonResourceAttributes"].clone();
            let path = path.child("nonResourceAttributes");
            errors.push(Error::invalid(&path, value, "disallowed on this kind of request"));
        }
    }
    refuse(kind, errors)?;
    answer(state, &attributes(review, user), review).await;
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
