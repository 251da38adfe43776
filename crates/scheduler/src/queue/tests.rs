use super::*;
use crate::plugins::default_profile;
use crate::testing::{PodBuilder, pod};
use crate::verdict::NodeVerdict;

fn info(pod: PodBuilder) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(Arc::new(pod.build())))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn turned_down_by(plugin: &'static str) -> Verdict {
    let verdict = NodeVerdict {
        plugin,
        reasons: vec!["no".into()],
        resolvable: true,
    };
    Verdict {
        node_count: 1,
        nodes: [("n1".to_owned(), verdict)].into(),
    }
}

#[test]
fn priority_then_age() {
    let (mut queue, profile) = (Queue::default(), default_profile());
    queue.set(info(pod("old")), &profile, at(0));
    queue.set(info(pod("urgent").priority(10)), &profile, at(2));
    queue.set(info(pod("young")), &profile, at(1));
    let order: Vec<_> = std::iter::from_fn(|| queue.pop(at(3)))
        .map(|pod| pod.key.name.clone())
        .collect();
    assert_eq!(order, ["urgent", "old", "young"]);
}

#[test]
fn an_unschedulable_pod_waits_for_an_event_that_helps() {
    let (mut queue, profile) = (Queue::default(), default_profile());
    queue.set(info(pod("p")), &profile, at(0));
    let p = queue.pop(at(0)).unwrap();
    queue.failed(&p.key, turned_down_by("NodeAffinity"), &profile, at(0));
    queue.wake(ClusterEvent::PodRemoved, &profile, at(1));
    assert!(queue.pop(at(10)).is_none());
    queue.wake(ClusterEvent::NodeUpdated, &profile, at(10));
    assert!(queue.pop(at(10)).is_none(), "backs off first");
    assert_eq!(queue.next_wake(), Some(at(11)));
    assert!(queue.pop(at(11)).is_some());
}

#[test]
fn an_event_during_the_try_is_not_lost() {
    let (mut queue, profile) = (Queue::default(), default_profile());
    queue.set(info(pod("p")), &profile, at(0));
    let p = queue.pop(at(0)).unwrap();
    queue.wake(ClusterEvent::NodeAdded, &profile, at(0));
    queue.failed(&p.key, turned_down_by("NodeResourcesFit"), &profile, at(0));
    assert!(queue.pop(at(1)).is_some());
}

#[test]
fn nobody_waits_for_ever() {
    let (mut queue, profile) = (Queue::default(), default_profile());
    queue.set(info(pod("p")), &profile, at(0));
    let p = queue.pop(at(0)).unwrap();
    queue.failed(&p.key, turned_down_by("NodeName"), &profile, at(0));
    assert_eq!(queue.next_wake(), Some(at(300)));
    assert!(queue.pop(at(299)).is_none());
    assert!(queue.pop(at(300)).is_some());
}

#[test]
fn backoff_doubles_to_its_bound_and_a_removed_pod_is_gone() {
    let (mut queue, profile) = (Queue::default(), default_profile());
    queue.set(info(pod("p")), &profile, at(0));
    let mut now = 0;
    for wait in [1, 2, 4, 8, 10, 10] {
        let p = queue.pop(at(now)).unwrap();
        queue.retry(&p.key, at(now));
        assert_eq!(queue.next_wake(), Some(at(now + wait)));
        now += wait;
    }
    let p = queue.pop(at(now)).unwrap();
    queue.remove(&p.key);
    queue.retry(&p.key, at(now));
    assert_eq!(queue.lengths(), [0; 4]);
}
