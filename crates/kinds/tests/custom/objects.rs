//! Instances: pruning, defaults, validation, patches, apply, tables, selectors.

use serde_json::{Value, json};

use super::harness::{CRDS, CRONTABS, crontab, crontabs, server};

fn schema() -> Value {
    json!({"type": "object", "required": ["cron"], "properties": {
        "cron": {"type": "string", "pattern": "^\\d+$"},
        "replicas": {"type": "integer", "minimum": 1, "default": 1},
        "color": {"type": "string", "enum": ["red", "green"]},
        "none": {"type": "string", "nullable": true},
        "port": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }})
}

#[tokio::test]
async fn unknown_fields_are_pruned_and_defaults_set() {
    let server = server().await;
    server.define(&crontabs(schema())).await;
    let spec = json!({"cron": "1", "odd": 1, "none": null, "color": null, "port": "http", "free": {"x": {"y": 1}},
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "odd": 1}, "spec": {"z": 1}}});
    let made = server.post(CRONTABS, &crontab("a", spec.clone())).await.expect(201);
    assert_eq!(
        made["spec"],
        json!({"cron": "1", "replicas": 1, "none": null, "port": "http", "free": {"x": {"y": 1}},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"z": 1}}})
    );
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["metadata"].get("uid").is_some() && made["metadata"]["namespace"] == "ns");
    assert_eq!(server.get(&format!("{CRONTABS}/a")).await.expect(200), made);
    let strict = server
        .post(&format!("{CRONTABS}?fieldValidation=Strict"), &crontab("b", spec))
        .await;
    let message = strict.refused(400);
    assert!(
        message.contains("strict decoding error: unknown field \"spec.odd\", unknown field \"spec.pod.metadata.odd\""),
        "{message}"
    );
    let warned = server
        .post(
            &format!("{CRONTABS}?fieldValidation=Warn"),
            &crontab("b", json!({"cron": "1", "odd": 1})),
        )
        .await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.odd\\\"\"");
}

