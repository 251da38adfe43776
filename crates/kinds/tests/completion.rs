//! Objects as clients send them, completed as the API server completes them: decoded by the
//! schema, defaulted by schema and kind, brought into Go's shape. Expected are the objects that an
//! upstream server answers.

#![allow(clippy::unwrap_used)]

use api::Value;
use apiserver::Kind;
use serde_json::json;

fn kind(plural: &str, group: &str) -> Kind {
    let mut kinds = kinds::all().into_iter();
    kinds
        .find(|kind| kind.plural == plural && kind.gvk.group == group)
        .expect("the kind is listed")
}

fn complete(kind: &Kind, object: &Value) -> Value {
    let ty = kind.schema.get(kind.root);
    let mut object = schema::codec::decode_json(ty, object.to_string().as_bytes())
        .unwrap()
        .value;
    schema::defaults::apply(ty, &mut object);
    if let Some(default) = &kind.strategy.default {
        default(&mut object);
    }
    schema::normalize(ty, &mut object);
    object
}

fn check(plural: &str, group: &str, object: Value, want: Value) {
    let kind = kind(plural, group);
    let mut completed = complete(&kind, &object);
    let again = complete(&kind, &completed);
    assert_eq!(completed, again, "completing twice changes {plural}");
    let map = completed.as_object_mut().unwrap();
    for field in ["apiVersion", "kind", "metadata"] {
        map.remove(field);
    }
    assert_eq!(completed, want, "{plural}");
}

fn pod_spec() -> Value {
    json!({
        "containers": [{
            "name": "c",
            "image": "nginx",
            "imagePullPolicy": "Always",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    })
}

#[test]
fn pods() {
    let mut want = pod_spec();
    want["enableServiceLinks"] = json!(true);
    check(
        "pods",
        "",
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}),
        json!({"spec": want, "status": {}}),
    );
}

#[test]
fn volumes_and_probes() {
    let object = json!({"spec": {
        "containers": [{
            "name": "c", "image": "nginx:1",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "livenessProbe": {"httpGet": {"port": "http"}},
            "readinessProbe": {"grpc": {"port": 9000}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        }],
        "volumes": [
            {"name": "a"},
            {"name": "b", "hostPath": {"path": "/x"}},
            {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
        ],
    }});
    let completed = complete(&kind("pods", ""), &object);
    let container = &completed["spec"]["containers"][0];
    assert_eq!(container["ports"], json!([{"containerPort": 80, "protocol": "TCP"}]));
    assert_eq!(
        container["env"][0]["valueFrom"]["fieldRef"],
        json!({"apiVersion": "v1", "fieldPath": "spec.nodeName"})
    );
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(
        container["readinessProbe"]["grpc"],
        json!({"port": 9000, "service": ""})
    );
    assert_eq!(
        completed["spec"]["volumes"],
        json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "hostPath": {"path": "/x", "type": ""}},
            {"name": "c", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3600, "path": "t"}},
                {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}}]}},
            ]}},
        ])
    );
}

#[test]
fn deployments() {
    check(
        "deployments",
        "apps",
        json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}},
        }}),
        json!({
            "spec": {
                "progressDeadlineSeconds": 600,
                "replicas": 1,
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod_spec()},
            },
            "status": {},
        }),
    );
}

#[test]
fn services() {
    check(
        "services",
        "",
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
        json!({
            "spec": {
                "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "selector": {"a": "b"},
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        }),
    );
}

#[test]
fn small_kinds() {
    check(
        "secrets",
        "",
        json!({"stringData": {"k": "v"}}),
        json!({"data": {"k": "dg=="}, "type": "Opaque"}),
    );
    check(
        "configmaps",
        "",
        json!({"data": {"k": "v"}}),
        json!({"data": {"k": "v"}}),
    );
    check(
        "endpointslices",
        "discovery.k8s.io",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 1}]}),
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {}}],
            "ports": [{"name": "", "port": 1, "protocol": "TCP"}]}),
    );
    check(
        "rolebindings",
        "rbac.authorization.k8s.io",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}],
        }),
    );
    check(
        "storageclasses",
        "storage.k8s.io",
        json!({"provisioner": "p"}),
        json!({"provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
    );
}

#[test]
fn stateful_sets_fill_their_claims() {
    let object = json!({"spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    }});
    let kind = kind("statefulsets", "apps");
    let completed = complete(&kind, &object);
    let spec = &completed["spec"];
    assert_eq!(
        spec["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
    );
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    let claim = &spec["volumeClaimTemplates"][0];
    assert_eq!(
        (&claim["kind"], &claim["spec"]["volumeMode"], &claim["status"]["phase"]),
        (&json!("PersistentVolumeClaim"), &json!("Filesystem"), &json!("Pending"))
    );
    assert_eq!((kind.strategy.validate.as_ref().unwrap())(&completed), []);
}

#[test]
fn the_clusters_first_objects_are_complete_and_valid() {
    let objects = kinds::bootstrap::objects().into_iter();
    let service = kinds::bootstrap::kubernetes_service("10.96.0.1", 6443);
    let slice = kinds::bootstrap::kubernetes_endpoint_slice(&["10.0.0.5"], 6443);
    let endpoints = kinds::bootstrap::kubernetes_endpoints(&["10.0.0.5"], 6443);
    let own = [
        ("services", "", service),
        ("endpointslices", "discovery.k8s.io", slice),
        ("endpoints", "", endpoints),
    ];
    let own = own
        .into_iter()
        .map(|(plural, group, object)| (api::Gvr::new(group, "v1", plural), object));
    for (gvr, object) in objects.chain(own) {
        let kind = kind(&gvr.resource, &gvr.group);
        let completed = complete(&kind, &object);
        if let Some(validate) = &kind.strategy.validate {
            assert_eq!(validate(&completed), [], "{gvr}");
        }
    }
}
