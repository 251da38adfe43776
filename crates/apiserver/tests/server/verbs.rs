//! create, get, list, watch, update, patch, delete.

use serde_json::json;

use crate::harness::{config_map, server};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

#[tokio::test]
async fn one_object_from_birth_to_death() {
    let server = server().await;
    server.namespace("ns").await;
    let mut watch = server.watch(&format!("{MAPS}?watch=1")).await;
    let made = server.post(MAPS, &config_map("a", &json!({"k": "1"}))).await.expect(201);
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
