//! The documents have what kubectl looks for, under upstream's names.

use api::{GroupVersion, Gvk};
use schema::openapi::{self, Answer, Endpoint, Verb, gnostic};
use schema::{Docs, builtin};
use serde_json::{Value, json};

const ALL: [Verb; 4] = [Verb::Get, Verb::Update, Verb::Patch, Verb::Delete];

fn endpoints() -> Vec<Endpoint> {
    let deployment = || Gvk::new("apps", "v1", "Deployment");
    let pod = || Gvk::new("", "v1", "Pod");
    let base = "/apis/apps/v1/namespaces/{namespace}/deployments";
    let mut log = Endpoint::new(
        "/api/v1/namespaces/{namespace}/pods/{name}/log",
        pod(),
        true,
        [Verb::Get],
    )
    .subresource("log", pod());
    log.options = Some(Gvk::new("", "v1", "PodLogOptions"));
    log.answer = Answer::Text;
    let mut exec = Endpoint::new(
        "/api/v1/namespaces/{namespace}/pods/{name}/exec",
        pod(),
        true,
        [Verb::Connect],
    )
    .subresource("exec", Gvk::new("", "v1", "PodExecOptions"));
    exec.options = Some(Gvk::new("", "v1", "PodExecOptions"));
    vec![
        Endpoint::new(
            base,
            deployment(),
            true,
            [Verb::List, Verb::Create, Verb::DeleteCollection],
        ),
        Endpoint::new("/apis/apps/v1/deployments", deployment(), true, [Verb::List]),
        Endpoint::new(format!("{base}/{{name}}"), deployment(), true, ALL),
        Endpoint::new(
            format!("{base}/{{name}}/scale"),
            deployment(),
            true,
            [Verb::Get, Verb::Update, Verb::Patch],
        )
        .subresource("scale", Gvk::new("autoscaling", "v1", "Scale")),
        Endpoint::new(
            "/api/v1/namespaces/{namespace}/pods",
            pod(),
            true,
            [Verb::List, Verb::Create],
        ),
        log,
        exec,
    ]
}

fn apps() -> Value {
    openapi::v3(
        (builtin(), &Docs::builtin()),
        "v1.37.0",
        &GroupVersion::new("apps", "v1"),
        &endpoints(),
        &[],
    )
}

fn names(parameters: &Value) -> Vec<&str> {
    parameters
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| p["name"].as_str().expect("a name"))
        .collect()
}

#[test]
fn kubectl_finds_kinds_parameters_and_fields() {
    let document = apps();
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let patch = &item["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(
        names(&patch["parameters"]),
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    assert_eq!(names(&item["parameters"]), ["name", "namespace", "pretty"]);
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    assert_eq!(
        deployment["properties"]["spec"],
        json!({
            "allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}],
            "default": {},
            "description": "Specification of the desired behavior of the Deployment.",
        })
    );
    let port = &schemas["io.k8s.api.core.v1.ContainerPort"];
    assert_eq!(port["required"], json!(["containerPort"]));
    assert_eq!(port["properties"]["containerPort"]["default"], json!(0));
    assert_eq!(port["properties"]["protocol"]["default"], json!("TCP"));
    assert_eq!(port["properties"]["protocol"]["enum"], json!(["SCTP", "TCP", "UDP"]));
    let text = port["properties"]["protocol"]["description"]
        .as_str()
        .expect("a description");
    assert!(text.ends_with(
        "Defaults to \"TCP\".\n\nPossible enum values:\n - `\"SCTP\"` is the SCTP protocol.\n - `\"TCP\"` is the TCP \
         protocol.\n - `\"UDP\"` is the UDP protocol."
    ));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-strategy"], json!("merge"));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], json!("name"));
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"],
        json!("atomic")
    );
}

#[test]
fn operations_have_upstreams_ids() {
    let mut ids = Vec::new();
    let core = openapi::v3(
        (builtin(), &Docs::builtin()),
        "v1.37.0",
        &GroupVersion::new("", "v1"),
        &endpoints(),
        &[],
    );
    for document in [apps(), core] {
        for item in document["paths"].as_object().expect("paths").values() {
            for method in ["get", "put", "post", "delete", "patch"] {
                ids.extend(item[method]["operationId"].as_str().map(str::to_owned));
            }
        }
    }
    ids.sort();
    assert_eq!(
        ids,
        [
            "connectCoreV1GetNamespacedPodExec",
            "connectCoreV1PostNamespacedPodExec",
            "createAppsV1NamespacedDeployment",
            "createCoreV1NamespacedPod",
            "deleteAppsV1CollectionNamespacedDeployment",
            "deleteAppsV1NamespacedDeployment",
            "getAppsV1APIResources",
            "getCoreV1APIResources",
            "listAppsV1DeploymentForAllNamespaces",
            "listAppsV1NamespacedDeployment",
            "listCoreV1NamespacedPod",
            "patchAppsV1NamespacedDeployment",
            "patchAppsV1NamespacedDeploymentScale",
            "readAppsV1NamespacedDeployment",
            "readAppsV1NamespacedDeploymentScale",
            "readCoreV1NamespacedPodLog",
            "replaceAppsV1NamespacedDeployment",
            "replaceAppsV1NamespacedDeploymentScale",
        ]
    );
}

