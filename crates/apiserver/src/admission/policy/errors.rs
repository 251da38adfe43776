//! What is wrong with the expressions of objects that govern admission, before they are stored
//! (upstream `pkg/apis/admissionregistration/validation`).

use api::field::{Error, Path};
use api::{Value, meta};

use super::definition::{PatchType, Policy};
use crate::admission::expressions::{Compiler, Conditions, Expression};

/// The errors of every expression in a policy or a webhook configuration that does not compile; empty
/// expressions are none of this function's.
pub fn expression_errors(object: &Value) -> Vec<Error> {
    match meta::kind(object) {
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => of_policy(object),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => of_webhooks(object),
        _ => Vec::new(),
    }
}

fn of_policy(object: &Value) -> Vec<Error> {
    let policy = Policy::read(object);
    let spec = Path::new("spec");
    let mut errors = policy.conditions.errors(&spec.child("matchConditions"));
    let at = |list: &str, index: usize, field: &str| spec.child(list).index(index).child(field);
    for (index, (_, variable)) in policy.variables.iter().enumerate() {
        errors.extend(variable.error(&at("variables", index, "expression")));
    }
    for (index, (expression, about)) in policy.validations.iter().zip(&policy.about).enumerate() {
        errors.extend(expression.error(&at("validations", index, "expression")));
        let message = about.message_expression.as_ref();
        errors.extend(message.and_then(|message| message.error(&at("validations", index, "messageExpression"))));
    }
    for (index, expression) in policy.annotations.iter().enumerate() {
        errors.extend(expression.error(&at("auditAnnotations", index, "valueExpression")));
    }
    for (index, (kind, expression)) in policy.mutations.iter().enumerate() {
        let field = match kind {
            PatchType::ApplyConfiguration => "applyConfiguration",
            PatchType::JsonPatch => "jsonPatch",
        };
        errors.extend(expression.error(&at("mutations", index, field).child("expression")));
    }
    errors
}

fn of_webhooks(object: &Value) -> Vec<Error> {
    let compiler = Compiler::of_webhook();
    let hooks = object.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    hooks
        .enumerate()
        .flat_map(|(index, hook)| {
            let path = Path::new("webhooks").index(index).child("matchConditions");
            Conditions::read(hook, &compiler).errors(&path)
        })
        .collect()
}

impl Expression {
    /// 422 for an expression that does not compile.
    pub(in crate::admission) fn error(&self, path: &Path) -> Option<Error> {
        let text = self.text().trim();
        let why = self.compile_error().filter(|_| !text.is_empty())?;
        Some(Error::invalid(path, text, why))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(object: &Value) -> Vec<String> {
        expression_errors(object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_expression_of_a_policy_is_compiled() {
        let policy = json!({"kind": "ValidatingAdmissionPolicy", "spec": {
            "matchConditions": [{"name": "a", "expression": "1"}],
            "variables": [{"name": "v", "expression": "object.x"}, {"name": "w", "expression": "variables.missing"}],
            "validations": [
                {"expression": "variables.v == params.y", "messageExpression": "1"},
                {"expression": "object.x ==", "messageExpression": "authorizer.path('/x').check('get').reason()"},
                {"expression": ""},
            ],
            "auditAnnotations": [{"key": "k", "valueExpression": "'fine'"}, {"key": "l", "valueExpression": "1"}],
        }});
        let errors = errors(&policy);
        let fields: Vec<&str> = errors.iter().map(|e| e.split(": ").next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "spec.matchConditions[0].expression",
                "spec.variables[1].expression",
                "spec.validations[0].expression",
                "spec.validations[0].messageExpression",
                "spec.validations[1].expression",
                "spec.validations[1].messageExpression",
                "spec.auditAnnotations[1].valueExpression",
            ]
        );
        assert_eq!(
            errors[0],
            "spec.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool"
        );
        assert!(
            errors[6].ends_with("must evaluate to one of [string null]"),
            "{}",
            errors[6]
        );
        assert!(errors[2].contains("undeclared reference to 'params'"), "{}", errors[2]);
    }

    #[test]
    fn mutations_make_objects_and_patches() {
        let policy = json!({"kind": "MutatingAdmissionPolicy", "spec": {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "mutations": [
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: int(params.data.x)}}"}},
                {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/' + jsonpatch.escapeKey('a/b'), value: 1}]"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "{}"}},
                {"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}},
            ],
        }});
        let errors = errors(&policy);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("spec.mutations[2].applyConfiguration.expression: Invalid value"));
        assert!(errors[0].ends_with("must evaluate to Object"), "{}", errors[0]);
        assert!(errors[1].ends_with("must evaluate to list(JSONPatch)"), "{}", errors[1]);
    }

    #[test]
    fn conditions_of_webhooks_know_no_variables() {
        let hooks = json!({"kind": "MutatingWebhookConfiguration", "webhooks": [
            {"matchConditions": [{"name": "a", "expression": "object.x == 1"}]},
            {"matchConditions": [{"name": "a", "expression": "variables.x"}, {"name": "b", "expression": "params == null"}]},
        ]});
        let errors = errors(&hooks);
        let fields: Vec<&str> = errors.iter().map(|e| e.split(": ").next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "webhooks[1].matchConditions[0].expression",
                "webhooks[1].matchConditions[1].expression"
            ]
        );
    }
}
