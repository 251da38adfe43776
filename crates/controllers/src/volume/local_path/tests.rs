use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use super::*;
use crate::fake::{Fake, pod};
use crate::volume::SELECTED_NODE;

const KEY: (&str, &str) = ("ns", "c");
const VOLUME: &str = "pvc-u";

fn here() -> LocalVolumes {
    LocalVolumes {
        node: "n1".into(),
        root: "/data/volumes".into(),
        limits: true,
    }
}

fn cluster(mode: &str, node: Option<&str>) -> Fake {
    let mut fake = Fake::new();
    fake.local_volumes = Some(here());
    for node in ["n1", "n2"] {
        let labels = json!({HOSTNAME: format!("host-{node}")});
        fake.put(
            "nodes",
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}}),
        );
    }
    fake.put(
        "storageclasses",
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local-path"},
            "provisioner": PROVISIONER, "volumeBindingMode": mode, "reclaimPolicy": "Delete",
        }),
    );
    let mut annotations = json!({"volume.kubernetes.io/storage-provisioner": PROVISIONER});
    if let Some(node) = node {
        annotations[SELECTED_NODE] = json!(node);
    }
    fake.put(
        "persistentvolumeclaims",
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "ns", "name": "c", "uid": "u", "annotations": annotations},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }),
    );
    fake
}

fn claim_turn(fake: &mut Fake) {
    fake.settle(reconcile, &Key::new(KEY.0, KEY.1));
}

fn volume_turn(fake: &mut Fake) {
    fake.settle(reconcile, &Key::new("", VOLUME));
}

#[test]
fn a_claim_for_this_node_gets_a_folder_and_a_volume() {
    let mut fake = cluster("WaitForFirstConsumer", Some("n1"));
    claim_turn(&mut fake);
    assert_eq!(fake.volumes.get(VOLUME), Some(&(1 << 30)));
    let volume = fake.json::<PersistentVolume>("", VOLUME);
    assert_eq!(volume["spec"]["local"]["path"], "/data/volumes/pvc-u");
    assert_eq!(volume["spec"]["claimRef"]["uid"], "u");
    assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(volume["metadata"]["finalizers"], json!([FINALIZER]));
    let term = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(term["values"], json!(["host-n1"]));
    assert_eq!(
        fake.events,
        [
            "Provisioning: External provisioner is provisioning volume for claim \"ns/c\"",
            "ProvisioningSucceeded: Successfully provisioned volume pvc-u",
        ]
    );
    volume_turn(&mut fake);
}

#[test]
fn other_nodes_and_claims_that_wait_get_nothing_here() {
    for (mode, node) in [("WaitForFirstConsumer", None), ("WaitForFirstConsumer", Some("n2"))] {
        let mut fake = cluster(mode, node);
        claim_turn(&mut fake);
        assert!(fake.volumes.is_empty() && fake.all::<PersistentVolume>().is_empty());
    }
    let mut fake = cluster("Immediate", None);
    claim_turn(&mut fake);
    assert_eq!(fake.volumes.len(), 1, "the first node serves classes that do not wait");
}

#[test]
fn what_a_folder_cannot_be_is_told() {
    for (patch, told) in [
        (json!({"accessModes": ["ReadWriteMany"]}), "cannot be ReadWriteMany"),
        (json!({"volumeMode": "Block"}), "no block device"),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            "Selector is not supported",
        ),
    ] {
        let mut fake = cluster("WaitForFirstConsumer", Some("n1"));
        fake.change::<PersistentVolumeClaim>("ns", "c", json!({"spec": patch}));
        claim_turn(&mut fake);
        assert!(fake.volumes.is_empty());
        assert_eq!(fake.events.len(), 1);
        assert!(
            fake.events[0].starts_with("ProvisioningFailed: ") && fake.events[0].contains(told),
            "{:?}",
            fake.events
        );
    }
}

#[test]
fn a_file_system_without_quotas_is_told_of() {
    let mut fake = cluster("WaitForFirstConsumer", Some("n1"));
    fake.local_volumes = Some(LocalVolumes {
        limits: false,
        ..here()
    });
    claim_turn(&mut fake);
    assert!(fake.events.iter().any(|event| event.starts_with("SizeNotEnforced: ")));
    assert_eq!(
        fake.json::<PersistentVolume>("", VOLUME)["metadata"]["annotations"][ENFORCED],
        "false"
    );
}

