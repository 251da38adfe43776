//! `skiff bench scheduler` with few nodes: what it prints, and that every pod was bound.

use std::process::Command;

use serde_json::Value;

fn bench(flags: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_skiff"))
        .args(["bench", "scheduler", "-o", "json"])
        .args(flags)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn check(figures: &Value, workload: &str, nodes: u64, pods: u64) {
    let members: Vec<&str> = figures.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "cpu_s",
        "nodes",
        "p50_ms",
        "p99_ms",
        "peak_rss_bytes",
        "pods",
        "pods_per_s",
        "workload",
    ];
    assert_eq!(members, expected);
    assert_eq!(figures["workload"], workload);
    assert_eq!(
        (figures["nodes"].as_u64(), figures["pods"].as_u64()),
        (Some(nodes), Some(pods))
    );
    assert!(figures["pods_per_s"].as_f64().unwrap() > 0.0, "{figures}");
    assert!(figures["p50_ms"].as_f64() <= figures["p99_ms"].as_f64(), "{figures}");
    assert!(
        figures["cpu_s"].as_f64().is_some() && figures["peak_rss_bytes"].as_u64().unwrap() > 1 << 20,
        "{figures}"
    );
}

/// The measurement ends only when all pods are bound.
#[test]
fn all_pods_of_small_workloads_are_bound() {
    let names = "SchedulingBasic/5Nodes,SchedulingNodeAffinity/5Nodes,SchedulingSecrets/5Nodes";
    let all = bench(&["--workload", names]);
    assert_eq!(all.len(), 3);
    check(&all[0], "SchedulingBasic/5Nodes", 5, 10);
    check(&all[1], "SchedulingNodeAffinity/5Nodes", 5, 10);
    check(&all[2], "SchedulingSecrets/5Nodes", 5, 10);
}

#[test]
fn hollow_nodes_may_be_alive() {
    let all = bench(&["--workload=SchedulingBasic/5Nodes", "--live"]);
    check(&all[0], "SchedulingBasic/5Nodes", 5, 10);
}

#[test]
fn the_core_alone_is_measured_too() {
    let all = bench(&["--workload=SchedulingBasic/500Nodes", "--core"]);
    check(&all[0], "SchedulingBasic/500Nodes", 500, 1000);
}
