//! From birth to death.

use std::time::{Duration, Instant};

use runtime::*;

use crate::bed::{Bed, output};

pub async fn run_and_exit_codes() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let status = bed.runtime().pod_sandbox_status(&pod).await.unwrap();
    assert_eq!(status.state, PodSandboxState::Ready);
    for (code, reason) in [(0, reason::COMPLETED), (1, reason::ERROR), (255, reason::ERROR)] {
        let id = bed.create(&pod, bed.container(&["exit", &code.to_string()])).await;
        assert_eq!(bed.status(&id).await.state, ContainerState::Created);
        bed.runtime().start_container(&id).await.unwrap();
        let status = bed.wait_exit(&id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
        assert!(status.started_at.unwrap() <= status.finished_at.unwrap());
        assert!(bed.runtime().start_container(&id).await.is_err(), "it starts once");
        bed.runtime().remove_container(&id).await.unwrap();
        assert!(bed.runtime().container_status(&id).await.unwrap_err().is_not_found());
    }
    bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
    assert!(
        bed.runtime()
            .list_pod_sandboxes(Default::default())
            .await
            .unwrap()
            .is_empty()
    );
    bed.finish().await;
}

pub async fn logs_are_cri_formatted() {
    let bed = Bed::new().await;
    let (status, text) = bed
        .run(&[
            "print", "out", "+", "eprint", "err", "+", "print", "", "+", "prompt", "tail",
        ])
        .await;
    assert_eq!(text.lines().count(), 4);
    let raw = std::fs::read_to_string(&status.log_path).unwrap();
    let rest: Vec<&str> = raw.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    // The streams are different pipes, so that their order is not known.
    for line in ["stdout F out", "stderr F err", "stdout F ", "stdout P tail"] {
        assert!(rest.contains(&line), "{line:?} in {rest:?}");
    }
    bed.finish().await;
}

pub async fn missing_command() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    for (command, code, message) in [
        ("/nowhere", 127, "no such file or directory"),
        ("nowhere", 127, "executable file not found in $PATH"),
        ("/bin/script", 126, "permission denied"),
        ("script", 126, "permission denied"),
        ("/bin/nonsense", 126, "exec format error"),
        ("/bin", 126, "permission denied"),
    ] {
        let mut config = bed.container(&[]);
        config.command = vec![command.into()];
        let id = bed.create(&pod, config).await;
        let error = bed.runtime().start_container(&id).await.unwrap_err();
        assert!(error.to_string().contains(message), "{command}: {error}");
        let RuntimeError::Start { reason, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(reason, reason::CONTAINER_CANNOT_RUN);
        let status = bed.status(&id).await;
        assert_eq!(
            (status.state, status.exit_code),
            (ContainerState::Exited, code),
            "{command}"
        );
        assert_eq!(status.reason, reason::CONTAINER_CANNOT_RUN);
        assert!(status.message.contains(message), "{}", status.message);
    }
    let mut config = bed.container(&["sleep"]);
    config.security_context.run_as_username = "ghost".into();
    let id = bed.create(&pod, config).await;
    let error = bed.runtime().start_container(&id).await.unwrap_err();
    assert!(error.to_string().contains("unable to find user ghost"), "{error}");
    let status = bed.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, reason::START_ERROR));
    bed.finish().await;
}

pub async fn missing_image() {
    let bed = Bed::bare().await;
    let pod = bed.run_pod("p").await;
    let error = bed
        .runtime()
        .create_container(&pod, bed.container(&[]))
        .await
        .unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { what: "image", .. }), "{error}");
    let error = bed
        .runtime()
        .create_container("none", bed.container(&[]))
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let mut config = bed.pod("x");
    config.cgroup_parent = "/elsewhere/pod".into();
    assert!(matches!(
        bed.runtime().run_pod_sandbox(config).await,
        Err(RuntimeError::Invalid { .. })
    ));
    let mut config = bed.pod("x");
    config.sysctls.insert("kernel.panic".into(), "1".into());
    let error = bed.runtime().run_pod_sandbox(config).await.unwrap_err();
    assert!(error.to_string().contains("kernel.panic"), "{error}");
    assert_eq!(
        bed.runtime()
            .list_pod_sandboxes(Default::default())
            .await
            .unwrap()
            .len(),
        1
    );
    bed.finish().await;
}

