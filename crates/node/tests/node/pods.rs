use std::time::Duration;

use serde_json::json;

use crate::world::{World, condition};

#[tokio::test(start_paused = true)]
async fn the_node_registers_itself() {
    let world = World::start().await;
    let node = world.api.get("nodes", "", "n1").unwrap();
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], "amd64");
    let status = &node["status"];
    assert_eq!(status["capacity"]["cpu"], "4");
    assert_eq!(status["allocatable"]["pods"], "110");
    assert_eq!(status["capacity"]["memory"], "8388608Ki");
    assert_eq!(status["nodeInfo"]["containerRuntimeVersion"], "fake://1");
    assert_eq!(
        status["addresses"],
        json!([{"type": "InternalIP", "address": "192.168.0.1"}, {"type": "Hostname", "address": "n1"}])
    );
    let ready = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Ready")
        .unwrap();
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("True"), &json!("KubeletReady"))
    );
    assert_eq!(ready["message"], "kubelet is posting ready status");
    let lease = world
        .api
        .until("a lease", |api| api.get("leases", "kube-node-lease", "n1"))
        .await;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    let before = lease["spec"]["renewTime"].clone();
    world
        .api
        .until("a renewed lease", |api| {
            api.get("leases", "kube-node-lease", "n1")
                .filter(|lease| lease["spec"]["renewTime"] != before)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_is_deleted() {
    let world = World::start().await;
    world.simple("p");
    let pod = world.ready("p").await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["podIP"], "127.0.0.1");
    assert_eq!(pod["status"]["hostIP"], "192.168.0.1");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["containerID"].as_str().unwrap().starts_with("fake://"));
    for message in [
        "Pulled: Container image \"img:1\" already present on machine",
        "Created: Created container: a",
        "Started: Started container a",
    ] {
        world.event(message).await;
    }
    let sandbox = world
        .runtime
        .state
        .lock()
        .sandbox_configs
        .values()
        .next()
        .unwrap()
        .clone();
    assert_eq!(sandbox.hostname, "p");
    assert_eq!(sandbox.dns_config.as_ref().unwrap().servers, ["10.96.0.10"]);
    assert!(sandbox.cgroup_parent.starts_with("/skiff/besteffort/pod"));
    let config = world.runtime.config("a");
    assert_eq!(config.log_path, "a/0.log");
    assert!(config.mounts.iter().any(|m| m.container_path == "/etc/hosts"));
    let hosts = config.mounts.iter().find(|m| m.container_path == "/etc/hosts").unwrap();
    assert!(
        std::fs::read_to_string(&hosts.host_path)
            .unwrap()
            .contains("127.0.0.1\tp\n")
    );
    world.delete("p", 20);
    world.gone("p").await;
    world.event("Killing: Stopping container a").await;
    let state = world.runtime.state.lock();
    assert!(state.sandboxes.is_empty() && state.containers.is_empty());
    assert_eq!(state.stops, [("a".to_string(), 20)]);
    assert_eq!(std::fs::read_dir(world.folder.path().join("pods")).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn resources_that_others_announce_are_allocatable() {
    let world = World::start().await;
    let mut node = world.api.get("nodes", "", "n1").unwrap();
    node["status"]["capacity"]["example.com/gpu"] = json!("2");
    world.api.put("nodes", node);
    let allocatable = |api: &crate::api::Api| {
        let node = api.get("nodes", "", "n1")?;
        Some(node["status"]["allocatable"].get("example.com/gpu").cloned())
    };
    let there =
        |amount: Option<serde_json::Value>| move |api: &crate::api::Api| (allocatable(api)? == amount).then_some(());
    world.api.until("the resource", there(Some(json!("2")))).await;
    let mut node = world.api.get("nodes", "", "n1").unwrap();
    node["status"]["capacity"]
        .as_object_mut()
        .unwrap()
        .remove("example.com/gpu");
    world.api.put("nodes", node);
    world.api.until("no resource", there(None)).await;
}

#[tokio::test(start_paused = true)]
async fn crash_loops_back_off() {
    let world = World::start().await;
    world.simple("p");
    world.ready("p").await;
    for round in 0..3 {
        world.runtime.exit("a", 1);
        world
            .pod_is("p", "restarted", |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                status["restartCount"] == round + 1 && !status["state"]["running"].is_null()
            })
            .await;
    }
    world.runtime.exit("a", 7);
    let pod = world
        .pod_is("p", "CrashLoopBackOff", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 7);
    let message = status["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("back-off 40s restarting failed container=a pod=p_ns("),
        "{message}"
    );
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(condition(&pod, "Ready"), "False");
    world
        .event("BackOff: Back-off restarting failed container a in pod p_ns(")
        .await;
}

#[tokio::test(start_paused = true)]
async fn pulls_fail_back_off_and_succeed() {
    let world = World::start().await;
    world
        .runtime
        .state
        .lock()
        .pull_errors
        .insert("none:1".into(), "no such manifest".into());
    world.pod("p", json!({"containers": [{"name": "a", "image": "none:1"}]}));
    let waiting = |reason: &'static str| {
        move |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    };
    world.pod_is("p", "ErrImagePull", waiting("ErrImagePull")).await;
    let pod = world.pod_is("p", "ImagePullBackOff", waiting("ImagePullBackOff")).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    world
        .event("Failed: Failed to pull image \"none:1\": failed to pull image \"none:1\": not found: no such manifest")
        .await;
    world.event("Failed: Error: ErrImagePull").await;
    world.event("BackOff: Back-off pulling image \"none:1\"").await;
    world.runtime.state.lock().pull_errors.clear();
    world.ready("p").await;
    world.event("Pulled: Successfully pulled image \"none:1\"").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_waited_for() {
    let world = World::start().await;
    world.pod(
        "p",
        json!({"containers": [{"name": "a", "image": "img:1",
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}]}),
    );
    let pod = world
        .pod_is("p", "CreateContainerConfigError", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "configmap \"cm\" not found");
    let before = world.clock.now();
    world.api.put(
        "configmaps",
        json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "v"}}),
    );
    world.ready("p").await;
    assert!(
        world.clock.now().duration_since(before).as_secs() < 5,
        "at once, not by a timer"
    );
    let config = world.runtime.config("a");
    assert!(config.envs.iter().any(|e| e.key == "X" && e.value == "v"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_restart_adopts_what_runs() {
    let mut world = World::start().await;
    world.pod(
        "p",
        json!({"containers": [{"name": "a", "image": "img:1",
        "readinessProbe": {"exec": {"command": ["ok"]}, "periodSeconds": 600}}]}),
    );
    world.runtime.state.lock().exec.insert("ok".into(), 0);
    world.ready("p").await;
    let id = world.runtime.container("a").unwrap().id;
    world.stop_node().await;
    assert_eq!(
        world.runtime.container("a").unwrap().id,
        id,
        "it goes on running without its node"
    );
    let seen = world.get("p")["metadata"]["resourceVersion"].clone();
    world.start_node().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.runtime.container("a").unwrap().id, id);
    assert_eq!(
        world.get("p")["metadata"]["resourceVersion"],
        seen,
        "and nothing has to be written"
    );
    world.runtime.exit("a", 1);
    let pod = world
        .pod_is("p", "restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    assert_eq!(pod["metadata"]["uid"], world.get("p")["metadata"]["uid"]);
}

#[tokio::test(start_paused = true)]
async fn orphans_end_and_namesakes_are_not_mixed_up() {
    let mut world = World::start().await;
    world.simple("p");
    world.ready("p").await;
    let old = world.runtime.container("a").unwrap().id;
    world.stop_node().await;
    world.api.remove("pods", "ns", "p");
    let new = world.simple("p");
    world.start_node().await;
    let pod = world.ready("p").await;
    assert_eq!(pod["metadata"]["uid"], new["metadata"]["uid"]);
    let running = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    assert!(!running.ends_with(&old));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let state = world.runtime.state.lock();
    assert_eq!((state.sandboxes.len(), state.containers.len()), (1, 1));
    assert!(!state.containers.contains_key(&old));
    assert_eq!(std::fs::read_dir(world.folder.path().join("pods")).unwrap().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_at_once_is_ended_all_the_same() {
    let world = World::start().await;
    world.simple("p");
    world.ready("p").await;
    world.api.remove("pods", "ns", "p");
    let runtime = world.runtime.clone();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(runtime.state.lock().sandboxes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn jobs_finish_and_stay() {
    let world = World::start().await;
    world.pod(
        "p",
        json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "img:1"}]}),
    );
    world.ready("p").await;
    world.runtime.exit("a", 0);
    let pod = world.phase("p", "Succeeded").await;
    let ready = pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "Ready")
        .unwrap()
        .clone();
    assert_eq!(ready["reason"], "PodCompleted");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.runtime.container("a").is_some(), "for logs");
    world.delete("p", 30);
    world.gone("p").await;
    assert!(world.runtime.container("a").is_none());
}

