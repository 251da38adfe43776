use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use serde_json::json;

use crate::decide::Lifecycle;
use crate::observed::ContainerState::{Exited, Running};
use crate::observed::ProbeResult;
use crate::status::Waiting;
use crate::testing::{World, at, pod, simple};

fn condition(status: &PodStatus, kind: &str) -> String {
    let found = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
    format!(
        "{} {} {}",
        found.status,
        found.reason.as_deref().unwrap_or_default(),
        found.message.as_deref().unwrap_or_default()
    )
    .trim_end()
    .to_string()
}

fn container<'a>(status: &'a PodStatus, name: &str) -> &'a ContainerStatus {
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|c| c.name == name).unwrap()
}

fn waiting(status: &PodStatus, name: &str) -> String {
    let state = container(status, name).state.as_ref().unwrap();
    state
        .waiting
        .as_ref()
        .and_then(|w| w.reason.clone())
        .unwrap_or_default()
}

#[test]
fn a_pod_comes_up() {
    let mut world = World::new(simple("Always", &["a"]));
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(waiting(&status, "a"), "ContainerCreating");
    assert_eq!(condition(&status, "PodReadyToStartContainers"), "False");
    assert_eq!(condition(&status, "Initialized"), "True");
    assert_eq!(
        condition(&status, "Ready"),
        "False ContainersNotReady containers with unready status: [a]"
    );
    assert_eq!(condition(&status, "PodScheduled"), "True");
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    assert_eq!(status.pod_ip, None);
    world = world.sandbox("s0", true).container("a", Running, 0);
    world.previous = status;
    world.now += 5;
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready"), "True");
    assert_eq!(condition(&status, "ContainersReady"), "True");
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.5"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    assert_eq!(status.start_time.as_ref().unwrap().0, at(100));
    let a = container(&status, "a");
    assert_eq!(
        (a.ready, a.started, a.container_id.as_deref()),
        (true, Some(true), Some("skiff://a-0"))
    );
    let times: Vec<_> = status
        .conditions
        .iter()
        .flatten()
        .map(|c| c.last_transition_time.as_ref().unwrap().0)
        .collect();
    assert_eq!(
        times,
        [at(105), at(100), at(105), at(105), at(100)],
        "only what changed"
    );
    world.previous = status.clone();
    world.now += 60;
    assert_eq!(
        world.status(Lifecycle::Syncing),
        status,
        "the second run changes nothing"
    );
}

#[test]
fn probes_gate_readiness() {
    let spec = json!({"containers": [{"name": "a", "startupProbe": {"tcpSocket": {"port": 1}},
        "readinessProbe": {"tcpSocket": {"port": 1}}}]});
    let mut world = World::new(pod(spec)).sandbox("s0", true).container("a", Running, 0);
    let seen = |world: &World| {
        let status = world.status(Lifecycle::Syncing);
        (container(&status, "a").started, container(&status, "a").ready)
    };
    assert_eq!(seen(&world), (Some(false), false));
    world.probes.readiness.insert("a-0".into(), ProbeResult::Success);
    assert_eq!(seen(&world), (Some(false), false));
    world = world.startup("a-0", ProbeResult::Success);
    assert_eq!(seen(&world), (Some(true), true));
    world.probes.readiness.insert("a-0".into(), ProbeResult::Failure);
    assert_eq!(seen(&world), (Some(true), false));
}

#[test]
fn initialization_shows() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    let mut world = World::new(pod(spec)).sandbox("s0", true).container("i", Running, 0);
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(waiting(&status, "a"), "PodInitializing");
    assert_eq!(
        condition(&status, "Initialized"),
        "False ContainersNotInitialized containers with incomplete status: [i s]"
    );
    world.set("i", Exited, 0);
    world.add("s", Running, 0);
    world.add("a", Running, 0);
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Initialized"), "True");
    assert!(container(&status, "i").ready && container(&status, "s").ready);
    assert_eq!(condition(&status, "Ready"), "True");
}

