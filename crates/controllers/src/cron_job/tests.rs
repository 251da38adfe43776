use serde_json::{Value, json};

use super::*;
use crate::fake::Fake;

fn cron(more: Value) -> Value {
    let mut cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"namespace": "ns", "name": "tick", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "schedule": "*/5 * * * *", "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": {"app": "tick"}},
                "spec": {"template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
            },
        },
    });
    for (key, value) in more.as_object().expect("fields") {
        cron["spec"][key] = value.clone();
    }
    cron
}

fn key() -> Key {
    Key::new("ns", "tick")
}

fn jobs(fake: &Fake) -> Vec<String> {
    fake.all::<Job>()
        .iter()
        .map(|job| job["metadata"]["name"].as_str().expect("named").to_owned())
        .collect()
}

fn finish(fake: &mut Fake, job: &str, how: &str) {
    let now = api::time::format(fake.now);
    fake.change::<Job>(
        "ns",
        job,
        json!({"status": {
            "startTime": now, "completionTime": now, "conditions": [{"type": how, "status": "True"}],
        }}),
    );
    fake.settle(reconcile, &key());
}

fn world(more: Value) -> Fake {
    let mut fake = Fake::new();
    fake.put("cronjobs", cron(more));
    fake
}

const FIRST: &str = "tick-29453765";

#[test]
fn a_job_starts_when_its_time_has_come() {
    let mut fake = world(json!({}));
    let plan = reconcile(&fake, &key(), &fake.turn());
    assert!(plan.is_empty());
    assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(300) + PADDING));
    fake.sleep(301);
    fake.settle(reconcile, &key());
    assert_eq!(jobs(&fake), [FIRST]);
    let job = fake.json::<Job>("ns", FIRST);
    assert_eq!(job["metadata"]["annotations"][SCHEDULED], "2026-01-01T00:05:00Z");
    assert_eq!(job["metadata"]["labels"]["app"], "tick");
    let status = &fake.json::<CronJob>("ns", "tick")["status"];
    assert_eq!(status["lastScheduleTime"], "2026-01-01T00:05:00Z");
    assert_eq!(status["active"][0]["name"], FIRST);
    finish(&mut fake, FIRST, "Complete");
    let status = &fake.json::<CronJob>("ns", "tick")["status"];
    assert!(status["active"].is_null());
    assert_eq!(status["lastSuccessfulTime"], "2026-01-01T00:05:01Z");
    assert_eq!(
        fake.events,
        [
            format!("SuccessfulCreate: Created job {FIRST}"),
            format!("SawCompletedJob: Saw completed job: {FIRST}, condition: Complete"),
        ]
    );
}

#[test]
fn of_several_missed_times_only_the_last_is_served() {
    let mut fake = world(json!({}));
    fake.sleep(3600 * 24 * 365);
    fake.settle(reconcile, &key());
    assert_eq!(jobs(&fake), ["tick-29979360"]);
    assert!(
        fake.events[0].starts_with("TooManyMissedTimes: too many missed start times"),
        "{:?}",
        fake.events
    );
}

#[test]
fn what_runs_is_let_be_or_replaced_as_the_policy_says() {
    for (policy, expected) in [("Allow", 2), ("Forbid", 1), ("Replace", 1)] {
        let mut fake = world(json!({"concurrencyPolicy": policy}));
        for _ in 0..2 {
            fake.sleep(300);
            fake.settle(reconcile, &key());
        }
        assert_eq!(jobs(&fake).len(), expected, "{policy}: {:?}", fake.events);
        assert_eq!(jobs(&fake).contains(&FIRST.to_owned()), policy != "Replace");
    }
}

#[test]
fn too_late_is_missed_and_suspended_is_not_started() {
    let mut fake = world(json!({"startingDeadlineSeconds": 10}));
    fake.sleep(320);
    fake.settle(reconcile, &key());
    assert!(jobs(&fake).is_empty());
    let mut fake = world(json!({"suspend": true}));
    fake.sleep(320);
    fake.settle(reconcile, &key());
    assert!(jobs(&fake).is_empty());
}

#[test]
fn old_jobs_are_removed_beyond_the_limits() {
    let mut fake = world(json!({}));
    for _ in 0..4 {
        fake.sleep(300);
        fake.settle(reconcile, &key());
        let newest = jobs(&fake).pop().expect("a job");
        finish(&mut fake, &newest, "Complete");
    }
    assert_eq!(jobs(&fake).len(), 1);
}

#[test]
fn a_zone_moves_the_times_and_a_wrong_one_is_told_once() {
    let mut fake = world(json!({"schedule": "0 12 * * *", "timeZone": "America/New_York"}));
    let plan = reconcile(&fake, &key(), &fake.turn());
    assert_eq!(plan.requeue_after, Some(SignedDuration::from_hours(17) + PADDING));
    fake.sleep(17 * 3600);
    fake.settle(reconcile, &key());
    let job = &fake.all::<Job>()[0];
    assert_eq!(job["metadata"]["annotations"][SCHEDULED], "2026-01-01T12:00:00-05:00");
    let mut fake = world(json!({"timeZone": "Nowhere/Land"}));
    fake.settle(reconcile, &key());
    assert_eq!(fake.events.len(), 1, "{:?}", fake.events);
}

#[test]
fn a_job_that_vanished_is_no_longer_active() {
    let mut fake = world(json!({}));
    fake.sleep(300);
    fake.settle(reconcile, &key());
    fake.remove::<Job>("ns", FIRST);
    fake.settle(reconcile, &key());
    assert!(fake.json::<CronJob>("ns", "tick")["status"]["active"].is_null());
    assert!(jobs(&fake).is_empty(), "the same time is not served twice");
    assert!(
        fake.events
            .contains(&format!("MissingJob: Active job went missing: {FIRST}"))
    );
}
