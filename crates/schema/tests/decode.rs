//! What decoding refuses and reports, in upstream's words, and what hostile input gets.

use schema::codec::{DecodeError, decode_json, decode_value, decode_yaml, protobuf, type_meta, unknown, yaml};
use schema::{TypeRef, builtin, defaults, normalize, prune};
use serde_json::{Value, json};

fn kind(group: &str, version: &str, kind: &str) -> TypeRef<'static> {
    builtin().kind(group, version, kind).expect("a registered kind")
}

fn pod() -> TypeRef<'static> {
    kind("", "v1", "Pod")
}

fn error(ty: TypeRef<'_>, text: &str) -> String {
    decode_json(ty, text.as_bytes()).expect_err("refused").to_string()
}

fn strict(ty: TypeRef<'_>, text: &str) -> Vec<String> {
    decode_json(ty, text.as_bytes()).expect("decodes").strict
}

#[test]
fn unknown_and_duplicate_fields_are_reported_at_any_depth() {
    let text = r#"{"kind":"Pod","metadata":{"name":"a","foo":1,"labels":{"x":"1","x":"2"}},
        "spec":{"nodeName":"n","nodeName":"m","containers":[{"name":"c","Image":"i","env":[{"nam":"x"}]}]}}"#;
    assert_eq!(
        strict(pod(), text),
        [
            r#"unknown field "metadata.foo""#,
            r#"duplicate field "metadata.labels.x""#,
            r#"duplicate field "spec.nodeName""#,
            r#"unknown field "spec.containers[0].Image""#,
            r#"unknown field "spec.containers[0].env[0].nam""#,
        ]
    );
    let decoded = decode_json(pod(), text.as_bytes()).expect("decodes").value;
    assert_eq!(
        decoded["spec"],
        json!({"nodeName": "m", "containers": [{"name": "c", "env": [{}]}]})
    );
    assert_eq!(
        strict(pod(), r#"{"foo":1,"foo":2,"metadata":null,"metadata":null}"#),
        [r#"unknown field "foo""#, r#"duplicate field "metadata""#]
    );
}

#[test]
fn what_comes_twice_is_decoded_over_what_came_first() {
    let text = r#"{"metadata":{"labels":{"a":"1","b":"2"},"name":"n"},"metadata":{"labels":{"b":"3"},"name":null},
        "spec":{"hostname":"h","containers":[{"name":"a","image":"x"},{"name":"b"}]},
        "spec":{"hostNetwork":true,"containers":[{"name":"c"}]}}"#;
    let decoded = decode_json(pod(), text.as_bytes()).expect("decodes").value;
    assert_eq!(
        decoded,
        json!({"metadata": {"labels": {"a": "1", "b": "3"}, "name": "n"},
            "spec": {"hostname": "h", "hostNetwork": true, "containers": [{"name": "c", "image": "x"}]}})
    );
}

#[test]
fn strict_errors_are_limited() {
    let members: Vec<String> = (0..500).map(|i| format!("\"x{i}\":1")).collect();
    assert_eq!(strict(pod(), &format!("{{{}}}", members.join(","))).len(), 100);
}

