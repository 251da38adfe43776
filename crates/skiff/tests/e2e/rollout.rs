//! Scaling, rolling updates, deletion.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::{Background, Client, Cluster, must_contain, until};
use crate::images::WEB;

const STATUS: &str = "rollout status deployment/hello -n demo --timeout=50s";

fn number(deployment: &Value, pointer: &str) -> u64 {
    deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

pub fn scale(cluster: &mut Cluster) {
    for replicas in [5, 1, 3] {
        cluster
            .kubectl(&format!("scale deployment/hello -n demo --replicas={replicas}"))
            .ok();
        until("there are as many pods as were asked for", 40, || {
            let names = cluster.kubectl("get pods -n demo -l app=hello -o name").ok();
            let ready = number(&cluster.object("deployment/hello -n demo"), "/status/readyReplicas");
            if names.lines().count() == replicas && ready == replicas as u64 {
                Ok(())
            } else {
                Err(format!("{ready} ready of\n{names}"))
            }
        });
    }
}

/// The deployment allows one pod more and one fewer than three. What is asked of its replica sets is bounded above;
/// pods that end and statuses that lag may show more for a moment, upstream's too.
fn stays_within_bounds(asked: &str, available: &str) {
    let mut sets = BTreeMap::new();
    let mut changes = 0;
    for line in asked.lines().filter_map(|line| line.strip_prefix("asked ")) {
        let (name, replicas) = line.split_once(' ').expect("a name and a number");
        sets.insert(name, replicas.parse::<u64>().expect("a number"));
        changes += 1;
        assert!(sets.values().sum::<u64>() <= 4, "more than maxSurge allows:\n{asked}");
    }
    assert!(sets.len() >= 2 && changes >= 4, "the update was not seen:\n{asked}");
    for line in available.lines().filter_map(|line| line.strip_prefix("available ")) {
        let number: u64 = line.trim().parse().unwrap_or_default();
        assert!(number >= 2, "fewer than maxUnavailable allows:\n{available}");
    }
}

pub fn set_image(cluster: &mut Cluster) {
    let watch = |arguments: &[&str]| {
        let arguments = [&["get", "-n", "demo", "--watch"], arguments].concat();
        Background::start(&mut cluster.command(Client::Kubectl, &arguments))
    };
    let template = "-o=jsonpath=asked {.metadata.name} {.spec.replicas}{\"\\n\"}";
    let mut asked = watch(&["replicasets", "-l", "app=hello", template]);
    asked.line_with("asked hello-", 20);
    let mut available = watch(&[
        "deployment",
        "hello",
        "-o=jsonpath=available {.status.availableReplicas}{\"\\n\"}",
    ]);
    available.line_with("available 3", 20);
    cluster
        .kubectl(&format!("set image deployment/hello web={WEB} -n demo"))
        .ok();
    must_contain(&cluster.settle(STATUS), &["successfully rolled out"]);
    let path = "jsonpath={.items[*].spec.containers[0].image}";
    let images = cluster
        .kubectl_args(&["get", "pods", "-n", "demo", "-l", "app=hello", "-o", path])
        .ok();
    assert!(images.contains(WEB), "{images}");
    stays_within_bounds(&asked.said(), &available.said());
}

pub fn undo(cluster: &mut Cluster) {
    must_contain(
        &cluster.kubectl("rollout history deployment/hello -n demo").ok(),
        &["REVISION", "1", "2"],
    );
    cluster.kubectl("rollout pause deployment/hello -n demo").ok();
    cluster.kubectl("set env deployment/hello ROUND=2 -n demo").ok();
    let paused = cluster.object("deployment/hello -n demo");
    assert_eq!(paused.pointer("/spec/paused"), Some(&Value::Bool(true)));
    until("the pause is seen", 20, || {
        let now = cluster.object("deployment/hello -n demo");
        let (generation, observed) = (
            number(&now, "/metadata/generation"),
            number(&now, "/status/observedGeneration"),
        );
        if generation == observed {
            Ok(())
        } else {
            Err(format!("{generation} {observed}"))
        }
    });
    let updated = number(&cluster.object("deployment/hello -n demo"), "/status/updatedReplicas");
    assert_eq!(updated, 0, "a paused deployment rolls nothing out");
    cluster.kubectl("rollout resume deployment/hello -n demo").ok();
    must_contain(&cluster.settle(STATUS), &["successfully rolled out"]);
    cluster
        .kubectl("rollout undo deployment/hello -n demo --to-revision=1")
        .ok();
    must_contain(&cluster.settle(STATUS), &["successfully rolled out"]);
    let image = cluster
        .kubectl_args(&[
            "get",
            "deployment",
            "hello",
            "-n",
            "demo",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}",
        ])
        .ok();
    assert_eq!(image, "skiff.local/hello:latest");
    cluster.kubectl("rollout restart deployment/hello -n demo").ok();
    must_contain(&cluster.settle(STATUS), &["successfully rolled out"]);
}

pub fn cascade(cluster: &mut Cluster) {
    must_contain(&cluster.kubectl("delete deployment hello -n demo").ok(), &["deleted"]);
    until("its replica sets and pods are gone", 40, || {
        let left = cluster
            .kubectl("get replicasets,pods -n demo -l app=hello -o name")
            .ok();
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
    must_contain(&cluster.kubectl("get service hello -n demo").ok(), &["hello"]);
}

pub fn delete_namespace(cluster: &mut Cluster) {
    cluster.kubectl("delete namespace demo --timeout=50s").ok();
    must_contain(&cluster.kubectl("get namespace demo").fails(), &["not found"]);
    assert_eq!(cluster.kubectl("get pods -A -o name").ok().trim(), "");
}
