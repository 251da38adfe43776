//! Several versions with conversion by renaming.

use serde_json::{Value, json};

use super::harness::{CRDS, CRONTABS, crontab, crontabs, free, server};

const V2: &str = "/apis/stable.example.com/v2/namespaces/ns/crontabs";

fn two_versions() -> Value {
    let mut definition = crontabs(free());
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["deprecated"] = true.into();
    second["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string", "default": "B"}}});
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition
}

#[tokio::test]
async fn an_object_is_served_in_every_version_by_its_schema() {
    let server = server().await;
    server.define(&two_versions()).await;
    server
        .post(CRONTABS, &crontab("one", json!({"a": "x", "c": 1})))
        .await
        .expect(201);
    let answer = server.get(&format!("{V2}/one")).await;
    assert_eq!(
        answer.headers["warning"],
        "299 - \"stable.example.com/v2 CronTab is deprecated\""
    );
    let read = answer.expect(200);
    assert_eq!(read["apiVersion"], "stable.example.com/v2");
    assert_eq!(read["spec"], json!({"a": "x"}));
    let mut two = crontab("two", json!({"a": "y"}));
    two["apiVersion"] = "stable.example.com/v2".into();
    let made = server.post(V2, &two).await.expect(201);
    assert_eq!(made["spec"], json!({"a": "y", "b": "B"}));
    let list = server.get(CRONTABS).await.expect(200);
    let versions: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["apiVersion"])
        .collect();
    assert_eq!(versions, ["stable.example.com/v1"; 2]);
    let groups = server.get("/apis/stable.example.com").await.expect(200);
    assert_eq!(groups["preferredVersion"]["version"], "v2");
}

#[tokio::test]
async fn versions_change_at_run_time() {
    let server = server().await;
    server.define(&two_versions()).await;
    server
        .post(CRONTABS, &crontab("one", json!({"a": "x"})))
        .await
        .expect(201);
    let path = format!("{CRDS}/crontabs.stable.example.com");
    let mut definition = server.get(&path).await.expect(200);
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"][1]["storage"] = true.into();
    definition["spec"]["versions"][0]["served"] = false.into();
    let mut watch = server.watch(&format!("{CRONTABS}?watch=1")).await;
    let changed = server.put(&path, &definition).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    while watch.next().await.is_some() {}
    assert_eq!(server.get(CRONTABS).await.code, 404);
    assert_eq!(server.get(&format!("{V2}/one")).await.expect(200)["spec"]["a"], "x");
    let before = server.get(&format!("{V2}/one")).await.expect(200);
    let media = "application/merge-patch+json";
    let moved = server.patch(&format!("{V2}/one"), media, &json!({})).await.expect(200);
    assert_ne!(
        moved["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"],
        "it is migrated"
    );
    let again = server.patch(&format!("{V2}/one"), media, &json!({})).await.expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        moved["metadata"]["resourceVersion"]
    );
    definition = changed;
    definition["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = server.put(&path, &definition).await.refused(422);
    assert!(
        refused.contains("status.storedVersions[0]: Invalid value: \"v1\": must appear in spec.versions"),
        "{refused}"
    );
}