#[tokio::test(start_paused = true)]
async fn liveness_kills_and_readiness_gates() {
    let world = World::start().await;
    world
        .runtime
        .state
        .lock()
        .exec
        .extend([("live".into(), 0), ("ready".into(), 1)]);
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 2});
    world.pod(
        "p",
        json!({"containers": [{"name": "a", "image": "img:1",
        "livenessProbe": probe("live"), "readinessProbe": probe("ready")}]}),
    );
    world.phase("p", "Running").await;
    world.event("Unhealthy: Readiness probe failed: out").await;
    assert_eq!(condition(&world.get("p"), "Ready"), "False");
    world.runtime.state.lock().exec.insert("ready".into(), 0);
    world.ready("p").await;
    world.runtime.state.lock().exec.insert("live".into(), 1);
    world
        .event("Killing: Container a failed liveness probe, will be restarted")
        .await;
    world.runtime.state.lock().exec.insert("live".into(), 0);
    world
        .pod_is("p", "restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    world.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn grace_shrinks_and_hooks_run() {
    let world = World::start().await;
    world.runtime.state.lock().stubborn.insert("a".into());
    world.pod(
        "p",
        json!({"containers": [{"name": "a", "image": "img:1", "lifecycle": {
        "postStart": {"exec": {"command": ["post"]}}, "preStop": {"exec": {"command": ["pre"]}}}}]}),
    );
    world.ready("p").await;
    assert_eq!(world.runtime.state.lock().execs, ["post"]);
    world.delete("p", 3600);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.runtime.state.lock().execs, ["post", "pre"]);
    let before = world.clock.now();
    world.delete("p", 5);
    world.gone("p").await;
    assert!(world.clock.now().duration_since(before).as_secs() < 60);
}

