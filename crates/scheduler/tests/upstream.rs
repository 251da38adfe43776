//! What kube-scheduler v1.28 said of random pods on random clusters, against this scheduler.
//!
//! `data/kube-scheduler-v1.28-*.json` was recorded with upstream's program running against skiff's API server: nodes,
//! pods that were placed, and in each round a pod that was asked about, with the final score of each feasible node or
//! with how many nodes were turned down for which reason. The chosen node must have the best of upstream's scores.
//!
//! Two plugins did not score: NodeResourcesBalancedAllocation has another formula since, and upstream's ImageLocality
//! counts the nodes that had an image when a node last changed. Reasons about taints are taken without the taint, which
//! v1.37 does not tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use scheduler::cycle::{Attempt, Failure, NoJudge, schedule};
use scheduler::framework::{Resource, Shared};
use scheduler::{Cluster, PodInfo, plugins};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Deserialize)]
struct Record {
    nodes: Vec<Node>,
    pods: BTreeMap<String, Pod>,
    rounds: Vec<Round>,
    #[serde(default)]
    storage: Vec<Value>,
}

#[derive(Deserialize)]
struct Round {
    present: Vec<String>,
    pod: Pod,
    #[serde(default)]
    scores: BTreeMap<String, i64>,
    #[serde(default)]
    reasons: BTreeMap<String, usize>,
    /// What was said before any node was asked.
    before: Option<String>,
}

const RECORDS: [&str; 4] = [
    include_str!("data/kube-scheduler-v1.28-1.json"),
    include_str!("data/kube-scheduler-v1.28-2.json"),
    include_str!("data/kube-scheduler-v1.28-3.json"),
    include_str!("data/kube-scheduler-v1.28-volumes.json"),
];

fn cluster(record: &Record, round: &Round) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.set_namespace("default", BTreeMap::new());
    for node in &record.nodes {
        cluster.set_node(Arc::new(node.clone()));
    }
    for object in &record.storage {
        let (resource, shared) = stored(object.clone());
        cluster.observe_storage(resource, None, Some(&shared));
    }
    for name in &round.present {
        let info = PodInfo::new(&record.pods[name], cluster.interner());
        cluster.set_pod(Arc::new(info));
    }
    cluster.settle();
    cluster
}

/// An object of storage, as the scheduler sees it.
fn stored(object: Value) -> (Resource, Shared) {
    fn typed<T: DeserializeOwned + Send + Sync + 'static>(object: Value) -> Shared {
        Arc::new(serde_json::from_value::<T>(object).unwrap())
    }
    match object["kind"].as_str().unwrap() {
        "PersistentVolume" => (Resource::PersistentVolume, typed::<PersistentVolume>(object)),
        "PersistentVolumeClaim" => (Resource::PersistentVolumeClaim, typed::<PersistentVolumeClaim>(object)),
        "StorageClass" => (Resource::StorageClass, typed::<StorageClass>(object)),
        "CSINode" => (Resource::CsiNode, Arc::new(object)),
        kind => panic!("{kind}"),
    }
}

/// In the words of v1.37.
fn renamed(reason: &str) -> String {
    let old = "node(s) had volume node affinity conflict";
    reason.replace(old, "node(s) didn't match PersistentVolume's node affinity")
}

/// `3 node(s) …` and so on, as counts by reason.
fn counts(reasons: Vec<String>) -> BTreeMap<String, usize> {
    let split = |reason: String| {
        let (count, text) = reason.split_once(' ').unwrap();
        (text.to_owned(), count.parse().unwrap())
    };
    reasons.into_iter().map(split).collect()
}

fn check(record: &Record, round: &Round, random: u64) {
    let cluster = cluster(record, round);
    let mut profile = plugins::default_profile_without(&["NodeResourcesBalancedAllocation", "ImageLocality"]);
    profile.percentage_of_nodes_to_score = Some(100);
    let attempt = Attempt {
        cluster: &cluster,
        profile: &profile,
        start: 0,
        random,
        now: Timestamp::UNIX_EPOCH,
        timings: None,
    };
    let pod = Arc::new(PodInfo::new(&round.pod, cluster.interner()));
    let name = &*pod.key.name;
    match schedule(&attempt, &pod, &mut NoJudge) {
        Ok(placement) => {
            let best = round.scores.values().max();
            let chosen = round.scores.get(&*placement.node);
            assert!(chosen.is_some(), "{name} on {}: {:?}", placement.node, round.reasons);
            assert_eq!(chosen, best, "{name} on {}: {:?}", placement.node, round.scores);
            assert_eq!(placement.feasible, round.scores.len(), "{name}");
        }
        Err(Failure::Unfit(verdict, _)) if verdict.before.is_some() => {
            let said = verdict.message(&pod);
            let before = round.before.as_deref().unwrap_or("nothing");
            assert!(
                said.ends_with(&format!("nodes are available: {before}.")),
                "{name}: {said}"
            );
        }
        Err(Failure::Unfit(verdict, _)) => {
            let reasons = round
                .reasons
                .iter()
                .map(|(reason, count)| (renamed(reason), *count))
                .collect();
            assert_eq!(counts(verdict.reasons(&pod)), reasons, "{name}");
        }
        Err(Failure::Error(error)) => panic!("{name}: {error}"),
    }
}

#[test]
fn pods_go_where_upstream_puts_them() {
    let mut rounds = 0;
    for record in RECORDS {
        let record: Record = serde_json::from_str(record).unwrap();
        for round in &record.rounds {
            (0..3).for_each(|random| check(&record, round, random));
            rounds += 1;
        }
    }
    assert!(rounds >= 100);
}
