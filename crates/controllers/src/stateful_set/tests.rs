use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, ready};

fn set(replicas: i32, more: Value) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"namespace": "ns", "name": "db", "generation": 1},
        "spec": {
            "replicas": replicas, "serviceName": "dbs", "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}},
        },
    });
    for (key, value) in more.as_object().expect("fields") {
        set["spec"][key] = value.clone();
    }
    set
}

fn key() -> Key {
    Key::new("ns", "db")
}

fn world(replicas: i32, more: Value) -> Fake {
    let mut fake = Fake::new();
    fake.put("statefulsets", set(replicas, more));
    settle(&mut fake);
    fake
}

/// As the API server does, gives new pods a phase.
fn settle(fake: &mut Fake) {
    for _ in 0..30 {
        let plan = reconcile(fake, &key(), &fake.turn());
        fake.execute(&plan);
        for mut pod in fake.all::<Pod>() {
            if pod["status"]["phase"].is_null() {
                pod["status"] = json!({"phase": "Pending"});
                fake.put("pods", pod);
            }
        }
        if plan.is_empty() {
            return;
        }
    }
    panic!("does not settle");
}

fn names(fake: &Fake) -> Vec<String> {
    fake.all::<Pod>()
        .iter()
        .map(|pod| pod["metadata"]["name"].as_str().expect("named").to_owned())
        .collect()
}

fn run(fake: &mut Fake, name: &str) {
    let pod = fake.json::<Pod>("ns", name);
    fake.put("pods", ready(pod, "n1", "10.0.0.1"));
    settle(fake);
}

fn run_all(fake: &mut Fake) {
    loop {
        let waiting = fake
            .all::<Pod>()
            .into_iter()
            .find(|pod| pod["status"]["phase"] != "Running");
        let Some(pod) = waiting else { return };
        run(fake, pod["metadata"]["name"].as_str().expect("named"));
    }
}

fn image(fake: &mut Fake, image: &str) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    fake.change::<StatefulSet>("ns", "db", patch);
    settle(fake);
}

#[test]
fn pods_come_one_after_the_other_with_names_and_hosts() {
    let mut fake = world(3, json!({}));
    assert_eq!(names(&fake), ["db-0"]);
    run(&mut fake, "db-0");
    assert_eq!(names(&fake), ["db-0", "db-1"]);
    run(&mut fake, "db-1");
    run(&mut fake, "db-2");
    let pod = fake.json::<Pod>("ns", "db-2");
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("db-2"), &json!("dbs"))
    );
    assert_eq!(pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], "db-2");
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "2");
    let status = &fake.json::<StatefulSet>("ns", "db")["status"];
    assert_eq!(
        pod["metadata"]["labels"]["controller-revision-hash"],
        status["currentRevision"]
    );
    for field in [
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "currentReplicas",
        "updatedReplicas",
    ] {
        assert_eq!(status[field], 3, "{field} of {status}");
    }
    assert!(
        fake.events
            .contains(&"SuccessfulCreate: create Pod db-0 in StatefulSet db successful".to_owned())
    );
}

#[test]
fn they_go_from_the_highest_and_wait_for_each_other() {
    let mut fake = world(3, json!({}));
    run_all(&mut fake);
    fake.change::<StatefulSet>("ns", "db", json!({"spec": {"replicas": 1}}));
    let plan = reconcile(&fake, &key(), &fake.turn());
    fake.execute(&plan);
    assert_eq!(names(&fake), ["db-0", "db-1"]);
    settle(&mut fake);
    assert_eq!(names(&fake), ["db-0"]);
}