#[test]
fn type_errors_name_the_go_field() {
    let deployment = kind("apps", "v1", "Deployment");
    assert_eq!(
        error(deployment, r#"{"spec":{"replicas":"3"}}"#),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        error(
            deployment,
            r#"{"spec":{"template":{"spec":{"containers":[{"ports":[{"containerPort":"x"}]}]}}}}"#
        ),
        "json: cannot unmarshal string into Go struct field \
         ContainerPort.spec.template.spec.containers.ports.containerPort of type int32"
    );
    assert_eq!(
        error(pod(), r#"{"spec":{"containers":{"name":"x"}}}"#),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
    );
    assert_eq!(
        error(pod(), r#"{"metadata":{"labels":{"a":1}}}"#),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
    assert_eq!(
        error(pod(), "[]"),
        "json: cannot unmarshal array into Go value of type v1.Pod"
    );
    assert_eq!(
        error(deployment, r#"{"spec":{"replicas":1.5}}"#),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        error(deployment, r#"{"spec":{"replicas":3000000000}}"#),
        "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        error(pod(), r#"{"spec":{"restartPolicy":true}}"#),
        "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"
    );
}

#[test]
fn strings_that_do_not_parse_say_why() {
    assert_eq!(
        error(
            pod(),
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}}"#
        ),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
    assert!(error(pod(), r#"{"metadata":{"creationTimestamp":"now"}}"#).starts_with("parsing time \"now\" as"));
    let secret = kind("", "v1", "Secret");
    assert_eq!(
        error(secret, r#"{"data":{"a":"a*b="}}"#),
        "illegal base64 data at input byte 1"
    );
}

#[test]
fn broken_json_has_gos_words() {
    for (text, wanted) in [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ("{a", "invalid character 'a' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
        (
            r#"{"spec":{"containers":[{} {}]}}"#,
            "invalid character '{' after array element",
        ),
        ("{} x", "invalid character 'x' after top-level value"),
        (r#"{"a":nul}"#, "invalid character '}' in literal null (expecting 'l')"),
        (r#"{"a":01}"#, "invalid character '1' after object key:value pair"),
        (r#"{"a":NaN}"#, "invalid character 'N' looking for beginning of value"),
        (r#"{"kind":"\x"}"#, "invalid character 'x' in string escape code"),
        ("{\"kind\":\"\n\"}", "invalid character '\\n' in string literal"),
    ] {
        assert_eq!(error(pod(), text), wanted, "{text}");
    }
}

#[test]
fn null_is_absence_and_values_take_their_canonical_form() {
    let text = r#"{"metadata":{"name":"a","creationTimestamp":null,"deletionTimestamp":"2024-01-01T01:00:00+01:00"},
        "spec":{"containers":[null,{"name":"c","resources":{"limits":{"cpu":"1000m","memory":1024}}}],"nodeSelector":null}}"#;
    let mut value = decode_json(pod(), text.as_bytes()).expect("decodes").value;
    assert_eq!(
        value["metadata"],
        json!({"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"})
    );
    assert_eq!(
        value["spec"]["containers"][1]["resources"]["limits"],
        json!({"cpu": "1", "memory": "1024"})
    );
    normalize(pod(), &mut value);
    assert_eq!(value["spec"]["containers"][0], json!({"name": "", "resources": {}}));
    assert_eq!(value["status"], json!({}));
    assert_eq!(decode_value(pod(), &value).expect("still decodes").value, {
        let mut again = value.clone();
        again["spec"]["containers"][0] = json!({"name": "", "resources": {}});
        again
    });
}

#[test]
fn empty_objects_show_what_go_shows() {
    let mut value = json!({"kind": "Deployment", "apiVersion": "apps/v1"});
    normalize(kind("apps", "v1", "Deployment"), &mut value);
    assert_eq!(
        value,
        json!({
            "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {}, "status": {},
            "spec": {
                "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}},
            },
        })
    );
    let mut value = json!({"metadata": {"labels": {}}, "data": {}, "immutable": false});
    normalize(kind("", "v1", "ConfigMap"), &mut value);
    assert_eq!(value, json!({"metadata": {}, "immutable": false}));
}

#[test]
fn declared_defaults_apply_once() {
    let ty = kind("apps", "v1", "Deployment");
    let mut value =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1}]}]}}}});
    defaults::apply(ty, &mut value);
    let port = &value["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    assert_eq!(*port, json!({"containerPort": 1, "protocol": "TCP"}));
    let before = value.clone();
    defaults::apply(ty, &mut value);
    assert_eq!(before, value);
}

#[test]
fn pruning_keeps_what_is_known() {
    let mut value = json!({"spec": {"x": 1, "containers": [{"name": "c", "y": 2}]}, "z": {}});
    prune(pod(), &mut value);
    assert_eq!(value, json!({"spec": {"containers": [{"name": "c"}]}}));
}

#[test]
fn deep_or_endless_input_is_refused() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for text in [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
    ] {
        assert!(decode_json(pod(), text.as_bytes()).is_err());
        let revision = kind("apps", "v1", "ControllerRevision");
        let inside = format!("{{\"data\":{text}}}");
        assert!(decode_json(revision, inside.as_bytes()).is_err());
        assert!(decode_yaml(revision, inside.as_bytes()).is_err());
        assert!(type_meta(text.as_bytes()).is_err());
    }
    let valid = decode_json(
        kind("apps", "v1", "ControllerRevision"),
        format!("{{\"data\":{}}}", deep("[", "]")).as_bytes(),
    );
    assert_eq!(valid.expect_err("too deep"), DecodeError::TooDeep);
}

#[test]
fn yaml_is_read_as_upstream_reads_it() {
    let text = "kind: Pod\nmetadata: {name: a, labels: {x: 'yes'}}\nspec:\n  hostNetwork: yes\n  volumes:\n  \
                - name: v\n    configMap: {defaultMode: 0644}\n";
    let decoded = decode_yaml(pod(), text.as_bytes()).expect("decodes");
    assert_eq!(
        decoded.value["spec"]["volumes"][0]["configMap"]["defaultMode"],
        json!(420)
    );
    assert_eq!(decoded.value["spec"]["hostNetwork"], json!(true));
    assert!(decoded.strict.is_empty());
    let decoded = decode_yaml(pod(), b"kind: Pod\nmetadata:\n  name: a\n  name: b\nsepc: {}\n").expect("decodes");
    assert_eq!(decoded.value["metadata"]["name"], json!("b"));
    assert_eq!(
        decoded.strict,
        [
            "yaml: unmarshal errors:\n  line 4: key \"name\" already set in map",
            r#"unknown field "sepc""#
        ]
    );
    let wrong = decode_yaml(pod(), b"metadata: {labels: {on: yes}}")
        .expect_err("a boolean label")
        .to_string();
    assert!(
        wrong.starts_with("json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels"),
        "{wrong}"
    );
    let broken = decode_yaml(pod(), b"a: [1,\nb: }").expect_err("no YAML").to_string();
    assert!(broken.starts_with("error converting YAML to JSON: yaml: "), "{broken}");
}

#[test]
fn yaml_bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let prior = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![prior; 10].join(",")));
    }
    assert!(yaml::to_value(bomb.as_bytes()).is_err());
    assert!(yaml::to_value(b"a: .nan").is_err());
    assert!(yaml::to_value(b"a: \xff").is_err());
}

