//! Discovery, OpenAPI, health, version. The golden is cut from what upstream v1.28 answers.

use apiserver::kind::{Connect, Kind, Subresource, Verb};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{Server, admin, kinds, server, server_of};

/// Kinds of upstream's `/api/v1`, described by hand as the built-in list does.
fn core() -> Vec<Kind> {
    vec![
        Kind::namespaced("", "v1", "ConfigMap", "configmaps").short_names(&["cm"]),
        Kind::cluster("", "v1", "Namespace", "namespaces")
            .short_names(&["ns"])
            .verbs(&[
                Verb::Create,
                Verb::Delete,
                Verb::Get,
                Verb::List,
                Verb::Patch,
                Verb::Update,
                Verb::Watch,
            ])
            .with_status()
            .subresource(Subresource::part("finalize", apiserver::kind::Part::default()).verbs(&[Verb::Update])),
        Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts")
            .short_names(&["sa"])
            .subresource(Subresource::token()),
        Kind::namespaced("", "v1", "Pod", "pods")
            .short_names(&["po"])
            .categories(&["all"])
            .with_status()
            .subresource(Subresource::connect(Connect::Log))
            .subresource(Subresource::connect(Connect::Exec))
            .subresource(Subresource::connect(Connect::Attach))
            .subresource(Subresource::connect(Connect::PortForward))
            .subresource(Subresource::connect(Connect::PodProxy))
            .subresource(Subresource::part(
                "ephemeralcontainers",
                apiserver::kind::Part::default(),
            ))
            .subresource(Subresource::binding())
            .subresource(Subresource::eviction()),
    ]
}

async fn aggregated(server: &Server, path: &str, version: &str) -> crate::harness::Answer {
    let accept =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json");
    server.call_as(admin(), "GET", path, None, &[("accept", &accept)]).await
}

#[tokio::test]
async fn legacy_documents() {
    let server = server_of(core()).await;
    let ours = server.get("/api/v1").await.expect(200);
    let wanted = include_str!("golden/api_v1.json");
    assert_eq!(ours, serde_json::from_str::<Value>(wanted).unwrap());
    let groups = server.get("/apis/").await.expect(200);
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["authentication.k8s.io", "authorization.k8s.io"]);
    let versions = server.get("/api").await.expect(200);
    assert_eq!(versions["versions"], json!(["v1"]));
    let group = server.get("/apis/authorization.k8s.io").await.expect(200);
    assert_eq!(group["preferredVersion"]["groupVersion"], "authorization.k8s.io/v1");
    assert_eq!(server.get("/apis/none.example.com/v1").await.code, 404);
}

