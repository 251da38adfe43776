//! What clients see of HTTP: codes, headers, encodings, shapes of lists.

use std::io::Read;

use http::Request;
use serde_json::json;

use crate::harness::{admin, config_map, server};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn items_of_built_in_lists_have_no_kind() {
    let server = server().await;
    server.namespace("ns").await;
    server
        .post(MAPS, &config_map("a", &json!({"k": "v"})))
        .await
        .expect(201);
    let one = server.get(&format!("{MAPS}/a")).await;
    assert!(
        one.text()
            .starts_with("{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"data\"")
    );
    let list = server.get(MAPS).await;
    let text = list.text();
    assert!(text.contains("\"items\":[{\"data\":{\"k\":\"v\"}"), "{text}");
    let list = list.expect(200);
    assert_eq!(list["items"][0].get("kind"), None);
    assert_eq!(list["items"][0].get("apiVersion"), None);
    let yaml = [("accept", "application/yaml")];
    let yaml = server.call_as(admin(), "GET", MAPS, None, &yaml).await.text();
    assert_eq!(yaml.matches("kind:").count(), 1, "{yaml}");
    let pretty = server.get(&format!("{MAPS}?pretty=true")).await;
    assert_eq!(pretty.json(), list);
}

#[tokio::test]
async fn long_answers_are_compressed() {
    let server = server().await;
    server.namespace("ns").await;
    let data = json!({"k": "x".repeat(100_000)});
    for name in ["a", "b", "c"] {
        server.post(MAPS, &config_map(name, &data)).await.expect(201);
    }
    let gzip = [("accept-encoding", "deflate, gzip")];
    let list = server.call_as(admin(), "GET", MAPS, None, &gzip).await;
    assert_eq!(list.headers["content-encoding"], "gzip");
    assert_eq!(list.headers["vary"], "Accept-Encoding");
    assert!(list.body.len() < 50_000);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&list.body[..])
        .read_to_string(&mut text)
        .unwrap();
    let plain = server.get(MAPS).await;
    assert_eq!(text, plain.text());
    assert!(!plain.headers.contains_key("content-encoding"));
    let short = server.call_as(admin(), "GET", &format!("{MAPS}/a"), None, &gzip).await;
    assert!(!short.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn what_nobody_serves_is_said_as_upstream_says_it() {
    let server = server().await;
    server.namespace("ns").await;
    let missing = server.get("/api/v1/namespaces/ns/cakes").await.expect(404);
    assert_eq!(missing["message"], "the server could not find the requested resource");
    assert_eq!(missing["reason"], "NotFound");
    let other = server.get("/apis/cakes/v1/namespaces/ns/cakes").await;
    assert_eq!((other.code, &*other.text()), (404, "404 page not found\n"));
    let sub = server.get("/api/v1/namespaces/ns/pods/p/cake").await.expect(404);
    assert_eq!(sub["message"], "the server could not find the requested resource");
    server.get("/api/v1/namespaces/ns/pods/p/status/more").await.expect(404);
    let wrong = server.post(&format!("{MAPS}/a"), &json!({})).await.expect(405);
    assert_eq!(
        wrong["message"],
        "the server does not allow this method on the requested resource"
    );
    assert_eq!(wrong["reason"], "MethodNotAllowed");
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(server.call(method, MAPS, None).await.code, 405, "{method}");
    }
}

