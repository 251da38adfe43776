use api::Value;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::json;

use super::super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, local_path,
};
use super::*;
use crate::fake::{Fake, pod};

/// A merge patch of JSON over what every volume has.
fn volume(name: &str, size: &str, patch: Value) -> Value {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/data"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
        "status": {"phase": "Available"},
    });
    merge(&mut volume, &patch);
    volume
}

fn claim(name: &str, size: &str, patch: Value) -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": size}},
        },
        "status": {"phase": "Pending"},
    });
    merge(&mut claim, &patch);
    claim
}

fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Object(_) => merge(target.entry(key).or_insert_with(|| json!({})), value),
            Value::Null => drop(target.remove(key)),
            _ => drop(target.insert(key.clone(), value.clone())),
        }
    }
}

fn cluster(volumes: &[Value], claims: &[Value]) -> Fake {
    let mut fake = Fake::new();
    for volume in volumes {
        fake.put("persistentvolumes", volume.clone());
    }
    for claim in claims {
        fake.put("persistentvolumeclaims", claim.clone());
    }
    fake
}

fn class(fake: &mut Fake, name: &str, provisioner: &str, mode: &str, default: bool) {
    let annotations = json!({"storageclass.kubernetes.io/is-default-class": default.to_string()});
    fake.put("storageclasses", json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner, "volumeBindingMode": mode,
    }));
}

fn settle(fake: &mut Fake, namespace: &str, name: &str) {
    fake.settle(reconcile, &Key::new(namespace, name));
}

fn claim_json(fake: &Fake, name: &str) -> Value {
    fake.json::<PersistentVolumeClaim>("ns", name)
}

fn volume_json(fake: &Fake, name: &str) -> Value {
    fake.json::<PersistentVolume>("", name)
}

/// The volume that the only claim `c` gets, or none.
fn chosen(volumes: &[Value], c: Value) -> Option<String> {
    let mut fake = cluster(volumes, &[c]);
    settle(&mut fake, "ns", "c");
    let claim = claim_json(&fake, "c");
    let name = claim["spec"]["volumeName"].as_str()?.to_owned();
    assert_eq!(claim["status"]["phase"], "Bound");
    assert_eq!(volume_json(&fake, &name)["status"]["phase"], "Bound");
    settle(&mut fake, "", &name);
    Some(name)
}

