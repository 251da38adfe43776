//! What goes wrong, ends, and is taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::cluster::{Cluster, NODE, PORT, SKIFF, contains, file, must_contain, run, run_for, text, until};
use crate::{host, manifests};

pub fn doctor(cluster: &mut Cluster) {
    let data = cluster.data.display().to_string();
    let told = run_for(
        30,
        Command::new(SKIFF).args([
            "doctor",
            "--secure-port=17443",
            "--kubelet-port=17250",
            "--data-dir",
            &data,
        ]),
        "",
    )
    .ok();
    must_contain(
        &told,
        &[
            "ok       root",
            "nf_tables",
            "overlayfs",
            "bridge and veth",
            "data directory",
        ],
    );
    let taken = TcpListener::bind("0.0.0.0:0").expect("listen");
    let port = taken.local_addr().expect("it listens").port().to_string();
    let told = run_for(
        30,
        Command::new(SKIFF).args(["doctor", "--secure-port", &port, "--data-dir", &data]),
        "",
    )
    .fails();
    must_contain(&told, &["MISSING", "--secure-port chooses another"]);
}

pub fn crash_loop(cluster: &mut Cluster) {
    cluster.apply(manifests::CRASHING).ok();
    until("the crash loop is told", 40, || {
        let pod = cluster.object("pod/crashing -n demo");
        contains(&pod["status"].to_string(), &["CrashLoopBackOff", "\"exitCode\":3"])
    });
    must_contain(
        &cluster.kubectl("describe pod crashing -n demo").ok(),
        &["BackOff", "Back-off restarting failed container"],
    );
    must_contain(&cluster.kubectl("logs -n demo crashing --previous").ok(), &["broken"]);
    cluster.kubectl("delete pod crashing -n demo --timeout=40s").ok();
}

pub fn in_use(cluster: &mut Cluster) {
    must_contain(&run_for(30, &mut cluster.up(), "").fails(), &["error:", "in use"]);
    must_contain(&cluster.skiff("reset --yes").fails(), &["in use"]);
    let other = cluster.dir.join("other");
    let mut up = Command::new(SKIFF);
    up.arg("up")
        .arg(format!("--data-dir={}", other.display()))
        .arg("--hollow-nodes=1")
        .arg(format!("--secure-port={PORT}"));
    must_contain(&run_for(30, &mut up, "").fails(), &[&PORT.to_string(), "--secure-port"]);
    // Another data directory is no other machine.
    let pid = cluster.pid().to_string();
    let data = cluster.data.display().to_string();
    must_contain(&run_for(30, &mut other_up(&other), "").fails(), &[&pid, &data]);
    reset_other(&other);
    let mut unwritable = Command::new(SKIFF);
    unwritable.args(["up", "--data-dir=/proc/skiff"]);
    must_contain(
        &run_for(30, &mut unwritable, "").fails(),
        &["/proc/skiff", "--data-dir"],
    );
    assert!(
        cluster.kubectl("get nodes").code == Some(0),
        "the running cluster was disturbed"
    );
}

/// `skiff up` on another data directory and other ports.
fn other_up(data: &Path) -> Command {
    let mut up = Command::new(SKIFF);
    up.arg("up").arg(format!("--data-dir={}", data.display()));
    up.args(["--secure-port=17444", "--kubelet-port=17251"]);
    up
}

fn reset_other(data: &Path) {
    let mut reset = Command::new(SKIFF);
    run_for(30, reset.args(["reset", "--yes", "--data-dir"]).arg(data), "").ok();
}

/// Of each container its id, when it started, and how often it was restarted.
fn containers(cluster: &Cluster) -> BTreeMap<String, (String, String, u64)> {
    let pods = cluster.object("pods -n demo");
    let mut found = BTreeMap::new();
    for pod in pods["items"].as_array().expect("a list") {
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let name = format!("{}/{}", text(pod, "/metadata/name"), text(status, "/name"));
            let restarts = status["restartCount"].as_u64().unwrap_or_default();
            let since = text(status, "/state/running/startedAt").to_owned();
            found.insert(name, (text(status, "/containerID").to_owned(), since, restarts));
        }
    }
    found
}

