//! ValidatingAdmissionPolicy: refusals, warnings, parameters, variables, type checking.

use apiserver::kind::Kind;
use serde_json::{Value, json};

use crate::harness::{Server, config_map, rbac_kinds, server_of, user};
use crate::webhooks;

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// The kinds of webhooks and those of policies.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = webhooks::kinds();
    for (kind, plural) in [
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
        ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
    ] {
        let mut kind = Kind::cluster("admissionregistration.k8s.io", "v1", kind, plural).with_generation();
        if plural == "validatingadmissionpolicies" {
            kind = kind.with_status();
        }
        kinds.push(kind);
    }
    kinds
}

async fn server() -> Server {
    let mut all = kinds();
    all.extend(rbac_kinds());
    let server = server_of(all).await;
    server.namespace("ns").await;
    server
}

/// A rule about every write of config maps.
pub fn about_maps() -> Value {
    json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]})
}

/// Creates a policy of one sort with a binding of the same name.
pub async fn bind(server: &Server, sort: &str, name: &str, spec: &Value, binding: &Value) {
    let object = |kind: String, spec: &Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let lower = sort.to_lowercase();
    let policy = object(format!("{sort}AdmissionPolicy"), spec);
    server
        .post(&format!("{GROUP}/{lower}admissionpolicies"), &policy)
        .await
        .expect(201);
    let mut spec = binding.clone();
    spec["policyName"] = json!(name);
    let binding = object(format!("{sort}AdmissionPolicyBinding"), &spec);
    server
        .post(&format!("{GROUP}/{lower}admissionpolicybindings"), &binding)
        .await
        .expect(201);
}

async fn validate(server: &Server, name: &str, spec: &Value, actions: &[&str]) {
    let mut spec = spec.clone();
    if spec.get("matchConstraints").is_none() {
        spec["matchConstraints"] = about_maps();
    }
    bind(
        server,
        "Validating",
        name,
        &spec,
        &json!({"validationActions": actions}),
    )
    .await;
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap()
}

#[tokio::test]
async fn refusals_say_what_the_policy_says() {
    let server = server().await;
    let spec = json!({
        "variables": [
            {"name": "count", "expression": "int(object.data.count)"},
            {"name": "odd", "expression": "variables.count % 2 == 1"},
        ],
        "matchConditions": [{"name": "named", "expression": "has(object.data) && 'count' in object.data"}],
        "validations": [
            {"expression": "variables.count > 1", "messageExpression": "'wants more than 1, got ' + string(variables.count)", "reason": "Forbidden"},
            {"expression": "variables.odd", "message": "must be odd"},
            {"expression": "variables.count < 100"},
        ],
    });
    validate(&server, "p", &spec, &["Deny"]).await;
    let of = |name: &str, count: &str| config_map(name, &json!({"count": count}));
    server.post(MAPS, &of("three", "3")).await.expect(201);
    server
        .post(MAPS, &config_map("none", &json!({"a": "b"})))
        .await
        .expect(201);
    let refused = server.post(MAPS, &of("one", "1")).await.expect(403);
    assert_eq!(
        message(&refused),
        "configmaps \"one\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: wants more than 1, got 1"
    );
    assert_eq!(refused["reason"], "Forbidden");
    let cause = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: wants more than 1, got 1";
    assert_eq!(refused["details"]["causes"], json!([{"message": cause}]));
    let refused = server.post(MAPS, &of("even", "4")).await.expect(422);
    assert!(message(&refused).ends_with("denied request: must be odd"));
    assert_eq!(refused["reason"], "Invalid");
    let refused = server
        .put(&format!("{MAPS}/three"), &of("three", "101"))
        .await
        .expect(422);
    assert!(message(&refused).ends_with("denied request: failed expression: variables.count < 100"));
    let refused = server.post(MAPS, &of("word", "word")).await.expect(422);
    assert!(message(&refused).contains("denied request: expression 'variables.count > 1' resulted in error: "));
}

