//! Watches as clients see them.

use http::Request;
use http_body_util::BodyExt;
use serde_json::json;

use crate::harness::{admin, config_map, server};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let server = server().await;
    server.namespace("ns").await;
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let list = server.get(MAPS).await.expect(200);
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    server.post(MAPS, &config_map("b", &json!({}))).await.expect(201);
    let mut watch = server
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    assert_eq!(watch.change().await, ("ADDED".into(), "b".into()));
    server.delete(&format!("{MAPS}/a")).await.expect(200);
    let gone = watch.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    let version = gone["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(version, server.store.revision().to_string());
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let server = server().await;
    server.namespace("ns").await;
    let mut watch = server.watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes")).await;
    let mut object = server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    for (labels, change) in [
        (json!({"on": "yes"}), "ADDED"),
        (json!({"on": "yes", "x": "y"}), "MODIFIED"),
        (json!({"on": "no"}), "DELETED"),
    ] {
        object["metadata"]["labels"] = labels;
        object = server.put(&format!("{MAPS}/a"), &object).await.expect(200);
        assert_eq!(watch.change().await, (change.into(), "a".into()));
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = server().await;
    server.namespace("ns").await;
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.change().await, ("ADDED".into(), "a".into()));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let refused = server
        .get(&format!("{MAPS}?watch=1&sendInitialEvents=true"))
        .await
        .expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "resourceVersionMatch");
}

#[tokio::test]
async fn tables_and_protobuf_are_watched_too() {
    let server = server().await;
    server.namespace("ns").await;
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let open = async |accept: &'static str| {
        let request = Request::builder()
            .uri(format!("{MAPS}?watch=1"))
            .header("accept", accept)
            .body(apiserver::body::empty())
            .unwrap();
        let response = server.raw(request, admin()).await;
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        let frame = response
            .into_body()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        (media, frame)
    };
    let (_, frame) = open("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await;
    let event: serde_json::Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(event["object"]["kind"], "Table");
    assert!(!event["object"]["columnDefinitions"].as_array().unwrap().is_empty());

    let (media, frame) = open("application/vnd.kubernetes.protobuf").await;
    assert_eq!(media, "application/vnd.kubernetes.protobuf;stream=watch");
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    assert_eq!(frame.len(), 4 + length);
    assert_eq!(&frame[4..6], &[10, 5]);
    assert_eq!(&frame[6..11], b"ADDED");
    let at = frame.windows(4).position(|w| w == b"k8s\0").unwrap();
    let ty = schema::builtin().kind("", "v1", "ConfigMap").unwrap();
    let object = schema::codec::protobuf::decode_object(ty, &frame[at..]).unwrap();
    assert_eq!(object["metadata"]["name"], "a");
}

#[tokio::test]
async fn a_watch_ends_by_its_timeout_and_with_the_server() {
    let server = server().await;
    let mut short = server.watch("/api/v1/namespaces?watch=1&timeoutSeconds=1").await;
    assert_eq!(short.next().await, None);
    let mut long = server.watch("/api/v1/namespaces?watch=1").await;
    server.api.drain();
    assert_eq!(long.next().await, None);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.code, 500);
    assert!(ready.text().contains("[-]shutdown failed: reason withheld\n"));
    assert_eq!(server.get("/livez").await.code, 200);
}
