//! Bounded harm: one corrupted object, such as no server would take, never costs more than a few pods.

use std::collections::BTreeSet;

use api::{Value, meta};
use jiff::SignedDuration;
use serde_json::{Value as Json, json};
use simulation::history::{Deed, Op};
use simulation::registry::registry;
use simulation::run::{Run, Settings};
use simulation::server::merge;

const NODES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];

fn create(group: &'static str, resource: &'static str, namespace: &str, object: Json) -> Deed {
    let op = Op::Create(group, resource, namespace.to_owned(), object);
    Deed { at: 0, op }
}

fn workload(name: &str, more: Json) -> Json {
    let mut spec = json!({"selector": {"matchLabels": {"app": name}}, "template": {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "app:1"}]}}});
    merge(&mut spec, &more);
    json!({"metadata": {"name": name}, "spec": spec})
}

/// A cluster of five nodes with one of everything, at rest.
fn cluster(seed: u64) -> Run {
    let mut deeds = vec![create("", "namespaces", "", json!({"metadata": {"name": "a"}}))];
    for (index, node) in NODES.iter().enumerate() {
        let op = Op::Add((*node).to_owned(), if index % 2 == 0 { "z1" } else { "z2" });
        deeds.push(Deed { at: 0, op });
    }
    deeds.push(create(
        "apps",
        "deployments",
        "a",
        workload("de", json!({"replicas": 6})),
    ));
    deeds.push(create(
        "apps",
        "replicasets",
        "a",
        workload("rs", json!({"replicas": 4})),
    ));
    deeds.push(create(
        "apps",
        "statefulsets",
        "a",
        workload("st", json!({"replicas": 3, "serviceName": "st"})),
    ));
    deeds.push(create("apps", "daemonsets", "a", workload("ds", json!({}))));
    let job = json!({"spec": {"parallelism": 3, "completions": 3, "template": {
        "metadata": {"labels": {"app": "jo"}, "annotations": {"simulation/runs": "100000"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "app:1"}]}}}});
    let mut named = json!({"metadata": {"name": "jo"}});
    merge(&mut named, &job);
    deeds.push(create("batch", "jobs", "a", named));
    for index in 0..3 {
        let pod = json!({"metadata": {"name": format!("bare-{index}"), "labels": {"app": "bare"}},
            "spec": {"containers": [{"name": "c", "image": "app:1"}]}});
        deeds.push(create("", "pods", "a", pod));
    }
    let mut run = Run::new(
        &Settings {
            seed,
            ..Settings::default()
        },
        &deeds,
    );
    run.pass(SignedDuration::from_mins(5));
    assert_eq!(
        pods(&run).len(),
        6 + 4 + 3 + 5 + 3 + 3,
        "all run before anything is corrupted"
    );
    run
}

/// UIDs of the pods that run and are not being deleted.
fn pods(run: &Run) -> BTreeSet<String> {
    let shared = run.cluster.lock();
    let all = shared.server.store.list(registry().known("", "pods"), "", u64::MAX);
    let live = all.iter().map(|pod| &pod.value).filter(|pod| !meta::is_deleting(pod));
    live.map(|pod| meta::uid(pod).to_owned()).collect()
}

fn corrupt(run: &Run, group: &str, resource: &str, name: &str, patch: &Value) {
    let resource = registry().known(group, resource);
    let namespace = if registry().kinds[resource].is_namespaced() {
        "a"
    } else {
        ""
    };
    let mut shared = run.cluster.lock();
    let corrupted = shared.server.change(resource, namespace, name, |object| {
        merge(object, patch);
        Ok(())
    });
    corrupted.expect("it is there");
}

/// How many pods are lost within the next half hour.
fn lost(run: &mut Run, before: &BTreeSet<String>) -> usize {
    run.pass(SignedDuration::from_mins(30));
    let violations = run.cluster.lock().violations.clone();
    let fights: Vec<_> = violations
        .iter()
        .filter(|what| what.contains("rest") || what.contains("panics"))
        .collect();
    assert!(fights.is_empty(), "{fights:?}");
    before.difference(&pods(run)).count()
}

fn costs(what: &str, most: usize, group: &str, resource: &str, name: &str, patch: &Value) {
    let mut run = cluster(1);
    let before = pods(&run);
    corrupt(&run, group, resource, name, patch);
    let lost = lost(&mut run, &before);
    assert!(lost <= most, "{what}: {lost} pods are lost, {most} may be");
}

#[test]
fn numbers_below_zero_cost_nothing() {
    for (group, resource, name, patch) in [
        ("apps", "deployments", "de", json!({"spec": {"replicas": -5}})),
        ("apps", "replicasets", "rs", json!({"spec": {"replicas": -1}})),
        ("apps", "statefulsets", "st", json!({"spec": {"replicas": -2}})),
        (
            "apps",
            "statefulsets",
            "st",
            json!({"spec": {"ordinals": {"start": -7}}}),
        ),
        ("batch", "jobs", "jo", json!({"spec": {"parallelism": -1}})),
        ("batch", "jobs", "jo", json!({"spec": {"completions": -1}})),
        ("batch", "jobs", "jo", json!({"spec": {"backoffLimit": -1}})),
        (
            "apps",
            "deployments",
            "de",
            json!({"spec": {"revisionHistoryLimit": -1}}),
        ),
        ("apps", "deployments", "de", json!({"spec": {"minReadySeconds": -100}})),
        (
            "apps",
            "deployments",
            "de",
            json!({"spec": {"progressDeadlineSeconds": -100}}),
        ),
        (
            "apps",
            "daemonsets",
            "ds",
            json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": -3}}}}),
        ),
        (
            "apps",
            "deployments",
            "de",
            json!({"status": {"replicas": -3, "observedGeneration": -9}}),
        ),
        (
            "apps",
            "replicasets",
            "rs",
            json!({"status": {"replicas": -3, "observedGeneration": -9}}),
        ),
    ] {
        costs(&format!("{resource} {patch}"), 0, group, resource, name, &patch);
    }
}

