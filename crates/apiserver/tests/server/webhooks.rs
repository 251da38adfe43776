//! Admission webhooks, called over TLS on the loopback: what they are asked, and what their answers do.

use apiserver::kind::{Connect, Kind, Subresource};
use serde_json::{Value, json};

use crate::harness::{self, Server, admin, config_map, server_of};
use crate::hook_server::{HookServer, allow, deny, patch};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
pub const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// The kinds of the harness and those of admission.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = harness::kinds();
    for (kind, plural) in [
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ] {
        kinds.push(Kind::cluster("admissionregistration.k8s.io", "v1", kind, plural));
    }
    kinds
}

async fn server() -> Server {
    let server = server_of(kinds()).await;
    server.namespace("ns").await;
    server
}

/// Creates a configuration of one sort with these webhooks.
pub async fn configure(server: &Server, sort: &str, name: &str, hooks: &[Value]) {
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": hooks,
    });
    let path = format!("{GROUP}/{}webhookconfigurations", sort.to_lowercase());
    server.post(&path, &object).await.expect(201);
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap()
}

#[tokio::test]
async fn refusals_and_what_is_asked() {
    let server = server().await;
    let hooks = HookServer::start(|asked| {
        let refused = asked.name() == "bad" || asked.request()["operation"] == "DELETE";
        if refused {
            let status = json!({"message": "this is why", "code": 418, "reason": "Teapot"});
            return Some(json!({"allowed": false, "status": status, "warnings": ["careful"]}));
        }
        Some(json!({"allowed": true, "warnings": ["first", "second"]}))
    })
    .await;
    configure(&server, "Validating", "c", &[hooks.hook("h.example.com", "/check")]).await;

    let made = server
        .post(
            &format!("{MAPS}?fieldManager=me"),
            &config_map("good", &json!({"a": "b"})),
        )
        .await;
    let warnings: Vec<_> = made.headers.get_all("warning").iter().collect();
    assert_eq!(warnings, ["299 - \"first\"", "299 - \"second\""]);
    made.expect(201);
    let asked = hooks.take().remove(0);
    assert_eq!(asked.uri, "/check?timeout=10s");
    assert_eq!(asked.review["apiVersion"], "admission.k8s.io/v1");
    let request = asked.request();
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(
        request["requestResource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(
        (&request["operation"], &request["dryRun"]),
        (&json!("CREATE"), &json!(false))
    );
    assert_eq!(
        (&request["namespace"], &request["oldObject"]),
        (&json!("ns"), &Value::Null)
    );
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(request["options"]["fieldManager"], "me");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert_eq!(request["object"]["data"], json!({"a": "b"}));
    assert!(request["object"]["metadata"]["uid"].is_string());

    let refused = server.post(MAPS, &config_map("bad", &json!({}))).await;
    assert_eq!(refused.headers["warning"], "299 - \"careful\"");
    let refused = refused.expect(418);
    assert_eq!(
        message(&refused),
        "admission webhook \"h.example.com\" denied the request: this is why"
    );
    assert_eq!(refused["reason"], "Teapot");

    hooks.take();
    let refused = server.delete(&format!("{MAPS}/good")).await.expect(418);
    assert!(message(&refused).contains("denied the request"));
    let asked = hooks.take().remove(0);
    assert_eq!((&asked.request()["object"], asked.name()), (&Value::Null, "good"));
    assert_eq!(asked.request()["oldObject"]["data"], json!({"a": "b"}));
    assert_eq!(asked.request()["options"]["kind"], "DeleteOptions");
    server.get(&format!("{MAPS}/good")).await.expect(200);
}

#[tokio::test]
async fn patches_follow_the_order_of_names_and_defaults_follow_patches() {
    let server = server().await;
    let hooks = HookServer::start(|asked| {
        let path = asked.uri.split('?').next().unwrap_or_default();
        if path == "/pods" {
            let container = json!({"name": "added", "image": "i", "ports": [{"containerPort": 80}]});
            return patch(&json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]));
        }
        let stages = asked.request()["object"]["data"]["stages"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        patch(&json!([{"op": "add", "path": "/data/stages", "value": format!("{stages}{path}")}]))
    })
    .await;
    configure(
        &server,
        "Mutating",
        "b",
        &[hooks.hook("two.x.y", "/2"), hooks.hook("three.x.y", "/3")],
    )
    .await;
    configure(&server, "Mutating", "a", &[hooks.hook("one.x.y", "/1")]).await;
    let made = server
        .post(MAPS, &config_map("m", &json!({"k": "v"})))
        .await
        .expect(201);
    assert_eq!(made["data"], json!({"k": "v", "stages": "/1/2/3"}));
    let updated = server
        .put(&format!("{MAPS}/m"), &config_map("m", &json!({"k": "w"})))
        .await
        .expect(200);
    assert_eq!(updated["data"]["stages"], "/1/2/3");

    let mut hook = hooks.hook("pods.x.y", "/pods");
    hook["rules"][0]["resources"] = json!(["pods"]);
    hook["rules"][0]["operations"] = json!(["CREATE"]);
    configure(&server, "Mutating", "pods", &[hook]).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = server.post("/api/v1/namespaces/ns/pods", &pod).await.expect(201);
    let added = &made["spec"]["initContainers"][0];
    assert_eq!(
        (&added["name"], &added["ports"][0]["protocol"]),
        (&json!("added"), &json!("TCP"))
    );
}

