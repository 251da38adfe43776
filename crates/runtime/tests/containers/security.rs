//! What containers may do.

use runtime::*;

use crate::bed::Bed;

async fn identity(bed: &Bed, context: ContainerSecurityContext) -> String {
    let config = ContainerConfig {
        security_context: context,
        ..bed.container(&["id"])
    };
    let (status, text) = bed.run_config(config).await;
    assert_eq!(status.exit_code, 0, "{}", status.message);
    text
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
}

pub async fn users() {
    let bed = Bed::new().await;
    let default = ContainerSecurityContext::default;
    let text = identity(&bed, default()).await;
    assert_eq!(
        (field(&text, "Uid"), field(&text, "Gid")),
        ("0 0 0 0".into(), "0 0 0 0".into())
    );
    let text = identity(
        &bed,
        ContainerSecurityContext {
            run_as_username: "app".into(),
            ..default()
        },
    )
    .await;
    assert_eq!(
        (field(&text, "Uid"), field(&text, "Gid")),
        ("100 100 100 100".into(), "101 101 101 101".into())
    );
    assert_eq!(field(&text, "Groups"), "102");
    assert_eq!(field(&text, "CapEff"), "0000000000000000");
    let context = ContainerSecurityContext {
        run_as_user: Some(4000),
        run_as_group: Some(5000),
        supplemental_groups: vec![6000],
        ..default()
    };
    let config = ContainerConfig {
        security_context: context.clone(),
        ..bed.container(&[
            "id",
            "+",
            "open",
            "/dev/stdout",
            "+",
            "env",
            "HOME",
            "+",
            "write",
            "/tmp/x",
            "x",
            "+",
            "write",
            "/x",
            "x",
        ])
    };
    let (status, text) = bed.run_config(config.clone()).await;
    assert_eq!(field(&text, "Groups"), "6000");
    let rest: Vec<&str> = text.lines().rev().take(4).collect();
    assert_eq!(rest, ["error: 13", "done", "HOME=/", "done"]);
    assert_eq!(status.user.unwrap().supplemental_groups, [5000, 6000]);
    // A terminal is the user's as well.
    let (_, text) = bed.run_config(ContainerConfig { tty: true, ..config }).await;
    assert!(text.contains("done"), "{text}");
    // So are commands.
    let pod = bed.run_pod("p").await;
    let id = bed
        .start(
            &pod,
            ContainerConfig {
                security_context: context,
                ..bed.container(&["sleep"])
            },
        )
        .await;
    let words = vec!["/probe".to_owned(), "id".to_owned()];
    let text = String::from_utf8(bed.runtime().exec_sync(&id, words, None).await.unwrap().stdout).unwrap();
    assert_eq!(
        (field(&text, "Uid"), field(&text, "CapEff")),
        ("4000 4000 4000 4000".into(), "0000000000000000".into())
    );
    bed.finish().await;
}

pub async fn default_capabilities() {
    let bed = Bed::new().await;
    let default = ContainerSecurityContext::default;
    let text = identity(&bed, default()).await;
    // The 14 that Docker and containerd give.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(&text, set), "00000000a80425fb");
    }
    for set in ["CapInh", "CapAmb", "SigBlk", "SigIgn"] {
        // Rust's runtime ignores SIGPIPE itself.
        let expected = if set == "SigIgn" {
            "0000000000001000"
        } else {
            "0000000000000000"
        };
        assert_eq!(field(&text, set), expected, "{set}");
    }
    assert_eq!(
        (field(&text, "NoNewPrivs"), field(&text, "Seccomp")),
        ("0".into(), "0".into())
    );
    let none = Capabilities {
        add: vec![],
        drop: vec!["ALL".into()],
    };
    let text = identity(
        &bed,
        ContainerSecurityContext {
            capabilities: none,
            no_new_privs: true,
            ..default()
        },
    )
    .await;
    assert_eq!(
        (field(&text, "CapBnd"), field(&text, "NoNewPrivs")),
        ("0000000000000000".into(), "1".into())
    );
    let some = Capabilities {
        add: vec!["SYS_PTRACE".into()],
        drop: vec!["ALL".into()],
    };
    let text = identity(
        &bed,
        ContainerSecurityContext {
            capabilities: some,
            ..default()
        },
    )
    .await;
    assert_eq!(field(&text, "CapEff"), "0000000000080000");
    let wrong = Capabilities {
        add: vec!["NOT_ONE".into()],
        drop: vec![],
    };
    let context = ContainerSecurityContext {
        capabilities: wrong,
        ..default()
    };
    let pod = bed.run_pod("p").await;
    let id = bed
        .create(
            &pod,
            ContainerConfig {
                security_context: context,
                ..bed.container(&["id"])
            },
        )
        .await;
    let error = bed.runtime().start_container(&id).await.unwrap_err();
    assert!(error.to_string().contains("NOT_ONE"), "{error}");
    bed.finish().await;
}

