use serde_json::{Value, json};

use super::*;
use crate::fake::Fake;

fn job(more: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "ns", "name": "sum"},
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 2, "completionMode": "NonIndexed",
            "selector": {"matchLabels": {"job": "sum"}},
            "template": {
                "metadata": {"labels": {"job": "sum"}},
                "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"},
            },
        },
    });
    for (key, value) in more.as_object().expect("fields") {
        job["spec"][key] = value.clone();
    }
    job
}

fn world(more: Value) -> World3 {
    let mut fake = Fake::new();
    fake.put("jobs", job(more));
    let mut world = World3 {
        fake,
        notes: BTreeMap::new(),
    };
    world.settle();
    world
}

/// A fake server that keeps pods with finalizers, and remembers notes.
struct World3 {
    fake: Fake,
    notes: BTreeMap<String, jiff::Timestamp>,
}

impl World3 {
    fn settle(&mut self) {
        for _ in 0..30 {
            let turn = Turn {
                notes: self.notes.clone(),
                ..self.fake.turn()
            };
            let plan = reconcile(&self.fake, &Key::new("ns", "sum"), &turn);
            self.notes = plan.notes.clone();
            self.fake.execute(&plan);
            if plan.is_empty() {
                return;
            }
        }
        panic!("does not settle");
    }

    fn status(&self) -> Value {
        self.fake.json::<Job>("ns", "sum")["status"].clone()
    }

    fn running(&self) -> Vec<String> {
        let pods = self.fake.all::<Pod>();
        let running = pods
            .iter()
            .filter(|pod| pod["status"]["phase"].is_null() || pod["status"]["phase"] == "Running");
        running
            .map(|pod| pod["metadata"]["name"].as_str().expect("named").to_owned())
            .collect()
    }

    fn end(&mut self, pod: &str, phase: &str, code: i32) {
        let now = api::time::format(self.fake.now);
        self.fake.change::<Pod>(
            "ns",
            pod,
            json!({"status": {"phase": phase, "containerStatuses": [
            {"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": now}}}]}}),
        );
        self.settle();
    }

    fn condition(&self, kind: &str) -> Value {
        let status = self.status();
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|condition| condition["type"] == kind)
            .unwrap_or_default()
    }
}

#[test]
fn pods_run_until_enough_have_succeeded() {
    let mut world = world(json!({"parallelism": 2, "completions": 3}));
    assert_eq!(world.running().len(), 2);
    assert_eq!(world.status()["active"], 2);
    let first = world.running()[0].clone();
    let pod = world.fake.json::<Pod>("ns", &first);
    assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
    for done in 1..=3 {
        let pod = world.running()[0].clone();
        world.end(&pod, "Succeeded", 0);
        assert_eq!(world.status()["succeeded"], done);
    }
    assert!(world.running().is_empty());
    assert_eq!(world.condition("Complete")["reason"], "CompletionsReached");
    assert_eq!(world.condition("SuccessCriteriaMet")["status"], "True");
    assert!(!world.status()["completionTime"].is_null());
    assert!(
        world
            .fake
            .all::<Pod>()
            .iter()
            .all(|pod| pod["metadata"]["finalizers"].is_null())
    );
    assert_eq!(
        world.fake.events.last().map(String::as_str),
        Some("Completed: Job completed")
    );
}

#[test]
fn failures_are_replaced_ever_later_until_the_limit() {
    let mut world = world(json!({}));
    for (failures, wait) in [(1, 10), (2, 20)] {
        let pod = world.running()[0].clone();
        world.end(&pod, "Failed", 1);
        assert_eq!(world.status()["failed"], failures);
        assert!(world.running().is_empty(), "not yet");
        world.fake.sleep(wait);
        world.settle();
        assert_eq!(world.running().len(), 1);
    }
    let pod = world.running()[0].clone();
    world.end(&pod, "Failed", 1);
    assert_eq!(world.condition("Failed")["reason"], "BackoffLimitExceeded");
    assert_eq!(world.status()["failed"], 3);
    world.fake.sleep(10_000);
    world.settle();
    assert!(world.running().is_empty());
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut world = world(json!({"activeDeadlineSeconds": 30, "parallelism": 2, "completions": 5}));
    world.fake.sleep(29);
    world.settle();
    assert_eq!(world.running().len(), 2);
    world.fake.sleep(1);
    world.settle();
    assert!(world.running().is_empty());
    assert_eq!(
        world.condition("Failed")["message"],
        "Job was active longer than specified deadline"
    );
}