#[tokio::test]
async fn those_that_may_are_called_again_when_later_ones_change_the_object() {
    let server = server().await;
    let hooks = HookServer::start(|asked| {
        let data = &asked.request()["object"]["data"];
        if asked.uri.starts_with("/late") && data.get("late").is_none() {
            return patch(&json!([{"op": "add", "path": "/data/late", "value": "yes"}]));
        }
        if asked.uri.starts_with("/early") && data.get("late").is_some() {
            return patch(&json!([{"op": "add", "path": "/data/early", "value": "saw late"}]));
        }
        allow()
    })
    .await;
    let mut early = hooks.hook("early.x.y", "/early");
    early["reinvocationPolicy"] = json!("IfNeeded");
    let mut never = hooks.hook("never.x.y", "/never");
    never["reinvocationPolicy"] = json!("Never");
    configure(
        &server,
        "Mutating",
        "c",
        &[early, never, hooks.hook("late.x.y", "/late")],
    )
    .await;
    let made = server
        .post(MAPS, &config_map("m", &json!({"k": "v"})))
        .await
        .expect(201);
    assert_eq!(made["data"], json!({"k": "v", "late": "yes", "early": "saw late"}));
    let paths: Vec<String> = hooks.take().iter().map(|a| a.uri.replace("?timeout=10s", "")).collect();
    assert_eq!(paths, ["/early", "/never", "/late", "/early"]);
}

