//! The runtime ends, is killed, or its shims are; and comes back.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use runtime::*;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bed::{Bed, PROBE_IMAGE, cgroups_named, new_config, output};

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn shim_pid(bed: &Bed, pod: &str) -> i32 {
    let path = bed.config.data_dir.join("sandboxes").join(pod).join("shim.json");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    record["pid"].as_i64().unwrap() as i32
}

pub async fn agent_restart_keeps_containers() {
    let mut bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let talking = bed
        .start(
            &pod,
            ContainerConfig {
                stdin: true,
                ..bed.container(&["talk"])
            },
        )
        .await;
    let ends = ContainerConfig {
        log_path: "ends/0.log".into(),
        ..bed.container(&["nap", "100", "+", "exit", "6"])
    };
    let ends = bed.start(&pod, ends).await;
    let created = bed.create(&pod, bed.container(&["print", "late"])).await;
    let before = (
        bed.status(&talking).await,
        bed.runtime().pod_sandbox_status(&pod).await.unwrap(),
    );
    bed.close();
    // One ends while nobody looks.
    let exit = bed
        .config
        .data_dir
        .join("sandboxes")
        .join(&pod)
        .join("c")
        .join(&ends)
        .join("exit.json");
    while !exit.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bed.reopen().await;
    assert_eq!(
        (
            bed.status(&talking).await,
            bed.runtime().pod_sandbox_status(&pod).await.unwrap()
        ),
        before
    );
    assert_eq!(bed.status(&ends).await.exit_code, 6);
    bed.runtime().start_container(&created).await.unwrap();
    let status = bed.wait_exit(&created).await;
    assert!(output(&status.log_path).contains("late"));
    let attach = AttachRequest {
        container_id: talking.clone(),
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let session = bed.runtime().attach(attach).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut session.stdin.unwrap(), b"quit\n")
        .await
        .unwrap();
    assert_eq!(session.exit.await.unwrap(), 5);
    assert_eq!(bed.wait_exit(&talking).await.exit_code, 5);
    bed.finish().await;
}

/// A process that opens the runtime of a test and does things until it is killed.
pub fn agent_main(args: &[OsString]) -> ! {
    let text = |index: usize| args[index].to_str().unwrap().to_owned();
    let (dir, cgroup_root, mode) = (text(0), text(1), text(2));
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let mut config = RuntimeConfig::new(
            Path::new(&dir).join("data"),
            "/proc/self/exe",
            std::sync::Arc::new(LoopbackNetwork),
        );
        config.cgroup_root = cgroup_root;
        config.image_limits.keep_free_bytes = 1 << 20;
        let runtime = loop {
            match EmbeddedRuntime::open(config.clone()).await {
                // The test may still be letting go of it.
                Err(RuntimeError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                result => break result.unwrap(),
            }
        };
        let pod = |name: String| PodSandboxConfig {
            hostname: name.clone(),
            log_directory: Path::new(&dir).join("logs").join(&name),
            cgroup_parent: format!("{}/pod{name}", config.cgroup_root),
            ..Default::default()
        };
        let container = |words: &[&str]| ContainerConfig {
            name: "main".into(),
            image: PROBE_IMAGE.into(),
            args: words.iter().map(|word| word.to_string()).collect(),
            log_path: "main/0.log".into(),
            ..Default::default()
        };
        let mut stdout = std::io::stdout();
        if mode == "hold" {
            let sandbox = runtime.run_pod_sandbox(pod("held".into())).await.unwrap();
            let id = runtime
                .create_container(&sandbox, container(&["trap", "+", "print", "up", "+", "sleep"]))
                .await
                .unwrap();
            runtime.start_container(&id).await.unwrap();
            writeln!(stdout, "{sandbox} {id}").unwrap();
            std::future::pending::<()>().await;
        }
        // Churn: four at once, each making, running and removing pods for ever.
        writeln!(stdout, "begun").unwrap();
        let workers = (0..4).map(|worker| {
            let (runtime, pod, container) = (&runtime, &pod, &container);
            async move {
                for round in 0.. {
                    let sandbox = runtime
                        .run_pod_sandbox(pod(format!("w{worker}r{round}")))
                        .await
                        .unwrap();
                    let id = runtime
                        .create_container(&sandbox, container(&["print", "x"]))
                        .await
                        .unwrap();
                    runtime.start_container(&id).await.unwrap();
                    let _ = runtime
                        .exec_sync(&id, vec!["/probe".into(), "exit".into(), "0".into()], None)
                        .await;
                    runtime.remove_pod_sandbox(&sandbox).await.unwrap();
                }
            }
        });
        futures_util::future::join_all(workers).await;
    });
    std::process::exit(0)
}

struct Agent {
    child: tokio::process::Child,
    line: String,
}

