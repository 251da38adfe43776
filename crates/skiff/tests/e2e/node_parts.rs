//! What a node does for its pods, on real containers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, contains, http_get, must_contain, text, until};
use crate::node_manifests::{GREEDY, MESSAGES, ORDER, PLACES, SECURITY, STUBBORN, VOLUMES};

/// What a shell in a container says; its exit code does not matter.
fn shell(cluster: &Cluster, pod: &str, container: &str, script: &str) -> String {
    let outcome = cluster.kubectl_args(&["exec", "-n", "demo", pod, "-c", container, "--", "sh", "-c", script]);
    format!("{}{}", outcome.stdout, outcome.stderr)
}

fn ready(cluster: &Cluster, pod: &str) {
    cluster.settle(&format!("wait --for=condition=Ready pod/{pod} -n demo --timeout=40s"));
}

fn delete(cluster: &Cluster, pods: &str) {
    cluster
        .kubectl(&format!("delete pod {pods} -n demo --timeout=40s"))
        .ok();
}

pub fn order(cluster: &mut Cluster) {
    let dir = cluster.dir.join("order");
    cluster.apply(&ORDER.replace("DIR", &dir.display().to_string())).ok();
    ready(cluster, "order");
    let said = || fs::read_to_string(dir.join("order")).unwrap_or_default();
    let begun = "first\nside\nsecond\nmain\npostStart\n";
    assert_eq!(said(), begun);
    delete(cluster, "order");
    // Sidecars end after all others.
    assert_eq!(said(), format!("{begun}preStop\nmain ends\nside ends\n"));
}

pub fn messages(cluster: &mut Cluster) {
    cluster.apply(MESSAGES).ok();
    let ended = until("all containers have ended", 30, || {
        let pod = cluster.object("pod/messages -n demo");
        match text(&pod, "/status/phase") {
            "Failed" => Ok(pod),
            phase => Err(phase.to_owned()),
        }
    });
    let statuses = ended["status"]["containerStatuses"].as_array().expect("a list");
    for (name, code, message) in [
        ("file", 3, "from the file"),
        ("own", 0, "from its own file"),
        ("logs", 4, "from the log\n"),
        ("fine", 0, ""),
    ] {
        let status = statuses
            .iter()
            .find(|status| status["name"] == name)
            .expect("its status");
        let end = &status["state"]["terminated"];
        assert_eq!(end["exitCode"], code, "{name}: {status}");
        assert_eq!(text(end, "/message"), message, "{name}: {status}");
    }
    delete(cluster, "messages");
}

