//! `validatingadmissionpolicies` and `mutatingadmissionpolicies`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::{GROUP, rules};
use crate::{cells, checks, tree};

const MAX_AUDIT_ANNOTATIONS: usize = 20;
const MAX_VALUE_EXPRESSION_BYTES: usize = 5 * 1024;
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const PARAM_KIND: &str = "ParamKind specifies the kind of resources used to parameterize this policy";

pub(crate) fn validating() -> Kind {
    let kind = Kind::cluster(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies");
    policy(kind)
        .subresource(Subresource::status().validate(|new, _| status(new)))
        .validate(|policy| {
            let mut errors = common(policy);
            errors.extend(validations(policy));
            errors.extend(apiserver::expression_errors(policy));
            errors
        })
        .table(
            columns(
                "Validations",
                "Validations indicates the number of validation rules defined in this configuration",
            ),
            |policy, now| row(policy, "spec.validations", now),
        )
}

pub(crate) fn mutating() -> Kind {
    let kind = Kind::cluster(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies");
    policy(kind)
        .validate(|policy| {
            let mut errors = common(policy);
            errors.extend(mutations(policy));
            errors.extend(apiserver::expression_errors(policy));
            errors
        })
        .table(
            columns(
                "Mutations",
                "Mutation indicates the number of mutations rules defined in this configuration",
            ),
            |policy, now| row(policy, "spec.mutations", now),
        )
}

fn policy(kind: Kind) -> Kind {
    kind.categories(&["api-extensions"])
        .forbid_unconditional_update()
        .with_generation()
        .default(|policy| {
            let spec = tree::child(policy, "spec");
            tree::fill_absent(spec, "failurePolicy", "Fail");
            rules::default_match_resources(spec, "matchConstraints");
        })
}

fn columns(what: &'static str, description: &'static str) -> Vec<Column> {
    vec![
        Column::name(),
        Column::integer(what, description),
        Column::string("ParamKind", PARAM_KIND),
        Column::age(),
    ]
}

fn row(policy: &Value, list: &str, now: jiff::Timestamp) -> Vec<Value> {
    let param = tree::at(policy, "spec.paramKind");
    let param = param.map(|kind| format!("{}/{}", tree::text(kind, "apiVersion"), tree::text(kind, "kind")));
    vec![
        cells::name(policy),
        tree::list(policy, list).len().into(),
        param.unwrap_or_else(|| "<unset>".to_owned()).into(),
        cells::age(policy, now),
    ]
}

/// What both kinds of policies must have.
fn common(policy: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = checks::one_of(
        tree::text(policy, "spec.failurePolicy"),
        rules::FAILURE_POLICIES,
        &path.child("failurePolicy"),
    );
    if let Some(kind) = tree::at(policy, "spec.paramKind") {
        errors.extend(param_kind(kind, &path.child("paramKind")));
    }
    let constraints_path = path.child("matchConstraints");
    match tree::at(policy, "spec.matchConstraints") {
        None => errors.push(Error::required(&constraints_path, "")),
        Some(constraints) => {
            errors.extend(rules::match_resources(constraints, &constraints_path));
            if tree::list(constraints, "resourceRules").is_empty() {
                errors.push(Error::required(&constraints_path.child("resourceRules"), ""));
            }
        }
    }
    let conditions = tree::list(policy, "spec.matchConditions");
    errors.extend(rules::match_conditions(conditions, &path.child("matchConditions")));
    for (index, variable) in tree::list(policy, "spec.variables").iter().enumerate() {
        let (path, name) = (path.child("variables").index(index), tree::text(variable, "name"));
        if name.trim().is_empty() {
            errors.push(Error::required(&path.child("name"), "name is not specified"));
        } else if !validate::c_identifier(name).is_empty() {
            let detail = "name is not a valid CEL identifier";
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
        errors.extend(expression(variable, &path));
    }
    errors
}

fn expression(holder: &Value, path: &Path) -> Option<Error> {
    let empty = tree::text(holder, "expression").trim().is_empty();
    empty.then(|| Error::required(&path.child("expression"), "expression is not specified"))
}

fn param_kind(kind: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (version, path_of_version) = (tree::text(kind, "apiVersion"), path.child("apiVersion"));
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.push(Error::required(&path_of_version, "")),
        [version] => errors.extend(api_version("", version, version, &path_of_version)),
        [group, name] => errors.extend(api_version(group, name, version, &path_of_version)),
        _ => {
            let detail = format!("unexpected GroupVersion string: {version}");
            errors.push(Error::invalid(&path_of_version, version, detail));
        }
    }
    let name = tree::text(kind, "kind");
    if name.is_empty() {
        errors.push(Error::required(&path.child("kind"), ""));
        return errors;
    }
    let messages = validate::dns1035_label(&name.to_lowercase());
    if !messages.is_empty() {
        let detail = format!(
            "may have mixed case, but should otherwise match: {}",
            messages.join(",")
        );
        errors.push(Error::invalid(&path.child("kind"), name, detail));
    }
    errors
}

fn api_version(group: &str, version: &str, whole: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if !group.is_empty() {
        let messages = validate::dns1123_subdomain(group);
        if !messages.is_empty() {
            errors.push(Error::invalid(path, group, messages.join(",")));
        }
    }
    if version.is_empty() {
        errors.push(Error::invalid(path, whole, "version must be specified"));
        return errors;
    }
    let messages = validate::dns1035_label(version);
    if !messages.is_empty() {
        errors.push(Error::invalid(path, version, messages.join(",")));
    }
    errors
}

fn validations(policy: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let list = tree::list(policy, "spec.validations");
    let annotations = tree::list(policy, "spec.auditAnnotations");
    if list.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        let fields = ["validations", "auditAnnotations"];
        return fields.map(|field| Error::required(&path.child(field), detail)).into();
    }
    let mut errors = Vec::new();
    for (index, item) in list.iter().enumerate() {
        errors.extend(validation(item, &path.child("validations").index(index)));
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > MAX_AUDIT_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations");
        errors.push(Error::invalid(&path, annotations.to_vec(), detail));
    }
    for (index, annotation) in annotations.iter().enumerate() {
        let (path, key) = (path.index(index), tree::text(annotation, "key"));
        errors.extend(audit_annotation(meta::name(policy), annotation, &path));
        if annotations[..index].iter().any(|other| tree::text(other, "key") == key) {
            errors.push(Error::duplicate(&path.child("key"), key));
        }
    }
    errors
}

fn validation(item: &Value, path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> = expression(item, path).into_iter().collect();
    let message_expression = tree::text(item, "messageExpression");
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        let detail = "must be non-empty if specified";
        errors.push(Error::invalid(
            &path.child("messageExpression"),
            message_expression,
            detail,
        ));
    }
    let message = tree::text(item, "message");
    if !message.is_empty() && message.trim().is_empty() {
        let detail = "message must be non-empty if specified";
        errors.push(Error::invalid(&path.child("message"), message, detail));
    } else if message.trim().contains(['\n', '\r']) {
        let detail = "message must not contain line breaks";
        errors.push(Error::invalid(&path.child("message"), message, detail));
    }
    let reason = tree::text_opt(item, "reason");
    errors.extend(checks::optional_one_of(reason, REASONS, &path.child("reason")));
    errors
}

