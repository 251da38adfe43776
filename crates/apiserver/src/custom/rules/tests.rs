use api::field::Path;
use serde_json::{Value, json};

use super::{Rules, definition_errors};

fn with_rules(rules: Value, spec: Value) -> Value {
    let mut spec = spec;
    spec["x-kubernetes-validations"] = rules;
    json!({"type": "object", "properties": {"spec": spec}})
}

fn counts() -> Value {
    json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}})
}

fn texts(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let rules = Rules::compile(schema).unwrap();
    rules.errors(new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn rules_that_do_not_hold_are_errors() {
    let rules = json!([
        {"rule": "self.min <= self.max", "message": "min first"},
        {"rule": "self.min >= 0", "messageExpression": "'min is ' + string(self.min)", "fieldPath": ".min",
            "reason": "FieldValueForbidden"},
    ]);
    let schema = with_rules(rules, counts());
    assert_eq!(
        texts(&schema, &json!({"spec": {"min": 1, "max": 2}}), None),
        Vec::<String>::new()
    );
    assert_eq!(
        texts(&schema, &json!({"spec": {"min": -1, "max": -2}}), None),
        [
            "spec: Invalid value: \"object\": min first",
            "spec.min: Forbidden: min is -1",
        ]
    );
    assert_eq!(
        texts(&schema, &json!({"spec": {"min": 1}}), None),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: min first"]
    );
}

#[test]
fn transitions_compare_with_what_was_before() {
    let rules = json!([{"rule": "self == oldSelf", "message": "fixed"}]);
    let mut schema = with_rules(json!([]), counts());
    schema["properties"]["spec"]["properties"]["min"]["x-kubernetes-validations"] = rules;
    let old = json!({"spec": {"min": 1}});
    assert!(texts(&schema, &old, None).is_empty());
    assert!(texts(&schema, &old, Some(&old)).is_empty());
    assert_eq!(
        texts(&schema, &json!({"spec": {"min": 2}}), Some(&old)),
        ["spec.min: Invalid value: \"integer\": fixed"]
    );
    let optional = json!([{"rule": "oldSelf.hasValue() || self == 0", "optionalOldSelf": true, "message": "zero"}]);
    schema["properties"]["spec"]["properties"]["min"]["x-kubernetes-validations"] = optional;
    assert_eq!(
        texts(&schema, &old, None),
        ["spec.min: Invalid value: \"integer\": zero"]
    );
    assert!(texts(&schema, &json!({"spec": {"min": 2}}), Some(&old)).is_empty());
}

#[test]
fn what_did_not_change_is_not_judged() {
    let schema = with_rules(json!([{"rule": "self.min > 5"}]), counts());
    let old = json!({"spec": {"min": 1}, "status": {}});
    let new = json!({"spec": {"min": 1}, "status": {"a": 1}});
    assert!(texts(&schema, &new, Some(&old)).is_empty());
    let worse = json!({"spec": {"min": 2}});
    assert_eq!(
        texts(&schema, &worse, Some(&old)),
        ["spec: Invalid value: \"object\": failed rule: self.min > 5"]
    );
}

fn faults(schema: &Value) -> Vec<String> {
    let errors = definition_errors(schema, &Path::new("s"));
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_have_to_compile() {
    let schema = with_rules(json!([{"rule": "self.odd > 1"}, {"rule": "self.min"}]), counts());
    let found = faults(&schema);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("s.properties[spec].x-kubernetes-validations[0].rule: Invalid value"),
        "{found:?}"
    );
    assert!(
        found[0].contains("compilation failed: ERROR: <input>:1:5: undefined field 'odd'"),
        "{found:?}"
    );
    assert!(
        found[1].ends_with("cel expression must evaluate to a bool"),
        "{found:?}"
    );
}

#[test]
fn rules_may_not_cost_too_much() {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let rule = json!([{"rule": "self.all(x, self.all(y, x == y))"}]);
    let found = faults(&with_rules(rule.clone(), list));
    assert!(
        found[0].contains("Forbidden: estimated rule cost exceeds budget by factor of more than 100x"),
        "{found:?}"
    );
    let bounded = json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}});
    assert_eq!(faults(&with_rules(rule, bounded)), Vec::<String>::new());
}

#[test]
fn items_of_plain_lists_have_no_past() {
    let mut list = json!({"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}});
    list["items"]["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf"}]);
    let schema = json!({"type": "object", "properties": {"l": list}});
    let found = faults(&schema);
    assert!(
        found[0].ends_with("oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[l]"),
        "{found:?}"
    );
}

#[test]
fn metadata_of_the_resource_is_seen() {
    let mut schema = json!({"type": "object", "properties": {}});
    schema["x-kubernetes-validations"] = json!([{"rule": "self.metadata.name.startsWith('a')", "message": "a"}]);
    assert_eq!(faults(&schema), Vec::<String>::new());
    let object = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "b"}});
    assert_eq!(texts(&schema, &object, None), ["<nil>: Invalid value: \"object\": a"]);
}
