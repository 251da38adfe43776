//! The cases of upstream's csi_test.go.

use serde_json::json;

use super::*;
use crate::cluster::Cluster;
use crate::framework::Shared;
use crate::testing::{PodBuilder, node, pod, stored};

const EBS: &str = "ebs.csi.aws.com";
const FULL: &str = "may be preempted: node(s) exceed max volume count";

fn csi_node(limits: &[(&str, Option<i64>)]) -> Value {
    let driver = |(name, limit): &(&str, Option<i64>)| json!({"name": name, "allocatable": {"count": limit}});
    let drivers: Vec<Value> = limits.iter().map(driver).collect();
    json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}})
}

/// A cluster with a node whose EBS driver attaches `limit` volumes; claims `NAME-N` are bound to volumes of the driver
/// `NAME`, claims `pending-N` wait for one of EBS, `tree-N` have EBS volumes of the old kind.
fn cluster(limit: i64, placed: &[PodBuilder]) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.set_node(node("n").build());
    cluster.settle();
    cluster.see(
        Resource::CsiNode,
        csi_node(&[(EBS, Some(limit)), ("unlimited.csi", None)]),
    );
    for class in ["csi", "in-tree"] {
        let provisioner = if class == "csi" { EBS } else { "kubernetes.io/aws-ebs" };
        cluster.see(
            Resource::StorageClass,
            json!({"metadata": {"name": class}, "provisioner": provisioner}),
        );
    }
    let claim = |name: &str, volume: &str, class: Option<&str>| {
        json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")},
            "spec": {"volumeName": volume, "storageClassName": class}})
    };
    let pvc = Resource::PersistentVolumeClaim;
    for at in 0..3 {
        for (prefix, driver) in [("ebs", EBS), ("unlimited", "unlimited.csi"), ("other", "other.csi")] {
            let name = format!("{prefix}-{at}");
            cluster.see(pvc, claim(&name, &name, None));
            let csi = json!({"driver": driver, "volumeHandle": name});
            cluster.see(
                Resource::PersistentVolume,
                json!({"metadata": {"name": name}, "spec": {"csi": csi}}),
            );
        }
        let name = format!("tree-{at}");
        cluster.see(pvc, claim(&name, &name, None));
        let disk = json!({"volumeID": format!("aws://zone/{name}")});
        cluster.see(
            Resource::PersistentVolume,
            json!({"metadata": {"name": name}, "spec": {"awsElasticBlockStore": disk}}),
        );
        cluster.see(pvc, claim(&format!("pending-{at}"), "", Some("csi")));
        cluster.see(pvc, claim(&format!("lost-{at}"), "gone", Some("csi")));
        cluster.see(pvc, claim(&format!("pending-tree-{at}"), "", Some("in-tree")));
        cluster.see(pvc, claim(&format!("classless-{at}"), "", Some("none")));
        let host = json!({"hostPath": {"path": "/x"}});
        cluster.see(
            Resource::PersistentVolume,
            json!({"metadata": {"name": format!("host-{at}")}, "spec": host}),
        );
        cluster.see(pvc, claim(&format!("host-{at}"), &format!("host-{at}"), None));
    }
    for pod in placed {
        cluster.set_pod(pod.clone().on("n").info());
    }
    cluster
}

fn of(name: &str, claims: &[&str]) -> PodBuilder {
    claims.iter().fold(pod(name), |pod, claim| pod.claims(claim))
}

fn inline(name: &str, disk: &str) -> PodBuilder {
    pod(name).volume(json!({"name": "v", "awsElasticBlockStore": {"volumeID": disk}}))
}

