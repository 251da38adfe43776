//! Discovery of custom resources.

use serde_json::{Value, json};

use super::harness::{CRDS, crontabs, free, server};

#[tokio::test]
async fn legacy_and_aggregated_discovery_follow_the_definitions() {
    let server = server().await;
    let mut definition = crontabs(free());
    definition["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    server.define(&definition).await;
    let group = server.get("/apis/stable.example.com").await.expect(200);
    assert_eq!(group["preferredVersion"]["groupVersion"], "stable.example.com/v1");
    let list = server.get("/apis/stable.example.com/v1").await.expect(200);
    let names: Vec<&Value> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["name"])
        .collect();
    assert_eq!(names, ["crontabs", "crontabs/status"]);
    let resource = &list["resources"][0];
    assert_eq!(resource["shortNames"], json!(["ct"]));
    assert_eq!(
        (&resource["categories"], &resource["singularName"]),
        (&json!(["all"]), &json!("crontab"))
    );
    assert!(resource["storageVersionHash"].is_string());
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = server
        .call("GET", "/apis", None, &[("accept", accept)])
        .await
        .expect(200);
    let groups = aggregated["items"].as_array().unwrap();
    let found = groups
        .iter()
        .find(|g| g["metadata"]["name"] == "stable.example.com")
        .unwrap();
    assert_eq!(found["versions"][0]["resources"][0]["responseKind"]["kind"], "CronTab");
    let mut definitions = server.watch(&format!("{CRDS}?watch=1")).await;
    server
        .delete(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .expect(200);
    while definitions.next().await.unwrap()["type"] != "DELETED" {}
    let mut next = crontabs(free());
    next["metadata"]["name"] = "bs.other.example.com".into();
    next["spec"]["group"] = "other.example.com".into();
    next["spec"]["names"] = json!({"plural": "bs", "kind": "B"});
    server.define(&next).await;
    assert_eq!(server.get("/apis/stable.example.com").await.code, 404);
}

#[tokio::test]
async fn openapi_shows_custom_resources() {
    let server = server().await;
    let before = server.get("/openapi/v3").await.expect(200);
    let mut definition = crontabs(json!({"type": "object", "description": "What is wanted.",
        "properties": {"cron": {"type": "string", "description": "When."}}}));
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "A cron tab.".into();
    server.define(&definition).await;
    let index = server.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert_eq!(index["paths"]["apis/apps/v1"], before["paths"]["apis/apps/v1"]);
    let document = server.get(url).await.expect(200);
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["description"], "A cron tab.");
    assert_eq!(
        schema["properties"]["spec"]["properties"]["cron"]["description"],
        "When."
    );
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{"group": "stable.example.com", "kind": "CronTab", "version": "v1"}])
    );
    assert!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
    let path = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs"];
    assert_eq!(path["get"]["operationId"], "listStableExampleComV1NamespacedCronTab");
    let swagger = server.get("/openapi/v2").await.expect(200);
    let schema = &swagger["definitions"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["description"], "What is wanted.");
    assert!(swagger["definitions"]["com.example.stable.v1.CronTabList"].is_object());
}
