//! Definitions: names, conditions, deletion.

use serde_json::json;

use super::harness::{CRDS, CRONTABS, condition, crontab, crontabs, free, server};

#[tokio::test]
async fn a_definition_is_established_and_its_kind_served_by_then() {
    let server = server().await;
    let object = server.define(&crontabs(free())).await;
    assert_eq!(condition(&object, "NamesAccepted")["reason"], "NoConflicts");
    let established = condition(&object, "Established");
    assert_eq!(established["reason"], "InitialNamesAccepted");
    assert_eq!(established["message"], "the initial names have been accepted");
    assert_eq!(object["status"]["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    let list = server.get(CRONTABS).await.expect(200);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("CronTabList"), &json!("stable.example.com/v1"))
    );
}

#[tokio::test]
async fn taken_names_are_a_conflict_until_they_are_free() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    let mut second = crontabs(free());
    second["metadata"]["name"] = "others.stable.example.com".into();
    second["spec"]["names"] = json!({"plural": "others", "kind": "CronTab", "listKind": "OtherList"});
    server.post(CRDS, &second).await.expect(201);
    let object = server
        .definition_when("others.stable.example.com", |o| {
            condition(o, "NamesAccepted")["status"] == "False"
        })
        .await;
    let names = condition(&object, "NamesAccepted");
    assert_eq!(names["reason"], "KindConflict");
    assert_eq!(names["message"], "\"CronTab\" is already in use");
    assert_eq!(condition(&object, "Established")["reason"], "NotAccepted");
    assert_eq!(server.get("/apis/stable.example.com/v1/others").await.code, 404);
    server
        .delete(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .expect(200);
    server
        .definition_when("others.stable.example.com", |o| {
            condition(o, "Established")["status"] == "True"
        })
        .await;
    server.get("/apis/stable.example.com/v1/others").await.expect(200);
}

#[tokio::test]
async fn a_definition_goes_after_its_instances() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    let mut held = crontab("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(CRONTABS, &held).await.expect(201);
    server.post(CRONTABS, &crontab("free", json!({}))).await.expect(201);
    let mut instances = server.watch(&format!("{CRONTABS}?watch=1")).await;
    let name = "crontabs.stable.example.com";
    let marked = server.delete(&format!("{CRDS}/{name}")).await.expect(200);
    assert_eq!(condition(&marked, "Terminating")["reason"], "InstanceDeletionPending");
    server
        .definition_when(name, |o| {
            condition(o, "Terminating")["reason"] == "InstanceDeletionInProgress"
        })
        .await;
    let refused = server.post(CRONTABS, &crontab("late", json!({}))).await.refused(405);
    assert_eq!(
        refused,
        "create not allowed while custom resource definition is terminating"
    );
    while instances.change().await != ("DELETED".to_owned(), "free".to_owned()) {}
    let mut definitions = server.watch(&format!("{CRDS}?watch=1")).await;
    let patch = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    let media = "application/json-patch+json";
    server
        .patch(&format!("{CRONTABS}/held"), media, &patch)
        .await
        .expect(200);
    while definitions.change().await != ("DELETED".to_owned(), name.to_owned()) {}
    while instances.next().await.is_some() {}
    // The controller has seen the deletion when the watch of instances has ended.
    assert_eq!(server.get(CRONTABS).await.code, 404);
    let again = server.define(&crontabs(free())).await;
    assert!(condition(&again, "Terminating").is_null());
    assert_eq!(server.get(CRONTABS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn invalid_definitions_are_refused_with_every_reason() {
    let server = server().await;
    let mut bad = crontabs(json!({"type": "object", "properties": {"a": {}}}));
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["metadata"] =
        json!({"type": "object", "properties": {"labels": {"type": "object"}}});
    let message = server.post(CRDS, &bad).await.refused(422);
    assert!(
        message.contains("spec.validation.openAPIV3Schema.properties[spec].properties[a].type: Required value: must not be empty for specified object fields"),
        "{message}"
    );
    assert!(
        message.contains("spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName"),
        "{message}"
    );
    bad["metadata"]["name"] = "wrong".into();
    let message = server.post(CRDS, &bad).await.refused(422);
    assert!(message.contains("must be spec.names.plural+"), "{message}");
}

#[tokio::test]
async fn a_change_that_is_none_does_not_end_watches() {
    let server = server().await;
    server.define(&crontabs(free())).await;
    let name = "crontabs.stable.example.com";
    let mut instances = server.watch(&format!("{CRONTABS}?watch=1")).await;
    let media = "application/merge-patch+json";
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    server
        .patch(&format!("{CRDS}/{name}"), media, &labels)
        .await
        .expect(200);
    server.post(CRONTABS, &crontab("a", json!({}))).await.expect(201);
    assert_eq!(instances.change().await, ("ADDED".into(), "a".into()));
    let other = json!({"spec": {"names": {"shortNames": ["cron"]}}});
    server.patch(&format!("{CRDS}/{name}"), media, &other).await.expect(200);
    assert!(instances.next().await.is_none());
    let mut resumed = server.watch(&format!("{CRONTABS}?watch=1")).await;
    assert_eq!(resumed.change().await, ("ADDED".into(), "a".into()));
}
