use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

fn mounted(world: &World, at: &str) -> PathBuf {
    world
        .runtime
        .config("a")
        .mounts
        .iter()
        .find(|m| m.container_path == at)
        .unwrap()
        .host_path
        .clone()
}

fn with_volume(volume: Value, mount: Value) -> Value {
    let mut mount = mount;
    mount["name"] = json!("v");
    let mut volume = volume;
    volume["name"] = json!("v");
    json!({"serviceAccountName": "sa", "volumes": [volume], "containers": [{"name": "a", "image": "img:1", "volumeMounts": [mount]}]})
}

async fn until(what: &str, look: impl Fn() -> bool) {
    for _ in 0..1000 {
        if look() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn config_maps_are_waited_for_and_follow_changes() {
    let world = World::start().await;
    let volume = json!({"configMap": {"name": "cm", "defaultMode": 0o400, "items": [{"key": "k", "path": "d/f"}]}});
    world.pod("p", with_volume(volume, json!({"mountPath": "/v"})));
    world
        .event("FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"cm\" not found")
        .await;
    let map = |text: &str| json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": text, "other": "x"}});
    world.api.put("configmaps", map("one"));
    world.ready("p").await;
    let file = mounted(&world, "/v").join("d/f");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    assert!(!mounted(&world, "/v").join("other").exists());
    world.api.put("configmaps", map("two"));
    until("the new text", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text == "two")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn projected_tokens_are_renewed() {
    let world = World::start().await;
    world.api.put(
        "clock",
        json!({"metadata": {"name": "expiry"}, "at": "2026-11-20T22:00:00Z"}),
    );
    world.api.put(
        "configmaps",
        json!({"metadata": {"name": "ca", "namespace": "ns"}, "data": {"ca.crt": "CA"}}),
    );
    let volume = json!({"projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}});
    world.pod("p", with_volume(volume, json!({"mountPath": "/t", "readOnly": true})));
    world.ready("p").await;
    let folder = mounted(&world, "/t");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!((read("ca.crt").as_str(), read("namespace").as_str()), ("CA", "ns"));
    let first = read("token");
    assert!(first.starts_with("token-"));
    assert!(world.machine.mounts.lock().contains(&folder), "tokens are not on disk");
    assert!(
        world
            .api
            .requests()
            .iter()
            .any(|r| r.starts_with("POST /api/v1/namespaces/ns/serviceaccounts/sa/token"))
    );
    world.api.put(
        "clock",
        json!({"metadata": {"name": "expiry"}, "at": "2026-11-20T23:00:00Z"}),
    );
    tokio::time::sleep(Duration::from_secs(47 * 60)).await;
    assert_eq!(read("token"), first);
    tokio::time::sleep(Duration::from_secs(2 * 60)).await;
    until("a new token", || read("token") != first).await;
    world.delete("p", 1);
    world.gone("p").await;
    assert!(world.machine.mounts.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn empty_dirs_host_paths_and_sub_paths() {
    let world = World::start().await;
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("keep"), "x").unwrap();
    world.pod("p", json!({
        "volumes": [{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": host.path(), "type": "Directory"}}],
        "containers": [{"name": "a", "image": "img:1", "env": [{"name": "POD", "value": "p"}], "volumeMounts": [
            {"name": "e", "mountPath": "/e"}, {"name": "h", "mountPath": "/h"},
            {"name": "e", "mountPath": "/s", "subPathExpr": "sub/$(POD)"}]}]}));
    world.ready("p").await;
    let empty = mounted(&world, "/e");
    assert!(empty.join("sub/p").is_dir());
    assert_eq!(mounted(&world, "/h"), host.path());
    assert!(world.machine.mounts.lock().contains(&mounted(&world, "/s")));
    world.delete("p", 1);
    world.gone("p").await;
    assert!(!empty.exists() && host.path().join("keep").exists());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_supported_is_said() {
    let world = World::start().await;
    world.pod(
        "p",
        with_volume(
            json!({"iscsi": {"targetPortal": "192.0.2.1", "iqn": "iqn.2001-04.com.example:disk", "lun": 0}}),
            json!({"mountPath": "/v"}),
        ),
    );
    world
        .event("volumes of type iscsi are not supported by this node; use emptyDir")
        .await;
    world.pod(
        "q",
        with_volume(
            json!({"hostPath": {"path": "/nowhere/at/all", "type": "Directory"}}),
            json!({"mountPath": "/v"}),
        ),
    );
    world
        .event("hostPath type check failed: /nowhere/at/all is not a directory")
        .await;
    world.delete("p", 1);
    world.gone("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_memory_is_open_and_sticky() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await;
    world.pod(
        "p",
        json!({
            "volumes": [{"name": "in-memory", "emptyDir": {"medium": "Memory"}}],
            "containers": [{"name": "a", "image": "img:1", "volumeMounts": [{"name": "in-memory", "mountPath": "/m"}]}],
        }),
    );
    world.ready("p").await;
    let mounts = world.machine.mounts.lock().clone();
    let folder = mounts.iter().find(|mount| mount.ends_with("in-memory")).unwrap();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o1777);
}
