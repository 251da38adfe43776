//! Control groups.

use std::time::Duration;

use runtime::*;

use crate::bed::{Bed, cgroups_named};

fn limited(bed: &Bed, words: &[&str], resources: LinuxContainerResources) -> ContainerConfig {
    ContainerConfig {
        resources,
        ..bed.container(words)
    }
}

/// A file of a group, in whichever tree has it.
fn read_group(path: &str, names: &[&str]) -> String {
    let groups = cgroups_named(path);
    let found = groups.iter().find_map(|group| {
        names
            .iter()
            .find_map(|name| std::fs::read_to_string(group.join(name)).ok())
    });
    found
        .unwrap_or_else(|| panic!("none of {names:?} in {groups:?}"))
        .trim()
        .to_owned()
}

pub async fn out_of_memory() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let mut events = bed.runtime().events();
    let resources = LinuxContainerResources {
        memory_limit_bytes: Some(32 << 20),
        ..Default::default()
    };
    let id = bed
        .start(&pod, limited(&bed, &["hog", "200000000"], resources.clone()))
        .await;
    let status = bed.wait_exit(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, reason::OOM_KILLED));
    loop {
        match events.next().await.unwrap() {
            RuntimeEvent::ContainerOom { container_id, .. } => {
                assert_eq!(container_id, id);
                break;
            }
            RuntimeEvent::SandboxRemoved { .. } => panic!("no word of it"),
            _ => {}
        }
    }
    let (status, text) = bed.run_in(&pod, limited(&bed, &["hog", "8000000"], resources)).await;
    assert_eq!((status.exit_code, text.contains("got 8000000")), (0, true));
    bed.finish().await;
}

pub async fn pids() {
    let bed = Bed::new().await;
    let resources = LinuxContainerResources {
        pids_limit: Some(10),
        ..Default::default()
    };
    let (_, text) = bed.run_config(limited(&bed, &["tasks", "50"], resources)).await;
    let spawned: u32 = text.trim().strip_prefix("spawned ").unwrap().parse().unwrap();
    assert!((5..=9).contains(&spawned), "{text}");
    bed.finish().await;
}

pub async fn update_in_place() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let resources = LinuxContainerResources {
        memory_limit_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        ..Default::default()
    };
    let id = bed.start(&pod, limited(&bed, &["sleep"], resources)).await;
    let group = format!("{}/podp/{id}", bed.config.cgroup_root);
    let memory = || read_group(&group, &["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory(), (64 << 20).to_string());
    let cpu = read_group(&group, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(cpu.starts_with("50000"), "{cpu}");
    for bytes in [128 << 20, 32 << 20] {
        let update = LinuxContainerResources {
            memory_limit_bytes: Some(bytes),
            ..Default::default()
        };
        bed.runtime().update_container_resources(&id, update).await.unwrap();
        assert_eq!(memory(), bytes.to_string());
        let known = bed.status(&id).await.resources;
        assert_eq!((known.memory_limit_bytes, known.cpu_shares), (Some(bytes), Some(512)));
    }
    let update = LinuxContainerResources {
        cpu_quota: Some(-1),
        cpu_shares: Some(2048),
        ..Default::default()
    };
    bed.runtime().update_container_resources(&id, update).await.unwrap();
    let cpu = read_group(&group, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(cpu.starts_with("-1") || cpu.starts_with("max"), "{cpu}");
    bed.finish().await;
}

pub async fn pod_limits() {
    let bed = Bed::new().await;
    let mut config = bed.pod("limited");
    config.resources.memory_limit_bytes = Some(32 << 20);
    config.cgroup_parent = format!("{}/burstable/podlimited", bed.config.cgroup_root);
    let pod = bed.runtime().run_pod_sandbox(config).await.unwrap();
    let id = bed.start(&pod, bed.container(&["hog", "200000000"])).await;
    assert_eq!(bed.wait_exit(&id).await.exit_code, 137);
    bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
    assert!(cgroups_named(&format!("{}/burstable", bed.config.cgroup_root)).is_empty());
    bed.finish().await;
}

pub async fn stats() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let words = [
        "write",
        "/tmp/file",
        &"x".repeat(100_000),
        "+",
        "hog",
        "20000000",
        "+",
        "sleep",
    ];
    let id = bed.start(&pod, bed.container(&words)).await;
    bed.wait_log(&id, "got").await;
    let stats = bed.runtime().container_stats(&id).await.unwrap();
    assert!(stats.cpu.usage_core_nano_seconds > 0);
    assert!(stats.memory.working_set_bytes > 0 && stats.memory.usage_bytes >= stats.memory.working_set_bytes);
    assert_eq!(stats.process_count, 1);
    assert!(
        stats.writable_layer_bytes >= 100_000 && stats.writable_layer_inodes >= 2,
        "{stats:?}"
    );
    let of_pod = bed.runtime().pod_sandbox_stats(&pod).await.unwrap();
    assert_eq!(of_pod.containers.len(), 1);
    assert!(of_pod.network.is_empty());
    assert_eq!(
        bed.runtime()
            .list_container_stats(Default::default())
            .await
            .unwrap()
            .len(),
        1
    );
    bed.runtime().stop_container(&id, Duration::ZERO).await.unwrap();
    assert!(bed.runtime().container_stats(&id).await.is_err());
    bed.finish().await;
}
