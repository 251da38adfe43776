//! What a user does wrong, and is told.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cluster::{Client, Cluster, SKIFF, file, must_contain, run_for};
use crate::images::{reaches, served};
use crate::manifests::puller;
use crate::registry::USER;

/// Who is not root may not run containers, and nothing of it is left.
pub fn not_root(cluster: &mut Cluster) {
    let data = cluster.dir.join("nobodys");
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(cluster.program()).args(words);
        run_for(30, command.arg("--data-dir").arg(&data), "").fails()
    };
    must_contain(&as_nobody(&["up"]), &["need root", "--hollow-nodes"]);
    must_contain(&as_nobody(&["doctor"]), &["MISSING", "root"]);
    must_contain(&as_nobody(&["image", "list"]), &["error:"]);
    assert!(!data.exists());
}

/// A machine without control groups.
pub fn missing_feature(cluster: &mut Cluster) {
    let data = cluster.dir.join("elsewhere").display().to_string();
    let without = |words: &str| {
        // In namespaces of its own, so that it is no second skiff of this machine.
        let line = format!("mount -t tmpfs none /sys/fs/cgroup && exec {SKIFF} {words} --data-dir {data}");
        let mut command = Command::new("unshare");
        run_for(60, command.args(["-m", "-n", "-C", "sh", "-c", &line]), "").fails()
    };
    let told = without("up --secure-port=17446 --kubelet-port=17252");
    must_contain(&told, &["control groups", "/sys/fs/cgroup", "mount"]);
    must_contain(&without("doctor"), &["MISSING", "control groups"]);
    run_for(
        30,
        Command::new(SKIFF).args(["reset", "--yes", "--data-dir", &data]),
        "",
    )
    .ok();
}

pub fn invalid_yaml(cluster: &mut Cluster) {
    let apply = |client: Client, manifest: &str| {
        let mut command = cluster.command(client, &["apply", "-f", "-"]);
        run_for(30, &mut command, manifest).fails()
    };
    let unbalanced = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: demo\n";
    must_contain(&apply(Client::Kubectl, unbalanced), &["error"]);
    must_contain(&apply(Client::Skiff, unbalanced), &["line"]);
    let unknown_kind = "apiVersion: v1\nkind: ConfigMapp\nmetadata: {name: a, namespace: demo}\n";
    must_contain(&apply(Client::Skiff, unknown_kind), &["ConfigMapp"]);
    must_contain(&apply(Client::Kubectl, unknown_kind), &["error"]);
    let wrong_type = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: demo}\ndata: {port: 80}\n";
    for client in [Client::Kubectl, Client::Skiff] {
        must_contain(&apply(client, wrong_type), &["data"]);
    }
}

/// A password that the registry does not take.
pub fn wrong_password(cluster: &mut Cluster) {
    let registry = served(cluster, true);
    let auth = STANDARD.encode(format!("{USER}:guessed"));
    let config = json!({ "auths": { registry.to_string(): { "auth": auth } } }).to_string();
    let path = file(&cluster.dir, "guess.json", &config).display().to_string();
    let secret = "create secret generic guess -n demo --type=kubernetes.io/dockerconfigjson";
    cluster
        .kubectl(&format!("{secret} --from-file=.dockerconfigjson={path}"))
        .ok();
    let image = format!("{registry}/guessed/name:1");
    cluster.apply(&puller("guessed", &image, "[{name: guess}]")).ok();
    reaches(cluster, "guessed", "ErrImagePull");
    let told = cluster.kubectl("describe pod guessed -n demo").ok();
    must_contain(&told, &["refused access", "imagePullSecrets"]);
    cluster.kubectl("delete pod guessed -n demo --timeout=40s").ok();
    cluster.kubectl("delete secret guess -n demo").ok();
}

/// Options and configuration that cannot be.
pub fn options(cluster: &mut Cluster) {
    let told = |words: &str| cluster.skiff(words).fails();
    must_contain(&told("up --secure-port=99999"), &["--secure-port", "99999"]);
    must_contain(&told("up --service-cidr=10.96.0.0"), &["--service-cidr"]);
    must_contain(&told("up --no-such-flag"), &["--no-such-flag"]);
    must_contain(&told("up --hollow-nodes=1 --log=,,="), &["--log"]);
}