pub fn volumes(cluster: &mut Cluster) {
    cluster.apply(VOLUMES).ok();
    ready(cluster, "volumes");
    let run = |script: &str| shell(cluster, "volumes", "main", script);
    must_contain(
        &run("/bin/busybox dd if=/dev/zero of=/memory/file bs=1M count=3"),
        &["No space left on device"],
    );
    must_contain(
        &run("echo a > /part/f; echo b > /named/f; cat /folder/part/f /folder/pods/volumes/f"),
        &["a\nb\n"],
    );
    must_contain(
        &run("cat /told/labels; echo; cat /told/memory"),
        &["color=\"blue\"", "67108864"],
    );
    must_contain(&run("echo x > /told/labels"), &["Read-only file system"]);
    // header.payload.signature, for the audience that was asked for.
    let token = run("cat /told/token");
    let payload = token.split('.').nth(1).expect("a token");
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = base64::Engine::decode(&engine, payload).expect("a token's payload");
    must_contain(&String::from_utf8_lossy(&claims), &["somebody", "volumes"]);
    // A restart of the container leaves its volumes as it left them.
    run("/bin/busybox chmod 700 /folder /memory; rm /memory/file; echo kept > /memory/kept; echo > /folder/end");
    until("the container was started again", 30, || {
        let pod = cluster.object("pod/volumes -n demo");
        let status = &pod["status"]["containerStatuses"][0];
        match (status["restartCount"].as_u64(), status["ready"].as_bool()) {
            (Some(1), Some(true)) => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    must_contain(
        &run("/bin/busybox stat -c %a /folder /memory; cat /folder/starts /memory/kept"),
        &["700\n700\nstarted\nstarted\nkept\n"],
    );
    delete(cluster, "volumes");
}

pub fn security(cluster: &mut Cluster) {
    cluster.apply(SECURITY).ok();
    ready(cluster, "security");
    let run = |container: &str, script: &str| shell(cluster, "security", container, script);
    let status = "/bin/busybox grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/1/status; id";
    must_contain(
        &run("least", status),
        &[
            "uid=1000",
            "gid=3000",
            "2000",
            "4000",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ],
    );
    must_contain(&run("least", "echo > /file"), &["Read-only file system"]);
    must_contain(
        &run("least", "echo > /v/file; /bin/busybox stat -c '%u %g' /v/file"),
        &["1000 2000"],
    );
    must_contain(
        &run("some", status),
        &["uid=0", "CapEff:\t0000000000001000", "NoNewPrivs:\t0", "Seccomp:\t0"],
    );
    must_contain(
        &run("all", "/bin/busybox mount -t tmpfs none /tmp && echo mounted"),
        &["mounted"],
    );
    assert!(!run("some", "/bin/busybox mount -t tmpfs none /tmp && echo mounted").contains("mounted"));
    until("a user that may not be root is told", 20, || {
        let pod = cluster.object("pod/not-root -n demo");
        contains(
            &pod["status"].to_string(),
            &["CreateContainerConfigError", "runAsNonRoot and image will run as root"],
        )
    });
    delete(cluster, "security not-root");
}

pub fn places(cluster: &mut Cluster) {
    cluster.apply(PLACES).ok();
    for pod in ["on-host", "on-port", "shared"] {
        ready(cluster, pod);
    }
    let on_host = cluster.object("pod/on-host -n demo");
    assert_eq!(text(&on_host, "/status/podIP"), text(&on_host, "/status/hostIP"));
    let seen = shell(
        cluster,
        "on-host",
        "main",
        "ls /sys/class/net; cat /etc/resolv.conf; ls -d /proc/[0-9]*",
    );
    let own = format!("/proc/{}\n", std::process::id());
    must_contain(&seen, &["skiff0", "nameserver 10.96.0.10", &own]);

    let address = text(&on_host, "/status/hostIP").to_owned();
    for host in [address.as_str(), "127.0.0.1"] {
        let page = until("the host port answers", 20, || http_get(&format!("{host}:18888")));
        must_contain(&page, &["tools"]);
    }

    let names = shell(cluster, "shared", "a", "hostname; cat /etc/hosts /etc/resolv.conf");
    must_contain(
        &names,
        &[
            "own-name\n",
            "own-name.group.demo.svc.cluster.local\town-name",
            "10.1.2.3\tone.alias\tother.alias",
            "search a.example b.example",
            "nameserver 192.0.2.5",
            "options ndots:3 edns0",
        ],
    );
    let processes = shell(cluster, "shared", "b", "/bin/busybox ps");
    must_contain(&processes, &["sleep 1001", "sleep 1002"]);
    delete(cluster, "on-host on-port shared");
    assert!(
        http_get("127.0.0.1:18888").is_err(),
        "the host port is closed with its pod"
    );
}

pub fn grace(cluster: &mut Cluster) {
    cluster.apply(STUBBORN).ok();
    ready(cluster, "stubborn");
    let since = Instant::now();
    delete(cluster, "stubborn");
    let took = since.elapsed();
    assert!(took > Duration::from_millis(1900), "it had {took:?} only");
    cluster.apply(STUBBORN).ok();
    ready(cluster, "stubborn");
    cluster
        .kubectl("delete pod stubborn -n demo --force --grace-period=0")
        .ok();
    let gone = cluster.kubectl("get pod stubborn -n demo").fails();
    must_contain(&gone, &["not found"]);
}

/// All files of a container's log, with their sizes.
fn logs_of(data: &Path, pod: &str) -> Vec<(String, u64)> {
    let all = fs::read_dir(data.join("node/pods")).expect("list pods").flatten();
    let mut found = Vec::new();
    for dir in all.map(|entry| entry.path()) {
        for file in fs::read_dir(dir.join("logs/main")).into_iter().flatten().flatten() {
            let path = file.path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains("0123456789012345678901234567890123456789") {
                found.push((file.file_name().to_string_lossy().into_owned(), text.len() as u64));
            }
        }
    }
    assert!(found.len() < 10, "logs of {pod}: {found:?}");
    found
}

pub fn bounds(cluster: &mut Cluster) {
    cluster.apply(GREEDY).ok();
    until("the log was rotated", 40, || {
        let tail = cluster.kubectl("logs -n demo talkative --tail=1");
        contains(&tail.stdout, &["the end"])
    });
    let logs = logs_of(&cluster.data, "talkative");
    assert!(logs.len() >= 2, "{logs:?}");
    // At most one a second, so that each has a name of its own.
    assert!(logs.iter().all(|(_, bytes)| *bytes < 24 << 20), "{logs:?}");
    until("the greedy pod is evicted", 60, || {
        let pod = cluster.object("pod/greedy -n demo");
        let status = pod["status"].to_string();
        contains(
            &status,
            &["Failed", "Evicted", "Usage of EmptyDir volume", "exceeds the limit"],
        )
    });
    let events = cluster
        .kubectl("get events -n demo --field-selector involvedObject.name=greedy")
        .ok();
    must_contain(&events, &["Evicted", "exceeds the limit"]);
    delete(cluster, "greedy talkative");
}
