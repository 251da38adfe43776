//! Applying, looking, logs, exec, port-forward.

use std::fs;
use std::process::Command;

use crate::cluster::{
    Background, Client, Cluster, NODE, contains, file, http_get, must_contain, run_for, say, text, until,
};
use crate::manifests;

pub fn up(cluster: &mut Cluster) {
    let first = cluster.start();
    assert_eq!(cluster.stop("-INT"), Some(0), "Ctrl-C ends it cleanly");
    let again = cluster.start();
    say(&format!(
        "       ready in {first} ms the first time, in {again} ms the second"
    ));
}

pub fn node_ready(cluster: &mut Cluster) {
    let nodes = cluster.kubectl("get nodes").ok();
    must_contain(&nodes, &[NODE, " Ready "]);
    cluster
        .kubectl(&format!("wait --for=condition=Ready node/{NODE} --timeout=10s"))
        .ok();
}

pub fn deploy(cluster: &mut Cluster) {
    cluster.kubectl("create namespace demo").ok();
    must_contain(
        &cluster.apply(manifests::CONFIG).ok(),
        &["configmap/settings created", "secret/password created"],
    );
    must_contain(
        &cluster.apply(manifests::HELLO).ok(),
        &["deployment.apps/hello created", "service/hello created"],
    );
    must_contain(&cluster.apply(manifests::TOOLS).ok(), &["pod/tools created"]);
    cluster.settle("rollout status deployment/hello -n demo --timeout=50s");
    cluster.settle("wait --for=condition=Ready pod/tools -n demo --timeout=30s");
}

pub fn unchanged(cluster: &mut Cluster) {
    let before = cluster.object("deployment/hello -n demo");
    for (manifest, names) in [
        (manifests::CONFIG, ["configmap/settings unchanged", "secret/password"]),
        (
            manifests::HELLO,
            ["deployment.apps/hello unchanged", "service/hello unchanged"],
        ),
    ] {
        must_contain(&cluster.apply(manifest).ok(), &names);
    }
    let after = cluster.object("deployment/hello -n demo");
    for field in ["/metadata/generation", "/metadata/uid"] {
        assert_eq!(before.pointer(field), after.pointer(field), "{field} changed");
    }
}

pub fn refused(cluster: &mut Cluster) {
    let said = cluster.apply(&manifests::wrong()).fails();
    // Older kubectls check before the server does, and write the field's name apart.
    must_contain(
        &said,
        &["spec.template.spec.containers[0].readinessProbe", "periodSecond"],
    );
    let negative = manifests::HELLO.replace("replicas: 3", "replicas: -3");
    must_contain(
        &cluster.apply(&negative).fails(),
        &["spec.replicas", "greater than or equal to 0"],
    );
    let no_yaml = cluster.apply("kind: [").fails();
    must_contain(&no_yaml, &["error"]);
}

pub fn get(cluster: &mut Cluster) {
    let wide = cluster.kubectl("get pods -n demo -o wide").ok();
    must_contain(
        &wide,
        &[
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE",
            NODE,
            "10.244.0.",
            "Running",
            "1/1",
        ],
    );
    assert_eq!(
        wide.lines().filter(|line| line.starts_with("hello-")).count(),
        3,
        "{wide}"
    );
    let yaml = cluster.kubectl("get pods -n demo -l app=hello -o yaml").ok();
    must_contain(
        &yaml,
        &[
            "kind: Pod",
            "phase: Running",
            "podIP: 10.244.0.",
            "qosClass: Burstable",
            "nodeName: e2e-node",
        ],
    );
    let all = cluster.kubectl("get all -n demo").ok();
    must_contain(
        &all,
        &[
            "pod/hello-",
            "service/hello",
            "deployment.apps/hello",
            "replicaset.apps/hello-",
            "3/3",
        ],
    );
    let path = cluster
        .kubectl_args(&[
            "get",
            "deploy",
            "hello",
            "-n",
            "demo",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ])
        .ok();
    assert_eq!(path, "3");
    let fields = cluster
        .kubectl("get pods -n demo --field-selector status.phase=Running -o name")
        .ok();
    assert_eq!(fields.lines().count(), 4, "{fields}");
}