impl Agent {
    async fn start(bed: &Bed, mode: &str) -> Agent {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .arg("agent")
            .arg(bed.dir.path())
            .args([bed.config.cgroup_root.as_str(), mode])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .await
            .unwrap();
        Agent { child, line }
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

pub async fn agent_killed() {
    let mut bed = Bed::new().await;
    bed.close();
    let agent = Agent::start(&bed, "hold").await;
    let (pod, id) = agent
        .line
        .trim()
        .split_once(' ')
        .map(|(pod, id)| (pod.to_owned(), id.to_owned()))
        .unwrap();
    // The data directory is the agent's.
    assert!(matches!(
        EmbeddedRuntime::open(bed.config.clone()).await,
        Err(RuntimeError::InUse { .. })
    ));
    assert!(matches!(
        reset(&bed.config, ResetScope::Machine).await,
        Err(RuntimeError::InUse { .. })
    ));
    agent.kill().await;
    bed.reopen().await;
    assert_eq!(
        bed.runtime().pod_sandbox_status(&pod).await.unwrap().state,
        PodSandboxState::Ready
    );
    assert_eq!(bed.status(&id).await.state, ContainerState::Running);
    // It may not have come so far that it takes the signal.
    bed.wait_log(&id, "up").await;
    bed.runtime()
        .stop_container(&id, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(bed.status(&id).await.exit_code, 7);
    bed.finish().await;
}

/// Two data directories under one control group: what one does with its own pods does not touch the other's.
pub async fn reset_spares_others() {
    let bed = Bed::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = new_config(dir.path());
    config.cgroup_root.clone_from(&bed.config.cgroup_root);
    let mut other = Bed::with(dir, config).await;
    other.import_probe().await;
    let (pod, other_pod) = (bed.run_pod("one").await, other.run_pod("two").await);
    let id = bed.start(&pod, bed.container(&["sleep"])).await;
    other.start(&other_pod, other.container(&["sleep"])).await;
    let live = || live_pods(&bed.config.cgroup_root).into_iter().collect::<Vec<_>>();
    let (ours, theirs) = (bed.config.data_dir.clone(), other.config.data_dir.clone());
    let mut both = vec![(ours.clone(), 1), (theirs, 1)];
    both.sort();
    assert_eq!(live(), both);
    other.close();
    loop {
        match reset(&other.config, ResetScope::DataDirectory).await {
            // Tasks of the runtime may be letting go.
            Err(RuntimeError::InUse { .. }) => tokio::task::yield_now().await,
            result => break result.unwrap(),
        }
    }
    assert_eq!(live(), [(ours, 1)]);
    assert_eq!(bed.status(&id).await.state, ContainerState::Running);
    assert!(cgroups_named(&format!("{}/podtwo", bed.config.cgroup_root)).is_empty());
    assert!(!other.config.data_dir.exists());
    other.forget();
    bed.finish().await;
}

pub async fn second_agent() {
    let bed = Bed::bare().await;
    let error = EmbeddedRuntime::open(bed.config.clone()).await.err().unwrap();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    bed.finish().await;
}

pub async fn shim_killed() {
    let mut bed = Bed::new().await;
    for watched in [true, false] {
        let pod = bed.run_pod(&format!("p{watched}")).await;
        let running = bed.start(&pod, bed.container(&["sleep"])).await;
        let ended = bed
            .start(
                &pod,
                ContainerConfig {
                    log_path: "b/0.log".into(),
                    ..bed.container(&["exit", "3"])
                },
            )
            .await;
        bed.wait_exit(&ended).await;
        let host_pid = bed.status(&running).await.pid.unwrap();
        if !watched {
            bed.close();
        }
        kill(shim_pid(&bed, &pod));
        if !watched {
            bed.reopen().await;
        }
        let status = bed.wait_exit(&running).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (137, reason::CONTAINER_STATUS_UNKNOWN)
        );
        assert_eq!(bed.status(&ended).await.exit_code, 3);
        let mut events = bed.runtime().events();
        while bed.runtime().pod_sandbox_status(&pod).await.unwrap().state == PodSandboxState::Ready {
            events.next().await.unwrap();
        }
        assert!(
            !Path::new(&format!("/proc/{host_pid}/root")).exists(),
            "its process is gone"
        );
        assert!(bed.runtime().create_container(&pod, bed.container(&[])).await.is_err());
        // The pod can be made anew beside it.
        let again = bed.run_pod(&format!("p{watched}")).await;
        let (status, _) = bed.run_in(&again, bed.container(&["exit", "4"])).await;
        assert_eq!(status.exit_code, 4);
        bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
        bed.runtime().remove_pod_sandbox(&again).await.unwrap();
    }
    bed.finish().await;
}

pub async fn leftovers_are_removed() {
    let mut bed = Bed::new().await;
    let keep = bed.run_pod("keep").await;
    let kept = bed.start(&keep, bed.container(&["sleep"])).await;
    let mut ids = Vec::new();
    for name in ["creating", "removing", "damaged", "half"] {
        let pod = bed.run_pod(name).await;
        let id = bed.start(&pod, bed.container(&["sleep"])).await;
        ids.push((pod, id));
    }
    bed.close();
    let dir = |pod: &str| bed.config.data_dir.join("sandboxes").join(pod);
    // Crashes at different points, as their records would say.
    for (index, phase) in [(0, "Creating"), (1, "Removing")] {
        let path = dir(&ids[index].0).join("sandbox.json");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace("\"Ready\"", &format!("{phase:?}"));
        std::fs::write(&path, text).unwrap();
    }
    std::fs::write(dir(&ids[2].0).join("sandbox.json"), "{ not json").unwrap();
    std::fs::remove_file(dir(&ids[3].0).join("c").join(&ids[3].1).join("container.json")).unwrap();
    // A folder that was made, and nothing else; and one that is not ours.
    std::fs::create_dir(dir(&"d".repeat(64))).unwrap();
    std::fs::create_dir(dir("not-an-id")).unwrap();
    // A group that nobody knows.
    let stray = format!("{}/podstray/{}", bed.config.cgroup_root, "e".repeat(64));
    for tree in cgroups_named(&bed.config.cgroup_root) {
        std::fs::create_dir_all(tree.join(format!("podstray/{}", "e".repeat(64)))).unwrap();
    }
    bed.reopen().await;
    let pods = bed.runtime().list_pod_sandboxes(Default::default()).await.unwrap();
    assert_eq!(pods.len(), 2, "the kept one, and the one that lost a container");
    assert_eq!(bed.status(&kept).await.state, ContainerState::Running);
    let containers = bed.runtime().list_containers(Default::default()).await.unwrap();
    assert_eq!(containers.len(), 1);
    assert!(cgroups_named(&stray).is_empty());
    for name in ["creating", "removing", "damaged"] {
        assert!(
            cgroups_named(&format!("{}/pod{name}", bed.config.cgroup_root)).is_empty(),
            "{name}"
        );
    }
    bed.wait_processes(2).await;
    bed.finish().await;
}

pub async fn boot_changed() {
    let mut bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let id = bed.start(&pod, bed.container(&["sleep"])).await;
    bed.close();
    let path = bed.config.data_dir.join("sandboxes").join(&pod).join("sandbox.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["boot_id"] = "another".into();
    std::fs::write(&path, record.to_string()).unwrap();
    bed.reopen().await;
    assert_eq!(
        bed.runtime().pod_sandbox_status(&pod).await.unwrap().state,
        PodSandboxState::NotReady
    );
    let status = bed.status(&id).await;
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
    bed.wait_processes(0).await;
    bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
    bed.finish().await;
}

pub async fn reset_removes_everything() {
    let mut bed = Bed::new().await;
    for name in ["a", "b"] {
        let pod = bed.run_pod(name).await;
        bed.start(&pod, bed.container(&["sleep"])).await;
    }
    bed.wait_processes(2).await;
    bed.close();
    // `finish` resets and looks for what is left.
    bed.finish().await;
}

/// Killed in the middle of everything, again and again.
pub async fn killed_at_any_moment() {
    let mut bed = Bed::new().await;
    let pod = bed.run_pod("steady").await;
    let steady = bed.start(&pod, bed.container(&["sleep"])).await;
    let pid = bed.status(&steady).await.pid;
    bed.close();
    for round in 0..12u64 {
        let agent = Agent::start(&bed, "churn").await;
        tokio::time::sleep(Duration::from_millis(20 + 37 * round)).await;
        agent.kill().await;
        bed.reopen().await;
        assert_eq!(bed.status(&steady).await.pid, pid);
        let pods = bed.runtime().list_pod_sandboxes(Default::default()).await.unwrap();
        for pod in pods.iter().filter(|status| status.id != pod) {
            bed.runtime().remove_pod_sandbox(&pod.id).await.unwrap();
        }
        // A shim that was being started ends by itself.
        bed.wait_processes(1).await;
        let folders = std::fs::read_dir(bed.config.data_dir.join("sandboxes"))
            .unwrap()
            .count();
        assert_eq!(folders, 1);
        for tree in cgroups_named(&bed.config.cgroup_root) {
            let mut names: Vec<_> = std::fs::read_dir(&tree)
                .unwrap()
                .flatten()
                .filter(|entry| entry.file_type().unwrap().is_dir())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            names.retain(|name| name != "shims");
            assert!(
                names.is_empty() || names == ["podsteady"],
                "{names:?} in {}",
                tree.display()
            );
        }
        bed.close();
    }
    bed.finish().await;
}
