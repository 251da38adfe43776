use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::*;
use crate::plugins::default_profile;
use crate::testing::{PodBuilder, node, pod};

fn cluster(nodes: Vec<Arc<Node>>) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(node);
    }
    cluster
}

fn info(pod: PodBuilder) -> PodInfo {
    PodInfo::new(Arc::new(pod.build()))
}

fn placed(cluster: &Cluster, pod: PodBuilder) -> Result<String, String> {
    schedule(cluster, &info(pod), &default_profile(), 0, 0)
        .map(|placement| placement.node)
        .map_err(|verdict| verdict.to_string())
}

#[test]
fn reasons_are_counted_in_upstreams_words() {
    let cluster = cluster(vec![
        node("n1").cpu("1").build(),
        node("n2").cpu("1").build(),
        node("n3").taint("dedicated", "NoSchedule").build(),
        node("n4").cordoned().build(),
        node("n5").pods("0").build(),
    ]);
    assert_eq!(
        placed(&cluster, pod("p").requests("2", "1Gi")).unwrap_err(),
        "0/5 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {dedicated: }, \
         1 node(s) were unschedulable, 2 Insufficient cpu."
    );
    assert_eq!(
        placed(&Cluster::default(), pod("p")).unwrap_err(),
        "no nodes available to schedule pods"
    );
}

#[test]
fn filters() {
    let cluster = cluster(vec![
        node("plain").build(),
        node("ssd").label("disk", "ssd").build(),
        node("tainted").taint("db", "NoExecute").label("disk", "db").build(),
    ]);
    let cases = [
        (pod("a").selects("disk", "ssd"), Ok("ssd")),
        (pod("b").selects("disk", "db").tolerates("db"), Ok("tainted")),
        (
            pod("c").selects("disk", "tape"),
            Err(
                "0/3 nodes are available: 1 node(s) had untolerated taint {db: }, 2 node(s) didn't match Pod's node affinity/selector.",
            ),
        ),
        (pod("d").on("plain"), Ok("plain")),
    ];
    for (pod, expected) in cases {
        let placed = placed(&cluster, pod);
        assert_eq!(placed.as_deref().map_err(String::as_str), expected);
    }
}

#[test]
fn host_ports_are_given_once() {
    let mut cluster = cluster(vec![node("n1").build()]);
    cluster.assume(Arc::new(info(pod("a").host_port(80))), "n1");
    assert_eq!(placed(&cluster, pod("b").host_port(81)).unwrap(), "n1");
    assert_eq!(
        placed(&cluster, pod("b").host_port(80)).unwrap_err(),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    );
}

#[test]
fn emptier_nodes_win_and_pods_spread() {
    let mut cluster = cluster((0..4).map(|n| node(&format!("n{n}")).build()).collect());
    let profile = default_profile();
    let mut start = 0;
    for n in 0..8 {
        let pod = Arc::new(info(pod(&format!("p{n}")).requests("500m", "1Gi")));
        let placement = schedule(&cluster, &pod, &profile, start, n * 7).unwrap();
        start = placement.next_start;
        cluster.assume(pod, &placement.node);
    }
    assert!(cluster.nodes().all(|node| node.pods.len() == 2));
}

#[test]
fn preferred_taints_are_avoided() {
    let cluster = cluster(vec![
        node("a").taint("old", "PreferNoSchedule").build(),
        node("b").build(),
    ]);
    assert_eq!(placed(&cluster, pod("p")).unwrap(), "b");
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