#[test]
fn every_reference_resolves() {
    let document = apps();
    let swagger = openapi::v2((builtin(), &Docs::builtin()), "v1.37.0", &endpoints(), &[]);
    for (document, prefix, known) in [
        (&document, "#/components/schemas/", &document["components"]["schemas"]),
        (&swagger, "#/definitions/", &swagger["definitions"]),
    ] {
        let mut references = Vec::new();
        collect(document, &mut references);
        assert!(references.len() > 200, "{}", references.len());
        for reference in references {
            let name = reference.strip_prefix(prefix).expect("a local reference");
            assert!(known.get(name).is_some(), "{name} is not defined");
        }
    }
}

fn collect<'v>(value: &'v Value, out: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| collect(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, out)),
        _ => {}
    }
}

#[test]
fn swagger_has_no_defaults_and_siblings_of_references() {
    let swagger = openapi::v2((builtin(), &Docs::builtin()), "v1.37.0", &endpoints(), &[]);
    let deployment = &swagger["definitions"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["properties"]["spec"],
        json!({
            "$ref": "#/definitions/io.k8s.api.apps.v1.DeploymentSpec",
            "description": "Specification of the desired behavior of the Deployment.",
        })
    );
    let quantity = &swagger["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!(quantity["type"], json!("string"));
    let create = &swagger["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"];
    assert_eq!(
        names(&create["parameters"]),
        ["body", "dryRun", "fieldManager", "fieldValidation"]
    );
}

#[test]
fn the_protobuf_form_holds_the_definitions() {
    let swagger = openapi::v2((builtin(), &Docs::builtin()), "v1.37.0", &endpoints(), &[]);
    let bytes = gnostic::encode(&swagger);
    assert!(bytes.starts_with(b"\x0a\x032.0"), "swagger is field 1");
    let text = String::from_utf8_lossy(&bytes);
    for wanted in [
        "io.k8s.api.apps.v1.DeploymentSpec",
        "x-kubernetes-patch-merge-key",
        "patchAppsV1NamespacedDeployment",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
}

/// The fields of a message, read without knowing it: (number, bytes or nothing).
fn fields(mut rest: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let length = match tag & 7 {
            0 => {
                varint(&mut rest);
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)).expect("a length"),
            other => panic!("wire type {other}"),
        };
        let (content, after) = rest.split_at(length);
        found.push((tag >> 3, content));
        rest = after;
    }
    found
}

/// The value of an entry `{name = 1, value = 2}`.
fn entry<'b>(message: &'b [u8], number: u64, name: &str) -> &'b [u8] {
    let entries = fields(message).into_iter().filter(|(n, _)| *n == number);
    let entry = entries
        .map(|(_, entry)| fields(entry))
        .find(|e| e[0].1 == name.as_bytes());
    entry.unwrap_or_else(|| panic!("no {name}"))[1].1
}

fn only(message: &[u8], number: u64) -> &[u8] {
    let found: Vec<&[u8]> = fields(message)
        .into_iter()
        .filter(|(n, _)| *n == number)
        .map(|(_, content)| content)
        .collect();
    assert_eq!(found.len(), 1, "field {number}");
    found[0]
}

/// Field numbers of `openapiv3/OpenAPIv3.proto`.
#[test]
fn v3_has_a_protobuf_form() {
    let bytes = gnostic::encode_v3(&apps());
    assert_eq!(only(&bytes, 1), b"3.0.0");
    assert_eq!(only(only(&bytes, 2), 1), b"Kubernetes");
    let schemas = only(only(&bytes, 5), 1);
    let deployment = only(entry(schemas, 1, "io.k8s.api.apps.v1.Deployment"), 1);
    assert_eq!(only(deployment, 25), b"object");
    let spec = only(entry(only(deployment, 31), 1, "spec"), 1);
    assert_eq!(
        only(only(only(spec, 26), 2), 1),
        b"#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec",
        "allOf of a reference"
    );
    assert_eq!(only(spec, 33), b"", "a default that is an object is an empty choice");
    let gvk = entry(deployment, 36, "x-kubernetes-group-version-kind");
    assert!(only(gvk, 2).starts_with(b"[{\"group\":\"apps\""));
    let path = entry(only(&bytes, 4), 1, "/apis/apps/v1/namespaces/{namespace}/deployments");
    let list = only(path, 4);
    assert_eq!(only(list, 5), b"listAppsV1NamespacedDeployment");
    let ok = only(entry(only(list, 8), 2, "200"), 1);
    let media = entry(only(ok, 3), 1, "application/json");
    assert_eq!(
        only(only(only(media, 1), 2), 1),
        b"#/components/schemas/io.k8s.api.apps.v1.DeploymentList"
    );
    let scheme = only(entry(only(only(&bytes, 5), 7), 1, "BearerToken"), 1);
    assert_eq!(only(scheme, 1), b"apiKey");
}
