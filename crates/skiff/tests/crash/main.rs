//! kill -9 of skiff at any moment, while pods are created and deleted. Needs root: containers are real.
//!
//! After each restart every acknowledged write is there, containers that ran go on with the same identity and process,
//! and in the end nothing is left on the host that belongs to no pod. The moments are drawn from a seed, in terms of
//! what a watch has shown so far; `SKIFF_CRASH_SEED` sets another one.
#![allow(clippy::unwrap_used)]

mod cluster;
mod host;
mod ledger;
mod moments;
mod workload;

use std::time::Instant;

use cluster::{Cluster, say, until};
use ledger::Ledger;
use moments::Moments;

const ROUNDS: usize = 20;
const SEED: u64 = 0x5_1bff;

#[test]
fn killed_at_any_moment() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes real containers: run it as root"
    );
    let seed = std::env::var("SKIFF_CRASH_SEED")
        .ok()
        .map_or(SEED, |text| text.parse().unwrap());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(crash(seed));
}

async fn crash(seed: u64) {
    let began = Instant::now();
    let mut moments = Moments::from_seed(seed);
    let mut cluster = Cluster::new();
    cluster.start().await;
    let before = host::traces(&cluster.data);
    let mut containers = workload::start(&cluster.client()).await;
    let (mut pods, mut maps) = (Ledger::default(), Ledger::default());
    for round in 0..ROUNDS {
        let client = cluster.client();
        let (events, seen) = tokio::sync::watch::channel(0);
        let (pod_moments, map_moments) = (moments.fork(), moments.fork());
        tokio::join!(
            workload::watch_and_kill(&mut cluster, &mut containers, &mut moments, events),
            workload::write_pods(&client, &mut pods, pod_moments, round, seen.clone()),
            workload::write_maps(&client, &mut maps, map_moments, round, seen),
        );
        if round % 4 == 3 {
            cluster.start_and_kill(moments.below(8)).await;
        }
        let ready_in = cluster.start().await;
        let client = cluster.client();
        pods.verify::<k8s_openapi::api::core::v1::Pod>(&client).await;
        maps.verify::<k8s_openapi::api::core::v1::ConfigMap>(&client).await;
        containers.forget(|pod| pods.may_be_deleted(pod));
        containers.verify(&client).await;
        no_strays(&cluster).await;
        say(&format!(
            "round {round}: ready in {ready_in} ms; {} pods, {} of them ran; {} writes so far; {:?}",
            pods.count(),
            containers.count(),
            pods.acknowledged + maps.acknowledged,
            began.elapsed()
        ));
    }
    assert!(
        pods.acknowledged > ROUNDS as u64,
        "hardly anything was written: {}",
        pods.acknowledged
    );
    workload::remove(&cluster.client()).await;
    until("only the cluster itself is left on the host", 30, async || {
        let now = host::traces(&cluster.data);
        let (new, gone): (Vec<_>, Vec<_>) = (now.difference(&before).collect(), before.difference(&now).collect());
        if new.is_empty() && gone.is_empty() {
            Ok(())
        } else {
            Err(format!("too much: {new:#?}\nmissing: {gone:#?}"))
        }
    })
    .await;
    cluster.stop().await;
    say(&format!("{ROUNDS} rounds took {:?}", began.elapsed()));
}

/// Whatever is on the host belongs to a pod that the API knows.
async fn no_strays(cluster: &Cluster) {
    let client = cluster.client();
    until("all that is on the host belongs to pods", 20, async || {
        // The host first: a pod that comes in between is no stray.
        let found = host::of_pods(&cluster.data);
        let known = workload::pod_uids(&client).await;
        let strays: Vec<_> = found.named.iter().filter(|(uid, _)| !known.contains(uid)).collect();
        if !strays.is_empty() {
            return Err(format!("of no pod: {strays:#?}"));
        }
        for (what, count) in found.counted {
            if count > known.len() {
                return Err(format!("{count} {what} of {} pods", known.len()));
            }
        }
        Ok(())
    })
    .await;
}
