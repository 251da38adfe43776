//! Real containers, as root. This program is its own test runner (and its own shim), because the shim must be dispatched
//! before there is a second thread.
//!
//! `cargo test -p runtime --test containers [-- NAME…]` runs the tests whose names contain one of the words.

#![allow(clippy::unwrap_used)] // It is all tests.

mod bed;
mod hostile;
mod images;
mod lifecycle;
mod limits;
mod pulling;
mod registry;
mod restart;
mod security;
mod streams;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! cases {
    ($($module:ident: $($name:ident)*;)*) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name())),)*)*]
    };
}

const CASES: &[Case] = cases! {
    lifecycle: run_and_exit_codes logs_are_cri_formatted missing_command missing_image stop_by_signal kill_after_grace
        mounts_and_files environment_and_arguments shared_process_namespace host_namespaces sysctls_and_dns
        removal_is_idempotent many_pods_at_once events_tell_everything hello_image two_sandboxes_of_one_pod;
    streams: exec_output_and_code exec_stdin exec_tty exec_sync_timeout exec_dies_with_its_session attach_pipes
        attach_tty stdin_once log_reopen_and_rotation log_flood;
    limits: out_of_memory pids update_in_place pod_limits stats;
    security: users default_capabilities privileged seccomp_default read_only_root devices_are_restricted masked_paths;
    restart: agent_restart_keeps_containers agent_killed shim_killed leftovers_are_removed boot_changed second_agent
        reset_removes_everything reset_spares_others
        killed_at_any_moment;
    images: docker_save_archive oci_layout_archive layers_are_shared removal_and_collection copies_without_overlay
        whiteouts_and_links compressed_archives broken_archives;
    hostile: paths_that_escape links_that_escape devices_and_whiteout_devices bombs overlay_attributes garbage;
    pulling: plain basic_auth token_auth wrong_credentials missing_things index_selection by_digest wrong_digest
        broken_off concurrent_pulls unreachable progress over_tls;
};

/// How long one test may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("shim") => runtime::shim_main(args.into_iter().skip(1)),
        Some("agent") => restart::agent_main(&args[1..]),
        _ => {}
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests run real containers and need root: run them as root"
    );
    let words: Vec<String> = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .filter(|arg| !arg.starts_with('-'))
        .map(String::from)
        .collect();
    if args.iter().any(|arg| arg == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let mut failed = Vec::new();
    let mut ran = 0;
    for (name, case) in CASES {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        ran += 1;
        let started = Instant::now();
        let result = std::thread::Builder::new()
            .name((*name).to_owned())
            .spawn(move || {
                let tokio = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(4)
                    .enable_all()
                    .build()
                    .expect("tokio can be started");
                tokio.block_on(async {
                    tokio::time::timeout(PATIENCE, case())
                        .await
                        .expect("the test took too long");
                });
            })
            .expect("a thread can be started")
            .join();
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({} ms)", started.elapsed().as_millis());
        if result.is_err() {
            failed.push(*name);
        }
    }
    println!("\ntest result: {} passed; {} failed", ran - failed.len(), failed.len());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(" "));
        std::process::exit(1);
    }
}