#[tokio::test]
async fn failed_calls_count_as_the_policy_says() {
    let server = server().await;
    let hooks = HookServer::raw(|asked| match asked.uri.split('?').next().unwrap_or_default() {
        "/missing" => Some(json!({"code": 404, "text": "404 page not found"})),
        "/empty" => Some(json!({"text": ""})),
        "/garbled" => Some(json!({"text": "{"})),
        "/uid" => Some(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "other", "allowed": true}})),
        _ => None,
    })
    .await;
    let mut dead = hooks.hook("dead.x.y", "/");
    dead["clientConfig"]["url"] = json!("https://127.0.0.1:1/dead");
    let mut slow = hooks.hook("slow.x.y", "/slow");
    slow["timeoutSeconds"] = json!(1);
    let mut stranger = hooks.hook("stranger.x.y", "/stranger");
    stranger["clientConfig"]["caBundle"] = json!(HookServer::start(|_| allow()).await.ca);
    let prefix = |name: &str| format!("Internal error occurred: failed calling webhook \"{name}.x.y\": ");
    let port = hooks.port;
    let cases = [
        (dead, "dead", "failed to call webhook: Post \"https://127.0.0.1:1/dead?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused".to_owned()),
        (slow, "slow", format!("failed to call webhook: Post \"https://127.0.0.1:{port}/slow?timeout=1s\": context deadline exceeded")),
        (hooks.hook("missing.x.y", "/missing"), "missing", "failed to call webhook: the server could not find the requested resource".to_owned()),
        (hooks.hook("empty.x.y", "/empty"), "empty", "failed to call webhook: 0-length response with status code: 200 and content type: application/json".to_owned()),
        (hooks.hook("uid.x.y", "/uid"), "uid", "received invalid webhook response: expected response.uid=".to_owned()),
        (hooks.hook("garbled.x.y", "/garbled"), "garbled", "failed to call webhook: couldn't get version/kind; json parse error: ".to_owned()),
        (stranger, "stranger", format!("failed to call webhook: Post \"https://127.0.0.1:{port}/stranger?timeout=10s\": tls: failed to verify certificate: x509: ")),
    ];
    for (hook, name, why) in cases {
        for sort in ["Validating", "Mutating"] {
            configure(&server, sort, name, std::slice::from_ref(&hook)).await;
            let refused = server.post(MAPS, &config_map("m", &json!({}))).await.expect(500);
            let expected = format!("{}{why}", prefix(name));
            assert!(
                message(&refused).starts_with(&expected),
                "{} is not {expected}",
                message(&refused)
            );
            let path = format!("{GROUP}/{}webhookconfigurations/{name}", sort.to_lowercase());
            server.delete(&path).await.expect(200);
        }
        let mut hook = hook;
        hook["failurePolicy"] = json!("Ignore");
        configure(&server, "Validating", name, &[hook]).await;
        server.post(MAPS, &config_map(name, &json!({}))).await.expect(201);
        server
            .delete(&format!("{GROUP}/validatingwebhookconfigurations/{name}"))
            .await
            .expect(200);
    }
    let metrics = server.get("/metrics").await.text();
    let line = "apiserver_admission_webhook_fail_open_count{name=\"dead.x.y\",type=\"validating\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn dry_runs_reach_only_those_without_side_effects() {
    let server = server().await;
    let hooks = HookServer::start(|_| allow()).await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["sideEffects"] = json!("NoneOnDryRun");
    configure(&server, "Validating", "a", &[hook.clone()]).await;
    server
        .post(&format!("{MAPS}?dryRun=All"), &config_map("m", &json!({})))
        .await
        .expect(201);
    let asked = hooks.take().remove(0);
    assert_eq!(asked.request()["dryRun"], true);
    assert_eq!(asked.request()["options"]["dryRun"], json!(["All"]));
    hook["sideEffects"] = json!("Some");
    configure(&server, "Mutating", "b", &[hook]).await;
    let refused = server
        .post(&format!("{MAPS}?dryRun=All"), &config_map("m", &json!({})))
        .await
        .expect(400);
    assert_eq!(
        message(&refused),
        "admission webhook \"h.x.y\" does not support dry run"
    );
    assert_eq!(refused["reason"], "BadRequest");
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
}

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let server = server().await;
    let labelled =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "skipped", "labels": {"skip": "yes"}}});
    server.post("/api/v1/namespaces", &labelled).await.expect(201);
    let hooks = HookServer::start(|_| deny("no")).await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["namespaceSelector"] = json!({"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]});
    hook["objectSelector"] = json!({"matchLabels": {"watched": "yes"}});
    configure(&server, "Validating", "a", &[hook]).await;
    let mut object = config_map("m", &json!({}));
    server.post(MAPS, &object).await.expect(201);
    object["metadata"]["labels"] = json!({"watched": "yes"});
    server
        .post("/api/v1/namespaces/skipped/configmaps", &object)
        .await
        .expect(201);
    assert!(hooks.take().is_empty());
    // The object before counts as well as the object after.
    let refused = server.put(&format!("{MAPS}/m"), &object).await.expect(400);
    assert_eq!(message(&refused), "admission webhook \"h.x.y\" denied the request: no");
    server
        .put(&format!("{MAPS}/m"), &config_map("m", &json!({"a": "b"})))
        .await
        .expect(200);
}

#[tokio::test]
async fn nothing_stands_in_the_way_of_repairing_admission() {
    let server = server().await;
    let hooks = HookServer::start(|_| deny("everything")).await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["rules"] = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    configure(&server, "Validating", "a", &[hook.clone()]).await;
    configure(&server, "Mutating", "a", &[hook]).await;
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(400);
    server
        .delete(&format!("{GROUP}/mutatingwebhookconfigurations/a"))
        .await
        .expect(200);
    server
        .delete(&format!("{GROUP}/validatingwebhookconfigurations/a"))
        .await
        .expect(200);
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
}

#[tokio::test]
async fn subresources_and_connections() {
    let mut kinds = kinds();
    let pods = kinds.iter_mut().find(|k| k.plural == "pods").unwrap();
    *pods = pods
        .clone()
        .subresource(Subresource::connect(Connect::Attach))
        .subresource(Subresource::binding());
    let server = server_of(kinds).await;
    server.namespace("ns").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    server.post("/api/v1/namespaces/ns/pods", &pod).await.expect(201);
    let hooks = HookServer::start(|_| deny("not here")).await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["rules"][0]["resources"] = json!(["pods/*", "deployments/scale"]);
    hook["rules"][0]["apiGroups"] = json!(["", "apps"]);
    configure(&server, "Validating", "a", &[hook]).await;
    let attach = "/api/v1/namespaces/ns/pods/p/attach?container=c&stdin=true";
    let refused = server.call_as(admin(), "POST", attach, None, &[]).await.expect(400);
    assert_eq!(
        message(&refused),
        "admission webhook \"h.x.y\" denied the request: not here"
    );
    let asked = hooks.take().remove(0);
    let request = asked.request();
    assert_eq!(
        (&request["operation"], &request["subResource"]),
        (&json!("CONNECT"), &json!("attach"))
    );
    assert_eq!(request["kind"]["kind"], "PodAttachOptions");
    let options = json!({"apiVersion": "v1", "kind": "PodAttachOptions", "container": "c", "stdin": true, "stdout": true, "stderr": true});
    assert_eq!((&request["object"], &request["options"]), (&options, &Value::Null));

    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server
        .post("/api/v1/namespaces/ns/pods/p/binding", &binding)
        .await
        .expect(400);
    let asked = hooks.take();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].request()["object"]["metadata"]["namespace"], "ns");

    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server
        .post("/apis/apps/v1/namespaces/ns/deployments", &deployment)
        .await
        .expect(201);
    let scale = json!({"spec": {"replicas": 7}});
    let path = "/apis/apps/v1/namespaces/ns/deployments/d/scale";
    server
        .patch(path, "application/merge-patch+json", &scale)
        .await
        .expect(400);
    let asked = hooks.take().remove(0);
    let request = asked.request();
    assert_eq!(
        request["kind"],
        json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
    );
    assert_eq!(request["resource"]["resource"], "deployments");
    assert_eq!(request["object"]["spec"]["replicas"], 7);
    assert_eq!(request["oldObject"]["spec"]["replicas"], 1);
}

