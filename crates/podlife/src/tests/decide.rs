use serde_json::json;

use crate::decide::{KillReason, Lifecycle, SandboxAction};
use crate::observed::ContainerState::{Created, Exited, Running, Unknown};
use crate::observed::ProbeResult;
use crate::testing::{World, at, kills, pod, simple, starts};

#[test]
fn new_pod_gets_a_sandbox_then_its_containers() {
    let mut world = World::new(simple("Always", &["a", "b"]));
    let actions = world.decide();
    assert_eq!(actions.sandbox, SandboxAction::Create { attempt: 0 });
    assert!(actions.start.is_empty());
    world = world.sandbox("s0", true);
    assert_eq!(starts(&world.decide()), ["a", "b"]);
    world.memory.starting = ["a".to_string()].into();
    assert_eq!(starts(&world.decide()), ["b"]);
    world.memory.starting.clear();
    world.add("a", Running, 0);
    world.add("b", Running, 0);
    let actions = world.decide();
    assert!(actions.is_idle(), "the second run does nothing: {actions:?}");
    assert_eq!(actions.lifecycle, Lifecycle::Syncing);
}

#[test]
fn sandbox_work_under_way_is_not_asked_for_again() {
    let mut world = World::new(simple("Always", &["a"]));
    world.memory.sandbox_busy = true;
    assert!(world.decide().is_idle());
    world.memory.sandbox_busy = false;
    world.memory.not_before.insert(crate::decide::SANDBOX.into(), at(130));
    let actions = world.decide();
    assert!(actions.is_idle());
    assert_eq!(actions.wake_at, Some(at(130)));
}

#[test]
fn restart_policies() {
    for (policy, code, expected, lifecycle) in [
        ("Always", 0, vec!["a"], Lifecycle::Syncing),
        ("Always", 1, vec!["a"], Lifecycle::Syncing),
        ("OnFailure", 0, vec![], Lifecycle::Terminating),
        ("OnFailure", 1, vec!["a"], Lifecycle::Syncing),
        ("Never", 0, vec![], Lifecycle::Terminating),
        ("Never", 1, vec![], Lifecycle::Terminating),
    ] {
        let world = World::new(simple(policy, &["a"]))
            .sandbox("s0", true)
            .container("a", Exited, code);
        let actions = world.decide();
        assert_eq!(starts(&actions), expected, "{policy} {code}");
        assert_eq!(actions.lifecycle, lifecycle, "{policy} {code}");
    }
}

#[test]
fn container_policy_and_rules_win_over_the_pods() {
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "restartPolicy": "Always"},
        {"name": "b", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
        {"name": "c"},
    ]});
    let world = World::new(pod(spec)).sandbox("s0", true);
    let world = world
        .container("a", Exited, 0)
        .container("b", Exited, 42)
        .container("c", Exited, 1);
    assert_eq!(starts(&world.decide()), ["a", "b"]);
}

#[test]
fn crash_loop_waits_and_says_so() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Exited, 1);
    let actions = world.decide();
    assert_eq!(starts(&actions), ["a"], "the first restart is at once");
    assert_eq!(actions.start[0].restart_count, Some(1));
    let key = crate::decide::backoff_key(&world.pod.spec.as_ref().unwrap().containers[0]);
    world
        .memory
        .backoffs
        .next(&key, actions.start[0].after.unwrap(), at(world.now));
    world.now += 1;
    world.add("a", Exited, 1);
    world.now += 2;
    let actions = world.decide();
    assert!(actions.start.is_empty());
    assert_eq!(actions.wake_at, Some(at(111)));
    let waiting = &actions.waiting["a"];
    assert_eq!(waiting.reason, "CrashLoopBackOff");
    assert_eq!(
        waiting.message,
        "back-off 10s restarting failed container=a pod=p_ns(u1)"
    );
    world.now = 111;
    assert_eq!(starts(&world.decide()), ["a"]);
}

#[test]
fn failed_probes_kill() {
    for (policy, restart, suffix) in [("Always", true, ", will be restarted"), ("Never", false, "")] {
        let world = World::new(simple(policy, &["a", "b"])).sandbox("s0", true);
        let world = world.container("a", Running, 0).container("b", Running, 0);
        let mut world = world.liveness("a-0", ProbeResult::Failure);
        let actions = world.step();
        assert_eq!(kills(&actions), ["a"]);
        assert_eq!(
            actions.kill[0].message,
            format!("Container a failed liveness probe{suffix}")
        );
        assert_eq!(actions.kill[0].restart, restart);
        assert_eq!(actions.kill[0].deadline, at(130));
        assert!(world.decide().is_idle(), "a kill under way is not repeated");
    }
}

#[test]
fn the_probes_own_grace_period_counts() {
    let spec = json!({"terminationGracePeriodSeconds": 60, "containers": [{"name": "a",
        "startupProbe": {"terminationGracePeriodSeconds": 5, "tcpSocket": {"port": 1}}}]});
    let world = World::new(pod(spec)).sandbox("s0", true).container("a", Running, 0);
    let actions = world.startup("a-0", ProbeResult::Failure).decide();
    assert_eq!(
        (actions.kill[0].reason, actions.kill[0].deadline),
        (KillReason::StartupProbe, at(105))
    );
}

