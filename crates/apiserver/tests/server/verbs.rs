//! create, get, list, watch, update, patch, delete.

use serde_json::json;

use crate::harness::{config_map, server};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn one_object_from_birth_to_death() {
    let server = server().await;
    server.namespace("ns").await;
    let mut watch = server.watch(&format!("{MAPS}?watch=1")).await;
    let made = server
        .post(MAPS, &config_map("a", &json!({"k": "1"})))
        .await
        .expect(201);
    assert_eq!(made["metadata"]["namespace"], "ns");
    assert!(made["metadata"]["uid"].as_str().unwrap().len() == 36);
    assert!(made["metadata"]["creationTimestamp"].is_string());
    assert_eq!(watch.change().await, ("ADDED".into(), "a".into()));

    let got = server.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(got, made);

    let mut changed = got.clone();
    changed["data"]["k"] = json!("2");
    let put = server.put(&format!("{MAPS}/a"), &changed).await.expect(200);
    assert_ne!(put["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(watch.change().await, ("MODIFIED".into(), "a".into()));

    let stale = server.put(&format!("{MAPS}/a"), &changed).await.expect(409);
    assert_eq!(
        stale["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let same = server.put(&format!("{MAPS}/a"), &put).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], put["metadata"]["resourceVersion"]);

    let list = server.get(MAPS).await.expect(200);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    let gone = server.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["data"]["k"], "2");
    let missing = server.get(&format!("{MAPS}/a")).await.expect(404);
    assert_eq!(missing["message"], "configmaps \"a\" not found");
}

#[tokio::test]
async fn names_are_generated_and_checked() {
    let server = server().await;
    server.namespace("ns").await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}});
    let made = server.post(MAPS, &object).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("g-") && name.len() == 7);
    let refused = server.post(MAPS, &config_map("No_Name", &json!({}))).await.expect(422);
    assert_eq!(refused["reason"], "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.name");
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let refused = server.post(MAPS, &nameless).await.expect(422);
    assert_eq!(
        refused["message"],
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let twice = server.post(MAPS, &config_map("a", &json!({}))).await.expect(409);
    assert_eq!(twice["reason"], "AlreadyExists");
}

#[tokio::test]
async fn what_does_not_fit_the_path_is_refused() {
    let server = server().await;
    server.namespace("ns").await;
    let mut other = config_map("a", &json!({}));
    other["metadata"]["namespace"] = json!("elsewhere");
    let refused = server.post(MAPS, &other).await.expect(400);
    assert_eq!(
        refused["message"],
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let wrong = json!({"apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let refused = server.post(MAPS, &wrong).await.expect(400);
    assert_eq!(
        refused["message"],
        r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "apps/v1" in scheme "pkg/runtime/scheme.go:104""#
    );
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let refused = server
        .put(&format!("{MAPS}/a"), &config_map("b", &json!({})))
        .await
        .expect(400);
    assert_eq!(
        refused["message"],
        "the name of the object (b) does not match the name on the URL (a)"
    );
    server
        .put(&format!("{MAPS}/none"), &config_map("none", &json!({})))
        .await
        .expect(404);
    let mut versioned = config_map("c", &json!({}));
    versioned["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(server.post(MAPS, &versioned).await.code, 500);
    assert_eq!(server.get("/api/v1/nothing").await.code, 404);
    assert_eq!(server.call("PUT", MAPS, None).await.code, 405);
    // A path is decoded before it is taken apart.
    let escaped = server.get(&format!("{MAPS}/x%2Fy")).await.expect(404);
    assert_eq!(escaped["message"], "the server could not find the requested resource");
    let escaped = server.get(&format!("{MAPS}/x%25y")).await.expect(400);
    assert_eq!(
        escaped["message"],
        "Name parameter invalid: \"x%y\": may not contain '%'"
    );
    let missing = "/api/v1/namespaces/missing/configmaps";
    let refused = server.post(missing, &config_map("a", &json!({}))).await.expect(404);
    assert_eq!(refused["message"], "namespaces \"missing\" not found");
}

#[tokio::test]
async fn unknown_fields_are_ignored_warned_of_or_refused() {
    let server = server().await;
    server.namespace("ns").await;
    let object = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labls": {}},
            "dta": {}})
    };
    let warned = server.post(MAPS, &object("a")).await;
    assert_eq!(warned.code, 201);
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        [
            r#"299 - "unknown field \"dta\"""#,
            r#"299 - "unknown field \"metadata.labls\"""#
        ]
    );
    assert!(warned.json().get("dta").is_none());
    let ignored = server
        .post(&format!("{MAPS}?fieldValidation=Ignore"), &object("b"))
        .await;
    assert_eq!((ignored.code, ignored.headers.get("warning")), (201, None));
    let strict = server
        .post(&format!("{MAPS}?fieldValidation=Strict"), &object("c"))
        .await;
    assert_eq!(
        strict.expect(400)["message"],
        r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta", unknown field "metadata.labls""#
    );
    server
        .post(&format!("{MAPS}?fieldValidation=Maybe"), &object("d"))
        .await
        .expect(422);
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let server = server().await;
    server.namespace("ns").await;
    let before = server.store.revision();
    let made = server
        .post(&format!("{MAPS}?dryRun=All"), &config_map("a", &json!({})))
        .await;
    assert!(made.expect(201)["metadata"]["uid"].is_string());
    server.get(&format!("{MAPS}/a")).await.expect(404);
    assert_eq!(server.store.revision(), before);
    server
        .post(&format!("{MAPS}?dryRun=Some"), &config_map("a", &json!({})))
        .await
        .expect(422);
    server
        .post(MAPS, &config_map("a", &json!({"k": "1"})))
        .await
        .expect(201);
    let before = server.store.revision();
    server
        .post(&format!("{MAPS}?dryRun=All"), &config_map("a", &json!({})))
        .await
        .expect(409);
    server.delete(&format!("{MAPS}/a?dryRun=All")).await.expect(200);
    assert_eq!(server.store.revision(), before);
    server.get(&format!("{MAPS}/a")).await.expect(200);
}

