use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::{Value, json};

use super::*;
use crate::fake::Fake;

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "ns", "name": "web", "generation": 1},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 1, "progressDeadlineSeconds": 600,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

fn key() -> Key {
    Key::new("ns", "web")
}

fn sets(fake: &Fake) -> Vec<(String, i64)> {
    let mut sets: Vec<(String, i64)> = fake
        .all::<ReplicaSet>()
        .iter()
        .map(|set| {
            let image = set["spec"]["template"]["spec"]["containers"][0]["image"]
                .as_str()
                .expect("an image");
            (image.to_owned(), set["spec"]["replicas"].as_i64().expect("replicas"))
        })
        .collect();
    sets.sort();
    sets
}

/// What the replica set controller does when all is well: every pod available, up to `limit`.
fn run_pods(fake: &mut Fake, image: &str, limit: i64) {
    for set in fake.all::<ReplicaSet>() {
        let wanted = set["spec"]["replicas"].as_i64().expect("replicas");
        let ours = set["spec"]["template"]["spec"]["containers"][0]["image"] == image;
        let available = if ours {
            wanted.min(limit)
        } else {
            wanted.min(set["status"]["availableReplicas"].as_i64().unwrap_or(wanted))
        };
        let name = set["metadata"]["name"].as_str().expect("a name").to_owned();
        let status = json!({"status": {
            "replicas": wanted, "readyReplicas": available, "availableReplicas": available, "observedGeneration": set["metadata"]["generation"],
        }});
        fake.change::<ReplicaSet>("ns", &name, status);
    }
}

fn roll_out(fake: &mut Fake, image: &str) {
    for _ in 0..20 {
        fake.settle(reconcile, &key());
        run_pods(fake, image, i64::MAX);
    }
    fake.settle(reconcile, &key());
}

fn set_image(fake: &mut Fake, image: &str, generation: i64) {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    let patch = json!({"metadata": {"generation": generation}, "spec": {"template": template}});
    fake.change::<Deployment>("ns", "web", patch);
    fake.sleep(1);
}

fn condition(fake: &Fake, kind: &str) -> Value {
    let deployment = fake.json::<Deployment>("ns", "web");
    let conditions = deployment["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(Value::Null)
}

#[test]
fn a_new_deployment_gets_a_set_and_completes() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(3, "v1"));
    fake.settle(reconcile, &key());
    assert_eq!(sets(&fake), [("v1".to_owned(), 3)]);
    let set = fake.all::<ReplicaSet>().remove(0);
    let name = set["metadata"]["name"].as_str().expect("a name");
    assert_eq!(
        fake.events,
        [format!("ScalingReplicaSet: Scaled up replica set {name} from 0 to 3")]
    );
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().expect("a hash");
    assert_eq!(name, format!("web-{hash}"));
    assert_eq!(set["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    let annotations = &set["metadata"]["annotations"];
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "1");
    assert_eq!(annotations["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(condition(&fake, "Progressing")["reason"], "NewReplicaSetCreated");
    assert_eq!(condition(&fake, "Available")["status"], "False");

    roll_out(&mut fake, "v1");
    let deployment = fake.json::<Deployment>("ns", "web");
    assert_eq!(
        deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "1"
    );
    assert_eq!(deployment["status"]["availableReplicas"], 3);
    assert_eq!(condition(&fake, "Progressing")["reason"], "NewReplicaSetAvailable");
    assert_eq!(condition(&fake, "Available")["status"], "True");
}

#[test]
fn a_rolling_update_respects_its_limits_and_keeps_history() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(4, "v1"));
    roll_out(&mut fake, "v1");
    set_image(&mut fake, "v2", 2);
    for step in 0..20 {
        fake.settle(reconcile, &key());
        let total: i64 = sets(&fake).iter().map(|(_, replicas)| replicas).sum();
        let available: i64 = fake
            .all::<ReplicaSet>()
            .iter()
            .map(|set| {
                set["status"]["availableReplicas"]
                    .as_i64()
                    .unwrap_or(0)
                    .min(set["spec"]["replicas"].as_i64().unwrap_or(0))
            })
            .sum();
        assert!(
            total <= 5 && available >= 3,
            "step {step}: {total} pods, {available} available"
        );
        run_pods(&mut fake, "v2", i64::MAX);
    }
    assert_eq!(sets(&fake), [("v1".to_owned(), 0), ("v2".to_owned(), 4)]);
    let revision = |fake: &Fake| {
        fake.json::<Deployment>("ns", "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone()
    };
    assert_eq!(revision(&fake), "2");

    // Undo is a template change: the old set gets a new revision.
    set_image(&mut fake, "v1", 3);
    roll_out(&mut fake, "v1");
    assert_eq!(sets(&fake), [("v1".to_owned(), 4), ("v2".to_owned(), 0)]);
    assert_eq!(revision(&fake), "3");
    let old = fake
        .all::<ReplicaSet>()
        .into_iter()
        .find(|set| set["spec"]["replicas"] == 4)
        .expect("the set");
    assert_eq!(
        old["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"],
        "1"
    );

    set_image(&mut fake, "v3", 4);
    roll_out(&mut fake, "v3");
    assert_eq!(
        sets(&fake),
        [("v1".to_owned(), 0), ("v3".to_owned(), 4)],
        "the history limit is 1"
    );
}

#[test]
fn a_rollout_that_fails_stops_and_times_out() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(4, "v1"));
    roll_out(&mut fake, "v1");
    set_image(&mut fake, "bad", 2);
    for _ in 0..10 {
        fake.settle(reconcile, &key());
        run_pods(&mut fake, "bad", 0);
    }
    assert_eq!(sets(&fake), [("bad".to_owned(), 2), ("v1".to_owned(), 3)]);
    let plan = reconcile(&fake, &key(), &fake.turn());
    assert!(
        plan.requeue_after
            .is_some_and(|after| after > jiff::SignedDuration::from_secs(500)),
        "{plan:?}"
    );
    fake.sleep(700);
    fake.settle(reconcile, &key());
    assert_eq!(condition(&fake, "Progressing")["reason"], "ProgressDeadlineExceeded");
    assert_eq!(condition(&fake, "Progressing")["status"], "False");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(3, "v1"));
    roll_out(&mut fake, "v1");
    fake.change::<Deployment>("ns", "web", json!({"spec": {"paused": true, "replicas": 5}}));
    set_image(&mut fake, "v2", 2);
    fake.settle(reconcile, &key());
    assert_eq!(sets(&fake), [("v1".to_owned(), 5)]);
    assert_eq!(condition(&fake, "Progressing")["reason"], "DeploymentPaused");
    fake.change::<Deployment>("ns", "web", json!({"spec": {"paused": false}}));
    roll_out(&mut fake, "v2");
    assert_eq!(sets(&fake), [("v1".to_owned(), 0), ("v2".to_owned(), 5)]);
}