pub fn describe(cluster: &mut Cluster) {
    let pods = cluster.kubectl("describe pods -n demo -l app=hello").ok();
    must_contain(
        &pods,
        &[
            "Image:          skiff.local/hello:latest",
            "Ready:          True",
            "Liveness:",
            "Scheduled",
            "Started",
        ],
    );
    let events = cluster.kubectl("get events -n demo").ok();
    must_contain(
        &events,
        &[
            "SuccessfulCreate",
            "ScalingReplicaSet",
            "Scheduled",
            "Pulled",
            "Created",
            "Started",
        ],
    );
    must_contain(
        &cluster.kubectl(&format!("describe node {NODE}")).ok(),
        &["Allocatable:", "MemoryPressure", "demo"],
    );
    must_contain(
        &cluster.kubectl("describe deployment hello -n demo").ok(),
        &["3 desired", "3 available"],
    );
}

pub fn explain(cluster: &mut Cluster) {
    let spec = cluster.kubectl("explain pod.spec").ok();
    must_contain(
        &spec,
        &["containers", "List of containers belonging to the pod", "nodeName"],
    );
    let resources = cluster.kubectl("api-resources").ok();
    for line in [
        ["pods", "po", "v1"],
        ["deployments", "deploy", "apps/v1"],
        ["services", "svc", "v1"],
    ] {
        assert!(
            resources
                .lines()
                .any(|found| line.iter().all(|word| found.split_whitespace().any(|w| w == *word))),
            "{resources}"
        );
    }
    must_contain(&cluster.kubectl("version -o json").ok(), &["\"gitVersion\": \"v1.37"]);
}

pub fn watch(cluster: &mut Cluster) {
    let mut watch =
        Background::start(&mut cluster.command(Client::Kubectl, &["get", "configmaps", "-n", "demo", "--watch"]));
    watch.line_with("settings", 20);
    cluster
        .kubectl("create configmap later -n demo --from-literal=a=b")
        .ok();
    watch.line_with("later", 10);
    cluster.kubectl("delete configmap later -n demo").ok();
}

fn in_tools(cluster: &Cluster, script: &str) -> crate::cluster::Outcome {
    cluster.kubectl_args(&["exec", "-n", "demo", "tools", "--", "sh", "-c", script])
}

pub fn environment(cluster: &mut Cluster) {
    let ip = cluster.object("pod/tools -n demo");
    let seen = in_tools(
        cluster,
        "echo \"$GREETING,$PASSWORD,$POD_IP\"; cat /config/page.txt /secret/PASSWORD; hostname",
    )
    .ok();
    must_contain(
        &seen,
        &["good morning,hunter2,", text(&ip, "/status/podIP"), "a page", "tools"],
    );
    // Volumes follow their objects.
    cluster
        .kubectl_args(&[
            "patch",
            "configmap",
            "settings",
            "-n",
            "demo",
            "-p",
            r#"{"data":{"page.txt":"another page"}}"#,
        ])
        .ok();
    until("the volume follows its ConfigMap", 90, || {
        contains(&in_tools(cluster, "cat /config/page.txt").stdout, &["another page"])
    });
}

pub fn logs(cluster: &mut Cluster) {
    let mut follow = Background::start(&mut cluster.command(Client::Kubectl, &["logs", "-f", "-n", "demo", "tools"]));
    follow.line_with("started", 20);
    let first: u32 = follow
        .line_with("tick", 10)
        .trim_start_matches("tick ")
        .parse()
        .expect("a number");
    follow.line_with(&format!("tick {}", first + 2), 10);
    let tail = cluster.kubectl("logs -n demo tools --tail=1 --timestamps").ok();
    assert_eq!(tail.lines().count(), 1, "{tail}");
    must_contain(
        &cluster.kubectl("logs -n demo deployment/hello").ok(),
        &["listening on port 8080"],
    );
    let said = cluster.kubectl("logs -n demo absent").fails();
    must_contain(&said, &["pods \"absent\" not found"]);
}