pub async fn stop_by_signal() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let id = bed
        .start(&pod, bed.container(&["trap", "+", "print", "up", "+", "sleep"]))
        .await;
    bed.wait_log(&id, "up").await;
    bed.runtime()
        .stop_container(&id, Duration::from_secs(30))
        .await
        .unwrap();
    let status = bed.status(&id).await;
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 7));
    assert_eq!(output(&status.log_path), "up\nterminated\n");
    bed.runtime()
        .stop_container(&id, Duration::from_secs(30))
        .await
        .unwrap();
    bed.runtime().stop_container("none", Duration::ZERO).await.unwrap();
    bed.finish().await;
}

pub async fn kill_after_grace() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    // The first process of a PID namespace does not get signals that it does not handle.
    let id = bed.start(&pod, bed.container(&["sleep"])).await;
    let started = Instant::now();
    bed.runtime()
        .stop_container(&id, Duration::from_millis(300))
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    let status = bed.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, reason::ERROR));
    bed.finish().await;
}

pub async fn mounts_and_files() {
    let bed = Bed::new().await;
    let host = bed.dir.path().join("volume");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::write(host.join("file"), "from the host").unwrap();
    let mut config = bed.container(&[
        "read",
        "/data/file",
        "+",
        "write",
        "/data/new",
        "x",
        "+",
        "write",
        "/ro/new",
        "x",
        "+",
        "read",
        "/one",
        "+",
        "write",
        "/made/x",
        "x",
        "+",
        "read",
        "/etc/hostname",
        "+",
        "write",
        "/dev/shm/x",
        "y",
        "+",
        "list",
        "/data/nested",
    ]);
    let mount = |inside: &str, outside: std::path::PathBuf, readonly| Mount {
        container_path: inside.into(),
        host_path: outside,
        readonly,
        ..Default::default()
    };
    config.mounts = vec![
        mount("/data/nested", host.join("sub"), false),
        mount("/data", host.clone(), false),
        mount("/ro", host.clone(), true),
        mount("/one", host.join("file"), true),
        mount("/made", bed.dir.path().join("made/by/runtime"), false),
    ];
    config.mounts[1].propagation = MountPropagation::HostToContainer;
    std::fs::write(host.join("sub/inner"), "").unwrap();
    let pod = bed.run_pod("files").await;
    let (_, text) = bed.run_in(&pod, config).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "from the host",
            "done",
            "error: 30",
            "from the host",
            "done",
            "files",
            "done",
            "inner"
        ],
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "x");
    assert_eq!(
        std::fs::read_to_string(bed.dir.path().join("made/by/runtime/x")).unwrap(),
        "x"
    );
    // Shared memory is the pod's.
    let (_, text) = bed
        .run_in(
            &pod,
            ContainerConfig {
                log_path: "b/0.log".into(),
                ..bed.container(&["read", "/dev/shm/x"])
            },
        )
        .await;
    assert_eq!(text, "y\n");
    assert!(!std::path::Path::new("/dev/shm/x").exists());
    bed.finish().await;
}

pub async fn environment_and_arguments() {
    let bed = Bed::new().await;
    let mut config = bed.container(&[]);
    config.command = vec!["probe".into()];
    config.args = [
        "env", "FROM", "+", "env", "MORE", "+", "env", "HOME", "+", "env", "HOSTNAME", "+", "cwd",
    ]
    .map(String::from)
    .to_vec();
    config.envs = vec![KeyValue {
        key: "MORE".into(),
        value: "a=b c".into(),
    }];
    config.working_dir = "/made/up".into();
    let (_, text) = bed.run_config(config.clone()).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["FROM=image", "MORE=a=b c", "HOME=/root"]);
    assert!(lines[3].starts_with("HOSTNAME=p"));
    assert_eq!(lines[4], "/made/up");
    config.envs.push(KeyValue {
        key: "FROM".into(),
        value: "pod".into(),
    });
    let (_, text) = bed.run_config(config).await;
    assert!(text.starts_with("FROM=pod\n"));
    bed.finish().await;
}

