//! The cases of upstream's volume_binding_test.go and binder_test.go, and of a binding from promise to end.

use super::*;
use crate::cluster::Cluster;
use crate::framework::Shared;
use crate::testing::{node, pod, stored};

const NO_MATCH: &str = "node(s) didn't find available persistent volumes to bind";
const OUT_OF_REACH: &str = "node(s) didn't match PersistentVolume's node affinity";

fn plugin() -> VolumeBinding {
    VolumeBinding::new(&PluginArgs::default())
}

fn volume(name: &str, class: &str, size: &str, on: Option<&str>) -> Value {
    let reach = on.map(|host| {
        let host = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [host]});
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}})
    });
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"}, "spec": {
        "storageClassName": class, "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "nodeAffinity": reach}, "status": {"phase": "Available"}})
}

fn claim(name: &str, class: &str, size: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}}}})
}

fn bound(name: &str, volume: &str) -> Value {
    let mut claim = claim(name, "waits", "1Gi");
    claim["spec"]["volumeName"] = json!(volume);
    claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    claim
}

/// Nodes a and b, and the classes: `immediate`, `waits` without provisioner, `makes` with one, `makes-on-a`.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["a", "b"] {
        cluster.set_node(node(name).label("kubernetes.io/hostname", name).build());
    }
    cluster.settle();
    let class = |name: &str, provisioner: &str, mode: &str, on: Option<&str>| {
        let topologies =
            on.map(|host| json!([{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": [host]}]}]));
        json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode,
            "allowedTopologies": topologies})
    };
    let waits = "WaitForFirstConsumer";
    for class in [
        class("immediate", "x", "Immediate", None),
        class("waits", "kubernetes.io/no-provisioner", waits, None),
        class("makes", "csi.example.com", waits, None),
        class("makes-on-a", "csi.example.com", waits, Some("a")),
    ] {
        cluster.see(Resource::StorageClass, class);
    }
    cluster
}

const PVC: Resource = Resource::PersistentVolumeClaim;
const PV: Resource = Resource::PersistentVolume;

#[test]
fn claims_decide_before_nodes_do() {
    let mut cluster = cluster();
    assert_eq!(cluster.ask(&plugin(), &pod("p").info()), ["skipped"]);
    let asking = pod("p").claims("c").info();
    let say = |cluster: &Cluster| cluster.ask(&plugin(), &asking);
    assert_eq!(say(&cluster), ["before: persistentvolumeclaim \"c\" not found"]);
    cluster.see(PVC, claim("c", "immediate", "1Gi"));
    assert_eq!(
        say(&cluster),
        ["before: pod has unbound immediate PersistentVolumeClaims"]
    );
    // One that asks for a volume by name is for its controller to bind.
    let mut asks = claim("c", "waits", "1Gi");
    asks["spec"]["volumeName"] = json!("v");
    cluster.see(PVC, asks);
    assert_eq!(
        say(&cluster),
        ["before: pod has unbound immediate PersistentVolumeClaims"]
    );
    let mut lost = bound("c", "v");
    lost["status"] = json!({"phase": "Lost"});
    cluster.see(PVC, lost);
    let gone = "before: persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"";
    assert_eq!(say(&cluster), [gone]);
    let mut going = bound("c", "v");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster.see(PVC, going);
    assert_eq!(say(&cluster), ["before: persistentvolumeclaim \"c\" is being deleted"]);
    let made = pod("p").volume(json!({"name": "v", "ephemeral": {}})).info();
    let waiting = "before: waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"";
    assert_eq!(cluster.ask(&plugin(), &made), [waiting]);
    cluster.see(PVC, claim("p-v", "waits", "1Gi"));
    let foreign = "before: PVC default/p-v was not created for pod default/p (pod is not owner)";
    assert_eq!(cluster.ask(&plugin(), &made), [foreign]);
}

#[test]
fn bound_volumes_must_be_in_reach() {
    let mut cluster = cluster();
    cluster.see(PVC, bound("c", "v"));
    let asking = pod("p").claims("c").info();
    let missing = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
    assert_eq!(cluster.ask(&plugin(), &asking), [missing, missing]);
    cluster.see(PV, volume("v", "waits", "1Gi", None));
    assert_eq!(cluster.ask(&plugin(), &asking), ["fits", "fits"]);
    let mut of_the_claim = volume("v", "waits", "1Gi", Some("a"));
    of_the_claim["spec"]["claimRef"] = json!({"namespace": "default", "name": "c", "uid": "uid-c"});
    cluster.see(PV, of_the_claim);
    assert_eq!(cluster.ask(&plugin(), &asking), ["fits", OUT_OF_REACH]);
    cluster.see(PVC, claim("d", "waits", "1Gi"));
    let both = pod("p").claims("c").claims("d").info();
    let all = format!("{OUT_OF_REACH}, {NO_MATCH}");
    assert_eq!(cluster.ask(&plugin(), &both), [NO_MATCH, &all]);
}

#[test]
fn free_volumes_are_matched() {
    let mut cluster = cluster();
    cluster.see(PVC, claim("c", "waits", "2Gi"));
    let asking = pod("p").claims("c").info();
    let on_a = |edit: &dyn Fn(&mut Value)| {
        let mut volume = volume("v", "waits", "2Gi", Some("a"));
        edit(&mut volume);
        volume
    };
    type Edit<'e> = &'e dyn Fn(&mut Value);
    let cases: [(Edit<'_>, bool); 10] = [
        (&|_| {}, true),
        (&|volume| volume["spec"]["capacity"]["storage"] = json!("1Gi"), false),
        (&|volume| volume["spec"]["storageClassName"] = json!("makes"), false),
        (&|volume| volume["spec"]["accessModes"] = json!(["ReadOnlyMany"]), false),
        (&|volume| volume["spec"]["volumeMode"] = json!("Block"), false),
        (&|volume| volume["status"]["phase"] = json!("Released"), false),
        (
            &|volume| volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            false,
        ),
        (
            &|volume| volume["spec"]["volumeAttributesClassName"] = json!("gold"),
            false,
        ),
        (
            &|volume| volume["spec"]["claimRef"] = json!({"namespace": "default", "name": "d"}),
            false,
        ),
        // Reserved for the claim: its phase does not matter.
        (
            &|volume| {
                volume["spec"]["claimRef"] = json!({"namespace": "default", "name": "c"});
                volume["status"]["phase"] = json!("Pending");
            },
            true,
        ),
    ];
    for (at, (edit, fits)) in cases.into_iter().enumerate() {
        cluster.see(PV, on_a(edit));
        let said = if fits { "fits" } else { NO_MATCH };
        assert_eq!(cluster.ask(&plugin(), &asking), [said, NO_MATCH], "case {at}");
    }
    // Two claims need two volumes.
    cluster.see(PV, on_a(&|_| {}));
    cluster.see(PVC, claim("d", "waits", "1Gi"));
    let two = pod("p").claims("c").claims("d").info();
    assert_eq!(cluster.ask(&plugin(), &two), [NO_MATCH, NO_MATCH]);
    cluster.see(PV, volume("w", "waits", "1Gi", Some("a")));
    assert_eq!(cluster.ask(&plugin(), &two), ["fits", NO_MATCH]);
}

#[test]
fn volumes_that_will_be_made() {
    let mut cluster = cluster();
    let say = |cluster: &Cluster| cluster.ask(&plugin(), &pod("p").claims("c").info());
    cluster.see(PVC, claim("c", "makes", "2Gi"));
    assert_eq!(say(&cluster), ["fits", "fits"]);
    cluster.see(PVC, claim("c", "makes-on-a", "2Gi"));
    assert_eq!(say(&cluster), ["fits", NO_MATCH]);
    let mut selected = claim("c", "makes", "2Gi");
    selected["metadata"]["annotations"] = json!({SELECTED_NODE: "b"});
    cluster.see(PVC, selected);
    assert_eq!(say(&cluster), [NO_MATCH, "fits"]);
    // Where the driver tells what is left.
    cluster.see(PVC, claim("c", "makes", "2Gi"));
    cluster.see(
        Resource::CsiDriver,
        json!({"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": true}}),
    );
    let full = "node(s) did not have enough free storage";
    assert_eq!(say(&cluster), [full, full]);
    let space = |name: &str, on: &str, bytes: &str, largest: Option<&str>| {
        json!({"metadata": {"namespace": "kube-system", "name": name}, "storageClassName": "makes",
            "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": on}}, "capacity": bytes,
            "maximumVolumeSize": largest})
    };
    cluster.see(Resource::CsiStorageCapacity, space("x", "a", "2Gi", None));
    cluster.see(Resource::CsiStorageCapacity, space("y", "b", "9Gi", Some("1Gi")));
    assert_eq!(say(&cluster), ["fits", full]);
    cluster.see(Resource::CsiStorageCapacity, space("y", "b", "1Gi", None));
    assert_eq!(say(&cluster), ["fits", full]);
}