#[test]
fn both_sides_are_bound() {
    let mut fake = cluster(&[volume("v", "1Gi", json!({}))], &[claim("c", "1Gi", json!({}))]);
    settle(&mut fake, "ns", "c");
    let (claim, volume) = (claim_json(&fake, "c"), volume_json(&fake, "v"));
    assert_eq!(
        claim["metadata"]["annotations"],
        json!({BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"})
    );
    assert_eq!(claim["status"]["capacity"], json!({"storage": "1Gi"}));
    assert_eq!(claim["status"]["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(volume["metadata"]["annotations"], json!({BOUND_BY_CONTROLLER: "yes"}));
    assert_eq!(volume["spec"]["claimRef"]["uid"], "uid-c");
    assert_eq!(volume["spec"]["claimRef"]["kind"], "PersistentVolumeClaim");
    settle(&mut fake, "", "v");
}

#[test]
fn the_smallest_that_fits_is_chosen() {
    let all = [
        volume("small", "1Gi", json!({})),
        volume("large", "10Gi", json!({})),
        volume("middle", "5Gi", json!({})),
    ];
    assert_eq!(chosen(&all, claim("c", "2Gi", json!({}))).as_deref(), Some("middle"));
    assert_eq!(chosen(&all, claim("c", "1000Gi", json!({}))), None);
}

#[test]
fn what_does_not_fit_is_not_chosen() {
    let c = || claim("c", "1Gi", json!({}));
    for unfit in [
        json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"storageClassName": "gold"}}),
        json!({"spec": {"volumeAttributesClassName": "fast"}}),
        json!({"spec": {"claimRef": {"namespace": "ns", "name": "other"}}}),
        json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": "older"}}}),
        json!({"status": {"phase": "Released"}}),
        json!({"status": {"phase": "Pending"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ] {
        assert_eq!(chosen(&[volume("v", "1Gi", unfit.clone())], c()), None, "{unfit}");
    }
    let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
    let labelled = volume("y", "5Gi", json!({"metadata": {"labels": {"a": "b"}}}));
    let found = chosen(&[volume("x", "1Gi", json!({})), labelled], claim("c", "1Gi", selector));
    assert_eq!(found.as_deref(), Some("y"));
}

#[test]
fn fewer_surplus_access_modes_come_before_size() {
    let many = volume(
        "many",
        "1Gi",
        json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}}),
    );
    let found = chosen(&[many, volume("one", "5Gi", json!({}))], claim("c", "1Gi", json!({})));
    assert_eq!(found.as_deref(), Some("one"));
}

#[test]
fn a_volume_reserved_for_the_claim_comes_first() {
    let reserved = volume(
        "r",
        "9Gi",
        json!({"spec": {"claimRef": {"namespace": "ns", "name": "c"}}}),
    );
    let mut fake = cluster(
        &[volume("v", "1Gi", json!({})), reserved],
        &[claim("c", "1Gi", json!({}))],
    );
    settle(&mut fake, "", "r");
    settle(&mut fake, "ns", "c");
    assert_eq!(claim_json(&fake, "c")["spec"]["volumeName"], "r");
    let volume = volume_json(&fake, "r");
    assert_eq!(volume["spec"]["claimRef"]["uid"], "uid-c");
    assert!(volume["metadata"]["annotations"].is_null(), "the user bound it");
}

#[test]
fn a_claim_may_ask_for_one_volume() {
    let asks = json!({"spec": {"volumeName": "v"}});
    let mut fake = cluster(&[], &[claim("c", "1Gi", asks.clone())]);
    settle(&mut fake, "ns", "c");
    assert_eq!(claim_json(&fake, "c")["status"]["phase"], "Pending");
    fake.put("persistentvolumes", volume("v", "1Gi", json!({})));
    settle(&mut fake, "ns", "c");
    assert_eq!(
        claim_json(&fake, "c")["metadata"]["annotations"],
        json!({BIND_COMPLETED: "yes"})
    );
    assert_eq!(volume_json(&fake, "v")["spec"]["claimRef"]["uid"], "uid-c");

    let mut fake = cluster(&[volume("v", "1Mi", json!({}))], &[claim("c", "1Gi", asks.clone())]);
    settle(&mut fake, "ns", "c");
    assert_eq!(
        fake.events,
        ["VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small"]
    );

    let taken =
        json!({"spec": {"claimRef": {"namespace": "ns", "name": "d", "uid": "d"}}, "status": {"phase": "Bound"}});
    let mut fake = cluster(&[volume("v", "1Gi", taken)], &[claim("c", "1Gi", asks)]);
    settle(&mut fake, "ns", "c");
    assert_eq!(
        fake.events,
        ["FailedBinding: volume \"v\" already bound to a different claim."]
    );
}

fn bound() -> Fake {
    let mut fake = cluster(&[volume("v", "1Gi", json!({}))], &[claim("c", "1Gi", json!({}))]);
    settle(&mut fake, "ns", "c");
    fake
}

#[test]
fn a_claim_whose_volume_is_gone_is_lost() {
    let mut fake = bound();
    fake.remove::<PersistentVolume>("", "v");
    settle(&mut fake, "ns", "c");
    let status = claim_json(&fake, "c")["status"].clone();
    assert_eq!(status, json!({"phase": "Lost"}));
    assert_eq!(
        fake.events,
        ["ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"]
    );
    let mut fake = bound();
    fake.change::<PersistentVolume>("", "v", json!({"spec": {"claimRef": {"uid": "other"}}}));
    settle(&mut fake, "ns", "c");
    assert!(fake.events[0].starts_with("ClaimMisbound: Two claims are bound"));
}

#[test]
fn a_volume_that_came_unbound_is_bound_again() {
    let mut fake = bound();
    fake.change::<PersistentVolume>(
        "",
        "v",
        json!({"spec": {"claimRef": null}, "status": {"phase": "Available"}}),
    );
    settle(&mut fake, "ns", "c");
    assert_eq!(volume_json(&fake, "v")["spec"]["claimRef"]["uid"], "uid-c");
    assert_eq!(volume_json(&fake, "v")["status"]["phase"], "Bound");
}

#[test]
fn a_retained_volume_is_released() {
    let mut fake = bound();
    fake.remove::<PersistentVolumeClaim>("ns", "c");
    settle(&mut fake, "", "v");
    assert_eq!(volume_json(&fake, "v")["status"]["phase"], "Released");
    assert_eq!(volume_json(&fake, "v")["spec"]["claimRef"]["name"], "c");
    // Another claim of that name is another claim.
    fake.put(
        "persistentvolumeclaims",
        claim("c", "1Gi", json!({"metadata": {"uid": "new"}})),
    );
    settle(&mut fake, "", "v");
    settle(&mut fake, "ns", "c");
    assert!(claim_json(&fake, "c")["spec"]["volumeName"].is_null());
}

#[test]
fn deletion_is_the_provisioners_work_or_fails() {
    let gone = |patch: Value| {
        let released = json!({
            "spec": {"persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "ns", "name": "c", "uid": "x"}},
            "status": {"phase": "Bound"},
        });
        let mut volume = volume("v", "1Gi", released);
        merge(&mut volume, &patch);
        let mut fake = cluster(&[volume], &[]);
        settle(&mut fake, "", "v");
        (volume_json(&fake, "v")["status"].clone(), fake.events)
    };
    let (status, events) = gone(json!({"metadata": {"annotations": {PROVISIONED_BY: "csi.example.com"}}}));
    assert_eq!((&status["phase"], events.len()), (&json!("Released"), 0));
    let (status, events) = gone(json!({}));
    assert_eq!(status["phase"], "Failed");
    let text = "host_path deleter only supports /tmp/.+ but received provided /data";
    assert_eq!(status["message"], text);
    assert_eq!(events, [format!("VolumeFailedDelete: {text}")]);
    let (status, _) = gone(json!({"spec": {"hostPath": null, "local": {"path": "/x"}}}));
    let text = "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched";
    assert_eq!(status["message"], text);
    let (status, events) = gone(json!({"spec": {"persistentVolumeReclaimPolicy": "Other"}}));
    assert_eq!(status["phase"], "Failed");
    assert!(events[0].starts_with("VolumeUnknownReclaimPolicy: "));
}

#[test]
fn a_pod_recycles_a_volume_and_it_is_free_again() {
    let mut fake = bound();
    fake.change::<PersistentVolume>("", "v", json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}));
    fake.remove::<PersistentVolumeClaim>("ns", "c");
    settle(&mut fake, "", "v");
    let scrubber = fake.json::<Pod>("default", "recycler-for-v");
    assert_eq!(scrubber["spec"]["volumes"][0]["hostPath"]["path"], "/data");
    assert_eq!(scrubber["spec"]["activeDeadlineSeconds"], 60);
    fake.change::<Pod>("default", "recycler-for-v", json!({"status": {"phase": "Succeeded"}}));
    settle(&mut fake, "", "v");
    assert!(fake.all::<Pod>().is_empty());
    assert_eq!(volume_json(&fake, "v")["status"]["phase"], "Available");
    assert!(volume_json(&fake, "v")["spec"]["claimRef"].is_null());
    assert_eq!(fake.events, ["VolumeRecycled: Volume recycled"]);
}