#[test]
fn scaling_during_a_rollout_is_proportional() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(10, "v1"));
    roll_out(&mut fake, "v1");
    set_image(&mut fake, "v2", 2);
    fake.settle(reconcile, &key());
    let before = sets(&fake);
    assert_eq!(before.iter().map(|(_, replicas)| replicas).sum::<i64>(), 13);
    fake.change::<Deployment>("ns", "web", json!({"spec": {"replicas": 20}}));
    let plan = reconcile(&fake, &key(), &fake.turn());
    fake.execute(&plan);
    let after = sets(&fake);
    assert_eq!(
        after.iter().map(|(_, replicas)| replicas).sum::<i64>(),
        25,
        "{before:?} -> {after:?}"
    );
    assert!(
        after[0].1 > before[0].1 && after[1].1 > before[1].1,
        "{before:?} -> {after:?}"
    );
}

#[test]
fn recreate_waits_for_the_old_pods_to_be_gone() {
    let mut fake = Fake::new();
    let mut recreate = deployment(2, "v1");
    recreate["spec"]["strategy"] = json!({"type": "Recreate"});
    fake.put("deployments", recreate);
    roll_out(&mut fake, "v1");
    set_image(&mut fake, "v2", 2);
    fake.settle(reconcile, &key());
    assert_eq!(sets(&fake), [("v1".to_owned(), 0)]);
    roll_out(&mut fake, "v2");
    assert_eq!(sets(&fake), [("v1".to_owned(), 0), ("v2".to_owned(), 2)]);
}

#[test]
fn a_name_that_is_taken_by_another_template_changes_the_hash() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(1, "v1"));
    fake.settle(reconcile, &key());
    let mut taken = fake.all::<ReplicaSet>().remove(0);
    taken["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    taken["metadata"]["ownerReferences"] = Value::Null;
    taken["metadata"]["labels"] = json!({});
    let name = taken["metadata"]["name"].as_str().expect("a name").to_owned();
    let mut fake = Fake::new();
    fake.put("replicasets", taken).put("deployments", deployment(1, "v1"));
    fake.settle(reconcile, &key());
    assert_eq!(fake.json::<Deployment>("ns", "web")["status"]["collisionCount"], 1);
    let created = fake
        .all::<ReplicaSet>()
        .into_iter()
        .find(|set| set["metadata"]["name"] != *name)
        .expect("another name");
    assert_eq!(created["spec"]["template"]["spec"]["containers"][0]["image"], "v1");
}

#[test]
fn a_refused_set_is_reported() {
    let mut fake = Fake::new();
    fake.put("deployments", deployment(1, "v1"));
    fake.refuse = Some(("replicasets", "no"));
    let failure = fake.execute(&reconcile(&fake, &key(), &fake.turn()));
    assert!(condition(&fake, "Progressing").is_null());
    fake.execute(&reconcile(&fake, &key(), &Turn { failure, ..fake.turn() }));
    assert_eq!(condition(&fake, "Progressing")["reason"], "ReplicaSetCreateError");
    assert!(
        fake.events[0].starts_with("ReplicaSetCreateError: Failed to create new replica set"),
        "{:?}",
        fake.events
    );
}
