//! Objects with several faults each, as clients send them, and all that upstream says of them, in its
//! order.

#![allow(clippy::unwrap_used)]

use api::Value;
use serde_json::json;

fn check(plural: &str, group: &str, object: &Value, want: &[&str]) {
    let mut kinds = kinds::all().into_iter();
    let kind = kinds
        .find(|kind| kind.plural == plural && kind.gvk.group == group)
        .expect("the kind is listed");
    let ty = kind.schema.get(kind.root);
    let mut object = schema::codec::decode_json(ty, object.to_string().as_bytes())
        .unwrap()
        .value;
    schema::defaults::apply(ty, &mut object);
    if let Some(default) = &kind.strategy.default {
        default(&mut object);
    }
    schema::normalize(ty, &mut object);
    let errors = kind.strategy.validate.as_ref().unwrap()(&object);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, want, "{plural}");
}

#[test]
fn pods() {
    check(
        "pods",
        "",
        &json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Sometimes", "dnsPolicy": "Nope", "containers": []}}),
        &[
            "spec.containers: Required value",
            r#"spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never""#,
            r#"spec.dnsPolicy: Unsupported value: "Nope": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None""#,
        ],
    );
    check(
        "pods",
        "",
        &json!({"metadata": {"name": "p"}, "spec": {
            "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/a"}}, {"name": "v"}],
            "containers": [{
                "name": "c",
                "image": " x",
                "resources": {"requests": {"cpu": 2, "foo": 1}, "limits": {"cpu": 1}},
                "ports": [{"containerPort": 70000}, {"containerPort": 80, "name": "X"}],
                "volumeMounts": [{"name": "nope", "mountPath": ""}],
                "livenessProbe": {"httpGet": {"port": 0, "scheme": "Foo"}, "timeoutSeconds": -1},
                "env": [{"name": "1=b", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "foo"}}}],
            }, {"name": "c"}],
        }}),
        &[
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            r#"spec.containers[0].ports[1].name: Invalid value: "X": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
            r#"spec.containers[0].ports[1].name: Invalid value: "X": must contain at least one letter (a-z)"#,
            r#"spec.containers[0].env[0].name: Invalid value: "1=b": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
            r#"spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "foo": error converting fieldPath: field label not supported: foo"#,
            r#"spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
            r#"spec.containers[0].volumeMounts[0].name: Not found: "nope""#,
            "spec.containers[0].volumeMounts[0].mountPath: Required value",
            r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
            r#"spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified"#,
            r#"spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers"#,
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            r#"spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "Foo": supported values: "HTTP", "HTTPS""#,
            "spec.containers[0].livenessProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.containers[1].image: Required value",
            r#"spec.containers[1].name: Duplicate value: "c""#,
            r#"spec.containers[0].image: Invalid value: " x": must not have leading or trailing whitespace"#,
        ],
    );
}

/// Upstream takes it for one second when the pod ends.
#[test]
fn a_negative_grace_period_is_taken() {
    let spec = json!({"containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": -1});
    check(
        "pods",
        "",
        &json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}),
        &[],
    );
}

#[test]
fn services() {
    check(
        "services",
        "",
        &json!({"metadata": {"name": "s"}, "spec": {"type": "Foo", "ports": [{"port": 0}, {"port": 80, "protocol": "X"}],
            "sessionAffinity": "Bad", "externalIPs": ["127.0.0.1"]}}),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].name: Required value",
            r#"spec.ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP""#,
            r#"spec.sessionAffinity: Unsupported value: "Bad": supported values: "ClientIP", "None""#,
            r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            r#"spec.type: Unsupported value: "Foo": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ],
    );
}

#[test]
fn deployments() {
    check(
        "deployments",
        "apps",
        &json!({"metadata": {"name": "d"}, "spec": {
            "replicas": -1,
            "strategy": {"type": "Foo"},
            "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Foo"}]},
            "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
        }}),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            r#"spec.selector.matchExpressions[0].operator: Invalid value: "Foo": not a valid selector operator"#,
            r#"spec.selector: Invalid value: {"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"Foo"}]}: invalid label selector"#,
            r#"spec.strategy: Unsupported value: {"Type":"Foo","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate""#,
        ],
    );
}

#[test]
fn bindings_of_roles() {
    check(
        "clusterrolebindings",
        "rbac.authorization.k8s.io",
        &json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": ""},
            "subjects": [{"kind": "ServiceAccount", "name": "a"}, {"kind": "Robot", "name": "r"}]}),
        &[
            r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
            "roleRef.name: Required value",
            "subjects[0].namespace: Required value",
            r#"subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#,
        ],
    );
}
