use api::field::Path;
use serde_json::{Value, json};

use super::*;

fn node(schema: Value) -> Node {
    Node::parse(&schema).into_resource()
}

fn messages(schema: Value, value: Value) -> Vec<String> {
    let node = node(schema);
    let errors = Validator::new(&node).validate(&Path::root(), &value);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn pruning_names_what_it_removes() {
    let node = node(json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {"y": {"type": "string"}}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object"}},
        }},
    }}));
    let mut object = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "n"}, "extra": 1, "spec": {
        "a": "x", "b": 1, "list": [{"x": 1, "z": 2}],
        "free": {"any": {"thing": 1}, "known": {"y": "1", "q": 2}}, "map": {"k": {"w": 1}},
    }});
    let removed = prune(&node, &mut object);
    assert_eq!(
        removed,
        ["extra", "spec.b", "spec.free.known.q", "spec.list[0].z", "spec.map.k.w"]
    );
    assert_eq!(object["spec"]["free"]["any"]["thing"], 1);
    assert_eq!(object["spec"]["list"], json!([{"x": 1}]));
}

#[test]
fn defaults_fill_what_is_absent_or_null() {
    let node = node(
        json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
            "a": {"type": "string", "default": "A"},
            "b": {"type": "string", "nullable": true, "default": "B"},
            "c": {"type": "string"},
            "l": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "integer", "default": 5}}}},
        }}}}),
    );
    let mut object = json!({});
    apply_defaults(&node, &mut object);
    assert_eq!(object, json!({"spec": {"a": "A", "b": "B"}}));
    let mut object = json!({"spec": {"a": null, "b": null, "c": null, "l": [{}]}});
    apply_defaults(&node, &mut object);
    drop_nulls(&node, &mut object);
    assert_eq!(object, json!({"spec": {"a": "A", "b": null, "l": [{"p": 5}]}}));
}

#[test]
fn findings_have_upstreams_words() {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object",
        "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 3, "pattern": "^a"},
            "short": {"type": "string", "minLength": 2},
            "n": {"type": "integer", "minimum": 1, "maximum": 10},
            "port": {"x-kubernetes-int-or-string": true},
            "color": {"type": "string", "enum": ["red", "green"]},
            "list": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
            "when": {"type": "string", "format": "date-time"},
    }}}});
    assert_eq!(messages(schema.clone(), json!({})), ["spec: Required value"]);
    let found = messages(
        schema,
        json!({"spec": {"short": "a", "n": 11, "port": true, "color": "blue", "list": [1, "x"], "when": "now"}}),
    );
    assert_eq!(
        found,
        [
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
            "spec.list[0]: Invalid value: \"integer\": spec.list[0] in body must be of type string: \"integer\"",
            "spec.list: Too many: 2: must have at most 1 item",
            "spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.short: Invalid value: \"a\": spec.short in body should be at least 2 chars long",
            "spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\"",
            "spec.name: Required value",
        ]
    );
}

#[test]
fn what_did_not_change_is_not_judged() {
    let node = node(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        }}}}),
    );
    let old = json!({"spec": {"a": "long", "b": "x"}});
    let new = json!({"spec": {"a": "long", "b": "y"}});
    let judge = Validator::new(&node);
    assert!(judge.validate_update(&Path::root(), &new, Some(&old)).is_empty());
    let worse = json!({"spec": {"a": "longer", "b": "y"}});
    assert_eq!(judge.validate_update(&Path::root(), &worse, Some(&old)).len(), 1);
}

#[test]
fn alternatives() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}}});
    assert!(messages(schema.clone(), json!({"spec": {"a": "x"}})).is_empty());
    let both = messages(schema, json!({"spec": {"a": "x", "b": "y"}}));
    let want = "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives";
    assert_eq!(both, [want]);
}

#[test]
fn structural_rules() {
    let path = Path::new("schema");
    let errors = check::structural_errors(
        &json!({"properties": {"a": {"type": "array"}, "b": {"type": "object", "allOf": [{"type": "object",
            "properties": {"c": {}}}]}}}),
        &path,
    );
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "schema.properties[a].items: Required value: must be specified",
            "schema.properties[b].allOf[0].type: Forbidden: must be empty to be structural",
            "schema.type: Required value: must not be empty at the root",
        ]
    );
    let fine = json!({"type": "object", "properties": {"p": {"x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}]}, "metadata": {"type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}}}}});
    assert!(check::structural_errors(&fine, &path).is_empty());
    assert!(check::schema_errors(&fine, &path).is_empty());
}

#[test]
fn defaults_have_to_be_valid() {
    let root = node(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "integer", "default": "x"},
            "b": {"type": "object", "properties": {"c": {"type": "string"}}, "default": {"d": 1}},
        }}}}),
    );
    let errors = check_defaults(&root, &Path::new("s"));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "s.properties[spec].properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
            "s.properties[spec].properties[b].default: Invalid value: {\"d\":1}: must not have unknown fields",
        ]
    );
}

#[test]
fn embedded_metadata_takes_its_shape() {
    let root = node(json!({"type": "object", "properties": {"inner": {"type": "object",
        "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
    let mut object = json!({"inner": {"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "creationTimestamp": null, "odd": 1}, "spec": {"q": 1}}});
    let unknown = coerce(&root, &mut object, Malformed::Refuse).unwrap();
    assert_eq!(unknown, ["inner.metadata.odd"]);
    assert_eq!(object["inner"]["metadata"], json!({"name": "x"}));
    assert!(embedded_errors(&root, &object, &Path::root()).is_empty());
    let missing = embedded_errors(&root, &json!({"inner": {"kind": "Pod"}}), &Path::root());
    assert_eq!(
        missing[0].to_string(),
        "inner.apiVersion: Required value: must not be empty"
    );
}

#[test]
fn lists_of_type_map_hold_a_key_once() {
    let root = node(
        json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}),
    );
    let errors = list_errors(
        &root,
        &json!({"l": [{"k": "a"}, {"k": "a"}, {"k": "b"}]}),
        &Path::root(),
    );
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["l[1]: Duplicate value: {\"k\":\"a\"}"]);
}

#[test]
fn the_model_divides_lists_by_their_keys() {
    let root = node(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}}}}),
    );
    let gvk = api::Gvk::new("g.io", "v1", "A");
    let (schema, id) = build(&gvk, &root);
    let object = json!({"apiVersion": "g.io/v1", "kind": "A", "spec": {"l": [{"k": "a", "v": 1}]}});
    let set = crate::managed::FieldSet::of(schema.get(id), &object);
    assert!(
        set.paths().contains(&".spec.l[k=\"a\"].v".to_owned()),
        "{:?}",
        set.paths()
    );
    assert!(schema.get(id).field("metadata").unwrap().ty().field("labels").is_some());
}

#[test]
fn field_paths() {
    assert_eq!(
        check::field_steps(".spec.a['b.c']"),
        Some(vec!["spec".into(), "a".into(), "b.c".into()])
    );
    assert_eq!(check::field_steps("spec"), None);
    assert_eq!(check::field_steps(".spec[0]"), None);
}
