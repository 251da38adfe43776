//! Selectors, pages, revisions.

use apiserver::kind::{Kind, Verb};
use serde_json::{Value, json};

use crate::harness::{config_map, kinds, server, server_of};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn selectors() {
    let server = server().await;
    server.namespace("ns").await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut object = config_map(name, &json!({}));
        object["metadata"]["labels"] = json!({"l": label});
        server.post(MAPS, &object).await.expect(201);
    }
    let list = async |query: &str| server.get(&format!("{MAPS}?{query}")).await;
    assert_eq!(names(&list("labelSelector=l%3Dx").await.expect(200)), ["a", "c"]);
    assert_eq!(names(&list("labelSelector=l+in+(y)").await.expect(200)), ["b"]);
    assert_eq!(names(&list("fieldSelector=metadata.name%3Db").await.expect(200)), ["b"]);
    assert_eq!(
        names(&list("fieldSelector=metadata.name!%3Db").await.expect(200)),
        ["a", "c"]
    );
    let refused = list("fieldSelector=data.k%3D1").await.expect(400);
    assert_eq!(
        refused["message"],
        "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    list("labelSelector=%3D%3D").await.expect(400);
    let all = server.get("/api/v1/configmaps").await.expect(200);
    assert_eq!(names(&all), ["a", "b", "c"]);
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let server = server().await;
    server.namespace("ns").await;
    for at in 0..5 {
        server
            .post(MAPS, &config_map(&format!("m{at}"), &json!({})))
            .await
            .expect(201);
    }
    let first = server.get(&format!("{MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["m0", "m1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let revision = first["metadata"]["resourceVersion"].clone();
    let token = first["metadata"]["continue"].as_str().unwrap();
    server.delete(&format!("{MAPS}/m3")).await.expect(200);
    server.post(MAPS, &config_map("m9", &json!({}))).await.expect(201);
    let rest = server
        .get(&format!("{MAPS}?limit=10&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&rest), ["m2", "m3", "m4"]);
    assert_eq!(rest["metadata"]["resourceVersion"], revision);
    assert_eq!(rest["metadata"].get("continue"), None);
    server.get(&format!("{MAPS}?continue=nonsense")).await.expect(400);
    let selective = server
        .get(&format!("{MAPS}?limit=1&labelSelector=!x"))
        .await
        .expect(200);
    assert_eq!(selective["metadata"].get("remainingItemCount"), None);
    let unlimited = server.get(&format!("{MAPS}?limit=0")).await.expect(200);
    assert_eq!(names(&unlimited).len(), 5);
}

#[tokio::test]
async fn revisions() {
    let server = server().await;
    server.namespace("ns").await;
    let list = server.get(MAPS).await.expect(200);
    assert_eq!(
        list["metadata"]["resourceVersion"].as_str().unwrap(),
        server.store.revision().to_string()
    );
    let made = server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    let revision = made["metadata"]["resourceVersion"].as_str().unwrap();
    let second = server.post(MAPS, &config_map("b", &json!({}))).await.expect(201);
    let exact = server
        .get(&format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"))
        .await;
    assert_eq!(names(&exact.expect(200)), ["a"]);
    let second = second["metadata"]["resourceVersion"].as_str().unwrap();
    let later = format!("{MAPS}?resourceVersion={second}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&server.get(&later).await.expect(200)), ["a", "b"]);
    server
        .get(&format!("{MAPS}?resourceVersionMatch=Exact"))
        .await
        .expect(422);
    server.get(&format!("{MAPS}?resourceVersion=x")).await.expect(400);
}

#[tokio::test]
async fn a_long_list_streams_whole() {
    let server = server().await;
    server.namespace("ns").await;
    let data = json!({"k": "x".repeat(40_000)});
    for at in 0..6 {
        server
            .post(MAPS, &config_map(&format!("m{at}"), &data))
            .await
            .expect(201);
    }
    let list = server.get(MAPS).await.expect(200);
    assert_eq!(names(&list).len(), 6);
}

#[tokio::test]
async fn component_statuses_are_made_when_asked_for() {
    let mut kinds = kinds();
    kinds.push(
        Kind::cluster("", "v1", "ComponentStatus", "componentstatuses")
            .verbs(&[Verb::Get, Verb::List])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+"),
    );
    let server = server_of(kinds).await;
    const PATH: &str = "/api/v1/componentstatuses";
    let answer = server.get(PATH).await;
    assert_eq!(
        answer.headers["warning"],
        "299 - \"v1 ComponentStatus is deprecated in v1.19+\""
    );
    let list = answer.expect(200);
    assert_eq!(names(&list), ["controller-manager", "etcd-0", "scheduler"]);
    assert_eq!(list["metadata"], json!({}));
    let condition = json!({"type": "Healthy", "status": "True", "message": "ok"});
    assert_eq!(
        list["items"][1],
        json!({"metadata": {"name": "etcd-0"}, "conditions": [condition.clone()]})
    );
    let one = server.get(&format!("{PATH}/scheduler")).await.expect(200);
    assert_eq!(one["kind"], "ComponentStatus");
    assert_eq!(one["conditions"], json!([condition]));
    let selected = server
        .get(&format!("{PATH}?fieldSelector=metadata.name%3Dscheduler"))
        .await;
    assert_eq!(names(&selected.expect(200)), ["scheduler"]);
    let none = server.get(&format!("{PATH}/nobody")).await.expect(500);
    assert_eq!(none["message"], "Component not found: nobody");
    server.delete(&format!("{PATH}/scheduler")).await.expect(405);
}