#[test]
fn a_volume_whose_claim_took_another_is_given_back() {
    let elsewhere = json!({"spec": {"volumeName": "w"}, "metadata": {"annotations": {BIND_COMPLETED: "yes"}}});
    let for_c = |by: &str| {
        json!({
            "metadata": {"annotations": {by: "yes"}},
            "spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": "uid-c"}}, "status": {"phase": "Bound"},
        })
    };
    let mut fake = cluster(
        &[volume("v", "1Gi", for_c(BOUND_BY_CONTROLLER))],
        &[claim("c", "1Gi", elsewhere.clone())],
    );
    settle(&mut fake, "", "v");
    assert!(volume_json(&fake, "v")["spec"]["claimRef"].is_null());
    let mut fake = cluster(&[volume("v", "1Gi", for_c("other"))], &[claim("c", "1Gi", elsewhere)]);
    settle(&mut fake, "", "v");
    assert_eq!(
        volume_json(&fake, "v")["spec"]["claimRef"],
        json!({"namespace": "ns", "name": "c"})
    );
    assert_eq!(volume_json(&fake, "v")["status"]["phase"], "Available");
}

#[test]
fn a_claim_that_waits_for_a_pod_says_for_which() {
    let patch = json!({"spec": {"storageClassName": "late"}});
    let mut fake = cluster(
        &[volume("v", "1Gi", json!({"spec": {"storageClassName": "late"}}))],
        &[claim("c", "1Gi", patch)],
    );
    class(&mut fake, "late", "x.example.com", "WaitForFirstConsumer", false);
    settle(&mut fake, "ns", "c");
    let mut user = pod("p", "app", "");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    fake.put("pods", user);
    settle(&mut fake, "ns", "c");
    assert_eq!(
        fake.events,
        [
            "WaitForFirstConsumer: waiting for first consumer to be created before binding",
            "WaitForPodScheduled: waiting for pod p to be scheduled",
        ]
    );
    assert!(
        claim_json(&fake, "c")["spec"]["volumeName"].is_null(),
        "the scheduler chooses the volume"
    );
    let node = json!({"metadata": {"annotations": {SELECTED_NODE: "n1"}}});
    fake.change::<PersistentVolumeClaim>("ns", "c", node);
    settle(&mut fake, "ns", "c");
    assert_eq!(
        claim_json(&fake, "c")["metadata"]["annotations"][PROVISIONER],
        "x.example.com"
    );
    assert!(fake.events[2].starts_with("ExternalProvisioning: Waiting for a volume to be created either by"));
}