#[tokio::test]
async fn conditions_choose_requests() {
    let server = server().await;
    let hooks = HookServer::start(|_| deny("asked")).await;
    let mut hook = hooks.hook("h.x.y", "/");
    hook["matchConditions"] = json!([
        {"name": "not-free", "expression": "object == null || object.metadata.name != 'free'"},
        {"name": "may", "expression": "!authorizer.group('').resource('pods').namespace('ns').check('create').allowed() || has(object.data)"},
    ]);
    configure(&server, "Validating", "a", &[hook.clone()]).await;
    server
        .post(MAPS, &config_map("free", &json!({"a": "b"})))
        .await
        .expect(201);
    server
        .post(MAPS, &config_map("bound", &json!({"a": "b"})))
        .await
        .expect(400);
    let mut empty = config_map("empty", &json!({}));
    empty.as_object_mut().unwrap().remove("data");
    server.post(MAPS, &empty).await.expect(201);
    server
        .delete(&format!("{GROUP}/validatingwebhookconfigurations/a"))
        .await
        .expect(200);
    // What cannot be evaluated counts as the failure policy says.
    hook["matchConditions"] = json!([{"name": "bad", "expression": "object.nothing == 1"}]);
    configure(&server, "Mutating", "b", &[hook.clone()]).await;
    let refused = server.post(MAPS, &config_map("m", &json!({}))).await.expect(403);
    assert_eq!(
        message(&refused),
        "configmaps \"m\" is forbidden: expression 'object.nothing == 1' resulted in error: no such key: nothing"
    );
    server
        .delete(&format!("{GROUP}/mutatingwebhookconfigurations/b"))
        .await
        .expect(200);
    hook["failurePolicy"] = json!("Ignore");
    configure(&server, "Mutating", "c", &[hook]).await;
    server.post(MAPS, &config_map("m", &json!({}))).await.expect(201);
}