#[tokio::test]
async fn aggregated_documents() {
    let server = server_of(core()).await;
    for version in ["v2", "v2beta1"] {
        let answer = aggregated(&server, "/api", version).await;
        let document = answer.expect(200);
        assert_eq!(document["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
        let resources = document["items"][0]["versions"][0]["resources"].as_array().unwrap();
        let pods = resources.iter().find(|r| r["resource"] == "pods").unwrap();
        assert_eq!(pods["shortNames"], json!(["po"]));
        let tag = answer.headers["etag"].to_str().unwrap().to_owned();
        let accept = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let headers = [("accept", accept.as_str()), ("if-none-match", tag.as_str())];
        assert_eq!(server.call_as(admin(), "GET", "/api", None, &headers).await.code, 304);
    }
    assert_eq!(server.get("/api").await.expect(200)["kind"], "APIVersions");
    let params = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let protobuf = format!("application/vnd.kubernetes.protobuf;{params}");
    let wanted = format!("application/json;q=0.5;{params},{protobuf}");
    let answer = server
        .call_as(admin(), "GET", "/api", None, &[("accept", &wanted)])
        .await;
    assert_eq!(answer.headers["content-type"], *protobuf);
    let unknown = schema::codec::unknown::unwrap(&answer.body).unwrap();
    let schema = schema::builtin();
    let list = schema
        .by_name("io.k8s.api.apidiscovery.v2.APIGroupDiscoveryList")
        .unwrap();
    let list = schema::codec::protobuf::decode(schema.get(list), unknown.raw).unwrap();
    let resources = list["items"][0]["versions"][0]["resources"].as_array().unwrap();
    assert!(resources.iter().any(|r| r["resource"] == "pods"));
    let plain = format!("application/json,{protobuf}");
    let plain = server
        .call_as(admin(), "GET", "/api", None, &[("accept", &plain)])
        .await;
    assert_eq!(plain.expect(200)["kind"], "APIVersions");
}

#[tokio::test]
async fn openapi_documents_can_be_kept() {
    let server = server().await;
    let index = server.get("/openapi/v3").await;
    let tag = index.headers["etag"].to_str().unwrap().to_owned();
    let known = [("if-none-match", &*tag)];
    let same = server.call_as(admin(), "GET", "/openapi/v3", None, &known).await;
    assert_eq!((same.code, same.body.len()), (304, 0));
    let index = index.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (path, hash) = url.split_once("?hash=").unwrap();
    let document = server.get(url).await;
    assert_eq!(document.headers["cache-control"], "public, immutable");
    assert_eq!(document.headers["etag"], format!("\"{hash}\""));
    assert_eq!(document.headers["vary"], "Accept");
    assert!(document.headers["expires"].to_str().unwrap().ends_with(" GMT"));
    let unhashed = server.get(path).await;
    assert_eq!(unhashed.body, document.body);
    assert_eq!(unhashed.headers["cache-control"], "no-cache, private");
    let moved = server.get(&format!("{path}?hash=OLD")).await;
    assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (301, url));
    let protobuf = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    let read = async |path: &str, accept: &str| server.call_as(admin(), "GET", path, None, &[("accept", accept)]).await;
    let packed = read(url, &format!("{protobuf},application/json;q=0.5")).await;
    assert_eq!(
        packed.headers["content-type"],
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
    );
    assert_eq!(packed.headers["etag"], document.headers["etag"]);
    assert!(packed.body.starts_with(b"\x0a\x053.0.0"), "openapi is field 1");
    for (path, accept) in [("/openapi/v2", "text/plain"), (url, "application/xml")] {
        assert_eq!(read(path, accept).await.code, 406, "{path}");
    }
    let swagger = read(
        "/openapi/v2",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    )
    .await;
    assert!(swagger.body.starts_with(b"\x0a\x032.0"));
    let tag = [("if-none-match", swagger.headers["etag"].to_str().unwrap())];
    let json = server.call_as(admin(), "GET", "/openapi/v2", None, &tag).await;
    assert_eq!(json.code, 200, "another form has another tag");
}

#[tokio::test]
async fn openapi_is_there_when_asked_for() {
    let server = server().await;
    let index = server.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = server.get(url).await.expect(200);
    let name = "io.k8s.api.apps.v1.Deployment";
    assert!(document["components"]["schemas"][name].is_object());
    assert!(document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"].is_object());
    let zipped = server
        .call_as(admin(), "GET", url, None, &[("accept-encoding", "gzip")])
        .await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let v2 = server.get("/openapi/v2").await.expect(200);
    assert_eq!(v2["swagger"], "2.0");
    assert_eq!(server.get("/openapi/v3/apis/none/v1").await.code, 404);
}

#[tokio::test]
async fn health_version_and_metrics() {
    let server = server().await;
    server.api.ready().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, answer.text().as_str()), (200, "ok"), "{path}");
    }
    let verbose = server.get("/readyz?verbose&exclude=etcd&exclude=nothing").await.text();
    assert!(
        verbose.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"),
        "{verbose}"
    );
    assert!(verbose.contains("[+]informer-sync ok\n"));
    assert!(verbose.contains("no matches for \"nothing\""));
    assert!(verbose.ends_with("readyz check passed\n"));
    assert_eq!(server.get("/readyz/nothing").await.code, 404);
    let version = server.get("/version").await.expect(200);
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
    assert_eq!(server.get("/apis/made.up/v1/things").await.code, 404);
    let metrics = server.get("/metrics").await.text();
    assert!(!metrics.contains("made.up"));
    assert!(metrics.contains("verb=\"GET\",version=\"\"} "), "{metrics}");
    assert!(metrics.contains("apiserver_request_duration_seconds_bucket{"));
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let mut kinds = kinds();
    kinds[0] = kinds[0].clone().validate(|_| panic!("a kind's function is wrong"));
    let server = server_of(kinds).await;
    server.namespace("ns").await;
    let object = crate::harness::config_map("a", &json!({}));
    let answer = server
        .post("/api/v1/namespaces/ns/configmaps", &object)
        .await
        .expect(500);
    assert_eq!(answer["reason"], "InternalError");
    server.get("/api/v1/namespaces/ns/configmaps").await.expect(200);
}

#[tokio::test]
async fn components_in_the_process_are_users_too() {
    let server = server().await;
    let client = server.api.in_process(apiserver::UserInfo::new("system:nobody", &[]));
    let request = http::Request::builder()
        .uri("/api/v1/namespaces")
        .body(bytes::Bytes::new())
        .unwrap();
    let answer = client.call(request).await;
    assert_eq!(answer.status(), 403);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("system:nobody"));
}
