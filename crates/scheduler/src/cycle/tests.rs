use serde_json::json;

use super::*;
use crate::plugins::default_profile;
use crate::testing::{NodeBuilder, PodBuilder, node, pod};

fn cluster(nodes: Vec<NodeBuilder>) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(node.build());
    }
    cluster.settle();
    cluster
}

fn decide(cluster: &Cluster, pod: &Arc<PodInfo>, start: usize, random: u64) -> Result<Placement, String> {
    let profile = default_profile();
    let attempt = Attempt {
        cluster,
        profile: &profile,
        start,
        random,
        now: Timestamp::UNIX_EPOCH,
        timings: None,
    };
    schedule(&attempt, pod, &mut NoJudge).map_err(|failure| match failure {
        Failure::Unfit(verdict, _) => verdict.message(pod),
        Failure::Error(error) => error,
    })
}

fn placed(cluster: &Cluster, pod: PodBuilder) -> Result<String, String> {
    decide(cluster, &pod.info(), 0, 0).map(|placement| placement.node.to_string())
}

#[test]
fn reasons_are_counted_in_upstreams_words() {
    let cluster = cluster(vec![
        node("n1").cpu("1"),
        node("n2").cpu("1"),
        node("n3").taint("dedicated", "NoSchedule"),
        node("n4").cordoned(),
        node("n5").pods("0"),
    ]);
    assert_eq!(
        placed(&cluster, pod("p").requests("2", "1Gi")).unwrap_err(),
        "0/5 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), \
         1 node(s) were unschedulable, 2 Insufficient cpu."
    );
    assert_eq!(
        placed(&Cluster::default(), pod("p")).unwrap_err(),
        "no nodes available to schedule pods"
    );
}

#[test]
fn nodes_are_chosen_by_what_the_pod_asks_for() {
    let cluster = cluster(vec![
        node("plain"),
        node("ssd").label("disk", "ssd"),
        node("tainted").taint("db", "NoExecute").label("disk", "db"),
    ]);
    let by_name = |values: &[&str]| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]}]}}}})
    };
    let cases = [
        (pod("a").selects("disk", "ssd"), Ok("ssd")),
        (pod("b").selects("disk", "db").tolerates("db"), Ok("tainted")),
        (
            pod("c").selects("disk", "tape"),
            Err(
                "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector.",
            ),
        ),
        (pod("d").on("plain"), Ok("plain")),
        (pod("e").json(by_name(&["ssd"])), Ok("ssd")),
        (
            pod("f").json(by_name(&["tainted"])),
            Err(
                "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
            ),
        ),
        (
            pod("g").json(by_name(&[])),
            Err("0/3 nodes are available: pod affinity terms conflict."),
        ),
    ];
    for (pod, expected) in cases {
        let placed = placed(&cluster, pod);
        assert_eq!(placed.as_deref().map_err(String::as_str), expected);
    }
}

#[test]
fn host_ports_are_given_once() {
    let mut cluster = cluster(vec![node("n1")]);
    cluster.assume(pod("a").host_port(80).info(), "n1");
    assert_eq!(placed(&cluster, pod("b").host_port(81)).unwrap(), "n1");
    assert_eq!(
        placed(&cluster, pod("b").host_port(80)).unwrap_err(),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    );
}

#[test]
fn emptier_nodes_win_and_pods_spread() {
    let mut cluster = cluster((0..4).map(|n| node(&format!("n{n}"))).collect());
    let mut start = 0;
    for n in 0..8 {
        let pod = pod(&format!("p{n}")).requests("500m", "1Gi").info();
        let placement = decide(&cluster, &pod, start, n * 7).unwrap();
        start = placement.next_start;
        cluster.assume(pod, &placement.node);
    }
    assert!(cluster.nodes().all(|node| node.pods.len() == 2));
}

#[test]
fn preferred_taints_are_avoided() {
    let cluster = cluster(vec![node("a").taint("old", "PreferNoSchedule"), node("b")]);
    assert_eq!(placed(&cluster, pod("p")).unwrap(), "b");
}

#[test]
fn the_first_of_a_group_may_start_it_and_others_follow() {
    let zone = "topology.kubernetes.io/zone";
    let mut cluster = cluster(vec![
        node("a").label(zone, "a"),
        node("b").label(zone, "b"),
        node("none"),
    ]);
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": zone}]}}});
    let member = |name: &str| pod(name).label("app", "x").json(near.clone());
    let first = member("p1").info();
    let placement = decide(&cluster, &first, 0, 0).unwrap();
    cluster.assume(first, &placement.node);
    assert_eq!(placed(&cluster, member("p2")).unwrap(), *placement.node);
    assert_eq!(
        placed(&cluster, pod("q").label("app", "y").json(near).selects("no", "such")).unwrap_err(),
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    );
}

#[test]
fn nodes_take_turns_to_be_looked_at_first() {
    let cluster = cluster((0..300).map(|n| node(&format!("n{n}"))).collect());
    let first = decide(&cluster, &pod("p").info(), 0, 0).unwrap();
    // 50 % less 300/125, of 300.
    assert_eq!((first.evaluated, first.feasible, first.next_start), (144, 144, 144));
    let third = decide(&cluster, &pod("p").info(), 288, 0).unwrap();
    assert_eq!(third.next_start, 132);
}

#[test]
fn enough_nodes_are_looked_at() {
    let cases = [
        (10, None, 10),
        (100, None, 100),
        (1000, None, 420),
        (5000, None, 500),
        (6000, None, 300),
        (1000, Some(10), 100),
    ];
    for (nodes, percentage, expected) in cases {
        assert_eq!(feasible_nodes_to_find(nodes, percentage), expected, "{nodes}");
    }
}