#[test]
fn each_index_runs_once() {
    let mut world = world(json!({"completionMode": "Indexed", "parallelism": 3, "completions": 4}));
    let pods = world.fake.all::<Pod>();
    let indexes: Vec<&Value> = pods
        .iter()
        .map(|pod| &pod["metadata"]["annotations"][pods::INDEX])
        .collect();
    assert_eq!(indexes, ["0", "1", "2"]);
    assert_eq!(pods[1]["spec"]["hostname"], "sum-1");
    assert_eq!(pods[1]["metadata"]["generateName"], "sum-1-");
    assert_eq!(
        pods[0]["spec"]["containers"][0]["env"][0]["name"],
        "JOB_COMPLETION_INDEX"
    );
    let names = world.running();
    world.end(&names[1], "Succeeded", 0);
    world.end(&names[2], "Succeeded", 0);
    assert_eq!(world.status()["completedIndexes"], "1,2");
    let last = world.running();
    for pod in last {
        world.end(&pod, "Succeeded", 0);
    }
    assert_eq!(world.status()["completedIndexes"], "0-3");
    assert_eq!(
        (&world.status()["succeeded"], &world.condition("Complete")["status"]),
        (&json!(4), &json!("True"))
    );
}

#[test]
fn an_index_has_a_limit_of_its_own() {
    let mut world = world(json!({
        "completionMode": "Indexed", "parallelism": 2, "completions": 2, "backoffLimitPerIndex": 1, "backoffLimit": 100,
    }));
    let names = world.running();
    world.end(&names[1], "Succeeded", 0);
    world.end(&names[0], "Failed", 1);
    world.fake.sleep(10);
    world.settle();
    let again = world.running();
    let pod = world.fake.json::<Pod>("ns", &again[0]);
    assert_eq!(
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"],
        "1"
    );
    world.end(&again[0], "Failed", 1);
    assert_eq!(world.status()["failedIndexes"], "0");
    assert_eq!(world.condition("Failed")["reason"], "FailedIndexes");
    assert_eq!(world.status()["failed"], 2);
}

#[test]
fn policies_ignore_failures_or_end_the_job() {
    let rules = json!({"rules": [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]});
    let mut world = world(json!({"podFailurePolicy": rules, "backoffLimit": 0}));
    let pod = world.running()[0].clone();
    world.end(&pod, "Failed", 3);
    world.fake.sleep(100);
    world.settle();
    assert_eq!(world.status()["failed"], Value::Null);
    let pod = world.running()[0].clone();
    world.end(&pod, "Failed", 42);
    let message = format!("Container c for pod ns/{pod} failed with exit code 42 matching FailJob rule at index 1");
    assert_eq!(world.condition("Failed")["message"], message);
}

#[test]
fn a_success_policy_ends_the_rest() {
    let mut world = world(json!({
        "completionMode": "Indexed", "parallelism": 3, "completions": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "1"}]},
    }));
    let names = world.running();
    world.end(&names[1], "Succeeded", 0);
    assert!(world.running().is_empty());
    assert_eq!(world.condition("Complete")["message"], "Matched rules at index 0");
}

#[test]
fn a_suspended_job_has_no_pods() {
    let mut world = world(json!({"suspend": true}));
    assert!(world.running().is_empty());
    assert_eq!(world.condition("Suspended")["status"], "True");
    assert_eq!(world.status()["startTime"], Value::Null);
    world
        .fake
        .change::<Job>("ns", "sum", json!({"spec": {"suspend": false}}));
    world.settle();
    assert_eq!(world.running().len(), 1);
    assert!(world.status()["startTime"].is_string());
    world
        .fake
        .change::<Job>("ns", "sum", json!({"spec": {"suspend": true}}));
    world.settle();
    assert!(world.running().is_empty());
    assert_eq!(world.status()["startTime"], Value::Null);
}

#[test]
fn pods_without_a_job_lose_the_finalizer() {
    let mut world = world(json!({}));
    let name = world.running()[0].clone();
    world.fake.remove::<Job>("ns", "sum");
    world.settle();
    assert!(world.fake.json::<Pod>("ns", &name)["metadata"]["finalizers"].is_null());
}
