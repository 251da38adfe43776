//! Custom resources have no protobuf form; their metadata, statuses and options have one: what
//! client-go's metadata client, which garbage collectors and quota controllers use, relies on.

use http::Request;
use http_body_util::BodyExt;
use schema::codec::{protobuf, unknown};
use serde_json::{Value, json};

use super::harness::{CRONTABS, Server, admin, crontab, crontabs, free, server};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// An enveloped object of `meta.k8s.io` or a Status, with its kind and version.
fn decoded(bytes: &[u8]) -> Value {
    let envelope = unknown::unwrap(bytes).unwrap();
    let meta = envelope.type_meta;
    let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{}", meta.kind);
    let schema = schema::builtin();
    let ty = schema.get(schema.by_name(&name).unwrap());
    let mut value = protobuf::decode(ty, envelope.raw).unwrap();
    value["kind"] = meta.kind.into();
    value["apiVersion"] = meta.api_version.into();
    value
}

async fn read(server: &Server, path: &str, accept: &str) -> (u16, Value) {
    let answer = server.call("GET", path, None, &[("accept", accept)]).await;
    let media = answer.headers["content-type"].to_str().unwrap();
    let value = match media.starts_with(PROTOBUF) {
        true => decoded(&answer.body),
        false => serde_json::from_slice(&answer.body).unwrap(),
    };
    (answer.code, value)
}

