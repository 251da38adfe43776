use jiff::ToSpan;

use super::*;
use crate::framework::{Action, Rejection, Resource};
use crate::testing::pod;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + seconds.seconds()
}

fn verdict(plugin: &'static str) -> Verdict {
    let mut verdict = Verdict {
        node_count: 1,
        ..Verdict::default()
    };
    verdict.add(plugin, Rejection::unschedulable("full"), 0);
    verdict
}

fn gone() -> Event {
    Event::bare(Resource::AssignedPod, Action::DELETE)
}

fn yes(_: &'static str, _: &PodInfo, _: &Event) -> bool {
    true
}

fn no(_: &'static str, _: &PodInfo, _: &Event) -> bool {
    false
}

fn popped(queue: &mut Queue, now: i64) -> Option<String> {
    queue.pop(at(now)).map(|popped| popped.pod.key.name.to_string())
}

#[test]
fn priority_comes_before_age() {
    let mut queue = Queue::default();
    queue.set(pod("old").info(), false, at(0));
    queue.set(pod("young").info(), false, at(1));
    queue.set(pod("important").priority(10).info(), false, at(2));
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, 3)).collect();
    assert_eq!(order, ["important", "old", "young"]);
}

#[test]
fn a_pod_waits_for_an_event_that_helps_and_for_its_backoff() {
    let mut queue = Queue::default();
    let waiting = pod("p").info();
    queue.set(waiting.clone(), false, at(0));
    queue.pop(at(0)).unwrap();
    queue.failed(&waiting.key, verdict("A"), &yes, at(10));
    queue.wake(&gone(), &["B"], &yes, at(10));
    assert_eq!(queue.lengths(), [0, 0, 1, 0]);
    queue.wake(&gone(), &["A"], &no, at(10));
    assert_eq!(queue.lengths(), [0, 0, 1, 0]);
    queue.wake(&gone(), &["A"], &yes, at(10));
    assert_eq!(queue.lengths(), [0, 1, 0, 0]);
    assert_eq!(queue.next_wake(), Some(at(11)));
    queue.set(pod("other").info(), false, at(10));
    assert_eq!(popped(&mut queue, 10).unwrap(), "other");
    // Nobody else is active: no need to wait.
    assert_eq!(popped(&mut queue, 10).unwrap(), "p");
}

#[test]
fn backoff_counts_from_the_failure() {
    let mut queue = Queue::default();
    let waiting = pod("p").info();
    queue.set(waiting.clone(), false, at(0));
    queue.pop(at(0)).unwrap();
    queue.failed(&waiting.key, verdict("A"), &yes, at(0));
    queue.wake(&gone(), &["A"], &yes, at(5));
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
}

#[test]
fn an_event_during_the_try_is_not_lost() {
    let mut queue = Queue::default();
    let waiting = pod("p").info();
    queue.set(waiting.clone(), false, at(0));
    queue.wake(&gone(), &["A"], &yes, at(0));
    queue.pop(at(0)).unwrap();
    queue.failed(&waiting.key, verdict("A"), &yes, at(0));
    assert_eq!(queue.lengths(), [0, 0, 1, 0], "the event was before the try");
    queue.wake(&gone(), &["A"], &yes, at(20));
    queue.pop(at(20)).unwrap();
    queue.wake(&gone(), &["A"], &yes, at(20));
    queue.failed(&waiting.key, verdict("A"), &yes, at(20));
    assert_eq!(queue.lengths(), [0, 1, 0, 0]);
}

#[test]
fn errors_back_off_longer_each_time_and_are_not_tried_early() {
    let mut queue = Queue::default();
    let waiting = pod("p").info();
    queue.set(waiting.clone(), false, at(0));
    let mut now = 0;
    for expected in [1, 2, 4, 8, 10, 10] {
        assert!(queue.pop(at(now)).is_some());
        queue.retry(&waiting.key, at(now));
        assert!(queue.pop(at(now + expected - 1)).is_none());
        now += expected;
    }
}

#[test]
fn nobody_waits_forever() {
    let mut queue = Queue::default();
    let waiting = pod("p").info();
    queue.set(waiting.clone(), false, at(0));
    queue.pop(at(0)).unwrap();
    queue.failed(&waiting.key, verdict("A"), &no, at(0));
    assert_eq!(queue.next_wake(), Some(at(300)));
    assert!(queue.pop(at(299)).is_none());
    assert!(queue.pop(at(300)).is_some());
}

#[test]
fn gated_pods_wait_for_their_gates_only() {
    let mut queue = Queue::default();
    let waiting = pod("p").info();
    queue.set(waiting.clone(), true, at(0));
    queue.wake(&gone(), &["A"], &yes, at(0));
    assert!(queue.pop(at(1000)).is_none());
    queue.set(waiting.clone(), false, at(1000));
    assert!(queue.pop(at(1000)).is_some());
    queue.remove(&waiting.key);
    assert_eq!(queue.lengths(), [0; 4]);
}

#[test]
fn like_verdicts_are_kept_once() {
    let mut queue = Queue::default();
    for name in ["a", "b"] {
        let waiting = pod(name).info();
        queue.set(waiting.clone(), false, at(0));
        queue.pop(at(0)).unwrap();
        queue.failed(&waiting.key, verdict("A"), &no, at(0));
    }
    let verdicts: Vec<_> = queue.pending().filter_map(|(_, verdict, _)| verdict.cloned()).collect();
    assert!(Arc::ptr_eq(&verdicts[0], &verdicts[1]));
}

#[test]
fn events_are_kept_for_who_is_tried_not_for_who_is_bound() {
    let mut queue = Queue::new(Patience::default());
    let waiting = pod("p").info();
    queue.set(waiting.clone(), false, at(0));
    assert_eq!(popped(&mut queue, 0).as_deref(), Some("p"));
    queue.wake(&gone(), &["X"], &no, at(0));
    assert_eq!(queue.flight.since(0).count(), 1);
    queue.binding(&waiting.key);
    queue.wake(&gone(), &["X"], &no, at(1));
    assert_eq!(queue.flight.since(0).count(), 0);
    // The binding failed.
    queue.retry(&waiting.key, at(2));
    assert_eq!(queue.lengths(), [0, 1, 0, 0]);
    assert_eq!(popped(&mut queue, 3).as_deref(), Some("p"));
}
