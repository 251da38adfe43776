//! The cases of upstream's volume_restrictions_test.go.

use serde_json::{Value, json};

use super::*;
use crate::cluster::Cluster;
use crate::framework::Shared;
use crate::testing::{PodBuilder, node, pod, stored};

fn disk(kind: &str, volume: Value) -> Value {
    json!({"name": "disk", kind: volume})
}

fn claim(name: &str, mode: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")},
        "spec": {"accessModes": [mode]}})
}

fn with(placed: PodBuilder) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.set_node(node("n1").build());
    cluster.set_pod(placed.on("n1").info());
    cluster.settle();
    cluster
}

#[test]
fn disks_that_one_pod_has() {
    let gce = |name: &str, read_only: bool| disk("gcePersistentDisk", json!({"pdName": name, "readOnly": read_only}));
    let aws = |id: &str| disk("awsElasticBlockStore", json!({"volumeID": id}));
    let rbd = |monitors: Value, image: &str, read_only: bool| {
        let rbd = json!({"monitors": monitors, "pool": "foo", "image": image, "fsType": "ext4", "readOnly": read_only});
        disk("rbd", rbd)
    };
    let iscsi = |portal: &str, iqn: &str, read_only: bool| {
        let iscsi = json!({"targetPortal": portal, "iqn": iqn, "lun": 0, "readOnly": read_only});
        disk("iscsi", iscsi)
    };
    let taken = "may be preempted: node(s) had no available disk";
    let cases = [
        (gce("foo", false), gce("foo", false), taken),
        (gce("foo", false), gce("bar", false), "fits"),
        (gce("foo", true), gce("foo", true), "fits"),
        (gce("foo", true), gce("foo", false), taken),
        (aws("foo"), aws("foo"), taken),
        (aws("foo"), aws("bar"), "fits"),
        (aws("foo"), gce("foo", false), "fits"),
        (
            rbd(json!(["a", "b"]), "bar", false),
            rbd(json!(["b", "c"]), "bar", false),
            taken,
        ),
        (
            rbd(json!(["a", "b"]), "bar", false),
            rbd(json!(["c", "d"]), "bar", false),
            "fits",
        ),
        (
            rbd(json!(["a", "b"]), "bar", true),
            rbd(json!(["b"]), "bar", true),
            "fits",
        ),
        (
            iscsi("127.0.0.1:3260", "iqn.2016-12.server:storage.target01", false),
            iscsi("127.0.0.1:3260", "iqn.2016-12.server:storage.target01", false),
            taken,
        ),
        (
            iscsi("127.0.0.1:3260", "iqn.2016-12.server:storage.target01", false),
            iscsi("127.0.0.1:3260", "iqn.2017-12.server:storage.target01", false),
            "fits",
        ),
    ];
    for (held, wanted, said) in cases {
        let cluster = with(pod("held").volume(held.clone()));
        let asked = cluster.ask(&VolumeRestrictions, &pod("p").volume(wanted.clone()).info());
        assert_eq!(asked, [said], "{held} {wanted}");
    }
    let plain = pod("p").volume(json!({"name": "v", "emptyDir": {}})).info();
    assert_eq!(with(pod("held")).ask(&VolumeRestrictions, &plain), ["skipped"]);
}

#[test]
fn claims_that_one_pod_has() {
    let mut cluster = with(pod("held").claims("once").claims("twice"));
    let missing = "before: persistentvolumeclaim \"once\" not found";
    assert_eq!(
        cluster.ask(&VolumeRestrictions, &pod("p").claims("once").info()),
        [missing]
    );
    cluster.see(Resource::PersistentVolumeClaim, claim("once", "ReadWriteOncePod"));
    cluster.see(Resource::PersistentVolumeClaim, claim("twice", "ReadWriteOncePod"));
    cluster.see(Resource::PersistentVolumeClaim, claim("free", "ReadWriteOncePod"));
    cluster.see(Resource::PersistentVolumeClaim, claim("many", "ReadWriteMany"));
    let taken = "may be preempted: node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod \
                 access mode";
    let cases: [(&[&str], &str); 5] = [
        (&["once"], taken),
        (&["once", "twice"], taken),
        (&["free"], "fits"),
        (&["many"], "skipped"),
        (&[], "skipped"),
    ];
    for (claims, said) in cases {
        let asking = claims.iter().fold(pod("p"), |pod, claim| pod.claims(claim)).info();
        assert_eq!(cluster.ask(&VolumeRestrictions, &asking), [said], "{claims:?}");
    }
    // The same name in another namespace is another claim.
    let mut elsewhere = pod("q").claims("once").on("n1").object();
    elsewhere.metadata.namespace = Some("other".to_owned());
    cluster.remove_pod(&pod("held").info().key);
    cluster.set_pod(Arc::new(PodInfo::new(&elsewhere, cluster.interner())));
    assert_eq!(
        cluster.ask(&VolumeRestrictions, &pod("p").claims("once").info()),
        ["fits"]
    );
}

#[test]
fn evicting_the_holder_lets_the_pod_in() {
    let mut cluster = with(pod("held").claims("once"));
    cluster.see(Resource::PersistentVolumeClaim, claim("once", "ReadWriteOncePod"));
    let context = Context {
        cluster: &cluster,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let PreFilter::Run { filter, .. } = VolumeRestrictions.pre_filter(&context, &pod("p").claims("once").info()) else {
        panic!("it filters");
    };
    let mut filter = filter.unwrap();
    let node = cluster.node("n1").unwrap();
    assert!(filter.check(node).is_err());
    filter.remove_pod(&pod("held").claims("once").info(), node);
    assert!(filter.check(node).is_ok());
    filter.add_pod(&pod("held").claims("once").info(), node);
    assert!(filter.check(node).is_err());
}

#[test]
fn what_may_help() {
    let waiting = pod("p")
        .claims("c")
        .volume(disk("gcePersistentDisk", json!({"pdName": "d"})))
        .info();
    let cluster = Cluster::default();
    let context = Context {
        cluster: &cluster,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let gone = |pod: PodBuilder| -> (Resource, Option<Shared>, Option<Shared>) {
        (Resource::AssignedPod, Some(pod.info()), None)
    };
    let came = |name: &str, namespace: &str| -> (Resource, Option<Shared>, Option<Shared>) {
        let mut claim = claim(name, "ReadWriteOncePod");
        claim["metadata"]["namespace"] = json!(namespace);
        let resource = Resource::PersistentVolumeClaim;
        (resource, None, Some(stored(resource, claim)))
    };
    let cases = [
        (gone(pod("q")), false),
        (gone(pod("q").claims("c")), true),
        (gone(pod("q").claims("other")), false),
        (
            gone(pod("q").volume(disk("gcePersistentDisk", json!({"pdName": "d"})))),
            true,
        ),
        (came("c", "default"), true),
        (came("c", "other"), false),
        (came("d", "default"), false),
    ];
    for (at, ((resource, old, new), helps)) in cases.into_iter().enumerate() {
        let event = Event {
            resource,
            action: Action::ALL,
            old,
            new,
        };
        assert_eq!(VolumeRestrictions.hint(&context, &waiting, &event), helps, "case {at}");
    }
}