#[test]
fn volumes_are_counted_by_driver() {
    let two = [of("a", &["ebs-0"]), of("b", &["ebs-1"])];
    let cases = [
        (4, of("p", &["ebs-2"]), "fits"),
        (2, of("p", &["ebs-2"]), FULL),
        // One volume that several pods use counts once.
        (2, of("p", &["ebs-1"]), "fits"),
        (3, of("p", &["ebs-2", "ebs-2"]), "fits"),
        // Not made yet.
        (2, of("p", &["pending-0"]), FULL),
        (3, of("p", &["pending-0"]), "fits"),
        (3, of("p", &["pending-0", "pending-1"]), FULL),
        (2, of("p", &["lost-0"]), FULL),
        (2, of("p", &["classless-0"]), "fits"),
        // Of others.
        (2, of("p", &["unlimited-0"]), "fits"),
        (2, of("p", &["other-0"]), "fits"),
        (2, of("p", &["host-0"]), "fits"),
        // In the place of the old kind.
        (2, of("p", &["tree-0"]), FULL),
        (3, of("p", &["tree-0"]), "fits"),
        (2, of("p", &["pending-tree-0"]), FULL),
        (2, inline("p", "vol-9"), FULL),
        (3, inline("p", "vol-9"), "fits"),
        (2, inline("p", "aws://zone/ebs-1"), "fits"),
        // Nothing that counts.
        (
            0,
            pod("p").volume(json!({"name": "v", "secret": {"secretName": "s"}})),
            "skipped",
        ),
    ];
    for (at, (limit, asking, said)) in cases.into_iter().enumerate() {
        assert_eq!(
            cluster(limit, &two).ask(&NodeVolumeLimits, &asking.info()),
            [said],
            "case {at}"
        );
    }
    let pending = [of("a", &["pending-0"]), of("b", &["pending-1", "lost-0"])];
    assert_eq!(
        cluster(3, &pending).ask(&NodeVolumeLimits, &of("p", &["ebs-0"]).info()),
        [FULL]
    );
    assert_eq!(
        cluster(4, &pending).ask(&NodeVolumeLimits, &of("p", &["ebs-0"]).info()),
        ["fits"]
    );
}

#[test]
fn a_node_without_drivers_has_no_limits() {
    let mut cluster = cluster(0, &[]);
    let gone = stored(Resource::CsiNode, csi_node(&[]));
    cluster.observe_storage(Resource::CsiNode, Some(&gone), None);
    for asking in [of("p", &["ebs-0"]), inline("p", "vol-1"), of("p", &["tree-0"])] {
        assert_eq!(cluster.ask(&NodeVolumeLimits, &asking.info()), ["fits"]);
    }
}

#[test]
fn attached_volumes_count_even_without_pods() {
    let mut cluster = cluster(2, &[of("a", &["ebs-0"])]);
    let attached = |name: &str, volume: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {"attacher": EBS, "nodeName": node,
            "source": {"persistentVolumeName": volume}}})
    };
    cluster.see(Resource::VolumeAttachment, attached("va-0", "ebs-0", "n"));
    cluster.see(Resource::VolumeAttachment, attached("va-2", "ebs-2", "elsewhere"));
    cluster.see(Resource::VolumeAttachment, attached("va-3", "gone", "n"));
    let asking = of("p", &["pending-0"]).info();
    assert_eq!(cluster.ask(&NodeVolumeLimits, &asking), ["fits"]);
    cluster.see(Resource::VolumeAttachment, attached("va-1", "ebs-1", "n"));
    assert_eq!(cluster.ask(&NodeVolumeLimits, &asking), [FULL]);
    let gone = stored(Resource::VolumeAttachment, attached("va-1", "ebs-1", "n"));
    cluster.observe_storage(Resource::VolumeAttachment, Some(&gone), None);
    assert_eq!(cluster.ask(&NodeVolumeLimits, &asking), ["fits"]);
}