#[tokio::test(start_paused = true)]
async fn sandboxes_are_retried_and_init_containers_go_first() {
    let world = World::start().await;
    world.runtime.state.lock().fail_sandboxes = 2;
    world.pod(
        "p",
        json!({"initContainers": [{"name": "i", "image": "img:1"}], "containers": [{"name": "a", "image": "img:1"}]}),
    );
    world
        .event("FailedCreatePodSandBox: Failed to create pod sandbox: shim of pod sandbox \"new\": no luck")
        .await;
    world
        .pod_is("p", "init runs", |pod| {
            !pod["status"]["initContainerStatuses"][0]["state"]["running"].is_null()
        })
        .await;
    assert!(world.runtime.container("a").is_none());
    world.runtime.exit("i", 0);
    world.ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_above_its_requests_goes_when_memory_is_short() {
    let world = World::start().await;
    world.pod(
        "within",
        json!({"containers": [{"name": "w", "image": "img:1", "resources": {"requests": {"memory": "1Mi"}}}]}),
    );
    world.simple("above");
    world.ready("above").await;
    world.ready("within").await;
    world.machine.short.store(true, std::sync::atomic::Ordering::Relaxed);
    let pod = world.phase("above", "Failed").await;
    world.machine.short.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.starts_with(
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. Container a was using"
    ));
    assert_eq!(condition(&pod, "DisruptionTarget"), "True");
    world.event("Evicted: The node was low on resource: memory").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.get("within")["status"]["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn images_that_nobody_uses_and_a_pod_above_its_requests_go_when_the_disk_is_short() {
    let world = World::start().await;
    world.runtime.add_image("unused:1");
    world.pod(
        "within",
        json!({"containers": [{"name": "w", "image": "img:1", "resources": {"requests": {"ephemeral-storage": "1Mi"}}}]}),
    );
    world.simple("above");
    world.ready("above").await;
    world.ready("within").await;
    world.machine.full.store(true, std::sync::atomic::Ordering::Relaxed);
    let pod = world.phase("above", "Failed").await;
    world.machine.full.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10240Mi, available: 5242880Ki. \
             Container a was using "
        ),
        "{message}"
    );
    world.event("Attempting to reclaim ephemeral-storage").await;
    let images: Vec<String> = world.runtime.state.lock().images.keys().cloned().collect();
    assert_eq!(images, ["img:1"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.get("within")["status"]["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_class_that_the_node_does_not_have_keeps_its_pods_from_starting() {
    let world = World::start().await;
    for (name, handler) in [("known", "runc"), ("unknown", "kata")] {
        let meta = json!({"name": name});
        world.api.put(
            "runtimeclasses",
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": meta, "handler": handler}),
        );
        let containers = json!([{"name": name, "image": "img:1"}]);
        world.pod(name, json!({"runtimeClassName": name, "containers": containers}));
    }
    world.ready("known").await;
    world
        .event("FailedCreatePodSandBox: Failed to create pod sandbox: failed to get sandbox runtime: no runtime for \"kata\" is configured")
        .await;
    assert!(world.runtime.container("unknown").is_none());
}

#[tokio::test(start_paused = true)]
async fn pods_that_do_not_fit_on_the_node_fail() {
    let mut world = World::start().await;
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    let spec = |name: &str| json!({"containers": [{"name": name, "image": "img:1", "ports": ports}]});
    world.pod("first", spec("f"));
    world.ready("first").await;
    world.pod("second", spec("s"));
    let pod = world.phase("second", "Failed").await;
    assert_eq!(pod["status"]["reason"], "NodePorts");
    assert_eq!(
        pod["status"]["message"],
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    );
    assert!(world.runtime.container("s").is_none());
    world.pod(
        "large",
        json!({"containers": [{"name": "l", "image": "img:1", "resources": {"requests": {"cpu": "5"}}}]}),
    );
    let pod = world.phase("large", "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    world
        .event("OutOfcpu: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000")
        .await;
    // What runs already is not asked again.
    world.stop_node().await;
    world.start_node().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.get("first")["status"]["phase"], "Running");
}
