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