pub async fn shared_process_namespace() {
    let bed = Bed::new().await;
    let mut config = bed.pod("shared");
    config.security_context.namespace_options.pid = NamespaceMode::Pod;
    let pod = bed.runtime().run_pod_sandbox(config).await.unwrap();
    let mut first = bed.container(&["daemon", "+", "trap", "+", "print", "up", "+", "sleep"]);
    first.security_context.pid = NamespaceMode::Pod;
    let first = bed.start(&pod, first).await;
    bed.wait_log(&first, "up").await;
    let mut second = bed.container(&["pid", "+", "list", "/proc"]);
    second.security_context.pid = NamespaceMode::Pod;
    second.log_path = "second/0.log".into();
    let (_, text) = bed.run_in(&pod, second).await;
    assert!(!text.contains("pid 1\n"), "{text}");
    let numbers = text
        .lines()
        .nth(1)
        .unwrap()
        .split(' ')
        .filter(|name| name.parse::<u32>().is_ok())
        .count();
    assert_eq!(numbers, 4, "pause, the first container's two, and itself: {text}");
    bed.runtime()
        .stop_container(&first, Duration::from_secs(10))
        .await
        .unwrap();
    // What it left behind is gone as well.
    let mut third = bed.container(&["list", "/proc"]);
    third.security_context.pid = NamespaceMode::Pod;
    third.log_path = "third/0.log".into();
    let (_, text) = bed.run_in(&pod, third).await;
    let numbers = text
        .split_ascii_whitespace()
        .filter(|name| name.parse::<u32>().is_ok())
        .count();
    assert_eq!(numbers, 2, "{text}");
    bed.finish().await;
}

pub async fn host_namespaces() {
    let bed = Bed::new().await;
    let mut config = bed.pod("host");
    config.security_context.namespace_options = NamespaceOption {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Node,
        ipc: NamespaceMode::Node,
    };
    let pod = bed.runtime().run_pod_sandbox(config).await.unwrap();
    assert_eq!(bed.runtime().sandbox_netns(&pod).await.unwrap(), None);
    let mut container = bed.container(&["read", "/proc/sys/kernel/hostname", "+", "read", "/proc/1/comm"]);
    container.security_context.pid = NamespaceMode::Node;
    let (_, text) = bed.run_in(&pod, container).await;
    let host = |path| std::fs::read_to_string(path).unwrap().trim_end().to_owned();
    let expected = format!("{}\n{}\n", host("/proc/sys/kernel/hostname"), host("/proc/1/comm"));
    assert_eq!(text, expected);
    bed.finish().await;
}