pub async fn privileged() {
    let bed = Bed::new().await;
    let words = [
        "id",
        "+",
        "stat",
        "/dev/kmsg",
        "+",
        "open",
        "/dev/kmsg",
        "+",
        "call",
        "mount",
    ];
    let context = ContainerSecurityContext {
        privileged: true,
        ..Default::default()
    };
    let (status, text) = bed
        .run_config(ContainerConfig {
            security_context: context,
            ..bed.container(&words)
        })
        .await;
    assert_eq!(status.exit_code, 0);
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&text, "CapEff"), field(&own, "CapBnd"));
    if std::path::Path::new("/dev/kmsg").exists() {
        assert!(text.contains("/dev/kmsg 20"), "{text}");
    }
    assert!(text.ends_with("done\n"), "{text}");
    bed.finish().await;
}

pub async fn seccomp_default() {
    let bed = Bed::new().await;
    let words = [
        "id", "+", "call", "unshare", "+", "call", "clone3", "+", "call", "chroot", "+", "call", "setuid",
    ];
    let context = ContainerSecurityContext {
        seccomp: SecurityProfile::RuntimeDefault,
        ..Default::default()
    };
    let (_, text) = bed
        .run_config(ContainerConfig {
            security_context: context.clone(),
            ..bed.container(&words)
        })
        .await;
    assert_eq!(
        (field(&text, "Seccomp"), field(&text, "NoNewPrivs")),
        ("2".into(), "0".into())
    );
    let rest: Vec<&str> = text.lines().rev().take(4).collect();
    assert_eq!(rest, ["done", "done", "error: 38", "error: 1"], "{text}");
    // Also with no_new_privs, another user, and for commands; threads and children still work.
    let strict = ContainerSecurityContext {
        run_as_user: Some(7),
        no_new_privs: true,
        ..context.clone()
    };
    let words = ["id", "+", "tasks", "3", "+", "daemon"];
    let (status, text) = bed
        .run_config(ContainerConfig {
            security_context: strict,
            ..bed.container(&words)
        })
        .await;
    assert_eq!((field(&text, "Seccomp"), status.exit_code), ("2".into(), 0));
    assert!(text.contains("spawned 3"), "{text}");
    let pod = bed.run_pod("p").await;
    let id = bed
        .start(
            &pod,
            ContainerConfig {
                security_context: context,
                ..bed.container(&["sleep"])
            },
        )
        .await;
    let words = ["/probe", "id", "+", "call", "unshare"].map(String::from).to_vec();
    let text = String::from_utf8(bed.runtime().exec_sync(&id, words, None).await.unwrap().stdout).unwrap();
    assert_eq!(field(&text, "Seccomp"), "2");
    assert!(text.ends_with("error: 1\n"), "{text}");
    let profile = SecurityProfile::Localhost("/profile.json".into());
    let context = ContainerSecurityContext {
        seccomp: profile,
        ..Default::default()
    };
    let id = bed
        .create(
            &pod,
            ContainerConfig {
                security_context: context,
                ..bed.container(&["id"])
            },
        )
        .await;
    let error = bed.runtime().start_container(&id).await.unwrap_err();
    assert!(error.to_string().contains("/profile.json"), "{error}");
    bed.finish().await;
}

pub async fn read_only_root() {
    let bed = Bed::new().await;
    let context = ContainerSecurityContext {
        readonly_rootfs: true,
        ..Default::default()
    };
    let words = [
        "write",
        "/x",
        "x",
        "+",
        "write",
        "/dev/shm/x",
        "x",
        "+",
        "write",
        "/etc/resolv.conf",
        "x",
    ];
    let (_, text) = bed
        .run_config(ContainerConfig {
            security_context: context,
            ..bed.container(&words)
        })
        .await;
    assert_eq!(text, "error: 30\ndone\nerror: 30\n");
    bed.finish().await;
}

pub async fn devices_are_restricted() {
    let bed = Bed::new().await;
    let words = [
        "open",
        "/dev/null",
        "+",
        "call",
        "mknod",
        "+",
        "open",
        "/tmp/disk",
        "+",
        "open",
        "/dev/fuse",
    ];
    let (_, text) = bed.run(&words).await;
    // It can be made (or not, as the tree has it), but never opened.
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "done");
    assert!(lines[2].starts_with("error: "), "{text}");
    assert_eq!(lines[3], "error: 2");
    let mut config = bed.container(&["stat", "/dev/given", "+", "open", "/dev/given"]);
    config.devices = vec![Device {
        container_path: "/dev/given".into(),
        host_path: "/dev/full".into(),
        permissions: "rw".into(),
    }];
    let (_, text) = bed.run_config(config).await;
    assert!(text.starts_with("/dev/given 20") && text.ends_with("done\n"), "{text}");
    bed.finish().await;
}

pub async fn masked_paths() {
    let bed = Bed::new().await;
    let words = [
        "write",
        "/proc/sys/kernel/domainname",
        "x",
        "+",
        "read",
        "/proc/keys",
        "+",
        "list",
        "/proc/acpi",
    ];
    let (_, text) = bed.run(&words).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "error: 30");
    assert!(lines[1].is_empty() || lines[1] == "error: 2", "{text}");
    let context = ContainerSecurityContext {
        masked_paths: Some(vec!["/etc/passwd".into()]),
        readonly_paths: Some(vec!["/tmp".into()]),
        ..Default::default()
    };
    let words = ["read", "/etc/passwd", "+", "write", "/tmp/x", "x"];
    let (_, text) = bed
        .run_config(ContainerConfig {
            security_context: context,
            ..bed.container(&words)
        })
        .await;
    assert_eq!(text, "\nerror: 30\n");
    bed.finish().await;
}
