//! Who asks, and what they may: tokens, RBAC, impersonation, reviews.

use apiserver::kind::{Kind, Subresource};
use apiserver::{Peer, ServiceAccountConfig, UserInfo};
use serde_json::{Value, json};

use crate::harness::{self, Server, admin, config_map, rbac_kinds, server_with, user};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) async fn server() -> Server {
    let mut kinds = harness::kinds();
    kinds.extend(rbac_kinds());
    kinds.push(Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts").subresource(Subresource::token()));
    kinds.push(Kind::namespaced("", "v1", "Secret", "secrets"));
    kinds.push(Kind::cluster("", "v1", "Node", "nodes").with_status());
    let key = rcgen::KeyPair::generate().unwrap();
    let server = server_with(kinds, |config| {
        config.service_account = Some(ServiceAccountConfig {
            issuer: ISSUER.to_owned(),
            audiences: vec![ISSUER.to_owned()],
            signing_key_pem: key.serialize_pem(),
            public_keys_pem: vec![key.public_key_pem()],
            jwks_uri: "https://127.0.0.1:6443/openid/v1/jwks".to_owned(),
        });
    })
    .await;
    server.namespace("ns").await;
    server
}

async fn grant(server: &Server, name: &str, rules: Value, subject: Value) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules});
    server.post(&format!("{RBAC}/clusterroles"), &role).await.expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}});
    server
        .post(&format!("{RBAC}/clusterrolebindings"), &binding)
        .await
        .expect(201);
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

#[tokio::test]
async fn what_is_mounted_is_for_those_who_may_get_its_path() {
    let server = server().await;
    let found = |rest: String| -> futures_util::future::BoxFuture<'static, Option<Value>> {
        Box::pin(async move { rest.ends_with("/a").then(|| json!({"pod": rest})) })
    };
    server.api.mount("/scheduler/", found);
    assert_eq!(
        server.get("/scheduler/verdicts/ns/a").await.expect(200)["pod"],
        "verdicts/ns/a"
    );
    assert_eq!(server.get("/scheduler/verdicts/ns/b").await.code, 404);
    let get = async |path: &str| server.call_as(user("jane"), "GET", path, None, &[]).await;
    get("/scheduler/verdicts/ns/a").await.expect(403);
    let rules = json!([{"nonResourceURLs": ["/scheduler/verdicts/ns/*"], "verbs": ["get"]}]);
    grant(&server, "why", rules, subject("User", "jane")).await;
    get("/scheduler/verdicts/ns/a").await.expect(200);
    get("/scheduler/verdicts/other/a").await.expect(403);
}

#[tokio::test]
async fn rbac_grants_what_it_says() {
    let server = server().await;
    let get = async |path: &str| server.call_as(user("jane"), "GET", path, None, &[]).await;
    let refused = get(MAPS).await.expect(403);
    assert_eq!(
        refused["message"],
        "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"ns\""
    );
    assert_eq!(
        get("/api/v1/namespaces").await.expect(403)["message"],
        "namespaces is forbidden: User \"jane\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        get("/metrics").await.expect(403)["message"],
        "forbidden: User \"jane\" cannot get path \"/metrics\""
    );
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]},
        {"nonResourceURLs": ["/metr*"], "verbs": ["get"]},
    ]);
    grant(&server, "reader", rules, subject("User", "jane")).await;
    get(MAPS).await.expect(200);
    get("/metrics").await;
    get(&format!("{MAPS}/mine")).await.expect(404);
    get(&format!("{MAPS}/other")).await.expect(403);
    let object = config_map("a", &json!({}));
    server
        .call_as(user("jane"), "POST", MAPS, Some(&object), &[])
        .await
        .expect(403);
    server
        .delete(&format!("{RBAC}/clusterrolebindings/reader"))
        .await
        .expect(200);
    // A revocation is effective once its event has arrived, which a refusal elsewhere ensures.
    get("/api/v1/namespaces").await.expect(403);
    get(MAPS).await.expect(403);
}