fn context(cluster: &Cluster, seconds: i64) -> Context<'_> {
    Context {
        cluster,
        now: Timestamp::from_second(seconds).unwrap(),
    }
}

#[test]
fn fuller_storage_scores_less() {
    let mut cluster = cluster();
    let scores = |cluster: &Cluster, plugin: &VolumeBinding| -> Vec<i64> {
        let nodes: Vec<&NodeInfo> = cluster.nodes().collect();
        let asking = pod("p").claims("c").info();
        match plugin.pre_score(&context(cluster, 0), &asking, &nodes) {
            PreScore::Skip => Vec::new(),
            PreScore::Run(scorer) => nodes.iter().map(|node| scorer.score(node)).collect(),
        }
    };
    cluster.see(PVC, claim("c", "waits", "50Gi"));
    cluster.see(PV, volume("v", "waits", "100Gi", Some("a")));
    cluster.see(PV, volume("w", "waits", "50Gi", Some("b")));
    assert_eq!(scores(&cluster, &plugin()), [50, 0]);
    let close = PluginArgs {
        volume_shape: vec![(0, 0), (100, 10)],
        ..PluginArgs::default()
    };
    assert_eq!(scores(&cluster, &VolumeBinding::new(&close)), [50, 100]);
    cluster.see(PVC, bound("c", "v"));
    assert_eq!(scores(&cluster, &plugin()), Vec::<i64>::new());
    // Space where volumes will be made counts, too.
    cluster.see(PVC, claim("c", "makes", "1Gi"));
    cluster.see(
        Resource::CsiDriver,
        json!({"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": true}}),
    );
    for (name, on, bytes) in [("x", "a", "4Gi"), ("y", "b", "10Gi")] {
        let space = json!({"metadata": {"namespace": "x", "name": name}, "storageClassName": "makes",
            "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": on}}, "capacity": bytes});
        cluster.see(Resource::CsiStorageCapacity, space);
    }
    assert_eq!(scores(&cluster, &plugin()), [75, 90]);
}

