//! Validation rules of custom resources on schemas and objects, with the costs that Kubernetes' own test of them has
//! (k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/celcoststability_test.go). A row has a schema `s`, an object
//! `o` and rules `r` with their costs; each rule holds.

use std::sync::Arc;

use cel::{Activation, Decl, DeclSizes, DeclTypes, Env, Value, limits};
use serde_json::{Value as Json, json};

fn env(schema: &Json) -> (Env, Arc<Decl>) {
    let decl = Decl::from_schema(schema, "selfType", true).expect("a schema that expressions can see");
    let env = Env::kubernetes()
        .types(Arc::new(DeclTypes::new([&decl])))
        .variable("self", decl.ty())
        .variable("oldSelf", decl.ty())
        .build();
    (env, decl)
}

fn check(schema: &Json, object: &Arc<Json>, rule: &str, cost: u64) -> Result<(), String> {
    let (env, decl) = env(schema);
    let program = env.compile(rule).map_err(|issues| issues.to_string())?;
    let value = Value::from_json(object.clone(), &decl).map_err(|error| error.to_string())?;
    let activation = Activation::new().with("self", value);
    let (value, counted) = program
        .evaluate(&activation, limits::PER_CALL_LIMIT)
        .map_err(|error| format!("{error:?}"))?;
    if value.as_bool() != Some(true) {
        return Err(format!("gives {value}"));
    }
    if counted != cost {
        return Err(format!("costs {counted} instead of {cost}"));
    }
    let estimate = program.cost_estimate(&DeclSizes::new().with("self", decl));
    // The estimate of sizes that schemas give is not above each cost: numbers have no size there.
    if estimate.min > estimate.max {
        return Err(format!("is estimated {}..{}", estimate.min, estimate.max));
    }
    Ok(())
}