#[tokio::test]
async fn objects_have_no_protobuf() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    let sent = crontab("a", json!({"cron": "1"}));
    server.post(CRONTABS, &sent).await.expect(201);
    let one = format!("{CRONTABS}/a");
    for path in [CRONTABS, &*one, &*format!("{CRONTABS}?watch=1")] {
        let (code, refused) = read(&server, path, PROTOBUF).await;
        assert_eq!((code, &refused["kind"]), (406, &json!("Status")));
        assert_eq!(
            refused["message"],
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
    }
    let (code, found) = read(&server, &one, &format!("{PROTOBUF},application/json")).await;
    assert_eq!((code, &found["spec"]), (200, &json!({"cron": "1"})));
    let (code, list) = read(&server, CRONTABS, &format!("{PROTOBUF},application/json")).await;
    assert_eq!((code, &list["kind"]), (200, &json!("CronTabList")));

    let plain = server
        .call("POST", CRONTABS, Some(&sent), &[("content-type", PROTOBUF)])
        .await;
    let message = plain.refused(400);
    assert!(
        message.starts_with("the object provided is unrecognized (must be of type CronTab): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        "{message}"
    );
    let gvk = api::Gvk::new("stable.example.com", "v1", "CronTab");
    let request = Request::post(CRONTABS)
        .header("content-type", PROTOBUF)
        .body(apiserver::body::full(unknown::wrap(&gvk, b"")))
        .unwrap();
    assert_eq!(
        server.answer(request, admin()).await.refused(400),
        "CronTab in version \"v1\" cannot be handled as a CronTab: object *unstructured.Unstructured does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    );
    let refused = server
        .patch(&one, "application/apply-patch+cbor", &sent)
        .await
        .refused(415);
    assert!(!refused.contains("strategic"), "{refused}");
}

#[tokio::test]
async fn their_metadata_has() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    for name in ["a", "b"] {
        let mut sent = crontab(name, json!({"cron": "1"}));
        sent["metadata"]["labels"] = json!({"name": name});
        server.post(CRONTABS, &sent).await.expect(201);
    }
    let one = format!("{CRONTABS}/a");
    for version in ["v1", "v1beta1"] {
        let group = format!("g=meta.k8s.io;v={version}");
        let (code, partial) = read(&server, &one, &format!("{PROTOBUF};as=PartialObjectMetadata;{group}")).await;
        assert_eq!((code, &partial["kind"]), (200, &json!("PartialObjectMetadata")));
        assert_eq!(partial["apiVersion"], format!("meta.k8s.io/{version}"));
        assert_eq!(partial["metadata"]["labels"], json!({"name": "a"}));
        assert!(partial["metadata"]["managedFields"].is_array(), "{partial}");
        let lists = format!("{PROTOBUF};as=PartialObjectMetadataList;{group}");
        let (code, list) = read(&server, &format!("{CRONTABS}?labelSelector=name%3Db"), &lists).await;
        assert_eq!((code, &list["kind"]), (200, &json!("PartialObjectMetadataList")));
        assert_eq!(list["items"][0]["metadata"]["name"], "b");
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_ne!(list["metadata"]["resourceVersion"], Value::Null);
        let tables = format!("{PROTOBUF};as=Table;{group},application/json;as=Table;{group}");
        let (code, table) = read(&server, CRONTABS, &tables).await;
        assert_eq!((code, &table["kind"]), (200, &json!("Table")), "tables are JSON");
    }
    let (code, missing) = read(
        &server,
        &format!("{CRONTABS}/none"),
        &format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
    )
    .await;
    assert_eq!((code, &missing["reason"]), (404, &json!("NotFound")));
}

#[tokio::test]
async fn changes_of_it_are_watched_in_protobuf() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    server.post(CRONTABS, &crontab("a", json!({}))).await.expect(201);
    let request = Request::get(format!(
        "{CRONTABS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    ))
    .header(
        "accept",
        format!("{PROTOBUF};stream=watch;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
    )
    .body(apiserver::body::empty())
    .unwrap();
    let response = server.raw(request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], format!("{PROTOBUF};stream=watch"));
    let mut frames = Frames(response.into_body(), Vec::new());
    let (change, object) = frames.next().await;
    assert_eq!((&*change, &object["metadata"]["name"]), ("ADDED", &json!("a")));
    assert_eq!(object["kind"], "PartialObjectMetadata");
    let (change, object) = frames.next().await;
    assert_eq!(change, "BOOKMARK");
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let schema = schema::builtin();
    let options = schema.by_name("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    let raw = protobuf::encode(
        schema.get(options.unwrap()),
        &json!({"propagationPolicy": "Background"}),
    )
    .unwrap();
    let request = Request::delete(format!("{CRONTABS}/a"))
        .header("content-type", PROTOBUF)
        .header("accept", format!("{PROTOBUF},application/json"))
        .body(apiserver::body::full(unknown::wrap(
            &api::Gvk::new("meta.k8s.io", "v1", "DeleteOptions"),
            &raw,
        )))
        .unwrap();
    let answer = server.answer(request, admin()).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let (change, object) = frames.next().await;
    assert_eq!((&*change, &object["metadata"]["name"]), ("DELETED", &json!("a")));
}

/// Length-delimited WatchEvents: their type, and the object in them.
struct Frames(apiserver::Body, Vec<u8>);

impl Frames {
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((head, rest)) = self.1.split_first_chunk::<4>()
                && let Some(event) = rest.get(..u32::from_be_bytes(*head) as usize)
            {
                let event = event.to_vec();
                self.1.drain(..event.len() + 4);
                let change = String::from_utf8(payload(cut(&event, 1)).to_vec()).unwrap();
                return (change, decoded(payload(payload(cut(&event, 2)))));
            }
            let frame = self.0.frame().await.expect("the watch goes on").unwrap();
            self.1.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}

/// The one field of a message, with its tag.
fn cut(message: &[u8], wanted: u8) -> &[u8] {
    let mut rest = message;
    while let Some((tag, after)) = rest.split_first() {
        let (length, used) = length(after);
        let (field, others) = rest.split_at(1 + used + length);
        if tag >> 3 == wanted {
            return field;
        }
        rest = others;
    }
    panic!("no field {wanted}");
}

/// What a field holds.
fn payload(field: &[u8]) -> &[u8] {
    let (length, used) = length(&field[1..]);
    &field[1 + used..1 + used + length]
}

fn length(bytes: &[u8]) -> (usize, usize) {
    let (mut value, mut used) = (0, 0);
    loop {
        value |= usize::from(bytes[used] & 0x7f) << (7 * used);
        used += 1;
        if bytes[used - 1] & 0x80 == 0 {
            return (value, used);
        }
    }
}
