//! The four kinds of patch.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, admin, config_map, server};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/ns/deployments";

async fn apply(server: &Server, path: &str, manager: &str, object: &Value) -> Answer {
    let separator = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{separator}fieldManager={manager}");
    let media = ("content-type", "application/apply-patch+yaml");
    server.call_as(admin(), "PATCH", &path, Some(object), &[media]).await
}

#[tokio::test]
async fn json_and_merge_patches() {
    let server = server().await;
    server.namespace("ns").await;
    server
        .post(MAPS, &config_map("a", &json!({"x": "1", "y": "2"})))
        .await
        .expect(201);
    let path = format!("{MAPS}/a");
    let operations = json!([{"op": "replace", "path": "/data/x", "value": "9"}]);
    let patched = server
        .patch(&path, "application/json-patch+json", &operations)
        .await
        .expect(200);
    assert_eq!(patched["data"]["x"], "9");
    let failing = json!([{"op": "test", "path": "/data/x", "value": "0"}]);
    server
        .patch(&path, "application/json-patch+json", &failing)
        .await
        .expect(422);
    let merge = json!({"data": {"y": null, "z": "3"}});
    let patched = server
        .patch(&path, "application/merge-patch+json", &merge)
        .await
        .expect(200);
    assert_eq!(patched["data"], json!({"x": "9", "z": "3"}));
    let version = patched["metadata"]["resourceVersion"].clone();
    let same = server
        .patch(&path, "application/merge-patch+json", &json!({}))
        .await
        .expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], version);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {}});
    server
        .patch(&path, "application/merge-patch+json", &stale)
        .await
        .expect(409);
    let typed = json!({"data": {"x": 1}});
    server
        .patch(&path, "application/merge-patch+json", &typed)
        .await
        .expect(422);
    let renamed = json!({"metadata": {"name": "b"}});
    server
        .patch(&path, "application/merge-patch+json", &renamed)
        .await
        .expect(400);
    let wrong = server.patch(&path, "application/json", &json!({})).await.expect(415);
    assert_eq!(wrong["reason"], "UnsupportedMediaType");
    server
        .patch(&format!("{MAPS}/none"), "application/merge-patch+json", &merge)
        .await
        .expect(404);
    let forced = format!("{path}?force=true");
    server
        .patch(&forced, "application/merge-patch+json", &merge)
        .await
        .expect(422);
}

fn deployment(containers: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}}})
}

#[tokio::test]
async fn strategic_patches_merge_by_key() {
    let server = server().await;
    server.namespace("ns").await;
    let object = deployment(&json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
    server.post(DEPLOYMENTS, &object).await.expect(201);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "2"}]}}}});
    let path = format!("{DEPLOYMENTS}/d");
    let media = "application/strategic-merge-patch+json";
    let patched = server.patch(&path, media, &patch).await.expect(200);
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let image = |name: &str| containers.iter().find(|c| c["name"] == name).unwrap()["image"].clone();
    assert_eq!((image("a"), image("b")), (json!("1"), json!("2")));
    assert_eq!(patched["metadata"]["generation"], 2);

    let wrong = server
        .patch(&path, media, &json!({"metadata": {"labels": "invalid"}}))
        .await
        .expect(422);
    assert_eq!(
        wrong["message"],
        r#" "" is invalid: patch: Invalid value: "map[metadata:map[labels:invalid]]": cannot restore map from string"#
    );
}

#[tokio::test]
async fn apply_creates_owns_and_conflicts() {
    let server = server().await;
    server.namespace("ns").await;
    let path = format!("{MAPS}/a");
    let object = config_map("a", &json!({"x": "1"}));
    let made = apply(&server, &path, "one", &object).await.expect(201);
    let fields = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&fields["manager"], &fields["operation"]),
        (&json!("one"), &json!("Apply"))
    );
    let again = apply(&server, &path, "one", &object).await.expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );

    let other = config_map("a", &json!({"x": "2", "y": "3"}));
    let conflict = apply(&server, &path, "two", &other).await.expect(409);
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .data.x"
    );
    assert_eq!(conflict["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = apply(&server, &format!("{path}?force=true"), "two", &other)
        .await
        .expect(200);
    assert_eq!(forced["data"], json!({"x": "2", "y": "3"}));
    let less = apply(&server, &path, "two", &config_map("a", &json!({"x": "2"})))
        .await
        .expect(200);
    assert_eq!(less["data"], json!({"x": "2"}));

    let media = [("content-type", "application/apply-patch+yaml")];
    let nameless = format!("{path}?fieldManager=");
    let unnamed = server.call_as(admin(), "PATCH", &nameless, Some(&object), &media).await;
    let unnamed = unnamed.expect(422);
    assert_eq!(
        unnamed["details"]["causes"][0]["message"],
        "Required value: is required for apply patch"
    );
}

#[tokio::test]
async fn every_write_owns_what_it_sets() {
    let server = server().await;
    server.namespace("ns").await;
    let made = server
        .post(
            &format!("{MAPS}?fieldManager=maker"),
            &config_map("a", &json!({"x": "1"})),
        )
        .await
        .expect(201);
    let fields = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&fields["manager"], &fields["operation"]),
        (&json!("maker"), &json!("Update"))
    );
    assert!(fields["fieldsV1"]["f:data"]["f:x"].is_object());
    let object = deployment(&json!([{"name": "a", "image": "1"}]));
    server.post(DEPLOYMENTS, &object).await.expect(201);
    let status = json!({"status": {"replicas": 2}});
    let path = format!("{DEPLOYMENTS}/d/status?fieldManager=controller");
    let patched = server
        .patch(&path, "application/merge-patch+json", &status)
        .await
        .expect(200);
    let entries = patched["metadata"]["managedFields"].as_array().unwrap();
    let mine = entries.iter().find(|e| e["manager"] == "controller").unwrap();
    assert_eq!(mine["subresource"], "status");
    assert!(mine["fieldsV1"]["f:status"]["f:replicas"].is_object());
}