#[tokio::test]
async fn spec_and_status_are_apart() {
    let server = server().await;
    server.namespace("ns").await;
    let base = "/apis/apps/v1/namespaces/ns/deployments";
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
        "status": {"replicas": 9}});
    let made = server.post(base, &object).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["status"]["replicas"].as_i64(), None);

    let mut status = made.clone();
    status["status"]["replicas"] = json!(3);
    status["spec"]["replicas"] = json!(7);
    status["metadata"]["annotations"] = json!({"kept": "yes"});
    let updated = server.put(&format!("{base}/d/status"), &status).await.expect(200);
    assert_eq!(updated["status"]["replicas"], 3);
    assert_eq!(updated["spec"]["replicas"], 1);
    assert_eq!(updated["metadata"]["generation"], 1);
    assert_eq!(updated["metadata"]["annotations"]["kept"], "yes");

    let mut spec = updated.clone();
    spec["spec"]["replicas"] = json!(5);
    spec["status"]["replicas"] = json!(0);
    let updated = server.put(&format!("{base}/d"), &spec).await.expect(200);
    assert_eq!(updated["spec"]["replicas"], 5);
    assert_eq!(updated["status"]["replicas"], 3);
    assert_eq!(updated["metadata"]["generation"], 2);
}

#[tokio::test]
async fn concurrent_updates_lose_nothing() {
    let server = server().await;
    server.namespace("ns").await;
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let path = format!("{MAPS}/a");
    let patch = async |at: usize| {
        let patch = json!({"data": {format!("k{at}"): "v"}});
        server
            .patch(&path, "application/merge-patch+json", &patch)
            .await
            .expect(200);
    };
    futures_util::future::join_all((0..32).map(patch)).await;
    let object = server.get(&path).await.expect(200);
    assert_eq!(object["data"].as_object().unwrap().len(), 32);

    // Of writers that all saw the same version, one wins.
    let put = async |at: usize| {
        let mut mine = object.clone();
        mine["data"] = json!({"winner": at.to_string()});
        server.put(&path, &mine).await.code
    };
    let mut codes = futures_util::future::join_all((0..8).map(put)).await;
    codes.sort_unstable();
    assert_eq!(codes, [200, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test]
async fn encodings() {
    let server = server().await;
    server.namespace("ns").await;
    let made = server
        .post(MAPS, &config_map("a", &json!({"k": "v"})))
        .await
        .expect(201);
    let path = format!("{MAPS}/a");
    let get = async |path: &str, accept: &'static str| {
        server
            .call_as(crate::harness::admin(), "GET", path, None, &[("accept", accept)])
            .await
    };
    let protobuf = get(&path, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(protobuf.headers["content-type"], "application/vnd.kubernetes.protobuf");
    let ty = schema::builtin().kind("", "v1", "ConfigMap").unwrap();
    let mut decoded = schema::codec::protobuf::decode_object(ty, &protobuf.body).unwrap();
    schema::normalize(ty, &mut decoded);
    assert_eq!(decoded["data"], made["data"]);
    assert_eq!(decoded["metadata"]["uid"], made["metadata"]["uid"]);
    let yaml = get(&path, "application/yaml").await;
    assert!(yaml.text().contains("kind: ConfigMap\n"), "{}", yaml.text());
    let list = get(MAPS, "application/vnd.kubernetes.protobuf").await;
    let ty = schema::builtin().kind("", "v1", "ConfigMapList").unwrap();
    let decoded = schema::codec::protobuf::decode_object(ty, &list.body).unwrap();
    assert_eq!(decoded["items"][0]["metadata"]["name"], "a");
    let table = get(MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await;
    let table = table.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = get(MAPS, partial).await.expect(200);
    assert_eq!(partial["items"][0]["metadata"]["name"], "a");
    assert!(partial["items"][0].get("data").is_none());
    assert_eq!(get(&path, "text/html").await.code, 406);
    let pretty = server.get(&format!("{path}?pretty=true")).await;
    assert!(pretty.text().starts_with("{\n  \""));
    let request = http::Request::builder()
        .method("POST")
        .uri(MAPS)
        .header("content-type", "application/yaml")
        .body(apiserver::body::full(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yam}\n",
        ))
        .unwrap();
    server.send(request, crate::harness::admin()).await.expect(201);
    let big = "x".repeat(3 * 1024 * 1024 + 1);
    let answer = server
        .post(MAPS, &config_map("big", &json!({"k": big})))
        .await
        .expect(413);
    assert_eq!(answer["reason"], "RequestEntityTooLarge");
}
