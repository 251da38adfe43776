//! The policy that every cluster starts with, against upstream v1.28's.

use std::collections::BTreeMap;
use std::fmt::Write;

use kinds::bootstrap;
use serde_json::Value;

/// What a new cluster of upstream v1.28 has: kind and name, its labels but the one that all have,
/// then a rule, subject or reference a line.
const UPSTREAM: &str = include_str!("policy-v1.28.txt");

/// What upstream changed from then to v1.37: roles, and what they gained and lost.
const SINCE: &str = include_str!("policy-since.txt");

fn words(list: &Value) -> String {
    let words = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|word| match word.as_str().unwrap() {
            "" => "core",
            word => word,
        });
    words.collect::<Vec<_>>().join(" ")
}

fn described(object: &Value) -> (String, Vec<String>) {
    let metadata = &object["metadata"];
    let mut head = object["kind"].as_str().unwrap().to_owned();
    let namespace = metadata["namespace"].as_str().map(|namespace| format!("{namespace}/"));
    let name = metadata["name"].as_str().unwrap();
    write!(head, " {}{name}", namespace.unwrap_or_default()).unwrap();
    for (key, value) in metadata["labels"].as_object().unwrap() {
        if key != "kubernetes.io/bootstrapping" {
            write!(head, " {key}={}", value.as_str().unwrap()).unwrap();
        }
    }
    let mut lines = Vec::new();
    if let Some(selectors) = object["aggregationRule"]["clusterRoleSelectors"].as_array() {
        for (key, value) in selectors.iter().flat_map(|s| s["matchLabels"].as_object().unwrap()) {
            lines.push(format!("selects {key}={}", value.as_str().unwrap()));
        }
        return (head, lines);
    }
    for rule in object["rules"].as_array().into_iter().flatten() {
        lines.push(if rule["nonResourceURLs"].is_array() {
            format!("{} @ {}", words(&rule["verbs"]), words(&rule["nonResourceURLs"]))
        } else {
            let parts = ["verbs", "apiGroups", "resources", "resourceNames"].map(|part| words(&rule[part]));
            parts.join(" : ").trim_end_matches(" : ").to_owned()
        });
    }
    if let Some(role) = object["roleRef"].as_object() {
        lines.push(format!(
            "refers {} {}",
            role["kind"].as_str().unwrap(),
            role["name"].as_str().unwrap()
        ));
    }
    for subject in object["subjects"].as_array().into_iter().flatten() {
        let namespace = subject["namespace"].as_str().map(|namespace| format!("{namespace}/"));
        let (kind, name) = (subject["kind"].as_str().unwrap(), subject["name"].as_str().unwrap());
        lines.push(format!("{kind} {}{name}", namespace.unwrap_or_default()));
    }
    (head, lines)
}

#[test]
fn policy_is_upstreams() {
    let mut upstream: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut head = "";
    for line in UPSTREAM.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(line) => upstream.get_mut(head).unwrap().push(line),
            None => {
                head = line;
                upstream.insert(head, Vec::new());
            }
        }
    }
    let all = bootstrap::objects().into_iter();
    let policy = all.filter(|(gvr, _)| gvr.group == "rbac.authorization.k8s.io");
    let mut differences = String::new();
    for (_, object) in policy {
        let (head, lines) = described(&object);
        if head.contains(" skiff:") {
            continue;
        }
        let wanted = upstream.remove(head.as_str()).unwrap_or_default();
        if lines == wanted {
            continue;
        }
        writeln!(differences, "{head}").unwrap();
        for line in lines.iter().filter(|line| !wanted.contains(&line.as_str())) {
            writeln!(differences, "  + {line}").unwrap();
        }
        for line in wanted.iter().filter(|line| !lines.iter().any(|ours| ours == *line)) {
            writeln!(differences, "  - {line}").unwrap();
        }
    }
    for head in upstream.keys() {
        writeln!(differences, "{head} is missing").unwrap();
    }
    assert_eq!(differences, SINCE);
}
