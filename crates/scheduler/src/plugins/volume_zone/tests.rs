//! The cases of upstream's volume_zone_test.go.

use serde_json::{Value, json};

use super::*;
use crate::cluster::Cluster;
use crate::framework::Shared;
use crate::testing::{node, pod, stored};

const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

fn volume(labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> = labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    json!({"metadata": {"name": "v", "labels": labels}, "spec": {}})
}

fn claim(volume: &str, class: Option<&str>) -> Value {
    json!({"metadata": {"namespace": "default", "name": "c"}, "spec": {"volumeName": volume, "storageClassName": class}})
}

#[test]
fn zones_of_bound_volumes() {
    let conflict = "node(s) had no available volume zone";
    type Labels = [(&'static str, &'static str)];
    let cases: [(&Labels, &Labels, &str); 15] = [
        (&[(BETA_ZONE, "us-west1-a")], &[], "fits"),
        (
            &[(BETA_ZONE, "us-west1-a")],
            &[(BETA_ZONE, "us-west1-a"), ("other", "x")],
            "fits",
        ),
        (&[(BETA_REGION, "us-west1")], &[(BETA_REGION, "us-west1")], "fits"),
        (&[(BETA_REGION, "us-west1")], &[(BETA_REGION, "no_us-west1")], conflict),
        (&[(BETA_ZONE, "us-west1-a")], &[(BETA_ZONE, "no_us-west1-a")], conflict),
        (&[(ZONE, "us-west1-a")], &[(ZONE, "us-west1-a")], "fits"),
        (&[(REGION, "us-west1")], &[(REGION, "us-west1")], "fits"),
        (&[(REGION, "us-west1")], &[(REGION, "no_us-west1")], conflict),
        (&[(ZONE, "us-west1-a")], &[(ZONE, "no_us-west1-a")], conflict),
        (
            &[(ZONE, "us-west1-a"), (REGION, "us-west1")],
            &[(ZONE, "us-west1-a")],
            conflict,
        ),
        (&[(ZONE, "us-west1-a")], &[(BETA_ZONE, "us-west1-a")], conflict),
        (&[(BETA_ZONE, "us-west1-a")], &[(ZONE, "us-west1-a")], "fits"),
        (&[(BETA_ZONE, "us-west1-a")], &[(ZONE, "no_us-west1-a")], conflict),
        (
            &[(BETA_ZONE, "us-west1-a__us-west1-b")],
            &[(BETA_ZONE, "us-west1-b")],
            "fits",
        ),
        (
            &[(BETA_ZONE, "us-west1-a__us-west1-b")],
            &[(BETA_ZONE, "us-west1-c")],
            conflict,
        ),
    ];
    for (of_volume, of_node, said) in cases {
        let mut cluster = Cluster::default();
        let node = of_node
            .iter()
            .fold(node("n"), |node, (key, value)| node.label(key, value));
        cluster.set_node(node.build());
        cluster.settle();
        cluster.see(Resource::PersistentVolumeClaim, claim("v", None));
        cluster.see(Resource::PersistentVolume, volume(of_volume));
        assert_eq!(
            cluster.ask(&VolumeZone, &pod("p").claims("c").info()),
            [said],
            "{of_volume:?} {of_node:?}"
        );
    }
}

#[test]
fn volumes_that_are_not_there() {
    let mut cluster = Cluster::default();
    cluster.set_node(node("n").label(ZONE, "z").build());
    cluster.settle();
    for (name, mode) in [
        ("immediate", Some("Immediate")),
        ("waits", Some("WaitForFirstConsumer")),
        ("says-nothing", None),
    ] {
        let class = json!({"metadata": {"name": name}, "provisioner": "p", "volumeBindingMode": mode});
        cluster.see(Resource::StorageClass, class);
    }
    let asking = pod("p").claims("c").info();
    assert_eq!(
        cluster.ask(&VolumeZone, &asking),
        ["before: persistentvolumeclaim \"c\" not found"]
    );
    let cases = [
        (
            "",
            None,
            "before: PersistentVolumeClaim had no pv name and storageClass name",
        ),
        (
            "",
            Some("gone"),
            "before: storageclass.storage.k8s.io \"gone\" not found",
        ),
        ("", Some("immediate"), "before: PersistentVolume had no name"),
        ("", Some("waits"), "skipped"),
        (
            "",
            Some("says-nothing"),
            "before: VolumeBindingMode not set for StorageClass \"says-nothing\"",
        ),
        ("v", None, "before: persistentvolume \"v\" not found"),
    ];
    for (volume, class, said) in cases {
        cluster.see(Resource::PersistentVolumeClaim, claim(volume, class));
        assert_eq!(cluster.ask(&VolumeZone, &asking), [said]);
    }
    assert_eq!(cluster.ask(&VolumeZone, &pod("p").info()), ["skipped"]);
}

#[test]
fn what_may_help() {
    let cluster = Cluster::default();
    let context = Context {
        cluster: &cluster,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let waiting = pod("p").claims("c").info();
    let came = |resource: Resource, object: Value| (resource, None::<Shared>, Some(stored(resource, object)));
    let class = |mode: &str| json!({"metadata": {"name": "s"}, "provisioner": "p", "volumeBindingMode": mode});
    let changed = |old: Value, new: Value| {
        let resource = Resource::PersistentVolume;
        (resource, Some(stored(resource, old)), Some(stored(resource, new)))
    };
    let cases = [
        (came(Resource::PersistentVolumeClaim, claim("v", None)), true),
        (
            came(
                Resource::PersistentVolumeClaim,
                json!({"metadata": {"namespace": "default", "name": "d"}}),
            ),
            false,
        ),
        (came(Resource::StorageClass, class("WaitForFirstConsumer")), true),
        (came(Resource::StorageClass, class("Immediate")), false),
        (came(Resource::PersistentVolume, volume(&[])), true),
        (
            changed(volume(&[(ZONE, "a")]), volume(&[(ZONE, "a"), ("x", "y")])),
            false,
        ),
        (changed(volume(&[(ZONE, "a")]), volume(&[(ZONE, "b")])), true),
    ];
    for (at, ((resource, old, new), helps)) in cases.into_iter().enumerate() {
        let event = Event {
            resource,
            action: Action::ALL,
            old,
            new,
        };
        assert_eq!(VolumeZone.hint(&context, &waiting, &event), helps, "case {at}");
    }
}