#[tokio::test]
async fn role_bindings_hold_in_their_namespace() {
    let server = server().await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]});
    server
        .post(&format!("{RBAC}/namespaces/ns/roles"), &role)
        .await
        .expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b"}, "subjects": [{"kind": "ServiceAccount", "name": "robot"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
    server
        .post(&format!("{RBAC}/namespaces/ns/rolebindings"), &binding)
        .await
        .expect(201);
    let robot = || Peer {
        address: None,
        user: Some(UserInfo::service_account("ns", "robot")),
        ..Peer::default()
    };
    server.call_as(robot(), "GET", MAPS, None, &[]).await.expect(200);
    server
        .call_as(robot(), "GET", "/api/v1/configmaps", None, &[])
        .await
        .expect(403);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let server = server().await;
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"],
            "resourceNames": ["x"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]);
    grant(&server, "admin-of-roles", rules, subject("User", "jane")).await;
    let role = |name: &str, verbs: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]})
    };
    let path = format!("{RBAC}/clusterroles");
    let post = async |role: &Value| server.call_as(user("jane"), "POST", &path, Some(role), &[]).await;
    post(&role("small", json!(["get"]))).await.expect(201);
    let refused = post(&role("big", json!(["get", "list"]))).await.expect(403);
    assert_eq!(
        refused["message"],
        "clusterroles.rbac.authorization.k8s.io \"big\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}"
    );
}

#[tokio::test]
async fn tokens_are_issued_bound_and_reviewed() {
    let server = server().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    server
        .post("/api/v1/namespaces/ns/serviceaccounts", &account)
        .await
        .expect(201);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "image": "i"}]}});
    let pod = server.post("/api/v1/namespaces/ns/pods", &pod).await.expect(201);
    let path = "/api/v1/namespaces/ns/serviceaccounts/robot/token";
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod",
            "name": "p", "uid": pod["metadata"]["uid"]}}});
    let issued = server.post(path, &request).await.expect(201);
    assert_eq!(issued["spec"]["audiences"], json!([ISSUER]));
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let as_token = async |bearer: &str, method: &str, path: &str, body: Option<&Value>| {
        server
            .call_as(Peer::default(), method, path, body, &[("authorization", bearer)])
            .await
    };
    let refused = as_token(&bearer, "GET", MAPS, None).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("system:serviceaccount:ns:robot")
    );
    as_token("Bearer nonsense", "GET", MAPS, None).await.expect(401);

    let review = |token: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token}})
    };
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let reviewed = server.post(reviews, &review(&token)).await.expect(201);
    let status = &reviewed["status"];
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:ns:robot");
    assert_eq!(
        status["user"]["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["p"])
    );
    let bad = server.post(reviews, &review("a.b.c")).await.expect(201);
    assert_ne!(bad["status"]["authenticated"], true);

    let short = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 1}});
    let refused = server.post(path, &short).await.expect(422);
    assert_eq!(
        refused["message"],
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 1: may not specify a \
         duration less than 10 minutes"
    );
    let map = json!({"spec": {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "p"}}});
    let refused = server.post(path, &map).await.expect(400);
    assert_eq!(
        refused["message"],
        "cannot bind token to object of type /v1, Kind=ConfigMap"
    );
    let wrong = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "x"}}});
    server.post(path, &wrong).await.expect(409);
    // A token for others does not open this server.
    let foreign = json!({"spec": {"audiences": ["vault"]}});
    let foreign = server.post(path, &foreign).await.expect(201);
    let foreign = format!("Bearer {}", foreign["status"]["token"].as_str().unwrap());
    as_token(&foreign, "GET", MAPS, None).await.expect(401);

    server.delete("/api/v1/namespaces/ns/pods/p").await.expect(200);
    as_token(&bearer, "GET", MAPS, None).await.expect(401);
    let keys = server.get("/openid/v1/jwks").await.expect(200);
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    let discovery = server.get("/.well-known/openid-configuration").await.expect(200);
    assert_eq!(discovery["issuer"], ISSUER);
}

