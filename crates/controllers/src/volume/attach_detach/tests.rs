use k8s_openapi::api::core::v1::Node;

use super::*;
use crate::fake::{Fake, pod};

const UNIQUE: &str = "kubernetes.io/csi/d.example.com^h";

fn user(name: &str, node: &str) -> api::Value {
    let mut user = pod(name, "app", "");
    user["spec"]["nodeName"] = json!(node);
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    user
}

fn cluster(mode: &str) -> Fake {
    let mut fake = Fake::new();
    for node in ["n1", "n2"] {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        fake.put(
            "nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": ready}),
        );
    }
    fake.put("persistentvolumeclaims", json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "ns", "name": "c", "uid": "u"},
        "spec": {"volumeName": "v"}, "status": {"phase": "Bound"},
    }));
    fake.put(
        "persistentvolumes",
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
            "spec": {
                "accessModes": [mode], "csi": {"driver": "d.example.com", "volumeHandle": "h"},
                "claimRef": {"namespace": "ns", "name": "c", "uid": "u"},
            },
            "status": {"phase": "Bound"},
        }),
    );
    fake.put("pods", user("p", "n1"));
    fake
}

fn settle(fake: &mut Fake, node: &str) {
    fake.settle(reconcile, &Key::new("", node));
}

fn attachments(fake: &Fake) -> Vec<String> {
    let all = fake.all::<VolumeAttachment>();
    all.iter()
        .map(|found| found["spec"]["nodeName"].as_str().unwrap().to_owned())
        .collect()
}

fn attached(fake: &Fake, node: &str) -> api::Value {
    fake.json::<Node>("", node)["status"]["volumesAttached"].clone()
}

fn driver_attaches(fake: &mut Fake) {
    let name = fake.all::<VolumeAttachment>()[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    fake.change::<VolumeAttachment>("", &name, json!({"status": {"attached": true}}));
}

#[test]
fn a_volume_is_attached_and_the_node_told() {
    let mut fake = cluster("ReadWriteOnce");
    settle(&mut fake, "n1");
    let all = fake.all::<VolumeAttachment>();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["spec"]["attacher"], "d.example.com");
    assert_eq!(all[0]["spec"]["source"]["persistentVolumeName"], "v");
    // printf hd.example.comn1 | sha256sum
    let name = desired::attachment_name("h", "d.example.com", "n1");
    assert_eq!(all[0]["metadata"]["name"], name);
    assert_eq!(name.len(), 68);
    assert!(attached(&fake, "n1").is_null(), "not before the driver has done it");
    driver_attaches(&mut fake);
    settle(&mut fake, "n1");
    assert_eq!(attached(&fake, "n1"), json!([{"name": UNIQUE, "devicePath": ""}]));
    assert_eq!(
        fake.events,
        ["SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume \"v\" "]
    );
}

#[test]
fn detached_when_the_node_has_let_go() {
    let mut fake = cluster("ReadWriteOnce");
    settle(&mut fake, "n1");
    driver_attaches(&mut fake);
    settle(&mut fake, "n1");
    fake.change::<Node>("", "n1", json!({"status": {"volumesInUse": [UNIQUE]}}));
    fake.remove::<Pod>("ns", "p");
    settle(&mut fake, "n1");
    assert_eq!(attachments(&fake), ["n1"], "still mounted");
    fake.change::<Node>("", "n1", json!({"status": {"volumesInUse": []}}));
    settle(&mut fake, "n1");
    assert!(attachments(&fake).is_empty());
    assert_eq!(attached(&fake, "n1"), json!([]));
}

#[test]
fn a_node_that_does_not_answer_loses_it_in_time() {
    let mut fake = cluster("ReadWriteOnce");
    settle(&mut fake, "n1");
    driver_attaches(&mut fake);
    fake.remove::<Pod>("ns", "p");
    let lost = json!({"status": {"volumesInUse": [UNIQUE], "conditions": [{"type": "Ready", "status": "Unknown"}]}});
    fake.change::<Node>("", "n1", lost);
    let mut turn = fake.turn();
    let plan = reconcile(&fake, &Key::new("", "n1"), &turn);
    assert_eq!(plan.requeue_after, Some(PATIENCE));
    turn.notes = plan.notes.clone();
    fake.execute(&plan);
    fake.sleep(361);
    turn.now = fake.now;
    let plan = reconcile(&fake, &Key::new("", "n1"), &turn);
    fake.execute(&plan);
    assert!(attachments(&fake).is_empty());

    let mut fake = cluster("ReadWriteOnce");
    settle(&mut fake, "n1");
    fake.remove::<Pod>("ns", "p");
    let taint = json!({"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}, "status": {"volumesInUse": [UNIQUE]}});
    fake.change::<Node>("", "n1", taint);
    settle(&mut fake, "n1");
    assert!(attachments(&fake).is_empty(), "out of service: at once");
}

#[test]
fn one_node_at_a_time_unless_it_is_shared() {
    let mut fake = cluster("ReadWriteOnce");
    settle(&mut fake, "n1");
    fake.put("pods", user("q", "n2"));
    settle(&mut fake, "n2");
    assert_eq!(attachments(&fake), ["n1"]);
    assert_eq!(
        fake.events,
        ["FailedAttachVolume: Multi-Attach error for volume \"v\" Volume is already used by pod(s) p"]
    );
    let mut fake = cluster("ReadWriteMany");
    settle(&mut fake, "n1");
    fake.put("pods", user("q", "n2"));
    settle(&mut fake, "n2");
    assert_eq!(attachments(&fake).len(), 2);
}

#[test]
fn drivers_that_need_no_attachment_get_none() {
    let mut fake = cluster("ReadWriteOnce");
    fake.put(
        "csidrivers",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d.example.com"},
            "spec": {"attachRequired": false},
        }),
    );
    settle(&mut fake, "n1");
    assert!(attachments(&fake).is_empty());
}