fn audit_annotation(name: &str, annotation: &Value, path: &Path) -> Vec<Error> {
    let key = tree::text(annotation, "key");
    let mut errors = if name.is_empty() {
        vec![Error::invalid(
            &path.child("key"),
            key,
            "requires metadata.name be non-empty",
        )]
    } else {
        checks::qualified_name(&format!("{name}/{key}"), &path.child("key"))
    };
    let value = tree::text(annotation, "valueExpression").trim();
    let path = path.child("valueExpression");
    if value.is_empty() {
        errors.push(Error::required(&path, "valueExpression is not specified"));
    } else if value.len() > MAX_VALUE_EXPRESSION_BYTES {
        let detail = format!("must not exceed {MAX_VALUE_EXPRESSION_BYTES} bytes in length");
        errors.push(Error::required(&path, detail));
    }
    errors
}

fn mutations(policy: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let list = tree::list(policy, "spec.mutations");
    let mut errors = Vec::new();
    if list.is_empty() {
        let detail = "mutations must contain at least one item";
        errors.push(Error::required(&path.child("mutations"), detail));
    }
    for (index, mutation) in list.iter().enumerate() {
        let path = path.child("mutations").index(index);
        let (wanted, other) = match tree::text(mutation, "patchType") {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            kind => {
                let known = &["ApplyConfiguration", "JSONPatch"];
                errors.extend(checks::one_of(kind, known, &path.child("patchType")));
                continue;
            }
        };
        let kind = tree::text(mutation, "patchType");
        match tree::at(mutation, wanted) {
            None => {
                let detail = format!("must be specified when patchType is {kind}");
                errors.push(Error::required(&path.child(wanted), detail));
            }
            Some(holder) => errors.extend(expression(holder, &path.child(wanted))),
        }
        if tree::at(mutation, other).is_some() {
            let detail = format!("must not be specified when patchType is {kind}");
            errors.push(Error::forbidden(&path.child(other), detail));
        }
    }
    errors.extend(checks::one_of(
        tree::text(policy, "spec.reinvocationPolicy"),
        &["IfNeeded", "Never"],
        &path.child("reinvocationPolicy"),
    ));
    errors
}