fn reserve(cluster: &Cluster, plugin: &VolumeBinding, pod: &Arc<PodInfo>, node: &str) {
    let reserved = plugin.reserve(&context(cluster, 0), pod, cluster.node(node).unwrap());
    reserved.unwrap();
}

fn wait(answer: PreBind) -> Vec<Write> {
    match answer {
        PreBind::Wait { writes, .. } => writes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_volume_is_promised_written_and_waited_for() {
    let mut cluster = cluster();
    let plugin = plugin();
    cluster.see(PVC, claim("c", "waits", "1Gi"));
    cluster.see(PVC, claim("d", "waits", "1Gi"));
    cluster.see(PV, volume("v", "waits", "1Gi", Some("a")));
    let (first, second) = (pod("p").claims("c").info(), pod("q").claims("d").info());
    reserve(&cluster, &plugin, &first, "a");
    assert_eq!(cluster.ask(&plugin, &second), [NO_MATCH, NO_MATCH]);
    let writes = wait(plugin.pre_bind(&context(&cluster, 0), &first, "a"));
    let [write] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(
        (write.resource.resource.as_str(), write.name.as_str()),
        ("persistentvolumes", "v")
    );
    assert_eq!(write.body["metadata"]["resourceVersion"], "1");
    assert_eq!(
        write.body["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"],
        "yes"
    );
    assert_eq!(write.body["spec"]["claimRef"]["uid"], "uid-c");
    // The write is not seen yet; then the claim is not bound yet; then it is.
    assert_eq!(wait(plugin.pre_bind(&context(&cluster, 1), &first, "a")), []);
    let mut written = volume("v", "waits", "1Gi", Some("a"));
    written["metadata"]["resourceVersion"] = json!("2");
    written["spec"]["claimRef"] = write.body["spec"]["claimRef"].clone();
    cluster.see(PV, written);
    assert_eq!(wait(plugin.pre_bind(&context(&cluster, 2), &first, "a")), []);
    cluster.see(PVC, bound("c", "v"));
    assert_eq!(plugin.pre_bind(&context(&cluster, 3), &first, "a"), PreBind::Done);
    assert_eq!(cluster.ask(&plugin, &first), ["fits", OUT_OF_REACH]);
}

#[test]
fn a_volume_is_made_where_the_pod_goes() {
    let mut cluster = cluster();
    let plugin = plugin();
    cluster.see(PVC, claim("c", "makes", "1Gi"));
    let asking = pod("p").claims("c").info();
    reserve(&cluster, &plugin, &asking, "b");
    // Another pod with the claim has to go there, too.
    assert_eq!(cluster.ask(&plugin, &pod("q").claims("c").info()), [NO_MATCH, "fits"]);
    let writes = wait(plugin.pre_bind(&context(&cluster, 0), &asking, "b"));
    assert_eq!(writes[0].body["metadata"]["annotations"][SELECTED_NODE], "b");
    assert_eq!((writes.len(), writes[0].namespace.as_str()), (1, "default"));
    let mut selected = claim("c", "makes", "1Gi");
    selected["metadata"]["resourceVersion"] = json!("2");
    selected["metadata"]["annotations"] = json!({SELECTED_NODE: "b"});
    cluster.see(PVC, selected);
    assert_eq!(wait(plugin.pre_bind(&context(&cluster, 1), &asking, "b")), []);
    let late = plugin.pre_bind(&context(&cluster, 600), &asking, "b");
    let why = Rejection::error("binding volumes: context deadline exceeded".to_owned());
    assert_eq!(late, PreBind::Reject(why));
    // The provisioner could not.
    let mut back = claim("c", "makes", "1Gi");
    back["metadata"]["resourceVersion"] = json!("3");
    cluster.see(PVC, back);
    let failed = plugin.pre_bind(&context(&cluster, 2), &asking, "b");
    let why = Rejection::error("binding volumes: provisioning failed for PVC \"c\"".to_owned());
    assert_eq!(failed, PreBind::Reject(why));
}

#[test]
fn what_is_given_up_is_free_again() {
    let mut cluster = cluster();
    let plugin = plugin();
    cluster.see(PVC, claim("c", "waits", "1Gi"));
    cluster.see(PVC, claim("d", "makes", "1Gi"));
    cluster.see(PV, volume("v", "waits", "1Gi", None));
    let asking = pod("p").claims("c").claims("d").info();
    reserve(&cluster, &plugin, &asking, "a");
    assert_eq!(cluster.ask(&plugin, &pod("q").claims("d").info()), ["fits", NO_MATCH]);
    plugin.unreserve(&context(&cluster, 0), &asking);
    plugin.unreserve(&context(&cluster, 0), &asking);
    assert_eq!(cluster.ask(&plugin, &pod("q").claims("d").info()), ["fits", "fits"]);
    assert_eq!(plugin.pre_bind(&context(&cluster, 0), &asking, "a"), PreBind::Done);
    // Bound already: nothing to do.
    cluster.see(PVC, bound("c", "v"));
    cluster.see(PVC, bound("d", "v"));
    reserve(&cluster, &plugin, &asking, "a");
    assert_eq!(plugin.pre_bind(&context(&cluster, 0), &asking, "a"), PreBind::Done);
}

#[test]
fn what_may_help() {
    let cluster = cluster();
    let waiting = pod("p")
        .claims("c")
        .volume(json!({"name": "e", "ephemeral": {}}))
        .info();
    let came = |resource: Resource, object: Value| (resource, None::<Shared>, stored(resource, object));
    let changed =
        |resource: Resource, old: Value, new: Value| (resource, Some(stored(resource, old)), stored(resource, new));
    let class = |on: &str, parameter: &str| {
        json!({"metadata": {"name": "s"}, "provisioner": "p", "parameters": {"p": parameter},
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": [on]}]}]})
    };
    let space =
        |bytes: &str| json!({"metadata": {"namespace": "x", "name": "s"}, "storageClassName": "s", "capacity": bytes});
    let driver = |tells: bool| json!({"metadata": {"name": "d"}, "spec": {"storageCapacity": tells}});
    let (sc, capacity) = (Resource::StorageClass, Resource::CsiStorageCapacity);
    let cases = [
        (came(PVC, claim("c", "waits", "1Gi")), true),
        (came(PVC, claim("p-e", "waits", "1Gi")), true),
        (came(PVC, claim("other", "waits", "1Gi")), false),
        (came(PV, volume("v", "waits", "1Gi", None)), true),
        (came(sc, class("a", "1")), true),
        (changed(sc, class("a", "1"), class("a", "2")), false),
        (changed(sc, class("a", "1"), class("b", "1")), true),
        (came(capacity, space("1Gi")), true),
        (changed(capacity, space("1Gi"), space("2Gi")), true),
        (changed(capacity, space("2Gi"), space("1Gi")), false),
        (changed(Resource::CsiDriver, driver(true), driver(false)), true),
        (changed(Resource::CsiDriver, driver(false), driver(true)), false),
    ];
    for (at, ((resource, old, new), helps)) in cases.into_iter().enumerate() {
        let event = Event {
            resource,
            action: Action::ALL,
            old,
            new: Some(new),
        };
        assert_eq!(
            plugin().hint(&context(&cluster, 0), &waiting, &event),
            helps,
            "case {at}"
        );
    }
}
