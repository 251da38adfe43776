//! The state in the end, without what may differ: generated names, hashes, UIDs, versions and times.

use std::collections::BTreeMap;

use api::{Value, meta};
use serde_json::{Value as Json, json};

use crate::registry::registry;
use crate::server::{Server, is_ready};

/// Lines by what they are about.
pub type Summary = BTreeMap<String, Json>;

/// What is different, for people.
pub fn difference(with: &Summary, without: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    for key in with.keys().chain(without.keys()) {
        let (here, there) = (with.get(key), without.get(key));
        let line = format!("{key}: with faults {}, without {}", show(here), show(there));
        if here != there && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn show(value: Option<&Json>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Json::to_string)
}

/// The state.
pub fn summarise(server: &Server) -> Summary {
    let mut summary = Summary::new();
    for (resource, kind) in registry().kinds.iter().enumerate() {
        for object in server.store.list(resource, "", u64::MAX) {
            let value = &object.value;
            match kind.plural.as_str() {
                "pods" => pod(server, value, &mut summary),
                "replicasets" => replica_set(value, &mut summary),
                // Claims of ordinals that were there for a moment may have been made or not.
                "persistentvolumeclaims" => {}
                "jobs" if is_from_cron(server, meta::uid(value)) => {}
                "endpointslices" | "controllerrevisions" | "endpoints" | "leases" | "ipaddresses" => {}
                plural => {
                    let key = format!("{plural} {}/{}", meta::namespace(value), meta::name(value));
                    let status = match plural {
                        "nodes" => node(value),
                        "persistentvolumes" => Json::Null,
                        "resourcequotas" => quota(server, value),
                        _ => status(plural, value),
                    };
                    summary.insert(key, status);
                }
            }
        }
    }
    summary
}

fn conditions(value: &Value) -> Vec<String> {
    let list = value["status"]["conditions"].as_array().into_iter().flatten();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or("").to_owned();
    let mut all: Vec<String> = list
        .map(|c| format!("{}={}", text(c, "type"), text(c, "status")))
        .collect();
    // Whether a job that was suspended for a moment ever noticed depends on when it looked.
    all.retain(|condition| !condition.starts_with("Suspended"));
    all.sort();
    all
}

/// Whether it was left behind by a deployment: at what size depends on when.
fn is_left(value: &Value) -> bool {
    meta::controller_of(value).is_none() && meta::label(value, "pod-template-hash").is_some()
}

fn node(node: &Value) -> Json {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let mut taints: Vec<String> = taints.map(|t| format!("{}:{}", t["key"], t["effect"])).collect();
    taints.sort();
    json!({"taints": taints, "conditions": conditions(node)})
}

const JOBS: &str = "count/jobs.batch";

/// What a quota says of all but the jobs of cron jobs, which are not compared. That it says what is true is a law.
fn quota(server: &Server, quota: &Value) -> Json {
    let mut said = status("resourcequotas", quota);
    let used = said["used"][JOBS].as_str().and_then(|used| used.parse::<usize>().ok());
    if let Some(used) = used {
        let jobs = server
            .store
            .list(registry().known("batch", "jobs"), meta::namespace(quota), u64::MAX);
        let left_out = jobs.iter().filter(|job| is_from_cron(server, meta::uid(&job.value)));
        said["used"][JOBS] = used.saturating_sub(left_out.count()).to_string().into();
    }
    said
}

/// Fields of a status that say the same in every good end.
fn status(plural: &str, value: &Value) -> Json {
    let fields: &[&str] = match plural {
        "deployments" => &[
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
        ],
        "statefulsets" => &["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"],
        "daemonsets" => &[
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "numberAvailable",
            "updatedNumberScheduled",
            "numberMisscheduled",
            "numberUnavailable",
        ],
        "jobs" => &["active", "succeeded", "completedIndexes"],
        "replicationcontrollers" => &["replicas", "readyReplicas", "availableReplicas"],
        "poddisruptionbudgets" => &["desiredHealthy", "currentHealthy", "expectedPods", "disruptionsAllowed"],
        "persistentvolumeclaims" | "namespaces" => &["phase"],
        "resourcequotas" => &["hard", "used"],
        _ => &[],
    };
    let mut said = json!({});
    for field in fields {
        let found = value["status"].get(*field).filter(|found| **found != 0);
        if let Some(found) = found {
            said[*field] = found.clone();
        }
    }
    if matches!(plural, "deployments" | "jobs") {
        said["conditions"] = json!(conditions(value));
    }
    let observed = value["status"].get("observedGeneration").and_then(Value::as_i64);
    if let Some(observed) = observed {
        said["observed"] = json!(observed == meta::generation(value));
    }
    said
}

fn add(summary: &mut Summary, key: String, line: String) {
    let list = summary.entry(key).or_insert_with(|| json!([]));
    let list = list.as_array_mut().expect("made one");
    let at = list.partition_point(|known| known.as_str().unwrap_or("") < line.as_str());
    list.insert(at, line.into());
}

/// Whom a pod serves in the end.
fn root(server: &Server, value: &Value) -> String {
    // What was released or orphaned runs until its node goes, and which one that is, depends on where it ran.
    let Some(owner) = meta::controller_of(value) else {
        return String::new();
    };
    let found = server.store.by_uid(owner.uid, |_| u64::MAX);
    match found.filter(|(_, found)| meta::controller_of(&found.value).is_some() && owner.kind == "ReplicaSet") {
        Some((_, found)) => root(server, &found.value),
        None if found_left(server, owner.uid) || is_from_cron(server, owner.uid) => String::new(),
        None => format!("{} {}", owner.kind, owner.name),
    }
}

fn found_left(server: &Server, uid: &str) -> bool {
    let found = server.store.by_uid(uid, |_| u64::MAX);
    found.is_some_and(|(_, found)| is_left(&found.value))
}

/// Which minutes a cron job starts in depends on when it looks; laws are kept by all of its jobs.
fn is_from_cron(server: &Server, uid: &str) -> bool {
    let found = server.store.by_uid(uid, |_| u64::MAX);
    let owner = found.and_then(|(_, found)| meta::controller_of(&found.value));
    owner.is_some_and(|owner| owner.kind == "CronJob")
}

fn image(value: &Value) -> &str {
    let spec = value["spec"]
        .get("template")
        .map_or(&value["spec"], |template| &template["spec"]);
    spec["containers"][0]["image"].as_str().unwrap_or("")
}

fn pod(server: &Server, pod: &Value, summary: &mut Summary) {
    let owner = root(server, pod);
    if owner.is_empty() {
        return;
    }
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    // How many tries a job needed depends on what went wrong, and which ended pods their nodes took along on where they
    // ran. The job's status is compared, and each pod's being counted once is a law.
    if owner.starts_with("Job") && matches!(phase, "Succeeded" | "Failed") {
        return;
    }
    let name = if owner.starts_with("StatefulSet") {
        meta::name(pod)
    } else {
        ""
    };
    let node = if owner.starts_with("DaemonSet") {
        pod["spec"]["nodeName"].as_str().unwrap_or("")
    } else {
        ""
    };
    let ready = if is_ready(pod) { "ready" } else { "" };
    let key = format!("pods of {owner} in {}", meta::namespace(pod));
    add(summary, key, format!("{name}{node} {} {phase} {ready}", image(pod)));
}

fn replica_set(set: &Value, summary: &mut Summary) {
    let owner = meta::controller_of(set);
    let replicas = set["spec"]["replicas"].as_i64().unwrap_or(0);
    let name = if owner.is_some() { "" } else { meta::name(set) };
    if owner.is_some() && replicas == 0 || is_left(set) {
        return;
    }
    let ready = &set["status"]["readyReplicas"];
    let owner = owner.map_or_else(|| "nobody".to_owned(), |owner| owner.name.to_owned());
    let key = format!("replica sets of {owner} in {}", meta::namespace(set));
    add(summary, key, format!("{name} {} {replicas} {ready}", image(set)));
}