#[test]
fn selectors_of_everything_or_nothing_take_nobody_elses_pods() {
    for selector in [json!({"matchLabels": null}), json!({"matchLabels": {"app": null}})] {
        for (group, resource, name) in [
            ("apps", "deployments", "de"),
            ("apps", "replicasets", "rs"),
            ("apps", "statefulsets", "st"),
            ("apps", "daemonsets", "ds"),
        ] {
            let patch = json!({"spec": {"selector": selector}});
            costs(&format!("{resource} {patch}"), 0, group, resource, name, &patch);
        }
    }
}

#[test]
fn owners_that_are_not_there_cost_the_object_that_names_them() {
    let owner = |kind: &str, uid: &str| json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "de", "uid": uid}]}});
    costs("a pod's owner", 1, "", "pods", "bare-0", &owner("ReplicaSet", "nobody"));
    // A set that claims to belong to nobody known takes its own pods along, no others.
    costs(
        "a set's owner",
        4,
        "apps",
        "replicasets",
        "rs",
        &owner("Deployment", "nobody"),
    );
    costs("an unknown kind", 0, "", "pods", "bare-0", &owner("Martian", "nobody"));
    costs("a node's owner", 0, "", "nodes", "n0", &owner("Deployment", "nobody"));
    costs(
        "a namespace's owner",
        0,
        "",
        "namespaces",
        "a",
        &owner("Deployment", "nobody"),
    );
}

#[test]
fn owners_in_a_circle_stay() {
    let mut run = cluster(2);
    let before = pods(&run);
    let uid = |run: &Run, group: &str, resource: &str, name: &str| {
        meta::uid(&run.object(group, resource, "a", name).expect("it is there")).to_owned()
    };
    let (set, stateful) = (
        uid(&run, "apps", "replicasets", "rs"),
        uid(&run, "apps", "statefulsets", "st"),
    );
    let owned = |kind: &str, name: &str, uid: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid,
            "blockOwnerDeletion": true}]}})
    };
    corrupt(
        &run,
        "apps",
        "replicasets",
        "rs",
        &owned("StatefulSet", "st", &stateful),
    );
    corrupt(&run, "apps", "statefulsets", "st", &owned("ReplicaSet", "rs", &set));
    assert_eq!(lost(&mut run, &before), 0);
}

#[test]
fn a_node_that_talks_nonsense_costs_nothing() {
    for time in ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59Z"] {
        let condition =
            json!({"type": "Ready", "status": "True", "lastHeartbeatTime": time, "lastTransitionTime": time});
        let patch = json!({"status": {"conditions": [condition]}});
        costs(&format!("times of {time}"), 0, "", "nodes", "n1", &patch);
    }
    costs(
        "no conditions",
        0,
        "",
        "nodes",
        "n1",
        &json!({"status": {"conditions": null}}),
    );
    costs("no status", 0, "", "nodes", "n1", &json!({"status": null}));
    costs(
        "no labels",
        1,
        "",
        "nodes",
        "n1",
        &json!({"metadata": {"labels": null}}),
    );
}

#[test]
fn when_all_nodes_fall_silent_nobody_is_evicted() {
    let mut run = cluster(3);
    let before = pods(&run);
    {
        let cluster = run.cluster.clone();
        let mut shared = cluster.lock();
        NODES.iter().for_each(|node| run.hollow.silence(&mut shared, node));
    }
    assert_eq!(lost(&mut run, &before), 0);
}

#[test]
fn one_silent_node_costs_its_own_pods() {
    let mut run = cluster(4);
    let before = pods(&run);
    let on_node = {
        let cluster = run.cluster.clone();
        let mut shared = cluster.lock();
        run.hollow.silence(&mut shared, "n2");
        let pods = registry().known("", "pods");
        shared.server.store.on_node(pods, "n2", u64::MAX).len()
    };
    let lost = lost(&mut run, &before);
    assert!(lost > 0 && lost <= on_node, "{lost} of {on_node}");
}

#[test]
fn statuses_that_lie_cost_nothing() {
    costs(
        "a phase",
        0,
        "",
        "namespaces",
        "a",
        &json!({"status": {"phase": "Terminating"}}),
    );
    let status = json!({"status": {"active": 99, "succeeded": 0, "failed": -4, "completedIndexes": "0-99,x,-1"}});
    costs("a job's status", 0, "batch", "jobs", "jo", &status);
    let status = json!({"status": {"replicas": 2_000_000_000, "readyReplicas": -1, "currentRevision": "nobody"}});
    costs("a stateful set's status", 0, "apps", "statefulsets", "st", &status);
}