fn bound() -> Fake {
    let mut fake = cluster("WaitForFirstConsumer", Some("n1"));
    claim_turn(&mut fake);
    fake.change::<PersistentVolume>("", VOLUME, json!({"status": {"phase": "Bound"}}));
    let status = json!({"spec": {"volumeName": VOLUME}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    fake.change::<PersistentVolumeClaim>("ns", "c", status);
    fake
}

const DELETED: &str = "2026-01-01T00:00:00Z";

#[test]
fn a_released_volume_is_deleted_and_its_folder_first() {
    let mut fake = bound();
    volume_turn(&mut fake);
    assert_eq!(fake.volumes.len(), 1);
    fake.change::<PersistentVolume>("", VOLUME, json!({"status": {"phase": "Released"}}));
    let plan = reconcile(&fake, &Key::new("", VOLUME), &fake.turn());
    assert!(matches!(
        plan.actions().next().map(|action| &action.verb),
        Some(Verb::Delete { .. })
    ));
    fake.change::<PersistentVolume>("", VOLUME, json!({"metadata": {"deletionTimestamp": DELETED}}));
    volume_turn(&mut fake);
    assert!(fake.volumes.is_empty());
    assert!(fake.json::<PersistentVolume>("", VOLUME)["metadata"]["finalizers"].is_null());
}

#[test]
fn what_is_retained_keeps_its_folder() {
    let mut fake = bound();
    fake.change::<PersistentVolume>("", VOLUME, json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}));
    volume_turn(&mut fake);
    assert!(fake.json::<PersistentVolume>("", VOLUME)["metadata"]["finalizers"].is_null());
    let gone = json!({"status": {"phase": "Released"}, "metadata": {"deletionTimestamp": DELETED}});
    fake.change::<PersistentVolume>("", VOLUME, gone);
    volume_turn(&mut fake);
    assert_eq!(fake.volumes.len(), 1);
}

#[test]
fn a_volume_in_use_stays() {
    let mut fake = bound();
    let mut user = pod("p", "app", "");
    user["spec"]["nodeName"] = json!("n1");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    fake.put("pods", user);
    fake.change::<PersistentVolume>("", VOLUME, json!({"metadata": {"deletionTimestamp": DELETED}}));
    volume_turn(&mut fake);
    assert_eq!(fake.volumes.len(), 1);
    fake.remove::<Pod>("ns", "p");
    fake.change::<PersistentVolume>("", VOLUME, json!({"status": {"phase": "Released"}}));
    volume_turn(&mut fake);
    assert!(fake.volumes.is_empty());
}

#[test]
fn a_folder_that_was_not_made_here_is_never_removed() {
    for patch in [
        json!({"spec": {"local": {"path": "/etc"}}}),
        json!({"metadata": {"annotations": {PROVISIONED_BY: "other"}}}),
        json!({"spec": {"nodeAffinity": null}}),
    ] {
        let mut fake = bound();
        fake.change::<PersistentVolume>("", VOLUME, patch);
        let gone = json!({"status": {"phase": "Released"}, "metadata": {"deletionTimestamp": DELETED}});
        fake.change::<PersistentVolume>("", VOLUME, gone);
        volume_turn(&mut fake);
        assert_eq!(fake.volumes.len(), 1);
    }
}

#[test]
fn a_volume_that_grew_is_given_its_size() {
    let mut fake = bound();
    fake.change::<PersistentVolume>("", VOLUME, json!({"spec": {"capacity": {"storage": "2Gi"}}}));
    let pending = json!([{"type": "FileSystemResizePending", "status": "True"}]);
    fake.change::<PersistentVolumeClaim>("ns", "c", json!({"status": {"conditions": pending}}));
    volume_turn(&mut fake);
    assert_eq!(fake.volumes.get(VOLUME), Some(&(2 << 30)));
    let status = fake.json::<PersistentVolumeClaim>("ns", "c")["status"].clone();
    assert_eq!(status["capacity"]["storage"], "2Gi");
    assert_eq!(status["conditions"], json!([]));
}