#[test]
fn rules_hold_at_upstreams_costs() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("data/rules.jsonl").lines() {
        let row: Json = serde_json::from_str(line).expect("a row of JSON");
        let object = Arc::new(row["o"].clone());
        for (rule, cost) in row["r"].as_object().expect("rules") {
            count += 1;
            if let Err(problem) = check(&row["s"], &object, rule, cost.as_u64().expect("a cost")) {
                wrong.push(format!("{rule}\n    {problem}"));
            }
        }
    }
    assert!(count > 230, "the table is whole");
    assert!(
        wrong.is_empty(),
        "{} of {count} rules are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The message that a rule fails with on an object of a schema.
fn failure(schema: Json, object: Json, rule: &str) -> String {
    let (env, decl) = env(&schema);
    let program = match env.compile(rule) {
        Ok(program) => program,
        Err(issues) => return issues.issues()[0].message.clone(),
    };
    let value = Value::from_json(object, &decl).expect("an object");
    let outcome = program.evaluate(&Activation::new().with("self", value), limits::PER_CALL_LIMIT);
    match outcome {
        Ok((value, _)) => value.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn failures_say_what_upstream_says() {
    let schema = || {
        json!({"type": "object", "properties": {
            "n": {"type": "integer"}, "s": {"type": "string"}, "namespace": {"type": "string"},
            "m": {"type": "object", "additionalProperties": {"type": "string"}},
            "l": {"type": "array", "items": {"type": "string"}},
            "maybe": {"type": "string", "nullable": true},
            "preserved": {"x-kubernetes-preserve-unknown-fields": true},
            "d": {"type": "string", "format": "duration"},
            "a-b.c/d": {"type": "string"},
        }})
    };
    let object = || {
        json!({"n": 1, "s": "x", "namespace": "ns", "m": {"k": "v"}, "l": ["a"], "maybe": null, "d": "bad",
        "a-b.c/d": "escaped"})
    };
    for (rule, message) in [
        ("self.m['x'] == ''", "no such key: x"),
        ("self.m.x == ''", "no such key: x"),
        ("self.l[3] == ''", "index out of bounds: 3"),
        ("self.maybe == ''", "no such key: maybe"),
        ("has(self.maybe)", "false"),
        ("self.missing == ''", "undefined field 'missing'"),
        ("self.preserved == ''", "undefined field 'preserved'"),
        (
            "self.n == 'x'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("self.n / 0 == 1", "division by zero"),
        ("self.n % 0 == 1", "modulus by zero"),
        ("self.n + 9223372036854775807 > 0", "integer overflow"),
        ("int(self.s) == 1", "type conversion error from 'string' to 'int'"),
        (
            "self.d == duration('1s')",
            "Invalid duration bad: unable to parse bad into duration",
        ),
        ("self.__namespace__ == 'ns'", "true"),
        ("self.namespace == 'ns'", "undefined field 'namespace'"),
        ("self.a__dash__b__dot__c__slash__d == 'escaped'", "true"),
        ("self.s.matches('[')", "invalid matches argument"),
        ("duration('x') == duration('1s')", "invalid duration argument"),
        ("timestamp('x') == timestamp('y')", "invalid timestamp argument"),
        ("[1, 'a'].size() == 2", "expected type 'int' but found 'string'"),
        ("self.kind == ''", "no such key: kind"),
        ("self.metadata.name == ''", "no such key: metadata"),
        ("self.metadata.labels == ''", "undefined field 'labels'"),
        ("self.s.size() > 1 || self.m.x == ''", "no such key: x"),
        ("self.s.size() == 1 || self.m.x == ''", "true"),
        (
            "'%d'.format(['a']) == ''",
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("[].max() == 1", "max called on empty list"),
    ] {
        assert_eq!(failure(schema(), object(), rule), message, "{rule}");
    }
}

#[test]
fn lists_are_compared_and_added_by_their_type() {
    let (env, decl) = env(&json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "atomic": {"type": "array", "items": {"type": "string"}},
    }}));
    let value = |json: Json| Value::from_json(json, &decl).expect("an object");
    let activation = Activation::new()
        .with(
            "self",
            value(json!({"set": ["a", "b"], "map": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "atomic": ["a", "b"]})),
        )
        .with(
            "oldSelf",
            value(json!({"set": ["b", "a"], "map": [{"k": "b", "v": 2}, {"k": "a", "v": 1}], "atomic": ["b", "a"]})),
        );
    for (rule, expected) in [
        ("self.set == oldSelf.set", true),
        ("self.map == oldSelf.map", true),
        ("self.atomic == oldSelf.atomic", false),
        ("(self.set + ['b', 'c']).size() == 3", true),
        ("(self.map + [oldSelf.map[0]]).size() == 2", true),
        ("(self.atomic + ['b', 'c']).size() == 4", true),
        ("self.map.exists(e, e.k == 'b' && e.v == 2)", true),
        ("self == self && self != oldSelf", true),
    ] {
        let program = env.compile(rule).expect(rule);
        let (value, _) = program.evaluate(&activation, limits::PER_CALL_LIMIT).expect(rule);
        assert_eq!(value.as_bool(), Some(expected), "{rule}");
    }
}

#[test]
fn programs_know_what_they_use() {
    let (env, _) = env(
        &json!({"type": "object", "properties": {"a": {"type": "object", "properties": {
        "b": {"type": "array", "items": {"type": "string"}}}}}}),
    );
    let program = env
        .compile("self.a.b.all(x, x in oldSelf.a.b) && has(self.a) && ip.isCanonical('::1')")
        .expect("a rule");
    assert!(program.uses("self") && program.uses("oldSelf") && !program.uses("x"));
    assert!(program.functions().contains("ip.isCanonical"));
    let path = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
    assert!(program.paths().contains(&path(&["self", "a", "b"])));
    assert!(program.paths().contains(&path(&["oldSelf", "a", "b"])));
    assert!(!program.paths().iter().any(|path| path[0] == "x"));
}
