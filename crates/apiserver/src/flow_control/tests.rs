//! Classification, waiting, refusing, lending.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::Method;
use serde_json::json;

use super::*;
use crate::request::Query;

fn info(method: &Method, path: &str) -> RequestInfo {
    RequestInfo::parse(method, path, &Query::default())
}

fn control(total: u32) -> FlowControl {
    FlowControl::new(total, Arc::new(Metrics::new()))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn requests_find_upstreams_levels() {
    let control = control(600);
    let node = UserInfo::node("n");
    let account = UserInfo::service_account("ns", "a");
    let system_account = UserInfo::service_account("kube-system", "deployment-controller");
    let pods = "/api/v1/namespaces/ns/pods";
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    for (user, path, schema, level) in [
        (UserInfo::api_server(), pods, "exempt", "exempt"),
        (UserInfo::anonymous(), "/livez", "probes", "exempt"),
        (node.clone(), lease, "system-node-high", "node-high"),
        (node.clone(), "/api/v1/nodes/n/status", "system-node-high", "node-high"),
        (node, pods, "system-nodes", "system"),
        (
            UserInfo::new("system:kube-scheduler", &[]),
            pods,
            "kube-scheduler",
            "workload-high",
        ),
        (
            UserInfo::new("system:kube-scheduler", &[]),
            lease,
            "system-leader-election",
            "leader-election",
        ),
        (system_account, pods, "kube-system-service-accounts", "workload-high"),
        (account, pods, "service-accounts", "workload-low"),
        (UserInfo::new("jane", &[]), pods, "global-default", "global-default"),
        (UserInfo::anonymous(), "/metrics", "global-default", "global-default"),
    ] {
        let ticket = control.admit(&info(&Method::GET, path), &user, LONG, || 1).await;
        let class = ticket.ok().map(|ticket| ticket.class.clone()).unwrap();
        assert_eq!((&*class.schema, &*class.level), (schema, level), "{} {path}", user.name);
    }
}

/// A level of one seat, with one queue of one place.
fn narrow(borrows: u32) -> Vec<api::Value> {
    vec![
        json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": "narrow", "uid": "1"}, "spec": {
            "type": "Limited", "limited": {"nominalConcurrencyShares": 1, "borrowingLimitPercent": borrows,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}}}}}),
        json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": "rich"}, "spec": {
            "type": "Limited", "limited": {"nominalConcurrencyShares": 1, "lendablePercent": 100,
                "limitResponse": {"type": "Reject"}}}}),
        json!({"kind": "FlowSchema", "metadata": {"name": "jane", "uid": "2"}, "spec": {
            "matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "narrow"}, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "jane"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]}}),
    ]
}

#[tokio::test]
async fn the_next_waits_and_the_one_after_is_refused() {
    // catch-all takes 5 of 7 shares.
    let control = control(7);
    control.configure(&narrow(0));
    let jane = UserInfo::new("jane", &[]);
    let pods = info(&Method::GET, "/api/v1/namespaces/ns/pods");
    let admit = || control.admit(&pods, &jane, LONG, || 1);
    let first = admit().await.ok().unwrap();
    assert_eq!(first.class.level_uid.as_ref().unwrap(), "1");
    assert_eq!(first.class.schema_uid.as_ref().unwrap(), "2");
    let mut second = Box::pin(admit());
    assert!((&mut second).now_or_never().is_none());
    let refused = admit().await.err().unwrap();
    assert_eq!((refused.retry_after, &*refused.class.schema), (1, "jane"));
    drop(first);
    let second = second.await.ok().unwrap();
    // Whoever waits too long is refused, and leaves the queue.
    let short = Duration::from_millis(20);
    let late = control.admit(&pods, &jane, short, || 1).await.err().unwrap();
    assert_eq!(&*late.class.level, "narrow");
    drop(second);
    assert!(admit().await.is_ok());
    let dump = control.dump_levels();
    assert!(dump.contains("narrow, 0, true, false, 0, 0, 3, 1, 1, 0"), "{dump}");
}

#[tokio::test]
async fn a_full_level_borrows() {
    let control = control(70);
    control.configure(&narrow(100));
    let jane = UserInfo::new("jane", &[]);
    let pods = info(&Method::GET, "/api/v1/namespaces/ns/pods");
    let mut tickets = Vec::new();
    // 10 seats are its own; it gets its part of those that others do not need.
    for _ in 0..11 {
        tickets.extend(control.admit(&pods, &jane, LONG, || 1).await.ok());
    }
    assert_eq!(tickets.len(), 11);
    let text = control.metrics.text();
    assert!(
        text.contains("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"narrow\"} 10"),
        "{text}"
    );
    assert!(
        text.contains("apiserver_flowcontrol_upper_limit_seats{priority_level=\"narrow\"} 20"),
        "{text}"
    );
}

#[tokio::test]
async fn a_request_that_goes_away_leaves_its_seat() {
    let control = control(7);
    control.configure(&narrow(0));
    let jane = UserInfo::new("jane", &[]);
    let pods = info(&Method::GET, "/api/v1/namespaces/ns/pods");
    let first = control.admit(&pods, &jane, LONG, || 1).await.ok().unwrap();
    let mut second = Box::pin(control.admit(&pods, &jane, LONG, || 1));
    assert!((&mut second).now_or_never().is_none());
    // It is given the seat, but is gone before it takes it.
    drop(first);
    drop(second);
    assert!(control.admit(&pods, &jane, LONG, || 1).now_or_never().is_some());
}

#[test]
fn defaults_are_upstreams() {
    let objects = defaults::defaults();
    assert_eq!(objects.len(), 21);
}
