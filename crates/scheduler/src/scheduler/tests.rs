use jiff::ToSpan;

use super::*;
use crate::cycle::NoJudge;
use crate::plugins::default_profile;
use crate::testing::{node, pod};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + seconds.seconds()
}

fn scheduler() -> Scheduler {
    Scheduler::new(vec![default_profile()], Patience::default(), 7)
}

fn step(scheduler: &mut Scheduler, now: i64) -> Outcome {
    let popped = scheduler.pop(at(now)).expect("a pod waits");
    scheduler.decide(popped, at(now), &mut NoJudge)
}

#[test]
fn a_pod_goes_from_pending_to_bound() {
    let mut scheduler = scheduler();
    scheduler.set_node(&node("n1").build(), at(0));
    scheduler.set_pod(pod("p").requests("1", "1Gi").info(), at(0));
    let Outcome::Bind(placed) = step(&mut scheduler, 0) else {
        panic!()
    };
    assert_eq!(&*placed.node, "n1");
    assert_eq!(scheduler.pre_bind(&placed, at(0)), PreBind::Done);
    assert_eq!(scheduler.binding(&placed.pod), Some(Binding::Api));
    scheduler.bound(&placed, at(1));
    scheduler.set_pod(pod("p").requests("1", "1Gi").on("n1").info(), at(1));
    assert!(!scheduler.cluster.is_assumed(&placed.pod.key));
    assert_eq!(scheduler.cluster.node("n1").unwrap().requested.milli_cpu, 1000);
    assert_eq!(scheduler.metrics.attempts(Attempted::Scheduled), 1);
}

#[test]
fn a_binding_that_fails_gives_the_room_back() {
    let mut scheduler = scheduler();
    scheduler.set_node(&node("n1").cpu("1").build(), at(0));
    scheduler.set_pod(pod("p").requests("1", "1Gi").info(), at(0));
    let Outcome::Bind(placed) = step(&mut scheduler, 0) else {
        panic!()
    };
    let Outcome::Unschedulable(report) = scheduler.give_up(&placed, "no", at(0)) else {
        panic!()
    };
    assert_eq!((report.reason, report.message.as_str()), ("SchedulerError", "no"));
    assert_eq!(scheduler.cluster.node("n1").unwrap().requested.milli_cpu, 0);
    assert!(scheduler.pop(at(0)).is_none());
    assert!(scheduler.pop(at(1)).is_some());
}

#[test]
fn room_is_made_for_the_important() {
    let mut scheduler = scheduler();
    scheduler.set_node(&node("n1").cpu("4").build(), at(0));
    scheduler.set_pod(pod("low").requests("3", "1Gi").on("n1").info(), at(0));
    scheduler.set_pod(pod("high").requests("3", "1Gi").priority(10).info(), at(0));
    let Outcome::Unschedulable(report) = step(&mut scheduler, 0) else {
        panic!()
    };
    assert_eq!(report.message, "0/1 nodes are available: 1 Insufficient cpu.");
    assert_eq!(report.nominate, Some(Some("n1".into())));
    assert_eq!(&*report.victims[0].key.name, "low");
    // While the evictions are under way nothing else happens to it, but nothing is lost.
    assert!(scheduler.pop(at(1)).is_none());
    let low = report.victims[0].clone();
    scheduler.remove_pod(&low, at(1));
    scheduler.preempted(&report.pod.key, true, at(1));
    // Somebody less important does not get the room, even while the other backs off.
    scheduler.set_pod(pod("low2").requests("3", "1Gi").info(), at(1));
    let Outcome::Unschedulable(other) = step(&mut scheduler, 1) else {
        panic!()
    };
    assert_eq!(&*other.pod.key.name, "low2");
    let Outcome::Bind(placed) = step(&mut scheduler, 3) else {
        panic!()
    };
    assert_eq!(&*placed.pod.key.name, "high");
    assert_eq!(scheduler.cluster.nominated_on("n1").count(), 0);
}

#[test]
fn upstreams_words_when_preemption_does_not_help() {
    let mut scheduler = scheduler();
    scheduler.set_node(&node("n1").cpu("1").build(), at(0));
    scheduler.set_node(&node("n2").taint("db", "NoSchedule").build(), at(0));
    scheduler.set_node(&node("n3").cpu("4").pods("1").build(), at(0));
    scheduler.set_pod(pod("there").priority(10).on("n3").info(), at(0));
    scheduler.set_pod(pod("p").requests("2", "1Gi").priority(5).info(), at(0));
    let Outcome::Unschedulable(report) = step(&mut scheduler, 0) else {
        panic!()
    };
    assert_eq!(
        report.message,
        "0/3 nodes are available: 1 Insufficient cpu, 1 Too many pods, 1 node(s) had untolerated taint(s). \
         preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling.."
    );
    assert!(!report.known);
}

#[test]
fn events_wake_only_pods_that_they_may_help() {
    let mut scheduler = scheduler();
    scheduler.set_node(&node("n1").cpu("1").build(), at(0));
    scheduler.set_pod(pod("there").requests("1", "1Gi").on("n1").info(), at(0));
    scheduler.set_pod(pod("cpu").requests("1", "1Gi").info(), at(0));
    scheduler.set_pod(pod("disk").selects("disk", "ssd").info(), at(0));
    assert!(matches!(step(&mut scheduler, 0), Outcome::Unschedulable(_)));
    assert!(matches!(step(&mut scheduler, 0), Outcome::Unschedulable(_)));
    // A label helps only the one that selects it.
    scheduler.set_node(&node("n1").cpu("1").label("disk", "ssd").build(), at(20));
    assert_eq!(scheduler.queue().lengths(), [1, 0, 1, 0]);
    // A pod that goes helps only the one that needs room.
    let there = pod("there").requests("1", "1Gi").on("n1").info();
    scheduler.remove_pod(&there, at(20));
    assert_eq!(scheduler.queue().lengths(), [2, 0, 0, 0]);
}

#[test]
fn gates_are_asked_again() {
    let mut scheduler = scheduler();
    scheduler.set_node(&node("n1").build(), at(0));
    let gates = serde_json::json!({"schedulingGates": [{"name": "a"}, {"name": "b"}]});
    scheduler.set_pod(pod("p").json(gates).info(), at(0));
    assert_eq!(scheduler.queue().lengths(), [0, 0, 0, 1]);
    scheduler.set_pod(pod("p").info(), at(1));
    assert_eq!(scheduler.queue().lengths(), [1, 0, 0, 0]);
}