#[tokio::test]
async fn warnings_instead_of_refusals() {
    let server = server().await;
    let spec = json!({"validations": [{"expression": "false", "message": "never"}]});
    validate(&server, "p", &spec, &["Warn", "Audit"]).await;
    let made = server.post(MAPS, &config_map("m", &json!({}))).await;
    assert_eq!(
        made.headers["warning"],
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': never\""
    );
    made.expect(201);
}

#[tokio::test]
async fn failures_are_met_as_the_policy_says() {
    let server = server().await;
    let spec = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.nothing == 1"}, {"expression": "object.metadata.name"}]});
    validate(&server, "lenient", &spec, &["Deny"]).await;
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
    let spec = json!({"validations": [{"expression": "object.nothing == 1"}]});
    validate(&server, "strict", &spec, &["Deny"]).await;
    let refused = server.post(MAPS, &config_map("n", &json!({}))).await.expect(422);
    assert!(
        message(&refused).ends_with("expression 'object.nothing == 1' resulted in error: no such key: nothing"),
        "{}",
        message(&refused)
    );
    server
        .delete(&format!("{GROUP}/validatingadmissionpolicybindings/strict"))
        .await
        .expect(200);
    let spec = json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Nothing"}, "validations": [{"expression": "true"}]});
    validate(&server, "misconfigured", &spec, &["Deny"]).await;
    let refused = server.post(MAPS, &config_map("n", &json!({}))).await.expect(422);
    assert_eq!(
        message(&refused),
        "configmaps \"n\" is forbidden: ValidatingAdmissionPolicy 'misconfigured' denied request: failed to configure policy: \
         failed to find resource referenced by paramKind: 'example.com/v1, Kind=Nothing'"
    );
}

#[tokio::test]
async fn bindings_bring_parameters() {
    let server = server().await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": about_maps(),
        "matchConditions": [{"name": "not-params", "expression": "!has(object.metadata.labels) || !('param' in object.metadata.labels)"}],
        "validations": [{"expression": "params == null || size(object.metadata.name) <= int(params.data.longest)"}],
    });
    let binding = json!({"validationActions": ["Deny"], "paramRef": {"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Deny"}});
    let mut limit = config_map("limit", &json!({"longest": "5"}));
    limit["metadata"]["labels"] = json!({"param": "yes"});
    server.post(MAPS, &limit).await.expect(201);
    bind(&server, "Validating", "p", &spec, &binding).await;
    server.post(MAPS, &config_map("short", &json!({}))).await.expect(201);
    server.post(MAPS, &config_map("longer", &json!({}))).await.expect(422);
    // Of several parameters each must agree.
    let mut other = config_map("limit-2", &json!({"longest": "2"}));
    other["metadata"]["labels"] = json!({"param": "yes"});
    server.post(MAPS, &other).await.expect(201);
    server.post(MAPS, &config_map("four", &json!({}))).await.expect(422);
    // Parameters are those of the object's namespace.
    server.namespace("other").await;
    let refused = server
        .post("/api/v1/namespaces/other/configmaps", &config_map("a", &json!({})))
        .await
        .expect(422);
    assert!(message(&refused).ends_with(
        "with binding 'p' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    ));
}

#[tokio::test]
async fn expressions_see_request_namespace_and_rights() {
    let server = server().await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "writer"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]});
    server
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await
        .expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]});
    server
        .post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .expect(201);
    let spec = json!({"validations": [
        {"expression": "request.operation == 'CREATE' && oldObject == null && request.namespace == 'ns' && request.resource.resource == 'configmaps'"},
        {"expression": "namespaceObject.metadata.name == 'ns' && namespaceObject.status.phase == 'Active'"},
        {"expression": "authorizer.group('').resource('configmaps').namespace('ns').check('create').allowed()", "message": "may not create"},
        {"expression": "authorizer.requestResource.check('create').allowed()", "message": "may not create this"},
        {"expression": "request.userInfo.username != 'jane' || !authorizer.group('').resource('secrets').namespace('ns').check('create').allowed()"},
        {"expression": "!authorizer.serviceAccount('ns', 'default').group('').resource('configmaps').namespace('ns').check('create').allowed()"},
    ]});
    validate(&server, "p", &spec, &["Deny"]).await;
    let made = server
        .call_as(user("jane"), "POST", MAPS, Some(&config_map("m", &json!({}))), &[])
        .await;
    made.expect(201);
    let spec = json!({"validations": [
        {"expression": "authorizer.group('').resource('secrets').check('list').allowed()", "message": "lists no secrets"}]});
    validate(&server, "secrets", &spec, &["Deny"]).await;
    let refused = server
        .call_as(user("jane"), "POST", MAPS, Some(&config_map("n", &json!({}))), &[])
        .await
        .expect(422);
    assert!(message(&refused).ends_with("lists no secrets"));
    server.post(MAPS, &config_map("n", &json!({}))).await.expect(201);
}