pub fn exec(cluster: &mut Cluster) {
    let both = in_tools(cluster, "echo out; echo err >&2; exit 7");
    assert_eq!(
        (both.code, both.stdout.as_str()),
        (Some(7), "out\n"),
        "{}",
        both.report()
    );
    must_contain(&both.stderr, &["err"]);
    let arguments = ["exec", "-i", "-n", "demo", "tools", "--", "cat"];
    let echoed = run_for(30, &mut cluster.command(Client::Kubectl, &arguments), "from outside\n").ok();
    assert_eq!(echoed, "from outside\n");
    must_contain(
        &cluster
            .kubectl("exec -n demo deployment/hello -- /skiff hello --help")
            .ok(),
        &["--port"],
    );
    let line = "kubectl exec -it -n demo tools -- sh -c 'tty; exit 5'";
    let mut terminal = Command::new("script");
    terminal
        .args(["-qec", line, "/dev/null"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HOME", &cluster.dir);
    let terminal = run_for(30, &mut terminal, "");
    assert_eq!(terminal.code, Some(5), "{}", terminal.report());
    must_contain(&terminal.stdout, &["/dev/pts/"]);
    let absent = cluster.kubectl("exec -n demo tools -- /absent").fails();
    must_contain(&absent, &["/absent"]);
}

pub fn copy(cluster: &mut Cluster) {
    let there = file(&cluster.dir, "there.txt", "to and fro\n").display().to_string();
    let back = cluster.dir.join("back.txt");
    cluster
        .kubectl_args(&["cp", &there, "demo/tools:/scratch/there.txt"])
        .ok();
    must_contain(&in_tools(cluster, "cat /scratch/there.txt").ok(), &["to and fro"]);
    cluster
        .kubectl_args(&["cp", "demo/tools:/scratch/there.txt", &back.display().to_string()])
        .ok();
    assert_eq!(fs::read_to_string(back).expect("it was copied"), "to and fro\n");
}

pub fn port_forward(cluster: &mut Cluster) {
    for (client, target) in [
        (Client::Kubectl, "deployment/hello"),
        (Client::Kubectl, "service/hello"),
    ] {
        let to = if target.starts_with("service") { ":80" } else { ":8080" };
        let mut forward = Background::start(&mut cluster.command(client, &["port-forward", "-n", "demo", target, to]));
        let line = forward.line_with("Forwarding from 127.0.0.1:", 20);
        let port = line
            .trim_start_matches("Forwarding from 127.0.0.1:")
            .split(' ')
            .next()
            .expect("a port")
            .to_owned();
        for _ in 0..3 {
            let answer = http_get(&format!("127.0.0.1:{port}"))
                .unwrap_or_else(|error| panic!("{target}: {error}\n{}", forward.said()));
            must_contain(&answer, &["Hello from skiff!", "hostname: hello-", "namespace: demo"]);
        }
    }
}

pub fn own_client(cluster: &mut Cluster) {
    must_contain(
        &cluster.own("get pods -n demo -o wide").ok(),
        &["hello-", "1/1", "Running", NODE],
    );
    must_contain(
        &cluster.own("get deployment hello -n demo -o yaml").ok(),
        &["readyReplicas: 3"],
    );
    must_contain(&cluster.own("describe pod tools -n demo").ok(), &["tools", "Scheduled"]);
    must_contain(&cluster.own("logs tools -n demo --tail=5").ok(), &["tick"]);
    let code = run_for(
        30,
        &mut cluster.command(
            Client::Skiff,
            &["exec", "-n", "demo", "tools", "--", "sh", "-c", "echo own; exit 9"],
        ),
        "",
    );
    assert_eq!(
        (code.code, code.stdout.as_str()),
        (Some(9), "own\n"),
        "{}",
        code.report()
    );
    let manifest = file(
        &cluster.dir,
        "own.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own, namespace: demo}\ndata: {a: b}\n",
    );
    let path = manifest.display().to_string();
    for word in ["created", "unchanged"] {
        must_contain(&cluster.own(&format!("apply -f {path}")).ok(), &["configmap/own", word]);
    }
    must_contain(&cluster.own("delete configmap own -n demo").ok(), &["own", "deleted"]);
    must_contain(&cluster.own("get configmap own -n demo").fails(), &["not found"]);
}

pub fn attach(cluster: &mut Cluster) {
    cluster.apply(manifests::ECHO).ok();
    cluster.settle("wait --for=condition=Ready pod/echo -n demo --timeout=30s");
    let arguments = ["attach", "-i", "-n", "demo", "echo"];
    let attached = run_for(30, &mut cluster.command(Client::Kubectl, &arguments), "hello\n");
    must_contain(&attached.ok(), &["heard hello"]);
    // Its input was closed with ours, so it ended.
    until("the container is started again", 30, || {
        let pod = cluster.object("pod/echo -n demo");
        let status = &pod["status"]["containerStatuses"][0];
        if status["ready"] == true && status["restartCount"].as_u64() > Some(0) {
            return Ok(());
        }
        Err(status.to_string())
    });
    must_contain(&cluster.kubectl("logs -n demo echo --previous").ok(), &["heard hello"]);
    cluster.kubectl("delete pod echo -n demo --timeout=40s").ok();
}