#[tokio::test]
async fn headers() {
    let server = server().await;
    server.namespace("ns").await;
    let named = [("audit-id", "mine")];
    let answer = server.call_as(admin(), "GET", MAPS, None, &named).await;
    assert_eq!(answer.headers["audit-id"], "mine");
    assert_eq!(answer.headers["cache-control"], "no-cache, private");
    assert_eq!(answer.headers["content-type"], "application/json");
    let answer = server.get(MAPS).await;
    assert_eq!(answer.headers["audit-id"].len(), 36);
    let refused = server.get(&format!("{MAPS}?timeout=soon")).await.expect(400);
    assert_eq!(
        refused["message"],
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
    server.get(&format!("{MAPS}?timeout=5s")).await.expect(200);
    let type_unknown = [("content-type", "text/html")];
    let body = config_map("a", &json!({}));
    let refused = server
        .call_as(admin(), "POST", MAPS, Some(&body), &type_unknown)
        .await
        .expect(415);
    assert_eq!(refused["reason"], "UnsupportedMediaType");
    let accept_unknown = [("accept", "text/html")];
    let refused = server
        .call_as(admin(), "GET", MAPS, None, &accept_unknown)
        .await
        .expect(406);
    assert_eq!(refused["reason"], "NotAcceptable");
}

#[tokio::test]
async fn hostile_requests_are_refused() {
    let server = server().await;
    server.namespace("ns").await;
    for path in [
        "/api/v1/namespaces/ns%2F..%2Fother/configmaps",
        "/api/v1/namespaces/../configmaps",
        "/api/v1/namespaces/ns/configmaps/..%2F..%2Fsecrets",
        "/api/v1/namespaces/ns/configmaps/..",
        "/api/v1/namespaces/ns/configmaps/%2e%2e",
        "/api/v1/namespaces/ns/configmaps/a%00b",
        "/api/v1//configmaps/x/y/z",
        "/api/v1/namespaces/ns/configmaps?labelSelector=a+in+(((",
        "/api/v1/namespaces/ns/configmaps?limit=99999999999999999999",
        "/api/v1/namespaces/ns/configmaps?limit=x",
        "/api/v1/namespaces/ns/configmaps?continue=AAAA",
        "/api/v1/namespaces/ns/configmaps?continue=%FF%FE",
        "/api/v1/namespaces/ns/configmaps?resourceVersion=-1",
        "/api/v1/namespaces/ns/configmaps?resourceVersion=18446744073709551616",
    ] {
        let answer = server.get(path).await;
        assert!(
            (400..500).contains(&answer.code),
            "{path}: {} {}",
            answer.code,
            answer.text()
        );
    }
    let long = config_map("a", &json!({"k": "x".repeat(4 << 20)}));
    let refused = server.post(MAPS, &long).await.expect(413);
    assert_eq!(refused["message"], "Request entity too large: limit is 3145728");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bombs: [(&str, Vec<u8>); 8] = [
        ("application/json", deep.clone().into_bytes()),
        ("application/json", b"{\"kind\":\"ConfigMap\"".to_vec()),
        ("application/json", b"\xff\xfe{}".to_vec()),
        ("application/yaml", deep.into_bytes()),
        (
            "application/yaml",
            b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n".to_vec(),
        ),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\xff\xff\xff\xff\x0f".to_vec()),
        ("application/vnd.kubernetes.protobuf", b"nope".to_vec()),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x12\x05\xff\xff\xff\xff\xff".to_vec()),
    ];
    for (media, body) in bombs {
        let request = Request::builder()
            .method("POST")
            .uri(MAPS)
            .header("content-type", media)
            .body(apiserver::body::full(body))
            .unwrap();
        let answer = server.send(request, admin()).await;
        assert!(
            (400..500).contains(&answer.code),
            "{media}: {} {}",
            answer.code,
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_collection_is_deleted_side_by_side() {
    let server = server().await;
    server.namespace("ns").await;
    for at in 0..40 {
        let mut object = config_map(&format!("m{at:02}"), &json!({}));
        object["metadata"]["labels"] = json!({"even": (at % 2 == 0).to_string()});
        server.post(MAPS, &object).await.expect(201);
    }
    let answer = server
        .delete(&format!("{MAPS}?labelSelector=even%3Dtrue"))
        .await
        .expect(200);
    assert_eq!(answer["items"].as_array().unwrap().len(), 20);
    let rest = server.get(MAPS).await.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 20);
    let dry = server.delete(&format!("{MAPS}?dryRun=All")).await;
    assert_eq!(dry.code, 200);
    let rest = server.get(MAPS).await.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn patches_of_the_wrong_type_name_the_patch() {
    let server = server().await;
    server.namespace("ns").await;
    let path = "/apis/apps/v1/namespaces/ns/deployments";
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server.post(path, &deployment).await.expect(201);
    let patch = json!({"spec": {"replicas": "abc"}});
    let strategic = "application/strategic-merge-patch+json";
    let refused = server.patch(&format!("{path}/d"), strategic, &patch).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(" \"\" is invalid: patch: Invalid value: \"map[spec:map[replicas:abc]]\":"),
        "{message}"
    );
    let json_patch = json!([{"op": "remove", "path": "/spec/none"}]);
    let refused = server
        .patch(&format!("{path}/d"), "application/json-patch+json", &json_patch)
        .await
        .expect(422);
    assert_eq!(
        refused["message"],
        "the server rejected our request due to an error in our request"
    );
    assert_eq!(refused["details"].get("causes"), None);
}

/// As upstream while `CBORServingAndStorage` is off, which it is by default.
#[tokio::test]
async fn cbor_is_not_spoken() {
    let server = server().await;
    server.namespace("ns").await;
    let map = config_map("a", &json!({"k": "v"}));
    server.post(MAPS, &map).await.expect(201);
    let one = format!("{MAPS}/a");
    let known = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let refused = server
        .call_as(admin(), "GET", MAPS, None, &[("accept", "application/cbor")])
        .await
        .expect(406);
    let message = format!("only the following media types are accepted: {known}");
    assert_eq!(refused["message"], *message);
    let either = [("accept", "application/cbor,application/json;q=0.9")];
    let either = server.call_as(admin(), "GET", MAPS, None, &either).await;
    either.expect(200);
    assert_eq!(either.headers["content-type"], "application/json");
    let watch = format!("{MAPS}?watch=1");
    let streams = [("accept", "application/cbor-seq;stream=watch")];
    server.call_as(admin(), "GET", &watch, None, &streams).await.expect(406);
    let cbor = [("content-type", "application/cbor")];
    let refused = server
        .call_as(admin(), "PUT", &one, Some(&map), &cbor)
        .await
        .expect(415);
    let message = format!("the body of the request was in an unknown format - accepted media types include: {known}");
    assert_eq!(refused["message"], *message);
    let refused = server
        .patch(&one, "application/apply-patch+cbor", &map)
        .await
        .expect(415);
    assert_eq!(
        refused["message"],
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
    );
}

#[tokio::test]
async fn a_scale_has_owners_too() {
    let server = server().await;
    server.namespace("ns").await;
    let path = "/apis/apps/v1/namespaces/ns/deployments";
    let apply = "application/apply-patch+yaml";
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server
        .patch(&format!("{path}/d?fieldManager=one"), apply, &deployment)
        .await
        .expect(201);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"},
        "spec": {"replicas": 3}});
    let at = format!("{path}/d/scale?fieldManager=two");
    let refused = server.patch(&at, apply, &scale).await.expect(409);
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    let done = server
        .patch(&format!("{at}&force=true"), apply, &scale)
        .await
        .expect(200);
    assert_eq!(done["spec"]["replicas"], 3);
    let object = server.get(&format!("{path}/d")).await.expect(200);
    let fields = object["metadata"]["managedFields"].as_array().unwrap();
    let of = |name: &str| fields.iter().find(|f| f["manager"] == name).unwrap().clone();
    assert_eq!(of("two")["subresource"], "scale");
    assert_eq!(of("two")["apiVersion"], "apps/v1");
    assert_eq!(of("two")["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(of("one")["fieldsV1"]["f:spec"].get("f:replicas"), None);
    let refused = server
        .patch(&format!("{path}/d?fieldManager=one"), apply, &deployment)
        .await
        .expect(409);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("conflict with \"two\" with subresource \"scale\"")
    );
}
