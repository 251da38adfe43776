//! The whole of skiff, driven as a user drives it: the built program, real containers, kubectl.
//!
//! Needs root, and on the machine: kubectl, busybox-static, nftables (to compare tables only); see `.ci/run`. One
//! cluster for all steps, in this order; a step that fails is told at once, and the steps that do not need it still run.
#![allow(clippy::unwrap_used)] // Tests.

mod bad_input;
mod cluster;
mod faults;
mod host;
mod image_tar;
mod images;
mod manifests;
mod names;
mod node_manifests;
mod node_parts;
mod registry;
mod rollout;
mod services;
mod storage;
mod workload;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use cluster::{Cluster, say};

type Step = (&'static str, fn(&mut Cluster));

/// Without these nothing else makes sense.
const CORE: &[Step] = &[
    ("doctor finds what is needed", faults::doctor),
    ("images come from docker save and OCI archives", images::import),
    ("a missing kernel feature is told", bad_input::missing_feature),
    ("a resolver outside the cluster is there", names::serve),
    ("up gets ready", workload::up),
    ("the node is Ready", workload::node_ready),
    (
        "namespace, ConfigMap, Secret, Deployment and Service are applied and roll out",
        workload::deploy,
    ),
];

const STEPS: &[Step] = &[
    ("the same manifests again change nothing", workload::unchanged),
    (
        "a manifest with an error is refused with the field's path",
        workload::refused,
    ),
    ("get shows pods in every form", workload::get),
    ("describe and events tell what happened", workload::describe),
    ("explain and api-resources answer", workload::explain),
    ("get --watch shows a change", workload::watch),
    (
        "a pod sees its ConfigMap, Secret and own address",
        workload::environment,
    ),
    ("logs are followed", workload::logs),
    ("exec gives output, exit code, input and a terminal", workload::exec),
    ("attach gives input and output", workload::attach),
    ("cp copies there and back", workload::copy),
    ("port-forward reaches a pod", workload::port_forward),
    ("skiff kubectl does the same", workload::own_client),
    ("the host reaches ClusterIP and node port", services::from_host),
    (
        "a pod reaches the Service by address and by every name",
        services::from_pod,
    ),
    ("a pod resolves outside names by the machine's resolver", names::outside),
    (
        "init containers, sidecars and hooks keep their order",
        node_parts::order,
    ),
    ("ended containers leave their messages", node_parts::messages),
    ("volumes are as asked for, and stay so", node_parts::volumes),
    (
        "a StatefulSet's claims get volumes, whose data outlives pods",
        storage::stateful_set,
    ),
    ("a static volume is bound and given back", storage::static_volume),
    ("an ephemeral volume goes with its pod", storage::ephemeral),
    ("security contexts hold", node_parts::security),
    (
        "host network, host ports, shared processes and names",
        node_parts::places,
    ),
    ("a stubborn pod has its grace period", node_parts::grace),
    (
        "logs are rotated, and a pod that takes too much disk is evicted",
        node_parts::bounds,
    ),
    ("scale goes up and down", rollout::scale),
    ("set image rolls out within its bounds", rollout::set_image),
    ("history, undo, pause and resume", rollout::undo),
    (
        "images are pulled from a registry, with and without a password",
        images::pull,
    ),
    (
        "a wrong image, an absent registry and wrong passwords are told",
        images::bad_images,
    ),
    (
        "images are imported, pulled, listed and removed while skiff runs",
        images::while_running,
    ),
    ("a registry's refusal of a password is told", bad_input::wrong_password),
    ("invalid YAML is told", bad_input::invalid_yaml),
    ("options that cannot be are told", bad_input::options),
    ("who is not root is told", bad_input::not_root),
    ("a crash loop is told", faults::crash_loop),
    ("a used port and a used data directory are told", faults::in_use),
    ("pods start under a program that was replaced", faults::replaced),
    ("a killed skiff comes back to running containers", faults::killed),
    ("an interrupted skiff ends cleanly, its pods go on", faults::interrupted),
    ("deleting a Deployment deletes its pods", rollout::cascade),
    ("deleting a namespace deletes what is in it", rollout::delete_namespace),
];

#[test]
fn a_user_does_everything() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "containers need root: run this test as root"
    );
    for (program, package) in [
        ("kubectl", "kubernetes-client"),
        ("nft", "nftables"),
        ("busybox", "busybox-static"),
    ] {
        let found = std::env::var("PATH")
            .unwrap_or_default()
            .split(':')
            .any(|dir| std::path::Path::new(dir).join(program).exists());
        assert!(
            found,
            "{program} is missing: apt-get install --no-install-recommends {package}"
        );
    }
    assert!(
        !std::path::Path::new("/sys/class/net/skiff0").exists(),
        "a skiff runs on this machine, or was not reset (bridge skiff0): `skiff reset` first"
    );
    let mut cluster = Cluster::new();
    let before = host::traces(&cluster.data);
    let mut failed = Vec::new();
    for (name, work) in CORE {
        if !step(name, *work, &mut cluster) {
            say(&format!("what skiff said:\n{}", cluster.said()));
            panic!("without this nothing else can be tried: {name}");
        }
    }
    for (name, work) in STEPS {
        if !step(name, *work, &mut cluster) {
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        say(&format!("what skiff said:\n{}", cluster.said()));
    }
    let cleanup = |cluster: &mut Cluster| faults::reset(cluster, &before);
    if !attempt("reset leaves nothing behind", cleanup, &mut cluster) {
        failed.push("reset leaves nothing behind");
    }
    assert!(
        failed.is_empty(),
        "{} steps failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn step(name: &str, work: fn(&mut Cluster), cluster: &mut Cluster) -> bool {
    attempt(name, work, cluster)
}

fn attempt(name: &str, work: impl FnOnce(&mut Cluster), cluster: &mut Cluster) -> bool {
    let since = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| work(cluster)));
    let seconds = since.elapsed().as_secs_f64();
    match result {
        Ok(()) => say(&format!("ok     {seconds:6.2} s  {name}")),
        Err(cause) => {
            let cause = cause
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            say(&format!(
                "FAILED {seconds:6.2} s  {name}\n{}\n",
                cause.unwrap_or_default()
            ));
            return false;
        }
    }
    true
}
