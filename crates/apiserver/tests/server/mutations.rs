//! MutatingAdmissionPolicy: apply configurations, JSON patches, the second round.

use serde_json::{Value, json};

use crate::harness::{Server, config_map, server_of};
use crate::hook_server::{HookServer, allow, patch};
use crate::policies::{about_maps, bind, kinds};
use crate::webhooks::configure;

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

async fn server() -> Server {
    let server = server_of(kinds()).await;
    server.namespace("ns").await;
    server
}

async fn mutate(server: &Server, name: &str, mutations: &Value, reinvocation: &str) {
    let spec = json!({"matchConstraints": about_maps(), "mutations": mutations, "reinvocationPolicy": reinvocation,
        "failurePolicy": "Fail"});
    bind(server, "Mutating", name, &spec, &json!({})).await;
}

fn applying(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patching(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

#[tokio::test]
async fn configurations_are_laid_over_objects() {
    let server = server().await;
    let mutation = applying("Object{metadata: Object.metadata{labels: Object.metadata.labels{team: 'a'}}}");
    mutate(&server, "labels", &json!([mutation]), "Never").await;
    let mut object = config_map("m", &json!({"k": "v"}));
    object["metadata"]["labels"] = json!({"own": "label"});
    let made = server.post(MAPS, &object).await.expect(201);
    assert_eq!(made["metadata"]["labels"], json!({"own": "label", "team": "a"}));
    assert_eq!(made["data"], json!({"k": "v"}));
    let updated = server
        .put(&format!("{MAPS}/m"), &config_map("m", &json!({"k": "w"})))
        .await
        .expect(200);
    assert_eq!(updated["metadata"]["labels"], json!({"team": "a"}));
}

#[tokio::test]
async fn sidecars_are_added_with_defaults() {
    let server = server().await;
    let expression = "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{
        name: 'mesh', image: 'proxy', restartPolicy: 'Always', ports: [Object.spec.initContainers.ports{containerPort: 15001}]}]}}";
    let rules = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]});
    let spec = json!({"matchConstraints": rules, "mutations": [applying(expression)], "reinvocationPolicy": "IfNeeded",
        "matchConditions": [{"name": "no-mesh", "expression": "!object.spec.?initContainers.orValue([]).exists(c, c.name == 'mesh')"}]});
    bind(&server, "Mutating", "sidecar", &spec, &json!({})).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"initContainers": [{"name": "own", "image": "i"}], "containers": [{"name": "c", "image": "i"}]}});
    let made = server.post("/api/v1/namespaces/ns/pods", &pod).await.expect(201);
    let containers = made["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<&str> = containers.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["own", "mesh"]);
    assert_eq!(containers[1]["ports"][0]["protocol"], "TCP");
}

#[tokio::test]
async fn patches_are_applied_in_their_order() {
    let server = server().await;
    let first = patching(
        "[JSONPatch{op: 'add', path: '/data/one', value: object.data.k}, JSONPatch{op: 'remove', path: '/data/k'}]",
    );
    let second = patching(
        "has(object.data.one) ? [JSONPatch{op: 'add', path: '/metadata/labels', value: {'a/b': 'c'}}, \
         JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: object.data.one}] : []",
    );
    mutate(&server, "patch", &json!([first, second]), "Never").await;
    let made = server
        .post(MAPS, &config_map("m", &json!({"k": "v"})))
        .await
        .expect(201);
    assert_eq!(made["data"], json!({"one": "v"}));
    assert_eq!(made["metadata"]["labels"], json!({"a/b": "c", "x/y": "v"}));
    let refused = server.post(MAPS, &config_map("n", &json!({}))).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .starts_with("policy 'patch' with binding 'patch' denied request: "),
        "{refused}"
    );
    assert_eq!(refused["reason"], "Invalid");
}

#[tokio::test]
async fn a_failed_test_leaves_the_object_alone() {
    let server = server().await;
    let mutation =
        patching("[JSONPatch{op: 'test', path: '/data/k', value: 'other'}, JSONPatch{op: 'remove', path: '/data/k'}]");
    mutate(&server, "patch", &json!([mutation]), "Never").await;
    let made = server
        .post(MAPS, &config_map("m", &json!({"k": "v"})))
        .await
        .expect(201);
    assert_eq!(made["data"], json!({"k": "v"}));
}

#[tokio::test]
async fn policies_are_called_again_when_webhooks_change_the_object() {
    let server = server().await;
    let hooks = HookServer::start(|asked| {
        if asked.request()["object"]["data"].get("hook").is_some() {
            return allow();
        }
        patch(&json!([{"op": "add", "path": "/data/hook", "value": "yes"}]))
    })
    .await;
    configure(&server, "Mutating", "hook", &[hooks.hook("h.x.y", "/")]).await;
    let count = |key: &str| {
        patching(&format!(
            "[JSONPatch{{op: 'add', path: '/data/{key}', value: string(int(object.data.?{key}.orValue('0')) + 1)}}]"
        ))
    };
    mutate(&server, "again", &json!([count("again")]), "IfNeeded").await;
    mutate(&server, "once", &json!([count("once")]), "Never").await;
    let made = server
        .post(MAPS, &config_map("m", &json!({"k": "v"})))
        .await
        .expect(201);
    assert_eq!(
        made["data"],
        json!({"k": "v", "hook": "yes", "again": "2", "once": "1"})
    );
}

#[tokio::test]
async fn what_is_replaced_as_a_whole_may_not_be_applied() {
    let server = server().await;
    let rules = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]});
    let mutation = applying(
        "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: Object.spec.selector.matchLabels{a: 'b'}}}}",
    );
    let spec = json!({"matchConstraints": rules, "mutations": [mutation], "reinvocationPolicy": "Never"});
    bind(&server, "Mutating", "atomic", &spec, &json!({})).await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let refused = server
        .post("/apis/apps/v1/namespaces/ns/deployments", &deployment)
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "policy 'atomic' with binding 'atomic' denied request: error applying patch: invalid ApplyConfiguration: \
         may not mutate atomic arrays, maps or structs: .spec.selector"
    );
}