#[test]
fn yaml_streams_are_split() {
    let text = "# head\n---\na: 1\n---\n# only a comment\n--- # note\nb: |\n  ---x\n---\n";
    assert_eq!(yaml::documents(text).collect::<Vec<_>>(), ["a: 1\n", "b: |\n  ---x\n"]);
}

#[test]
fn lying_messages_are_refused() {
    let decode = |bytes: &[u8]| protobuf::decode(pod(), bytes);
    assert!(
        decode(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(),
        "a length beyond the end"
    );
    assert!(
        decode(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(),
        "an overlong varint"
    );
    assert!(decode(&[0x08, 0x01]).is_err(), "metadata as a varint");
    assert!(decode(&[0x00]).is_err(), "field number 0");
    assert!(decode(&[0x0b, 0x0b]).is_err(), "an open group");
    assert_eq!(
        decode(&[0xfb, 0x01, 0x08, 0x01, 0xfc, 0x01]),
        Ok(json!({})),
        "an unknown group is skipped"
    );
    assert!(unknown::unwrap(b"k8s").is_err());
    assert!(unknown::unwrap(b"{}").is_err());

    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let revision = kind("apps", "v1", "ControllerRevision");
    let mut raw = vec![0x0a];
    raw.extend(varint(nested.len()));
    raw.extend(nested.as_bytes());
    let mut message = vec![0x12];
    message.extend(varint(raw.len()));
    message.extend(raw);
    assert!(protobuf::decode(revision, &message).is_err());
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

#[test]
fn raw_extensions_may_hold_enveloped_objects() {
    let review = kind("admission.k8s.io", "v1", "AdmissionReview");
    let config = kind("", "v1", "ConfigMap");
    let inner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let enveloped = protobuf::encode_object(config, &inner).expect("encodes");
    // request (1) > object (10) > raw (1)
    // Built outside in: the innermost field is raw, then object, then request.
    let raw = [vec![0x0a], varint(enveloped.len()), enveloped].concat();
    let object = [vec![9 << 3 | 2], varint(raw.len()), raw].concat();
    let request = [vec![0x0a], varint(object.len()), object].concat();
    let value = protobuf::decode(review, &request).expect("decodes");
    assert_eq!(value["request"]["object"], inner);
    assert!(matches!(value["request"], Value::Object(_)));
}

#[test]
fn type_meta_is_read_without_a_schema() {
    let meta = type_meta(br#"{"spec":{"kind":"no"},"kind":"Pod","apiVersion":"v1"}"#).expect("an object");
    assert_eq!((meta.api_version.as_str(), meta.kind.as_str()), ("v1", "Pod"));
    assert!(type_meta(b"[]").is_err());
    assert!(type_meta(br#"{"kind":1}"#).is_err());
}