fn status(policy: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    let warnings = path.child("typeChecking").child("expressionWarnings");
    for (index, warning) in tree::list(policy, "status.typeChecking.expressionWarnings")
        .iter()
        .enumerate()
    {
        let path = warnings.index(index);
        for field in ["warning", "fieldRef"] {
            if tree::text(warning, field).trim().is_empty() {
                errors.push(Error::required(&path.child(field), ""));
            }
        }
    }
    let conditions = tree::list(policy, "status.conditions");
    errors.extend(validate::conditions(conditions, &path.child("conditions")));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn policies_constrain_and_validate() {
        let good = json!({"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]},
            "paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"},
            "validations": [{"expression": "true"}]}});
        assert_eq!(common(&good), []);
        assert_eq!(validations(&good), []);
        let bad = json!({"metadata": {"name": "p"}, "spec": {"paramKind": {"apiVersion": "a/b/c"},
            "variables": [{"name": "1a", "expression": "x"}, {}],
            "validations": [{"message": "a\nb", "reason": "Odd"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "v"}, {"key": "k"}]}});
        assert_eq!(
            fields(common(&bad)),
            [
                "spec.failurePolicy",
                "spec.paramKind.apiVersion",
                "spec.paramKind.kind",
                "spec.matchConstraints",
                "spec.variables[0].name",
                "spec.variables[1].name",
                "spec.variables[1].expression",
            ]
        );
        assert_eq!(
            fields(validations(&bad)),
            [
                "spec.validations[0].expression",
                "spec.validations[0].message",
                "spec.validations[0].reason",
                "spec.auditAnnotations[1].valueExpression",
                "spec.auditAnnotations[1].key",
            ]
        );
    }

    #[test]
    fn mutations_patch_in_one_way() {
        let bad = json!({"spec": {"mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}},
            {"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}},
            {"patchType": "Odd"}, {}], "reinvocationPolicy": "Never"}});
        assert_eq!(
            fields(mutations(&bad)),
            [
                "spec.mutations[1].jsonPatch",
                "spec.mutations[1].applyConfiguration",
                "spec.mutations[2].patchType",
                "spec.mutations[3].patchType",
            ]
        );
    }
}