#[test]
fn in_parallel_all_come_and_go_at_once() {
    let mut fake = world(3, json!({"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}));
    assert_eq!(names(&fake), ["db-5", "db-6", "db-7"]);
    fake.change::<StatefulSet>("ns", "db", json!({"spec": {"replicas": 0}}));
    settle(&mut fake);
    assert!(names(&fake).is_empty());
}

#[test]
fn an_update_goes_down_to_the_partition_one_by_one() {
    let mut fake = world(
        3,
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}),
    );
    run_all(&mut fake);
    image(&mut fake, "b");
    let images = |fake: &Fake| -> Vec<Value> {
        fake.all::<Pod>()
            .iter()
            .map(|pod| pod["spec"]["containers"][0]["image"].clone())
            .collect()
    };
    assert_eq!(images(&fake), ["a", "a", "b"], "the next waits for the last");
    run_all(&mut fake);
    assert_eq!(images(&fake), ["a", "b", "b"]);
    let status = &fake.json::<StatefulSet>("ns", "db")["status"];
    assert_ne!(status["currentRevision"], status["updateRevision"]);
    fake.remove::<Pod>("ns", "db-0");
    settle(&mut fake);
    assert_eq!(
        images(&fake),
        ["a", "b", "b"],
        "below the partition the old revision comes back"
    );
    run_all(&mut fake);
    fake.change::<StatefulSet>(
        "ns",
        "db",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}),
    );
    settle(&mut fake);
    run_all(&mut fake);
    let status = &fake.json::<StatefulSet>("ns", "db")["status"];
    assert_eq!(status["currentRevision"], status["updateRevision"]);
}

#[test]
fn as_many_as_may_be_unavailable_are_updated_at_once() {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}});
    let mut fake = world(4, json!({"podManagementPolicy": "Parallel", "updateStrategy": rolling}));
    run_all(&mut fake);
    image(&mut fake, "b");
    let new = fake
        .all::<Pod>()
        .iter()
        .filter(|pod| pod["spec"]["containers"][0]["image"] == "b")
        .count();
    assert_eq!(new, 2);
    run_all(&mut fake);
    assert!(
        fake.all::<Pod>()
            .iter()
            .all(|pod| pod["spec"]["containers"][0]["image"] == "b")
    );
}

#[test]
fn claims_are_made_once_and_belong_to_whom_the_policy_says() {
    let template = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let mut fake = world(
        2,
        json!({"volumeClaimTemplates": template, "persistentVolumeClaimRetentionPolicy": policy}),
    );
    run_all(&mut fake);
    let claim = fake.json::<PersistentVolumeClaim>("ns", "data-db-1");
    assert_eq!(claim["metadata"]["labels"]["app"], "db");
    assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    let pod = fake.json::<Pod>("ns", "db-1");
    assert_eq!(
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"],
        "data-db-1"
    );
    fake.change::<StatefulSet>("ns", "db", json!({"spec": {"replicas": 1}}));
    settle(&mut fake);
    let claim = fake.json::<PersistentVolumeClaim>("ns", "data-db-1");
    assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], "Pod");
    fake.change::<StatefulSet>("ns", "db", json!({"spec": {"replicas": 2}}));
    fake.change::<PersistentVolumeClaim>(
        "ns",
        "data-db-1",
        json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "db-1", "uid": "the-one-before"}]}}),
    );
    settle(&mut fake);
    assert_eq!(names(&fake), ["db-0"], "the old claim must go first");
    fake.remove::<PersistentVolumeClaim>("ns", "data-db-1");
    settle(&mut fake);
    assert_eq!(names(&fake), ["db-0", "db-1"]);
}

#[test]
fn ended_pods_are_made_anew_and_strangers_left_alone() {
    let mut fake = world(1, json!({}));
    fake.put("pods", json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns", "name": "other", "labels": {"app": "db"}},
        "spec": {"containers": []}, "status": {"phase": "Running"},
    }));
    fake.change::<Pod>("ns", "db-0", json!({"status": {"phase": "Failed"}}));
    settle(&mut fake);
    assert_eq!(fake.json::<Pod>("ns", "db-0")["status"]["phase"], "Pending");
    assert!(fake.json::<Pod>("ns", "other")["metadata"]["ownerReferences"].is_null());
}
