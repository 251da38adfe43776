//! `status` and `scale` of custom resources.

use serde_json::{Value, json};

use super::harness::{CRONTABS, crontab, crontabs, free, server};

fn with_subresources() -> Value {
    let mut definition = crontabs(free());
    definition["spec"]["versions"][0]["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector"}});
    definition
}

#[tokio::test]
async fn status_is_apart_from_the_rest() {
    let server = server().await;
    server.define(&with_subresources()).await;
    let mut object = crontab("a", json!({"x": 1}));
    object["status"] = json!({"ready": true});
    let made = server.post(CRONTABS, &object).await.expect(201);
    assert!(made.get("status").is_none());
    let path = format!("{CRONTABS}/a");
    let media = "application/merge-patch+json";
    let both = json!({"metadata": {"labels": {"l": "v"}}, "spec": {"x": 2}, "status": {"ready": true}});
    let status = server.patch(&format!("{path}/status"), media, &both).await.expect(200);
    assert_eq!(
        (&status["spec"]["x"], &status["status"]["ready"]),
        (&json!(1), &json!(true))
    );
    assert!(status["metadata"].get("labels").is_none());
    assert_eq!(status["metadata"]["generation"], 1);
    let main = server
        .patch(&path, media, &json!({"spec": {"x": 2}, "status": {"ready": false}}))
        .await
        .expect(200);
    assert_eq!(
        (&main["spec"]["x"], &main["status"]["ready"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(main["metadata"]["generation"], 2);
    assert_eq!(server.get(&format!("{path}/status")).await.expect(200), main);
}

#[tokio::test]
async fn without_the_subresource_status_is_like_any_field() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    let mut object = crontab("a", json!({}));
    object["status"] = json!({"x": 1});
    let made = server.post(CRONTABS, &object).await.expect(201);
    assert_eq!(made["status"]["x"], 1);
    assert_eq!(server.get(&format!("{CRONTABS}/a/status")).await.code, 404);
    let media = "application/merge-patch+json";
    let changed = server
        .patch(&format!("{CRONTABS}/a"), media, &json!({"status": {"x": 2}}))
        .await
        .expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn scale() {
    let server = server().await;
    server.define(&with_subresources()).await;
    let made = server
        .post(CRONTABS, &crontab("a", json!({"replicas": 2})))
        .await
        .expect(201);
    let path = format!("{CRONTABS}/a");
    let media = "application/merge-patch+json";
    let status = json!({"status": {"replicas": 1, "selector": "a=b"}});
    server
        .patch(&format!("{path}/status"), media, &status)
        .await
        .expect(200);
    let mut scale = server.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 2}), &json!({"replicas": 1, "selector": "a=b"}))
    );
    assert_eq!(scale["metadata"]["uid"], made["metadata"]["uid"]);
    scale["spec"]["replicas"] = 5.into();
    let scaled = server.put(&format!("{path}/scale"), &scale).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    let object = server.get(&path).await.expect(200);
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );
    let message = server
        .patch(&path, media, &json!({"spec": {"replicas": -1}}))
        .await
        .refused(422);
    assert!(
        message.contains(".spec.replicas: Invalid value: -1: should be a non-negative integer"),
        "{message}"
    );
}