fn comes_back(cluster: &mut Cluster, signal: &str, code: Option<i32>) {
    let before = containers(cluster);
    assert!(before.len() >= 4, "{before:?}");
    let objects = cluster.kubectl("get all,configmaps,secrets -n demo -o name").ok();
    let address = text(&cluster.object("service/hello -n demo"), "/spec/clusterIP").to_owned();
    assert_eq!(cluster.stop(signal), code, "its exit code");
    let ended = run("date", &["-u", "+%FT%T.%NZ"]).ok();
    let answer = crate::cluster::http_get(&format!("{address}:80")).expect("pods go on without skiff");
    must_contain(&answer, &["Hello from skiff!"]);
    // Another cluster has no room beside these pods, and leaves them alone.
    let (other, data) = (cluster.dir.join("other"), cluster.data.display().to_string());
    let told = run_for(30, &mut other_up(&other), "").fails();
    must_contain(&told, &[&format!("skiff reset --data-dir {data}"), "pods"]);
    fs::create_dir_all(other.join("runtime")).expect("make a folder");
    reset_other(&other);
    assert!(!other.exists(), "it is removed");
    cluster.start();
    let lease = cluster.object(&format!("lease/{NODE} -n kube-node-lease"));
    let renewed = text(&lease, "/spec/renewTime").to_owned();
    assert!(
        renewed > ended,
        "ready, but the node's lease was renewed at {renewed} only"
    );
    assert_eq!(
        cluster.kubectl("get all,configmaps,secrets -n demo -o name").ok(),
        objects
    );
    let known: BTreeSet<String> = before.keys().cloned().collect();
    cluster.settle("wait --for=condition=Ready pods --all -n demo --timeout=30s");
    let after = containers(cluster);
    assert_eq!(after, before, "containers were restarted or lost ({known:?})");
    let logs = cluster.kubectl("logs -n demo tools --tail=2").ok();
    must_contain(&logs, &["tick"]);
    // New work is done as before.
    cluster.kubectl("rollout restart deployment/hello -n demo").ok();
    cluster.settle("rollout status deployment/hello -n demo --timeout=50s");
}

/// As an upgrade replaces it: by another file of the same name.
pub fn replaced(cluster: &mut Cluster) {
    let next = file(&cluster.dir, "next", "another program\n");
    fs::rename(next, cluster.program()).expect("replace the program");
    cluster.kubectl("run replaced -n demo --image=skiff.local/hello").ok();
    cluster.settle("wait --for=condition=Ready pod/replaced -n demo --timeout=30s");
    cluster.kubectl("exec -n demo replaced -- /skiff --version").ok();
    cluster.kubectl("delete pod replaced -n demo --timeout=40s").ok();
    fs::remove_file(cluster.program()).expect("remove what is not the program");
    fs::copy(SKIFF, cluster.program()).expect("put the program back");
}

pub fn killed(cluster: &mut Cluster) {
    comes_back(cluster, "-KILL", None);
}

pub fn interrupted(cluster: &mut Cluster) {
    comes_back(cluster, "-INT", Some(0));
}

/// Resets a machine on which pods run and skiff was killed.
pub fn reset(cluster: &mut Cluster, before: &BTreeSet<String>) {
    if cluster.kubectl("get namespaces").code == Some(0) {
        cluster
            .kubectl("create deployment last --image=skiff.local/hello --replicas=2")
            .ok();
        cluster.kubectl("rollout status deployment/last --timeout=50s").ok();
        cluster.stop("-KILL");
    }
    let asked = cluster.skiff("reset").fails();
    must_contain(&asked, &["--yes"]);
    // On a terminal it asks, and takes anything but yes for no.
    let line = format!("{SKIFF} reset --data-dir {}", cluster.data.display());
    let refused = run_for(30, Command::new("script").args(["-qec", &line, "/dev/null"]), "no\n");
    must_contain(&refused.fails(), &["Go on? [y/N]", "nothing was removed"]);
    assert!(cluster.data.join("store").exists(), "it was removed all the same");
    let granted = run_for(60, Command::new("script").args(["-qec", &line, "/dev/null"]), "yes\n");
    must_contain(&granted.ok(), &["removed everything that skiff made"]);
    let after = host::traces(&cluster.data);
    let left: Vec<&String> = after.difference(before).collect();
    let lost: Vec<&String> = before.difference(&after).collect();
    assert!(
        left.is_empty() && lost.is_empty(),
        "left behind: {left:#?}\nmissing: {lost:#?}"
    );
    cluster.skiff("reset --yes").ok();
}