#[test]
fn a_crash_loop_shows_and_survives_a_restart_of_the_agent() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Exited, 1);
    world.add("a", Exited, 2);
    world.waiting.insert(
        "a".into(),
        Waiting {
            reason: "CrashLoopBackOff".into(),
            message: "back-off".into(),
        },
    );
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let a = container(&status, "a");
    assert_eq!(
        (waiting(&status, "a").as_str(), a.restart_count),
        ("CrashLoopBackOff", 1)
    );
    assert_eq!(a.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 2);
    world.waiting.clear();
    world.previous = status;
    let status = world.status(Lifecycle::Syncing);
    let a = container(&status, "a");
    assert_eq!(a.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 2);
    assert_eq!(a.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    world.runtime.containers.clear();
    world.previous = status;
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(container(&status, "a").restart_count, 1);
}

#[test]
fn a_container_that_vanished_counts_as_a_restart() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Running, 0);
    world.previous = world.status(Lifecycle::Syncing);
    world.runtime.containers.clear();
    let status = world.status(Lifecycle::Syncing);
    let a = container(&status, "a");
    let last = a.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(
        (a.restart_count, last.exit_code, last.reason.as_deref()),
        (1, 137, Some("ContainerStatusUnknown"))
    );
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn finished_pods() {
    for (policy, code, phase, reason) in [
        ("Never", 0, "Succeeded", "PodCompleted"),
        ("Never", 3, "Failed", "PodFailed"),
        ("OnFailure", 0, "Succeeded", "PodCompleted"),
    ] {
        let mut world = World::new(simple(policy, &["a"]))
            .sandbox("s0", true)
            .container("a", Exited, code);
        let lifecycle = world.step().lifecycle;
        let status = world.status(lifecycle);
        assert_eq!(status.phase.as_deref(), Some(phase));
        assert_eq!(condition(&status, "Ready"), format!("False {reason}"));
        assert_eq!(condition(&status, "ContainersReady"), format!("False {reason}"));
        if code == 0 {
            assert_eq!(condition(&status, "Initialized"), "True PodCompleted");
        }
        world.previous = status;
        world.runtime.sandboxes[0].ready = false;
        let status = world.status(Lifecycle::Terminated);
        assert_eq!(
            (status.phase.as_deref(), status.pod_ip.as_deref()),
            (Some(phase), Some("10.0.0.5"))
        );
    }
}

#[test]
fn a_deleted_pod_that_never_ran_failed() {
    let mut world = World::new(simple("Always", &["a"])).deleted(30);
    let lifecycle = world.step().lifecycle;
    let status = world.status(lifecycle);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let exit = container(&status, "a")
        .state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(
        (exit.exit_code, exit.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
}

#[test]
fn a_deleted_pod_that_ended_well_succeeded() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", false)
        .container("a", Exited, 0)
        .deleted(30);
    let lifecycle = world.step().lifecycle;
    assert_eq!(lifecycle, Lifecycle::Terminated);
    assert_eq!(world.status(lifecycle).phase.as_deref(), Some("Succeeded"));
}

#[test]
fn readiness_gates_and_foreign_conditions_stay() {
    let mut world = World::new(pod(json!({"containers": [{"name": "a"}],
        "readinessGates": [{"conditionType": "x.io/up"}]})));
    world = world.sandbox("s0", true).container("a", Running, 0);
    let gate = "False ReadinessGatesNotReady corresponding condition of pod readiness gate \"x.io/up\" does not exist.";
    assert_eq!(condition(&world.status(Lifecycle::Syncing), "Ready"), gate);
    world.pod.status =
        Some(serde_json::from_value(json!({"conditions": [{"type": "x.io/up", "status": "True"}]})).unwrap());
    let status = world.status(Lifecycle::Syncing);
    assert_eq!(condition(&status, "Ready"), "True");
    assert_eq!(condition(&status, "x.io/up"), "True");
}

#[test]
fn a_new_failure_of_a_predecessor_the_runtime_forgot_is_kept() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Exited, 9);
    world.previous = world.status(Lifecycle::Syncing);
    world.add("a", Running, 0);
    world.runtime.containers.truncate(1);
    let status = world.status(Lifecycle::Syncing);
    let last = container(&status, "a")
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(last.exit_code, 9);
}