pub async fn sysctls_and_dns() {
    let bed = Bed::new().await;
    let mut config = bed.pod("tuned");
    config
        .sysctls
        .insert("net.ipv4.ip_local_port_range".into(), "2000\t3000".into());
    config.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.96.0.10".into()],
        searches: vec!["svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    });
    let pod = bed.runtime().run_pod_sandbox(config).await.unwrap();
    let netns = bed.runtime().sandbox_netns(&pod).await.unwrap().unwrap();
    assert_ne!(
        std::fs::read_link(netns).unwrap(),
        std::fs::read_link("/proc/self/ns/net").unwrap()
    );
    let container = bed.container(&[
        "read",
        "/proc/sys/net/ipv4/ip_local_port_range",
        "+",
        "read",
        "/proc/sys/kernel/shm_rmid_forced",
        "+",
        "read",
        "/etc/resolv.conf",
        "+",
        "read",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    ]);
    let (_, text) = bed.run_in(&pod, container).await;
    assert_eq!(
        text,
        "2000\t3000\n1\nsearch svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n0\n"
    );
    bed.finish().await;
}

pub async fn removal_is_idempotent() {
    let bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let running = bed.start(&pod, bed.container(&["sleep"])).await;
    let created = bed.create(&pod, bed.container(&["sleep"])).await;
    bed.runtime().stop_pod_sandbox(&pod).await.unwrap();
    bed.runtime().stop_pod_sandbox(&pod).await.unwrap();
    assert_eq!(bed.status(&running).await.exit_code, 137);
    assert_eq!(bed.status(&created).await.state, ContainerState::Created);
    let status = bed.runtime().pod_sandbox_status(&pod).await.unwrap();
    assert_eq!(status.state, PodSandboxState::NotReady);
    let error = bed
        .runtime()
        .create_container(&pod, bed.container(&[]))
        .await
        .unwrap_err();
    assert!(matches!(error, RuntimeError::WrongState { .. }), "{error}");
    assert!(bed.runtime().start_container(&created).await.is_err());
    bed.runtime().remove_container(&created).await.unwrap();
    for _ in 0..2 {
        bed.runtime().remove_container(&running).await.unwrap();
        bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
        bed.runtime().stop_pod_sandbox(&pod).await.unwrap();
    }
    bed.wait_processes(0).await;
    bed.finish().await;
}

pub async fn many_pods_at_once() {
    let bed = std::sync::Arc::new(Bed::new().await);
    let tasks: Vec<_> = (0..24)
        .map(|number| {
            let bed = bed.clone();
            tokio::spawn(async move {
                let pod = bed.run_pod(&format!("many{number}")).await;
                let (status, text) = bed
                    .run_in(&pod, bed.container(&["print", "ran", "+", "exit", "3"]))
                    .await;
                assert_eq!((status.exit_code, text.as_str()), (3, "ran\n"));
                bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let Ok(bed) = std::sync::Arc::try_unwrap(bed) else {
        panic!("still used")
    };
    bed.finish().await;
}

pub async fn events_tell_everything() {
    let bed = Bed::new().await;
    let mut events = bed.runtime().events();
    let pod = bed.run_pod("p").await;
    let id = bed.start(&pod, bed.container(&["exit", "0"])).await;
    bed.wait_exit(&id).await;
    bed.runtime().remove_container(&id).await.unwrap();
    bed.runtime().remove_pod_sandbox(&pod).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let event = events.next().await.unwrap();
        assert_eq!(event.sandbox_id(), Some(pod.as_str()));
        let last = matches!(event, RuntimeEvent::SandboxRemoved { .. });
        seen.push(format!("{event:?}").split_once(' ').unwrap().0.to_owned());
        if last {
            break;
        }
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "ContainerCreated",
            "ContainerExited",
            "ContainerRemoved",
            "ContainerStarted",
            "SandboxReady",
            "SandboxRemoved",
            "SandboxStopped"
        ]
    );
    bed.finish().await;
}

pub async fn hello_image() {
    let mut bed = Bed::bare().await;
    let exe = bed.dir.path().join("program");
    std::fs::copy(crate::bed::PROBE, &exe).unwrap();
    let image = bed.runtime().ensure_hello_image(&exe).await.unwrap();
    assert_eq!(image.repo_tags, [HELLO_IMAGE]);
    assert!(image.pinned);
    assert_eq!(image.config.entrypoint, ["/skiff", "hello"]);
    let mut config = bed.container(&["stat", "/tmp"]);
    config.image = HELLO_IMAGE.into();
    config.command = vec!["/skiff".into()];
    let (_, text) = bed.run_config(config).await;
    assert_eq!(text, "/tmp 41777 0:0\n");
    bed.reopen().await;
    assert_eq!(bed.runtime().ensure_hello_image(&exe).await.unwrap(), image);
    // Another program makes another image, and the old one goes.
    std::fs::remove_file(&exe).unwrap();
    std::fs::copy(crate::bed::PROBE, &exe).unwrap();
    let other = bed.runtime().ensure_hello_image(&exe).await.unwrap();
    assert_ne!(other.id, image.id);
    assert_eq!(bed.runtime().list_images().await.unwrap().len(), 1);
    bed.finish().await;
}

pub async fn two_sandboxes_of_one_pod() {
    let bed = Bed::new().await;
    let first = bed.run_pod("same").await;
    let second = bed.run_pod("same").await;
    let id = bed.start(&second, bed.container(&["sleep"])).await;
    bed.runtime().remove_pod_sandbox(&first).await.unwrap();
    assert_eq!(bed.status(&id).await.state, ContainerState::Running);
    assert!(!crate::bed::cgroups_named(&format!("{}/podsame", bed.config.cgroup_root)).is_empty());
    bed.runtime().remove_pod_sandbox(&second).await.unwrap();
    assert!(crate::bed::cgroups_named(&format!("{}/podsame", bed.config.cgroup_root)).is_empty());
    bed.finish().await;
}