#[test]
fn a_pod_that_is_on_a_node_already_chooses_it() {
    let late = json!({"spec": {"storageClassName": "late"}});
    let mut fake = cluster(&[], &[claim("c", "1Gi", late)]);
    class(
        &mut fake,
        "late",
        local_path::PROVISIONER,
        "WaitForFirstConsumer",
        false,
    );
    let node = json!({"metadata": {"name": "n1", "labels": {"host": "n1"}}, "apiVersion": "v1", "kind": "Node"});
    fake.put("nodes", node);
    let mut user = pod("p", "app", "");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    user["spec"]["nodeName"] = json!("n1");
    fake.put("pods", user);
    let on = |host: &str| {
        let terms = json!([{"matchExpressions": [{"key": "host", "operator": "In", "values": [host]}]}]);
        json!({"spec": {"storageClassName": "late", "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}})
    };
    fake.put("persistentvolumes", volume("far", "1Gi", on("n2")));
    settle(&mut fake, "ns", "c");
    let annotations = claim_json(&fake, "c")["metadata"]["annotations"].clone();
    assert_eq!(
        (&annotations[SELECTED_NODE], &annotations[PROVISIONER]),
        (&json!("n1"), &json!(local_path::PROVISIONER))
    );
    assert!(claim_json(&fake, "c")["spec"]["volumeName"].is_null());
    fake.put("persistentvolumes", volume("near", "1Gi", on("n1")));
    settle(&mut fake, "ns", "c");
    assert_eq!(claim_json(&fake, "c")["spec"]["volumeName"], "near");
}

#[test]
fn provisioners_are_asked() {
    let patch = json!({"spec": {"storageClassName": "k"}});
    let asked = |provisioner: Option<&str>| {
        let mut fake = cluster(&[], &[claim("c", "1Gi", patch.clone())]);
        if let Some(provisioner) = provisioner {
            class(&mut fake, "k", provisioner, "Immediate", false);
        }
        settle(&mut fake, "ns", "c");
        (claim_json(&fake, "c")["metadata"]["annotations"].clone(), fake.events)
    };
    assert_eq!(
        asked(None).1,
        ["ProvisioningFailed: storageclass.storage.k8s.io \"k\" not found"]
    );
    let (annotations, events) = asked(Some("kubernetes.io/no-provisioner"));
    assert!(annotations.is_null());
    assert_eq!(
        events,
        ["ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner"]
    );
    let (annotations, _) = asked(Some("kubernetes.io/aws-ebs"));
    assert_eq!(
        (&annotations[PROVISIONER], &annotations[MIGRATED_TO]),
        (&json!("ebs.csi.aws.com"), &json!("ebs.csi.aws.com"))
    );
    let (annotations, events) = asked(Some(local_path::PROVISIONER));
    assert_eq!(annotations[PROVISIONER], local_path::PROVISIONER);
    assert!(events.is_empty(), "nobody outside is waited for");
}

#[test]
fn the_default_class_is_assigned_later() {
    let mut fake = cluster(
        &[],
        &[
            claim("open", "1Gi", json!({"spec": {"storageClassName": null}})),
            claim("none", "1Gi", json!({})),
        ],
    );
    settle(&mut fake, "ns", "open");
    assert_eq!(
        fake.events,
        ["FailedBinding: no persistent volumes available for this claim and no storage class is set"]
    );
    class(&mut fake, "b", "x.example.com", "Immediate", true);
    class(&mut fake, "a", "x.example.com", "Immediate", false);
    let keys = keys_of_class(&fake, None, Some(&fake.storage_classes().get("", "b").unwrap()));
    assert_eq!(keys, [Key::new("ns", "none"), Key::new("ns", "open")]);
    settle(&mut fake, "ns", "open");
    settle(&mut fake, "ns", "none");
    assert_eq!(claim_json(&fake, "open")["spec"]["storageClassName"], "b");
    assert_eq!(claim_json(&fake, "none")["spec"]["storageClassName"], "");
}

#[test]
fn changes_reach_those_they_concern() {
    let mut fake = cluster(
        &[],
        &[
            claim("c", "1Gi", json!({})),
            claim("d", "1Gi", json!({"spec": {"volumeName": "v"}})),
        ],
    );
    fake.put("persistentvolumes", volume("v", "1Gi", json!({})));
    let free = fake.persistent_volumes().get("", "v").unwrap();
    let keys = keys_of_volume(&fake, None, Some(&free));
    assert_eq!(keys, [Key::new("", "v"), Key::new("ns", "c"), Key::new("ns", "d")]);
    let fake = bound();
    let gone = fake.persistent_volume_claims().get("ns", "c").unwrap();
    assert_eq!(
        keys_of_claim(&fake, Some(&gone), None),
        [Key::new("", "v"), Key::new("ns", "c")]
    );
}