#[tokio::test]
async fn reviews_answer_what_requests_would_meet() {
    let server = server().await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]);
    grant(&server, "reader", rules, subject("Group", "readers")).await;
    let access = "/apis/authorization.k8s.io/v1";
    let ask = |verb: &str| json!({"verb": verb, "resource": "configmaps", "namespace": "ns"});
    for (verb, allowed) in [("list", true), ("delete", false)] {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "x", "groups": ["readers"], "resourceAttributes": ask(verb)}});
        let answer = server
            .post(&format!("{access}/subjectaccessreviews"), &review)
            .await
            .expect(201);
        assert_eq!(answer["status"]["allowed"], allowed);
    }
    let own = json!({"spec": {"resourceAttributes": ask("delete")}});
    let answer = server
        .post(&format!("{access}/selfsubjectaccessreviews"), &own)
        .await
        .expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    let nothing = json!({"spec": {}});
    server
        .post(&format!("{access}/selfsubjectaccessreviews"), &nothing)
        .await
        .expect(422);
    let rules = json!({"spec": {"namespace": "ns"}});
    let answer = server
        .post(&format!("{access}/selfsubjectrulesreviews"), &rules)
        .await
        .expect(201);
    assert_eq!(answer["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = server.post(me, &json!({})).await.expect(201);
    assert_eq!(answer["status"]["userInfo"]["username"], "admin");
}

#[tokio::test]
async fn impersonation_needs_every_right() {
    let server = server().await;
    let rules = json!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"],
        "resourceNames": ["jane"]}]);
    grant(&server, "actor", rules, subject("User", "joe")).await;
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let post = async |peer, headers: &[(&str, &str)]| server.call_as(peer, "POST", me, Some(&json!({})), headers).await;
    let seen = post(
        admin(),
        &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")],
    );
    let seen = seen.await.expect(201);
    assert_eq!(seen["status"]["userInfo"]["username"], "jane");
    assert_eq!(
        seen["status"]["userInfo"]["groups"],
        json!(["system:masters", "system:authenticated"])
    );
    let refused = post(user("joe"), &[("impersonate-user", "root")]).await.expect(403);
    assert_eq!(
        refused["message"],
        "users \"root\" is forbidden: User \"joe\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    let jane = &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")];
    post(user("joe"), jane).await.expect(403);
    // Allowed to act as jane, who may not ask.
    let refused = post(user("joe"), &[("impersonate-user", "jane")]).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("User \"jane\" cannot create")
    );
}

#[tokio::test]
async fn nodes_see_only_what_their_pods_need() {
    let server = server().await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
    "metadata": {"name": "system:node"}, "rules": [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["create", "get", "update", "patch"]},
        {"apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]},
    ]});
    server.post(&format!("{RBAC}/clusterroles"), &role).await.expect(201);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    server
        .post("/api/v1/namespaces/ns/serviceaccounts", &account)
        .await
        .expect(201);
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    for name in ["used", "other"] {
        server
            .post("/api/v1/namespaces/ns/secrets", &secret(name))
            .await
            .expect(201);
    }
    let pod = |name: &str, node: &str, secret: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "nodeName": node, "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "secret": {"secretName": secret}}]}})
    };
    for pod in [pod("a", "n1", "used"), pod("b", "n2", "other")] {
        server.post("/api/v1/namespaces/ns/pods", &pod).await.expect(201);
    }
    let node = || Peer {
        address: None,
        user: Some(UserInfo::node("n1")),
        ..Peer::default()
    };
    let get = async |path: &str| server.call_as(node(), "GET", path, None, &[]).await;
    get("/api/v1/namespaces/ns/secrets/used").await.expect(200);
    let refused = get("/api/v1/namespaces/ns/secrets/other").await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with("no relationship found between node 'n1' and this object")
    );
    get("/api/v1/namespaces/ns/secrets").await.expect(403);
    let object = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let post = async |object: Value| {
        server
            .call_as(node(), "POST", "/api/v1/nodes", Some(&object), &[])
            .await
    };
    post(object("n1")).await.expect(201);
    let refused = post(object("n2")).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("is not allowed to modify node")
    );
    let status = json!({"status": {"phase": "Running"}});
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = async |path: &str| server.call_as(node(), "PATCH", path, Some(&status), &merge).await;
    patch("/api/v1/namespaces/ns/pods/a/status").await.expect(200);
    patch("/api/v1/namespaces/ns/pods/b/status").await.expect(403);
    let delete = async |path: &str| server.call_as(node(), "DELETE", path, None, &[]).await;
    delete("/api/v1/namespaces/ns/pods/b").await.expect(403);
    let token = json!({"spec": {}});
    let path = "/api/v1/namespaces/ns/serviceaccounts/default/token";
    let refused = server
        .call_as(node(), "POST", path, Some(&token), &[])
        .await
        .expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with("node requested token not bound to a pod")
    );
}