#[tokio::test]
async fn constraints_of_policy_and_binding() {
    let server = server().await;
    server.namespace("spared").await;
    let spec = json!({
        "matchConstraints": {
            "resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["*"]}],
            "excludeResourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"], "resourceNames": ["free"]}],
        },
        "validations": [{"expression": "false"}],
    });
    let binding = json!({"validationActions": ["Deny"], "matchResources": {
        "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["ns"]}]}}});
    let labelled = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "ns"}}});
    server
        .patch("/api/v1/namespaces/ns", "application/merge-patch+json", &labelled)
        .await
        .expect(200);
    bind(&server, "Validating", "p", &spec, &binding).await;
    server.post(MAPS, &config_map("bound", &json!({}))).await.expect(422);
    server.post(MAPS, &config_map("free", &json!({}))).await.expect(201);
    server
        .post("/api/v1/namespaces/spared/configmaps", &config_map("bound", &json!({})))
        .await
        .expect(201);
    server
        .put(&format!("{MAPS}/free"), &config_map("free", &json!({"a": "b"})))
        .await
        .expect(200);
}

#[tokio::test]
async fn costly_expressions_are_stopped() {
    let server = server().await;
    let list = format!("[{}]", vec!["1"; 100].join(","));
    let expression = format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))");
    let spec = json!({"validations": [{"expression": expression}]});
    validate(&server, "p", &spec, &["Deny"]).await;
    let refused = server.post(MAPS, &config_map("m", &json!({}))).await.expect(422);
    let why = message(&refused);
    assert!(
        why.contains("cost limit exceeded") || why.contains("running out of cost budget"),
        "{why}"
    );
}

#[tokio::test]
async fn types_are_checked_in_the_status() {
    let server = server().await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "status"},
        "rules": [{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}]});
    server
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await
        .expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "status"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "status"},
        "subjects": [{"kind": "ServiceAccount", "name": "validatingadmissionpolicy-status-controller", "namespace": "kube-system"}]});
    server
        .post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .expect(201);
    let mut watch = server
        .watch(&format!("{GROUP}/validatingadmissionpolicies?watch=true"))
        .await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}]},
        "validations": [
            {"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"},
            {"expression": "object.spec.replicas > 1", "messageExpression": "'got ' + string(object.spec.replicas)"},
        ],
    });
    validate(&server, "p", &spec, &["Deny"]).await;
    let status = loop {
        let event = watch.next().await.unwrap();
        if event["object"]["status"].get("observedGeneration").is_some() {
            break event["object"]["status"].clone();
        }
    };
    assert_eq!(status["observedGeneration"], 1);
    let warnings = status["typeChecking"]["expressionWarnings"].as_array().unwrap();
    let fields: Vec<&str> = warnings.iter().map(|w| w["fieldRef"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.validations[0].expression",
            "spec.validations[0].messageExpression"
        ]
    );
    let warning = warnings[0]["warning"].as_str().unwrap();
    let expected = "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'";
    assert!(warning.starts_with(expected), "{warning}");
}