#[test]
fn a_killed_container_is_followed_whatever_the_policy_if_its_spec_changed() {
    let mut world = World::new(simple("Never", &["a"]))
        .sandbox("s0", true)
        .container("a", Running, 0);
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("other".into());
    let actions = world.step();
    assert_eq!(
        actions.kill[0].message,
        "Container a definition changed, will be restarted"
    );
    world.set("a", Exited, 0);
    world.memory.killing.clear();
    assert_eq!(starts(&world.decide()), ["a"]);
}

#[test]
fn lost_and_leftover_containers() {
    let world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Unknown, 0);
    let actions = world.decide();
    assert_eq!(
        actions.kill[0].message,
        "Container is in \"unknown\" state, try killing it before restart"
    );
    let world = World::new(simple("Never", &["a"]))
        .sandbox("s0", true)
        .container("a", Created, 0);
    let actions = world.decide();
    assert_eq!(actions.start[0].leftover.as_deref(), Some("a-0"));
    assert_eq!(actions.start[0].restart_count, Some(0));
}

#[test]
fn a_dead_sandbox_is_replaced_and_init_runs_again() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let world = World::new(pod(spec)).sandbox("s0", true);
    let mut world = world.container("i", Exited, 0).container("a", Running, 0);
    assert!(world.decide().is_idle());
    world.runtime.sandboxes[0].ready = false;
    assert_eq!(kills(&world.step()), ["a"]);
    world.set("a", Exited, 137);
    world.memory.killing.clear();
    assert_eq!(world.decide().sandbox, SandboxAction::Create { attempt: 1 });
    let world = world.sandbox("s1", true);
    assert_eq!(starts(&world.decide()), ["i"]);
}

#[test]
fn a_dead_sandbox_of_a_pod_that_ran_once_ends_it() {
    let mut world = World::new(simple("Never", &["a"]))
        .sandbox("s0", false)
        .container("a", Exited, 137);
    assert_eq!(world.step().lifecycle, Lifecycle::Terminated);
    let world = World::new(simple("Never", &["a"])).sandbox("s0", false);
    assert_eq!(world.decide().sandbox, SandboxAction::Create { attempt: 1 });
    let world = World::new(simple("OnFailure", &["a"]))
        .sandbox("s0", false)
        .container("a", Exited, 0);
    assert_eq!(world.decide().lifecycle, Lifecycle::Terminated);
}

#[test]
fn init_containers_run_in_order() {
    let spec = |policy: &str| {
        pod(
            json!({"restartPolicy": policy, "initContainers": [{"name": "i1"}, {"name": "i2"}],
            "containers": [{"name": "a"}]}),
        )
    };
    let mut world = World::new(spec("Always")).sandbox("s0", true);
    assert_eq!(starts(&world.decide()), ["i1"]);
    world.add("i1", Running, 0);
    assert!(world.decide().is_idle());
    world.set("i1", Exited, 0);
    assert_eq!(starts(&world.decide()), ["i2"]);
    world.add("i2", Exited, 1);
    assert_eq!(starts(&world.decide()), ["i2"], "a failed one is repeated");
    world.add("i2", Exited, 0);
    assert_eq!(starts(&world.decide()), ["a"]);
    world.runtime.containers.retain(|c| c.name != "i1");
    assert_eq!(starts(&world.decide()), ["a"], "the last one's trace is enough");
    let world = World::new(spec("Never")).sandbox("s0", true).container("i1", Exited, 1);
    assert_eq!(world.decide().lifecycle, Lifecycle::Terminating);
}

#[test]
fn sidecars_start_in_order_and_are_kept() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [
        {"name": "s", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}},
        {"name": "i"}], "containers": [{"name": "a"}]});
    let mut world = World::new(pod(spec)).sandbox("s0", true);
    assert_eq!(starts(&world.decide()), ["s"]);
    world.add("s", Running, 0);
    assert!(world.decide().is_idle(), "its startup probe gates the next");
    world = world.startup("s-0", ProbeResult::Success);
    assert_eq!(starts(&world.decide()), ["i"]);
    world.add("i", Exited, 0);
    assert_eq!(starts(&world.decide()), ["a"]);
    world.add("a", Running, 0);
    assert!(world.decide().is_idle());
    world.set("s", Exited, 0);
    assert_eq!(starts(&world.decide()), ["s"], "whatever the pod's policy");
    world.add("s", Running, 0);
    world.set("a", Exited, 0);
    let actions = world.step();
    assert_eq!(kills(&actions), ["s"], "sidecars do not keep a pod alive");
}

#[test]
fn ephemeral_containers_start_once() {
    let spec = json!({"containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "e", "image": "x"}]});
    let world = World::new(pod(spec)).sandbox("s0", true).container("a", Running, 0);
    assert_eq!(starts(&world.decide()), ["e"]);
    assert!(world.container("e", Exited, 1).decide().is_idle());
}

#[test]
fn doubles_and_strangers_are_killed() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Running, 0);
    world.add("a", Running, 0);
    world.add("stranger", Running, 0);
    let actions = world.decide();
    let mut ids: Vec<_> = actions.kill.iter().map(|k| k.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a-0", "stranger-0"]);
}

#[test]
fn a_failed_start_is_not_tried_before_its_time() {
    let mut world = World::new(simple("Always", &["a"])).sandbox("s0", true);
    world.memory.not_before.insert("a".into(), at(110));
    let actions = world.decide();
    assert!(actions.is_idle());
    assert_eq!(
        (actions.wake_at, actions.lifecycle),
        (Some(at(110)), Lifecycle::Syncing)
    );
    world.now = 110;
    assert_eq!(starts(&world.decide()), ["a"]);
}