#[test]
fn volumes_that_are_made_for_a_pod() {
    let ephemeral = |pod: &str| self::pod(pod).volume(json!({"name": "v", "ephemeral": {}}));
    let mut cluster = cluster(1, &[of("a", &["ebs-0"])]);
    assert_eq!(
        cluster.ask(&NodeVolumeLimits, &ephemeral("p").info()),
        ["looking up PVC default/p-v: persistentvolumeclaim \"p-v\" not found"]
    );
    let claim = |owner: &str| {
        let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true}]);
        json!({"metadata": {"namespace": "default", "name": "p-v", "ownerReferences": owners},
            "spec": {"storageClassName": "csi"}})
    };
    cluster.see(Resource::PersistentVolumeClaim, claim("somebody"));
    assert_eq!(
        cluster.ask(&NodeVolumeLimits, &ephemeral("p").info()),
        ["error: PVC default/p-v was not created for pod default/p (pod is not owner)"]
    );
    cluster.see(Resource::PersistentVolumeClaim, claim("uid-p"));
    assert_eq!(cluster.ask(&NodeVolumeLimits, &ephemeral("p").info()), [FULL]);
}

#[test]
fn drivers_that_must_be_there() {
    let mut cluster = cluster(5, &[]);
    let asking = of("p", &["other-0"]).info();
    let driver =
        |must: bool| json!({"metadata": {"name": "other.csi"}, "spec": {"preventPodSchedulingIfMissing": must}});
    cluster.see(Resource::CsiDriver, driver(false));
    assert_eq!(cluster.ask(&NodeVolumeLimits, &asking), ["fits"]);
    cluster.see(Resource::CsiDriver, driver(true));
    assert_eq!(
        cluster.ask(&NodeVolumeLimits, &asking),
        ["may be preempted: other.csi CSI driver is not installed on the node"]
    );
    cluster.see(Resource::CsiNode, csi_node(&[("other.csi", None)]));
    assert_eq!(cluster.ask(&NodeVolumeLimits, &asking), ["fits"]);
}

#[test]
fn what_may_help() {
    let empty = Cluster::default();
    let context = Context {
        cluster: &empty,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let node = |old: &[(&str, Option<i64>)], new: &[(&str, Option<i64>)]| -> (Resource, Shared, Option<Shared>) {
        let resource = Resource::CsiNode;
        (
            resource,
            stored(resource, csi_node(old)),
            Some(stored(resource, csi_node(new))),
        )
    };
    let gone =
        |pod: PodBuilder| -> (Resource, Shared, Option<Shared>) { (Resource::AssignedPod, pod.on("n").info(), None) };
    let detached = |driver: &str| -> (Resource, Shared, Option<Shared>) {
        let resource = Resource::VolumeAttachment;
        let object = json!({"metadata": {"name": "va"}, "spec": {"attacher": driver, "nodeName": "n", "source": {}}});
        (resource, stored(resource, object), None)
    };
    let (claims, inlined, made) = (
        of("p", &["c"]),
        inline("p", "vol-1"),
        pod("p").volume(json!({"name": "v", "ephemeral": {}})),
    );
    let cases = [
        (&claims, node(&[("d", Some(1))], &[("d", Some(2))]), true),
        (&claims, node(&[("d", Some(2))], &[("d", Some(1))]), false),
        (&claims, node(&[("d", Some(2))], &[("d", Some(2))]), false),
        (&claims, node(&[], &[("d", Some(2))]), true),
        (&claims, gone(pod("q")), false),
        (&claims, gone(of("q", &["c"])), true),
        (&claims, gone(inline("q", "vol-2")), true),
        (&claims, detached("any"), true),
        (&inlined, detached("any"), false),
        (&inlined, detached(EBS), true),
        (&made, detached("any"), false),
    ];
    for (at, (pod, (resource, old, new), helps)) in cases.into_iter().enumerate() {
        let event = Event {
            resource,
            action: Action::ALL,
            old: Some(old),
            new,
        };
        assert_eq!(
            NodeVolumeLimits.hint(&context, &pod.clone().info(), &event),
            helps,
            "case {at}"
        );
    }
}
