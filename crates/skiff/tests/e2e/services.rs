//! Services by address, name and node port.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, NODE, contains, http_get, must_contain, text, until};

fn hostnames(cluster: &Cluster) -> BTreeSet<String> {
    let names = cluster.kubectl("get pods -n demo -l app=hello -o name").ok();
    names
        .lines()
        .map(|name| name.trim_start_matches("pod/").to_owned())
        .collect()
}

/// Asks until every pod has answered.
fn every_pod_answers(what: &str, cluster: &Cluster, ask: impl Fn() -> Result<String, String>) {
    let wanted = hostnames(cluster);
    assert_eq!(wanted.len(), 3, "{wanted:?}");
    let mut seen = BTreeSet::new();
    until(what, 30, || {
        let answer = ask()?;
        contains(&answer, &["namespace: demo", NODE])?;
        seen.extend(
            answer
                .lines()
                .filter_map(|line| line.strip_prefix("hostname: "))
                .map(|name| name.trim().to_owned()),
        );
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("only {seen:?} of {wanted:?}"))
        }
    });
}

pub fn from_host(cluster: &mut Cluster) {
    let service = cluster.object("service/hello -n demo");
    let ip = text(&service, "/spec/clusterIP").to_owned();
    let node_port = service
        .pointer("/spec/ports/0/nodePort")
        .and_then(|port| port.as_u64())
        .expect("a node port");
    every_pod_answers("every pod answers at the ClusterIP", cluster, || {
        http_get(&format!("{ip}:80"))
    });
    let node = cluster.object(&format!("node/{NODE}"));
    let address = text(&node, "/status/addresses/0/address").to_owned();
    for host in [address.as_str(), "127.0.0.1"] {
        every_pod_answers("every pod answers at the node port", cluster, || {
            http_get(&format!("{host}:{node_port}"))
        });
    }
}

pub fn from_pod(cluster: &mut Cluster) {
    let service = cluster.object("service/hello -n demo");
    let ip = text(&service, "/spec/clusterIP").to_owned();
    let fetch = |host: &str| {
        let url = format!("http://{host}/");
        let outcome = cluster.kubectl_args(&["exec", "-n", "demo", "tools", "--", "wget", "-q", "-O", "-", &url]);
        if outcome.code == Some(0) {
            Ok(outcome.stdout)
        } else {
            Err(outcome.report())
        }
    };
    every_pod_answers("every pod answers a pod at the ClusterIP", cluster, || fetch(&ip));
    for name in ["hello", "hello.demo", "hello.demo.svc", "hello.demo.svc.cluster.local"] {
        let answer = until("the name is resolved", 10, || fetch(name));
        must_contain(&answer, &["Hello from skiff!"]);
    }
    let looked_up = cluster
        .kubectl("exec -n demo tools -- nslookup hello.demo.svc.cluster.local")
        .ok();
    must_contain(&looked_up, &["10.96.0.10", &ip]);
    must_contain(
        &cluster.kubectl("exec -n demo tools -- cat /etc/resolv.conf").ok(),
        &["nameserver 10.96.0.10", "demo.svc.cluster.local", "ndots:5"],
    );
}