#[tokio::test]
async fn defaults_apply_to_what_is_stored_already() {
    let server = server().await;
    let mut definition = crontabs(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
    server.define(&definition).await;
    server
        .post(CRONTABS, &crontab("old", json!({"a": "x"})))
        .await
        .expect(201);
    let stored = server
        .get(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .expect(200);
    definition["metadata"] = stored["metadata"].clone();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    *spec = json!({"type": "object", "properties": {"b": {"type": "string", "default": "B"}}});
    let mut watch = server.watch(&format!("{CRONTABS}?watch=1")).await;
    server
        .put(&format!("{CRDS}/crontabs.stable.example.com"), &definition)
        .await
        .expect(200);
    while watch.next().await.is_some() {}
    let read = server.get(&format!("{CRONTABS}/old")).await.expect(200);
    assert_eq!(read["spec"], json!({"b": "B"}));
}

#[tokio::test]
async fn what_is_wrong_is_told_all_at_once() {
    let server = server().await;
    server.define(&crontabs(schema())).await;
    let spec = json!({"cron": "x", "replicas": 0, "color": "blue", "port": true, "list": [{"k": "a"}, {"k": "a"}]});
    let answer = server.post(CRONTABS, &crontab("a", spec)).await;
    let message = answer.refused(422);
    for part in [
        "CronTab.stable.example.com \"a\" is invalid",
        "spec.cron: Invalid value: \"x\": spec.cron in body should match '^\\d+$'",
        "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
        "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        "spec.list[1]: Duplicate value: {\"k\":\"a\"}",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let missing = server.post(CRONTABS, &crontab("a", json!({}))).await.refused(422);
    assert!(missing.contains("spec.cron: Required value"), "{missing}");
    let typed = server
        .post(CRONTABS, &crontab("a", json!({"cron": 1})))
        .await
        .expect(422);
    assert_eq!(typed["details"]["causes"][0]["reason"], "FieldValueTypeInvalid");
}

#[tokio::test]
async fn what_was_wrong_before_may_stay() {
    let server = server().await;
    let mut definition =
        crontabs(json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}));
    server.define(&definition).await;
    server
        .post(CRONTABS, &crontab("x", json!({"a": "long", "b": "1"})))
        .await
        .expect(201);
    let stored = server
        .get(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .expect(200);
    definition["metadata"] = stored["metadata"].clone();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["a"] =
        json!({"type": "string", "maxLength": 2});
    let mut watch = server.watch(&format!("{CRONTABS}?watch=1")).await;
    server
        .put(&format!("{CRDS}/crontabs.stable.example.com"), &definition)
        .await
        .expect(200);
    while watch.next().await.is_some() {}
    let media = "application/merge-patch+json";
    let path = format!("{CRONTABS}/x");
    server
        .patch(&path, media, &json!({"spec": {"b": "2"}}))
        .await
        .expect(200);
    let message = server
        .patch(&path, media, &json!({"spec": {"a": "other"}}))
        .await
        .refused(422);
    assert!(message.contains("spec.a: Too long"), "{message}");
}

#[tokio::test]
async fn patches() {
    let server = server().await;
    server.define(&crontabs(schema())).await;
    server
        .post(CRONTABS, &crontab("a", json!({"cron": "1"})))
        .await
        .expect(201);
    let path = format!("{CRONTABS}/a");
    let merged = server
        .patch(
            &path,
            "application/merge-patch+json",
            &json!({"spec": {"cron": "2", "odd": 1}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&merged["spec"]["cron"], merged["spec"].get("odd")),
        (&json!("2"), None)
    );
    assert_eq!(merged["metadata"]["generation"], 2);
    let json_patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    let patched = server
        .patch(&path, "application/json-patch+json", &json_patch)
        .await
        .expect(200);
    assert_eq!(patched["spec"]["replicas"], 3);
    let strategic = server
        .patch(&path, "application/strategic-merge-patch+json", &json!({}))
        .await;
    assert!(
        strategic.refused(415).contains("application/apply-patch+yaml"),
        "{}",
        strategic.text()
    );
    let whole = crontab("a", json!({"cron": "9"}));
    let message = server.put(&path, &whole).await.refused(422);
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
    let same = server
        .patch(&path, "application/merge-patch+json", &json!({}))
        .await
        .expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        patched["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn server_side_apply_merges_lists_by_their_keys() {
    let server = server().await;
    server.define(&crontabs(schema())).await;
    let media = "application/apply-patch+yaml";
    let path = |manager: &str| format!("{CRONTABS}/a?fieldManager={manager}");
    let config = |list: Value| crontab("a", json!({"cron": "1", "list": list}));
    let made = server
        .patch(&path("one"), media, &config(json!([{"k": "a", "v": 1}])))
        .await
        .expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    let both = server
        .patch(&path("two"), media, &config(json!([{"k": "b", "v": 2}])))
        .await
        .expect(200);
    assert_eq!(both["spec"]["list"], json!([{"k": "a", "v": 1}, {"k": "b", "v": 2}]));
    let conflict = server
        .patch(&path("two"), media, &config(json!([{"k": "a", "v": 5}])))
        .await
        .refused(409);
    assert!(conflict.contains(".spec.list[k=\"a\"].v"), "{conflict}");
    let gone = server.patch(&path("two"), media, &config(json!([]))).await.expect(200);
    assert_eq!(gone["spec"]["list"], json!([{"k": "a", "v": 1}]));
}

#[tokio::test]
async fn tables_follow_the_columns() {
    let server = server().await;
    let mut definition = crontabs(schema());
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = json!([
        {"name": "Cron", "type": "string", "jsonPath": ".spec.cron", "description": "when"},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]);
    server.define(&definition).await;
    server
        .post(CRONTABS, &crontab("a", json!({"cron": "7"})))
        .await
        .expect(201);
    let table = server.table(CRONTABS).await;
    let names: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["Name", "Cron", "Replicas", "Age"]);
    assert_eq!(table["columnDefinitions"][1]["description"], "when");
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("a"), json!("7"), json!(1)]);
    assert!(cells[3].as_str().unwrap().ends_with('s'), "{cells:?}");
}

#[tokio::test]
async fn selectable_fields_select_in_lists_and_watches() {
    let server = server().await;
    let mut definition = crontabs(schema());
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    server.define(&definition).await;
    let mut reds = server
        .watch(&format!("{CRONTABS}?watch=1&fieldSelector=spec.color%3Dred"))
        .await;
    for (name, color) in [("a", "red"), ("b", "green")] {
        let object = crontab(name, json!({"cron": "1", "color": color}));
        server.post(CRONTABS, &object).await.expect(201);
    }
    let list = server
        .get(&format!("{CRONTABS}?fieldSelector=spec.color%3Dgreen"))
        .await
        .expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
    assert_eq!(reds.change().await, ("ADDED".into(), "a".into()));
    let media = "application/merge-patch+json";
    let green = json!({"spec": {"color": "green"}});
    server.patch(&format!("{CRONTABS}/a"), media, &green).await.expect(200);
    assert_eq!(reds.change().await, ("DELETED".into(), "a".into()));
    let message = server
        .get(&format!("{CRONTABS}?fieldSelector=spec.cron%3D1"))
        .await
        .refused(400);
    assert_eq!(message, "field label not supported: spec.cron");
}

#[tokio::test]
async fn rules_in_cel_are_checked() {
    let server = server().await;
    let mut bad = crontabs(json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.b > 1"}]}));
    let message = server.post(CRDS, &bad).await.refused(422);
    assert!(message.contains("undefined field 'b'"), "{message}");
    let spec = &mut bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-validations"] = json!([
        {"rule": "!has(self.a) || self.a > 1", "message": "a is small"},
        {"rule": "!has(oldSelf.a) || has(self.a)", "message": "a stays"},
    ]);
    server.define(&bad).await;
    let message = server.post(CRONTABS, &crontab("x", json!({"a": 1}))).await.refused(422);
    assert_eq!(
        message,
        "CronTab.stable.example.com \"x\" is invalid: spec: Invalid value: \"object\": a is small"
    );
    server.post(CRONTABS, &crontab("x", json!({"a": 2}))).await.expect(201);
    let media = "application/merge-patch+json";
    let message = server
        .patch(&format!("{CRONTABS}/x"), media, &json!({"spec": {"a": null}}))
        .await
        .refused(422);
    assert!(
        message.ends_with("spec: Invalid value: \"object\": a stays"),
        "{message}"
    );
}
