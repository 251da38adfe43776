use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::decide::{Lifecycle, SandboxAction};
use crate::observed::ContainerState::{Exited, Running};
use crate::shutdown::{Cause, remaining};
use crate::testing::{World, at, kills, pod, simple};

#[test]
fn a_deleted_pod_goes_from_containers_to_sandbox_to_nothing() {
    let world = World::new(simple("Always", &["a", "b"])).sandbox("s0", true);
    let mut world = world.container("a", Running, 0).container("b", Running, 0).deleted(20);
    let actions = world.step();
    assert_eq!(actions.lifecycle, Lifecycle::Terminating);
    assert_eq!(kills(&actions), ["b", "a"]);
    assert!(
        actions
            .kill
            .iter()
            .all(|k| k.deadline == at(120) && k.message == format!("Stopping container {}", k.name))
    );
    world.now += 5;
    assert!(world.step().is_idle());
    world.set("a", Exited, 0);
    world.set("b", Exited, 0);
    world.memory.killing.clear();
    assert_eq!(world.step().sandbox, SandboxAction::Stop { ids: vec!["s0".into()] });
    world.runtime.sandboxes[0].ready = false;
    assert_eq!(world.step().lifecycle, Lifecycle::Terminated);
}

#[test]
fn the_deadline_only_moves_closer() {
    let mut world = World::new(simple("Always", &["a"]))
        .sandbox("s0", true)
        .container("a", Running, 0)
        .deleted(60);
    world.step();
    world.now += 10;
    world.delete(600);
    assert!(world.step().is_idle());
    assert_eq!(world.memory.ending.as_ref().unwrap().deadline, at(160));
    world.delete(5);
    let actions = world.step();
    assert_eq!((actions.kill[0].deadline, actions.kill[0].hurry), (at(115), true));
    world.delete(0);
    assert_eq!(world.step().kill[0].deadline, at(111));
    assert_eq!(remaining(at(111), at(150)).as_secs(), 2);
}

#[test]
fn sidecars_end_last_in_reverse() {
    let spec = json!({"initContainers": [
        {"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    let world = World::new(pod(spec)).sandbox("s0", true);
    let world = world
        .container("s1", Running, 0)
        .container("s2", Running, 0)
        .container("a", Running, 0);
    let mut world = world.deleted(30);
    for expected in ["a", "s2", "s1"] {
        assert_eq!(kills(&world.step()), [expected]);
        world.now += 7;
        world.set(expected, Exited, 0);
        world.memory.killing.clear();
    }
    assert_eq!(
        world.memory.ending.as_ref().unwrap().deadline,
        at(130),
        "one grace period for all"
    );
}

#[test]
fn nothing_is_stopped_below_a_start_under_way() {
    let mut world = World::new(simple("Always", &["a"])).sandbox("s0", true).deleted(30);
    world.memory.starting.insert("a".into());
    assert!(world.step().is_idle());
    world.memory.starting.clear();
    assert_eq!(world.step().sandbox, SandboxAction::Stop { ids: vec!["s0".into()] });
}

#[test]
fn active_deadline() {
    let mut world = World::new(pod(json!({"activeDeadlineSeconds": 30, "containers": [{"name": "a"}]})));
    world.pod.status = Some(Default::default());
    world.pod.status.as_mut().unwrap().start_time = Some(Time(at(80)));
    let mut world = world.sandbox("s0", true).container("a", Running, 0);
    let actions = world.step();
    assert_eq!((actions.wake_at, actions.kill.len()), (Some(at(110)), 0));
    world.now = 110;
    assert_eq!(kills(&world.step()), ["a"]);
    assert!(
        matches!(&world.memory.ending.as_ref().unwrap().cause, Cause::Failed { reason, .. } if reason == "DeadlineExceeded")
    );
    let status = world.status(Lifecycle::Terminating);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn a_finished_pod_is_never_started_again() {
    let mut world = World::new(simple("Always", &["a"]));
    world.pod.status = Some(serde_json::from_value(json!({"phase": "Succeeded"})).unwrap());
    assert_eq!(world.step().lifecycle, Lifecycle::Terminated);
    let mut world = world.sandbox("s0", true).container("a", Running, 0);
    assert_eq!(kills(&world.step()), ["a"]);
}
