//! Discovery of everything that is built in, against what upstream v1.28 answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::document::{ALL_VERBS, resources};
use crate::harness::{Server, server};

/// What upstream v1.28 serves by default and v1.37 still does.
const UPSTREAM: &str = include_str!("v1.28.txt");

/// Upstream's hashes of storage versions, which depend on group, version and kind of what is stored.
const HASHES: [(&str, &str); 20] = [
    ("configmaps", "qFsyl6wFWjQ="),
    ("endpoints", "fWeeMqaN/OA="),
    ("events", "r2yiGXH7wu8="),
    ("limitranges", "EBKMFVe6cwo="),
    ("namespaces", "Q3oi5N2YM8M="),
    ("nodes", "XwShjMxG9Fs="),
    ("persistentvolumeclaims", "QWTyNDq0dC4="),
    ("persistentvolumes", "HN/zwEC+JgM="),
    ("pods", "xPOwRZ+Yhw8="),
    ("podtemplates", "LIXB2x4IFpk="),
    ("replicationcontrollers", "Jond2If31h0="),
    ("resourcequotas", "8uhSgffRX6w="),
    ("secrets", "S6u1pOWzb84="),
    ("serviceaccounts", "pbx9ZvyFpBE="),
    ("services", "0/CO1lhkEBI="),
    ("controllerrevisions", "85nkx63pcBU="),
    ("daemonsets", "dd7pWHUlMKQ="),
    ("deployments", "8aSe+NMegvE="),
    ("replicasets", "P1RzHs8/mWQ="),
    ("statefulsets", "H+vl74LkKdo="),
];

#[tokio::test]
async fn everything_of_1_28_that_is_left() {
    let server = server().await;
    let ours = resources(&server).await;
    let lines: Vec<String> = ours.iter().flat_map(|resource| resource.lines()).collect();
    let wanted = UPSTREAM.lines().filter(|line| !line.starts_with('#'));
    let missing: Vec<&str> = wanted.filter(|line| !lines.iter().any(|ours| ours == line)).collect();
    assert!(missing.is_empty(), "not served so:\n{}", missing.join("\n"));
}

#[tokio::test]
async fn groups_come_in_upstreams_order() {
    let server = server().await;
    let group_of = |line: &str| line.split('/').next().unwrap().to_owned();
    let mut wanted: Vec<String> = UPSTREAM
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(group_of)
        .collect();
    wanted.dedup();
    let mut ours: Vec<String> = resources(&server).await.iter().map(|r| group_of(&r.version)).collect();
    ours.dedup();
    ours.retain(|group| wanted.contains(group));
    assert_eq!(ours, wanted);
}

/// A group's preferred version is its first, and what has several versions is preferred in the newest.
#[tokio::test]
async fn preferred_versions() {
    let server = server().await;
    let groups = server.get("/apis").await;
    for group in groups["groups"].as_array().unwrap() {
        assert_eq!(group["preferredVersion"], group["versions"][0]);
        let version = group["preferredVersion"]["version"].as_str().unwrap();
        let wanted = if group["name"] == "autoscaling" { "v2" } else { "v1" };
        assert_eq!(version, wanted, "{group}");
    }
}

/// Both documents say the same; the older one also says how things are stored.
#[tokio::test]
async fn legacy_documents_agree() {
    let server = server().await;
    let mut hashes = BTreeMap::new();
    for version in versions(&resources(&server).await) {
        let path = match version.strip_prefix("core/") {
            Some(version) => format!("/api/{version}"),
            None => format!("/apis/{version}"),
        };
        let legacy = server.get(&path).await;
        let mut lines = Vec::new();
        for resource in legacy["resources"].as_array().unwrap() {
            let name = resource["name"].as_str().unwrap();
            if let Some(hash) = resource["storageVersionHash"].as_str() {
                hashes.insert(format!("{version} {name}"), hash.to_owned());
            }
            lines.push(format!("{version} {name} {}", legacy_verbs(resource)));
        }
        let wanted: Vec<String> = resources(&server)
            .await
            .iter()
            .filter(|resource| resource.version == version)
            .flat_map(|resource| resource.names_and_verbs())
            .collect();
        assert_eq!(lines, wanted);
    }
    for (plural, hash) in HASHES {
        let version = if hashes.contains_key(&format!("core/v1 {plural}")) {
            "core/v1"
        } else {
            "apps/v1"
        };
        assert_eq!(hashes[&format!("{version} {plural}")], hash, "{plural}");
    }
    // One storage, two versions or groups.
    let of = |name: &str| &hashes[name];
    let autoscalers = "horizontalpodautoscalers";
    assert_eq!(
        of(&format!("autoscaling/v1 {autoscalers}")),
        of(&format!("autoscaling/v2 {autoscalers}"))
    );
    assert_eq!(of("events.k8s.io/v1 events"), of("core/v1 events"));
}

fn legacy_verbs(resource: &Value) -> String {
    let verbs: Vec<&str> = resource["verbs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    let verbs = verbs.join(",");
    if verbs == ALL_VERBS { "*".to_owned() } else { verbs }
}

fn versions(resources: &[crate::document::Resource]) -> Vec<String> {
    let mut versions: Vec<String> = resources.iter().map(|resource| resource.version.clone()).collect();
    versions.dedup();
    versions
}

/// Every served kind answers its lists, as objects and as tables.
#[tokio::test]
async fn every_kind_lists() {
    let server = server().await;
    for resource in resources(&server).await {
        if !resource.verbs.contains("list") && resource.verbs != "*" {
            continue;
        }
        let path = resource.path();
        let list = server.get(&path).await;
        assert_eq!(list["kind"], json!(format!("{}List", resource.kind)), "{path}");
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let table = table(&server, &path, &accept).await;
        assert_eq!(table["kind"], "Table", "{path}");
        assert!(
            table["columnDefinitions"].as_array().is_some_and(|c| !c.is_empty()),
            "{path}"
        );
    }
}

async fn table(server: &Server, path: &str, accept: &[(&str, &str)]) -> Value {
    server.call("GET", path, None, accept).await.expect(200)
}
