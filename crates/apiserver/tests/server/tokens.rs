//! Tokens that are kept in Secrets: bootstrap tokens, and those of service accounts that do not expire.

use apiserver::Peer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::identity;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

async fn review(server: &Server, token: &str, audiences: &[&str]) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    server.post(REVIEWS, &review).await.expect(201)["status"].clone()
}

async fn request_as(server: &Server, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let answer = server.call_as(Peer::default(), "GET", MAPS, None, &headers).await;
    answer.code
}

#[tokio::test]
async fn bootstrap_tokens_stand_for_joining_machines() {
    let server = identity::server().await;
    server.namespace("kube-system").await;
    let token = "abcdef.0123456789abcdef";
    assert_eq!(request_as(&server, token).await, 401);
    let data = json!({
        "token-id": STANDARD.encode("abcdef"),
        "token-secret": STANDARD.encode("0123456789abcdef"),
        "usage-bootstrap-authentication": STANDARD.encode("true"),
        "auth-extra-groups": STANDARD.encode("system:bootstrappers:worker"),
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef"}, "data": data});
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    server.post(secrets, &secret).await.expect(201);
    let status = review(&server, token, &[]).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], "system:bootstrap:abcdef");
    assert_eq!(
        status["user"]["groups"],
        json!([
            "system:bootstrappers",
            "system:bootstrappers:worker",
            "system:authenticated"
        ])
    );
    // Known, but without rights.
    assert_eq!(request_as(&server, token).await, 403);
    assert_eq!(request_as(&server, "abcdef.0123456789abcdeX").await, 401);
    assert_eq!(request_as(&server, "abcdef.0123456789abcde0").await, 401);
    assert_ne!(review(&server, token, &["vault"]).await["authenticated"], true);
    server
        .delete(&format!("{secrets}/bootstrap-token-abcdef"))
        .await
        .expect(200);
    assert_eq!(request_as(&server, token).await, 401);
}

#[tokio::test]
async fn tokens_in_secrets_stand_for_their_accounts() {
    let server = identity::server().await;
    let accounts = "/api/v1/namespaces/ns/serviceaccounts";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot"}});
    let account = server.post(accounts, &account).await.expect(201);
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:ns:bot",
        "kubernetes.io/serviceaccount/namespace": "ns",
        "kubernetes.io/serviceaccount/secret.name": "bot-token",
        "kubernetes.io/serviceaccount/service-account.name": "bot",
        "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"],
    });
    let token = server.api.sign_token(&claims).unwrap();
    assert_eq!(request_as(&server, &token).await, 401, "no Secret holds it");
    let secret = |token: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "bot-token"}, "data": {"token": STANDARD.encode(token)}})
    };
    let path = "/api/v1/namespaces/ns/secrets/bot-token";
    server
        .post("/api/v1/namespaces/ns/secrets", &secret("another"))
        .await
        .expect(201);
    assert_eq!(request_as(&server, &token).await, 401, "its Secret holds another");
    server.put(path, &secret(&token)).await.expect(200);
    assert_eq!(request_as(&server, &token).await, 403);
    let status = review(&server, &token, &[]).await;
    assert_eq!(status["user"]["username"], "system:serviceaccount:ns:bot");
    assert_eq!(status["user"]["uid"], account["metadata"]["uid"]);
    assert_ne!(review(&server, &token, &["vault"]).await["authenticated"], true);
    let label = |value: Value| json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": value}}});
    let media = "application/merge-patch+json";
    server.patch(path, media, &label(json!("2026-01-01"))).await.expect(200);
    assert_eq!(request_as(&server, &token).await, 401, "it was made invalid");
    server.patch(path, media, &label(Value::Null)).await.expect(200);
    assert_eq!(request_as(&server, &token).await, 403);
    let mut forged = claims.clone();
    forged["sub"] = json!("system:serviceaccount:ns:other");
    let forged = server.api.sign_token(&forged).unwrap();
    assert_eq!(request_as(&server, &forged).await, 401);
    server.delete(&format!("{accounts}/bot")).await.expect(200);
    assert_eq!(request_as(&server, &token).await, 401, "its account is gone");
}
